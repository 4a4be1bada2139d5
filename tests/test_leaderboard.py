"""Tables from run directories: what stands where, what stays blank, what is reported and what is ours."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from harness.comparison import compare
from harness.engines import Engine
from harness.errors import RequestFailed
from harness.exposure import ARP, Coverage, Gini
from harness.metrics import HitRate, Metric
from harness.report import run_table
from harness.runner import evaluate
from harness.scoring import Asked, not_applicable, score
from harness.signature import Sample, describe, identify
from harness.stats import interval
from harness.store import SCHEMA, Run, read_scores
from harness.task import Task
from harness.types import Catalogue, Event, Instance, Item, Key, Reply, Request, Split, Text
from leaderboard.build import sheet
from leaderboard.collect import collect
from leaderboard.plots import pictures
from leaderboard.sheet import Cell, Sheet
from leaderboard.tables import frame, markdown
from tests.fakes import Coins, Shelf, noisy, text_engine


def make_run(
    runs: Path, task: Task, name: str, engine: Engine, *, finish: bool = True, sample: Sample | None = None
) -> Path:
    identity = identify(task, "test", sample, {"name": name})
    manifest = {
        "schema": SCHEMA,
        "task": task.name,
        "version": task.version,
        "described": describe(task),
        "settings": {},
        "split": "test",
        "sample": sample._asdict() if sample else None,
        "model": {"name": name},
        "metrics": [metric.name for metric in task.metrics],
        "identity": identity._asdict(),
    }
    path = runs / task.name / identity.run
    with Run.open(path, manifest) as run:
        evaluate(task, engine, run, sample=sample)
        run.note_session({"seconds": 2.5, "cached": 0, "answered": len(run.done)})
        if finish:
            asked = Asked.of(task.metrics, task.instances())
            run.finish(score(path, task.metrics, asked.chance, task.strata, asked.candidates))
    return path


def sheets(runs: Path, task: str | None = None) -> list[Sheet]:
    return [sheet(standing) for standing in collect(runs, task)]


def some_fail(key: Key, request: Request) -> Reply | RequestFailed:
    return RequestFailed("too long") if key.instance.endswith("3") else noisy(key, request)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    runs = tmp_path / "runs"
    make_run(runs, Coins(), "noisy", text_engine())
    make_run(runs, Coins(), "failing", text_engine(some_fail))
    make_run(runs, Coins(), "half", text_engine(), finish=False)
    make_run(runs, Coins(), "sampled", text_engine(), sample=Sample(50))
    make_run(runs, Shelf(), "noisy", text_engine())
    (runs / "coins" / "stray").mkdir()
    (runs / "coins" / "stray" / "run.json").write_text("{}")
    return runs


def test_runs_of_different_questions_never_share_a_table(runs: Path) -> None:
    titles = [standing.title for standing in collect(runs)]
    assert titles == ["coins, test [sample 50, seed 0], version 1", "coins, test, version 1", "shelf, test, version 1"]
    assert [standing.title for standing in collect(runs, "shelf")] == ["shelf, test, version 1"]


def test_the_best_comes_first_and_a_partial_run_is_blank(runs: Path) -> None:
    (standing,) = (one for one in collect(runs) if one.title == "coins, test, version 1")
    assert [entry.model for entry in standing.entries] == ["noisy", "failing", "half"]
    table = markdown([sheet(standing)]).splitlines()
    (half,) = (line for line in table if "half" in line)
    assert [cell.strip() for cell in half.split("|")[2:-1]] == ["half (not complete)", "", "", "", "", ""]
    (failing,) = (line for line in table if "failing" in line)
    assert "10.0 %" in failing
    assert "*chance*" in table[table.index(half) + 1]


def test_every_line_of_a_table_has_the_same_columns(runs: Path) -> None:
    blocks = [block for block in markdown(sheets(runs)).split("\n\n") if block.startswith("|")]
    assert len(blocks) == 3
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_numbers_for_programs_are_unrounded(runs: Path, tmp_path: Path) -> None:
    frame(sheets(runs)).to_csv(tmp_path / "table.csv", index=False)
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    (noisy_row,) = (row for row in rows if row["model"] == "noisy" and row["metric"] == "AUC")
    assert len(noisy_row["value"]) > 8
    assert float(noisy_row["seconds"]) == 2.5
    assert {row["value"] for row in rows if row["model"] == "half"} == {""}


def test_what_does_not_apply_says_why(runs: Path) -> None:
    path = make_run(runs, Coins(), "users only", text_engine(), finish=False)
    with Run.open(path, {"identity": __import__("json").loads((path / "run.json").read_text())["identity"]}) as run:
        run.finish(not_applicable(Coins.metrics, "needs a known user"))
    text = markdown(sheets(runs, "coins"))
    assert "n/a: users only: needs a known user." in text


@dataclass(frozen=True)
class Readers(Shelf):
    """The same ten books for everybody, and histories of none to four."""

    name: ClassVar[str] = "readers"
    metrics: ClassVar[tuple[Metric, ...]] = (HitRate(1), Coverage(1), ARP(1), Gini(1))

    @property
    def strata(self) -> Mapping[str, tuple[float, ...]]:
        return {"history": (1, 3, 9)}

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        books = tuple(Item(f"b{n}", f"book {n}") for n in range(10))
        known = Catalogue(books, {book.id: n for n, book in enumerate(books)})
        for n in range(100):
            past = (Event(Item("past", "past")),) * (n % 5)
            yield Instance(f"{split}-{n}", f"user {n}", past, books, {books[n % 10].id: 1.0}, catalogue=known)


def newcomers(key: Key, request: Request) -> Reply | RequestFailed:
    """Right where the history is of three at most, else always the first book."""
    number = int(key.instance.split("-")[1])
    return Text(f"book {number % 10 if number % 5 <= 3 else 0}")


def first_book(key: Key, request: Request) -> Reply | RequestFailed:
    return Text("book 0")


def test_the_headline_by_the_length_of_the_history(tmp_path: Path) -> None:
    path = make_run(tmp_path, Readers(), "newcomers", text_engine(newcomers))
    scores = read_scores(path)
    assert scores is not None
    short, middle, long = scores["strata"]["history"]
    assert [(part["over"], part["up_to"]) for part in (short, middle, long)] == [(None, 1), (1, 3), (3, 9)]
    assert [part["instances"] for part in (short, middle, long)] == [40, 40, 20]
    assert [part["value"] for part in (short, middle, long)] == [1, 1, 0]
    few = interval(HitRate(1), np.zeros((20, 1)), np.arange(20))
    assert (long["low"], long["high"]) == (few.low, few.high)
    assert list(short) == ["over", "up_to", "instances", "value", "low", "high"]
    shown = run_table(path).splitlines()
    where = shown.index("  HR@1 by history")
    assert shown[where + 1 : where + 4] == [
        f"    up to 1          1.0000  [{short['low']:.4f}, 1.0000]  40 instances",
        f"    over 1, up to 3  1.0000  [{short['low']:.4f}, 1.0000]  40 instances",
        f"    over 3, up to 9  0.0000  [0.0000, {long['high']:.4f}]  20 instances",
    ]


def test_failures_count_in_their_part_and_an_instance_without_the_trait_in_none(tmp_path: Path) -> None:
    path = make_run(tmp_path, Readers(), "some fail", text_engine(some_fail), finish=False)
    found = score(path, Readers.metrics, {}, {"history": (0,), "age": (30,)})["strata"]
    assert [part["instances"] for part in found["history"]] == [20, 80]
    assert found["age"] == []
    assert score(path, Readers.metrics, {})["strata"] == {}


def test_a_second_table_says_how_everybody_does_in_each_part(tmp_path: Path) -> None:
    make_run(tmp_path, Readers(), "newcomers", text_engine(newcomers))
    make_run(tmp_path, Readers(), "first", text_engine(first_book))
    make_run(tmp_path, Readers(), "half", text_engine(), finish=False)
    text = markdown(sheets(tmp_path)).splitlines()
    start = text.index("HR@1 by history:") + 2
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text[start : start + 4]]
    assert cells[0] == ["Model", "up to 1 (n=40)", "over 1, up to 3 (n=40)", "over 3, up to 9 (n=20)"]
    assert [row[0] for row in cells[2:]] == ["newcomers", "first"]
    assert cells[2][1].startswith("1.0000 [")
    assert cells[3][1].startswith("0.2500 [")
    assert text[start + 4] == ""


def test_what_is_shown_stands_in_every_table_without_an_interval(tmp_path: Path) -> None:
    ours = make_run(tmp_path, Readers(), "newcomers", text_engine(newcomers))
    theirs = make_run(tmp_path, Readers(), "first", text_engine(first_book))
    (standing,) = collect(tmp_path)
    _, first = standing.entries
    assert {name: (first.metric(name) or {})["value"] for name in ("Coverage@1", "ARP@1", "Gini@1")} == {
        "Coverage@1": 0.1,
        "ARP@1": 0.0,
        "Gini@1": 0.9,
    }
    lines = markdown([sheet(standing)]).splitlines()
    (row,) = (line for line in lines if "| 2 | first" in line)
    assert [cell.strip() for cell in row.split("|")][4:7:2] == ["0.1000", "0.9000"]
    assert "  Coverage@1  0.1000" in run_table(theirs).splitlines()
    found = compare(ours, theirs, {m.name: m for m in Readers.metrics}).differences
    assert (found["Coverage@1"].ours, found["Coverage@1"].theirs) == (0.8, 0.1)
    assert found["Coverage@1"].method == "undefined"
    assert found["ARP@1"].low > 0
    assert frame([sheet(standing)])["low"].isna().sum() == 4


@pytest.mark.slow
def test_published_numbers_stand_beside_ours_and_are_marked(tmp_path: Path) -> None:
    from harness.evaluation import perform
    from harness.job import Job
    from harness.model import Model
    from tasks.tallrec import TALLRec

    perform(Job(TALLRec(), Model.parse("simple:constant"), runs=tmp_path / "runs"), lambda line: None)
    (made,) = sheets(tmp_path / "runs")
    text = markdown([made])
    assert "Reported, not measured here: arXiv:2305.00447, Table 1." in text
    (row,) = (line for line in text.splitlines() if line.startswith("| TALLRec, K=256"))
    score_, verdict = (cell.strip() for cell in row.split("|")[2:-1])
    assert score_ == "0.7198"
    assert f"\n({verdict.removeprefix('not attempted (').removesuffix(')')}) no run of LLaMA.\n" in text
    (told,) = (line for line in made.lines if line.name == "TALLRec, K=256, MovieLens-100K")
    assert (told.kind, told.cells, told.run, told.shots) == ("reported", {"AUC": Cell(0.7198)}, None, 256)
    table = frame([made])
    assert set(table[table["kind"] == "reported"]["verdict"]) == {"not attempted"}
    svg = next(file for file in pictures(made, tmp_path / "plots" / "movie") if file.name == "movie-scores.svg")
    for said in ("simple:constant", "TALLRec, K=256"):
        assert said in svg.read_text()


def test_a_standing_without_a_complete_run_has_no_plot(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", Coins(), "half", text_engine(), finish=False)
    (made,) = sheets(tmp_path / "runs")
    assert pictures(made, tmp_path / "plot") == []
    assert "No run is complete." in markdown([made])
