"""Tables from run directories: what stands where, what stays blank, what is reported and what is ours."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from harness.engines import Engine
from harness.errors import RequestFailed
from harness.runner import evaluate
from harness.scoring import chance_levels, not_applicable, score
from harness.signature import Sample, describe, identify
from harness.store import SCHEMA, Run
from harness.task import Task
from harness.types import Key, Reply, Request
from leaderboard.collect import collect
from leaderboard.plots import plot
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
        run.note_session({"seconds": 2.5, "cached": 0})
        if finish:
            run.finish(score(path, task.metrics, chance_levels(task.metrics, task.instances())))
    return path


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
    table = markdown([standing]).splitlines()
    (half,) = (line for line in table if "half" in line)
    assert [cell.strip() for cell in half.split("|")[2:-1]] == ["half (not complete)", "", "", "", "", ""]
    (failing,) = (line for line in table if "failing" in line)
    assert "10.0%" in failing
    assert "*chance*" in table[table.index(half) + 1]


def test_every_line_of_a_table_has_the_same_columns(runs: Path) -> None:
    blocks = [block for block in markdown(collect(runs)).split("\n\n") if block.startswith("|")]
    assert len(blocks) == 3
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_numbers_for_programs_are_unrounded(runs: Path, tmp_path: Path) -> None:
    frame(collect(runs)).to_csv(tmp_path / "table.csv", index=False)
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    (noisy_row,) = (row for row in rows if row["model"] == "noisy" and row["metric"] == "AUC")
    assert len(noisy_row["value"]) > 8
    assert float(noisy_row["seconds"]) == 2.5
    assert {row["value"] for row in rows if row["model"] == "half"} == {""}


def test_what_does_not_apply_says_why(runs: Path) -> None:
    path = make_run(runs, Coins(), "users only", text_engine(), finish=False)
    with Run.open(path, {"identity": __import__("json").loads((path / "run.json").read_text())["identity"]}) as run:
        run.finish(not_applicable(Coins.metrics, "needs a known user"))
    text = markdown(collect(runs, "coins"))
    assert "n/a: users only: needs a known user." in text


def test_published_numbers_stand_beside_ours_and_are_marked(tmp_path: Path) -> None:
    from harness.evaluation import Job, perform
    from harness.model import Model
    from tasks.tallrec import TALLRec

    perform(Job(TALLRec(), Model.parse("simple:constant"), runs=tmp_path / "runs"), lambda line: None)
    (standing,) = collect(tmp_path / "runs")
    text = markdown([standing])
    assert "Reported by the paper, not measured here: AUC, arXiv:2305.00447, Table 1." in text
    assert "| 256 | 0.5289  | 0.5420 | 0.5225 | 0.5407 | 0.5344   | 0.5394    | 0.7198      |" in text
    files = plot(standing, tmp_path / "plots" / "movie")
    svg = files[0].read_text()
    for said in ("simple:constant", "TALLRec, K=256 (reported)", "AUC, 95 % interval; dotted: chance"):
        assert said in svg
    again = plot(standing, tmp_path / "again" / "movie")
    assert again[0].read_bytes() == files[0].read_bytes()


def test_a_standing_without_a_complete_run_has_no_plot(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", Coins(), "half", text_engine(), finish=False)
    (standing,) = collect(tmp_path / "runs")
    assert plot(standing, tmp_path / "plot") == []
    assert "No run is complete." in markdown([standing])
