"""From runs to a sheet: marks, corrected comparisons, badges, and what is left blank."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import ClassVar

import pytest

from harness.engines import FunctionEngine
from harness.metrics import HitRate, MeanOf, Metric
from harness.paired import contrast, holm
from harness.points import AUC
from harness.scoring import aligned, score
from harness.store import SCHEMA, Record, Run
from harness.types import Choose, Instance, Key, Reply, Request, Scores, Split
from leaderboard.build import sheet
from leaderboard.collect import collect
from leaderboard.sheet import Line, Sheet
from leaderboard.significance import Contenders, tell_apart
from leaderboard.tables import as_json, frame, markdown
from tests.fakes import Coins, Shelf, text_engine
from tests.test_leaderboard import make_run

METRICS = {metric.name: metric for metric in Coins.metrics}


def knowing(share: float, seed: int) -> FunctionEngine:
    """Answers rightly as often as `share` says, else by a coin; `seed` says where."""

    def answer(key: Key, request: Request) -> Reply:
        assert isinstance(request, Choose)
        number = int(key.instance.split("-")[1])
        draw = random.Random(f"{number} {seed}")
        liked = number * 7 % 3 > 0 if draw.random() < share else draw.random() < 0.5
        sure = draw.random()
        return Scores((sure, 0.0) if liked else (0.0, sure))

    return text_engine(answer)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, share, seed in (("good", 0.9, 1), ("as good", 0.9, 2), ("poor", 0.2, 3)):
        make_run(tmp_path, Coins(), name, knowing(share, seed))
    make_run(tmp_path, Coins(), "half", text_engine(), finish=False)
    return tmp_path


def named(made: Sheet) -> dict[str, Line]:
    return {line.name: line for line in made.lines}


def test_the_best_the_second_and_who_is_level(runs: Path) -> None:
    (standing,) = collect(runs)
    made = sheet(standing, METRICS)
    first, second, third = (line for line in made.lines if line.instances)
    assert {first.name, second.name} == {"good", "as good"}
    assert third.name == "poor"
    marks = [(line.cells["AUC"].place, line.cells["AUC"].level) for line in (first, second, third)]
    assert marks == [("best", False), ("second", True), ("", False)]
    assert any("for all 3 pairs of the columns" in note for note in made.notes)


def test_marks_are_holms_over_paired_comparisons(runs: Path) -> None:
    """Against the plain way: each pair by itself, and the correction over all of them."""
    (standing,) = collect(runs)
    whole = [entry.path for entry in standing.entries if entry.scores]
    told = tell_apart([Contenders(AUC(), whole, 0)])
    (rows, users) = aligned(whole, [AUC()])["AUC"]
    p = [contrast(AUC(), [rows[n]], [rows[0]], users).p for n in (1, 2)]
    each = [min(1.0, one * 3 / 2) for one in p]
    level = {path for path, corrected in zip(whole[1:], holm(each), strict=True) if corrected >= 0.05}
    assert told.level == {"AUC": level}
    assert (told.pairs, told.undefined) == (3, 0)


def test_a_task_that_is_not_installed_has_a_table_without_comparisons(runs: Path) -> None:
    (standing,) = collect(runs)
    made = sheet(standing)
    assert not any(cell.level for line in made.lines for cell in line.cells.values())
    assert any("not installed" in note for note in made.notes)


def test_partial_runs_and_chance(runs: Path) -> None:
    (standing,) = collect(runs)
    lines = named(sheet(standing, METRICS))
    assert (lines["half"].cells["AUC"].value, lines["half"].cells["AUC"].why) == (None, "not complete")
    assert (lines["half"].instances, lines["half"].seconds) == (None, None)
    assert (lines["chance"].kind, lines["chance"].cells["AUC"].value) == ("chance", 0.5)


@dataclass(frozen=True)
class Few(Shelf):
    """Ten books out of many for each of twelve users: what is measured is a sample of a sample."""

    name: ClassVar[str] = "few"
    metrics: ClassVar[tuple[Metric, ...]] = (HitRate(1), MeanOf("luck"))

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        yield from islice(Shelf.instances(self, split), 12)


def test_badges_say_what_to_be_careful_of(tmp_path: Path) -> None:
    make_run(tmp_path, Few(), "one", text_engine())
    (standing,) = collect(tmp_path)
    made = sheet(standing, {metric.name: metric for metric in Few.metrics})
    assert made.badges == ("sampled metric: 10 candidates", "few instances: 12")
    (column,) = made.columns
    assert column.name == "HR@1", "a fact that no run has makes no column"


def test_runs_of_an_earlier_version_of_their_task_wear_a_badge(runs: Path) -> None:
    (standing,) = collect(runs)
    for version, badges in ((1, ()), (0, ("out of date: the task has version 1 now",))):
        manifest = {**standing.entries[0].manifest, "task": "tallrec", "version": version}
        old = replace(standing, entries=[replace(standing.entries[0], manifest={**manifest, "settings": {}})])
        assert sheet(old, METRICS).badges == badges


def told(line: Line) -> tuple[str, int | None, int | None]:
    return line.kind, line.shots, line.seed


def test_kinds_of_rows_and_what_they_were_trained_on(runs: Path) -> None:
    (standing,) = collect(runs)
    entry = standing.entries[0]

    def like(**model: object) -> Line:
        manifest = {**entry.manifest, "model": {"name": "m", **model}}
        one = replace(standing, entries=[replace(entry, manifest=manifest)])
        return sheet(one, METRICS).lines[0]

    assert told(like(engine="simple")) == ("baseline", None, None)
    assert told(like(engine="recbole", settings={"shots": 64, "seed": 3})) == ("baseline", 64, 3)
    assert told(like(weights="w", adapter=None, tuned=None)) == ("language model", None, None)
    assert told(like(weights="w", adapter="a", tuned={"shots": 16, "seed": 0})) == ("adapter", 16, 0)


def test_the_parse_rate_is_of_those_who_write(tmp_path: Path) -> None:
    told = [((9, 3), ("a",)), ((9, 3), ("b", "a")), ((9, 3), ()), ((9, 0), ())]
    with Run.open(tmp_path, {"schema": SCHEMA, "identity": {"run": "r"}}) as run:
        for n, (tokens, top) in enumerate(told):
            run.append(Record(str(n), "u", {"HR@1": (0.0,), "luck": (1.0,)}, {}, top, False, {}, tokens))
    assert score(tmp_path, [HitRate(1)], {})["parse_rate"] == 2 / 3
    assert score(tmp_path, [MeanOf("luck")], {})["parse_rate"] is None, "a text for a later stage need name nothing"


def test_csv_and_json_have_what_the_table_has(runs: Path) -> None:
    (standing,) = collect(runs)
    made = sheet(standing, METRICS)
    table = frame([made]).set_index("model")
    assert table.loc["half", "why"] == "not complete"
    assert table.loc["poor", "value"] == named(made)["poor"].cells["AUC"].value
    assert list(table["place"]) == ["best", "second", "", ""]
    assert set(table["chance"]) == {0.5}
    found = as_json([made], [])
    assert [line["name"] for line in found["tables"][0]["lines"]] == [line.name for line in made.lines]


def test_markdown_shows_the_marks(runs: Path) -> None:
    (standing,) = collect(runs)
    made = sheet(standing, METRICS)
    rows = {line.name: line.cells["AUC"] for line in made.lines if line.instances}
    text = markdown([made])
    best, second = (next(cell for cell in rows.values() if cell.place == place) for place in ("best", "second"))
    assert f"| **{best.value:.4f}** [{best.low:.4f}, {best.high:.4f}] " in text
    assert f"| <u>{second.value:.4f}</u>† [" in text
    assert f"| {rows['poor'].value:.4f} [" in text
