"""Who is best, second, or level with the best: directions, ties, corrections, and runs that are damaged."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.stats import binom

from harness.errors import BadData
from harness.exposure import Coverage
from harness.metrics import NDCG, Answer, HitRate, MeanMetric, Metric
from harness.paired import contrast, holm
from harness.scoring import score
from harness.store import SCHEMA, Record, Run
from leaderboard.build import sheet
from leaderboard.collect import collect
from leaderboard.sheet import Line, Sheet
from leaderboard.significance import Contenders, tell_apart
from leaderboard.tables import frame, markdown


@dataclass(frozen=True)
class Cost(MeanMetric):
    """Less of it is better."""

    label: ClassVar[str] = "Cost"
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)
    higher_is_better: ClassVar[bool] = False

    def measure(self, answer: Answer) -> tuple[float, ...]:
        raise NotImplementedError


METRICS: dict[str, Metric] = {metric.name: metric for metric in (NDCG(5), Cost(), HitRate(1), Coverage(1))}
Rows = Mapping[str, Sequence[float]]


def make(runs: Path, name: str, rows: Rows, *, finish: bool = True, model: Mapping[str, Any] | None = None) -> Path:
    """A run with these rows, an instance and user each."""
    path = runs / "marks" / f"{name}-{len(list(runs.glob('marks/*')))}"
    manifest = {
        "schema": SCHEMA,
        "task": "marks",
        "version": 1,
        "described": "marks",
        "settings": {},
        "split": "test",
        "sample": None,
        "model": {"name": name, **(model or {})},
        "metrics": list(METRICS),
        "identity": {"instances": "i" * 12, "protocol": "p" * 12, "run": path.name},
    }
    count = len(next(iter(rows.values())))
    with Run.open(path, manifest) as run:
        for n in range(count):
            own = {metric: (float(values[n]),) for metric, values in rows.items()}
            run.append(Record(f"{n:04}", f"u{n}", own, {}, ("a",), False, {}, (0, 0)))
        if finish:
            run.note_session({"seconds": 3.0, "answered": count})
            run.finish(score(path, list(METRICS.values()), {}))
    return path


def made(runs: Path) -> Sheet:
    (standing,) = collect(runs)
    return sheet(standing, METRICS)


def places(found: Sheet, metric: str) -> dict[str, str]:
    return {line.name: line.cells[metric].place for line in found.lines}


def levels(found: Sheet, metric: str) -> set[str]:
    return {line.name for line in found.lines if line.cells[metric].level}


def around(mean: float, seed: int, count: int = 60) -> Sequence[float]:
    return list(np.random.default_rng(seed).normal(mean, 0.1, count))


def test_less_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    for name, mean in (("dear", 0.9), ("cheap", 0.1), ("middle", 0.15)):
        make(tmp_path, name, {"NDCG@5": around(0.5, 1), "Cost": around(mean, 2)})
    found = made(tmp_path)
    assert places(found, "Cost") == {"cheap": "best", "middle": "second", "dear": ""}
    assert levels(found, "Cost") == set(), "shifted by the same in each instance, so all are told apart"


def test_what_describes_answers_is_not_marked_and_not_compared(tmp_path: Path) -> None:
    for name, score_, first in (("a", 0.5, 9.0), ("b", 0.9, 3.0)):
        make(tmp_path, name, {"NDCG@5": around(score_, 1), "Coverage@1": [10.0] * 59 + [first]})
    found = made(tmp_path)
    assert set(places(found, "Coverage@1").values()) == {""}
    assert any("all 1 pairs" in note for note in found.notes)


def test_ties_share_a_place_and_the_next_score_is_second(tmp_path: Path) -> None:
    up = around(0.5, 1)
    for name, values in (("a", up), ("b", up[::-1]), ("c", [v - 0.2 for v in up]), ("d", [v - 0.3 for v in up])):
        make(tmp_path, name, {"NDCG@5": values})
    assert places(made(tmp_path), "NDCG@5") == {"a": "best", "b": "best", "c": "second", "d": ""}


def contenders(runs: Sequence[Path], best: int, name: str = "NDCG@5") -> Contenders:
    return Contenders(METRICS[name], runs, best)


def paths(tmp_path: Path, rows: Sequence[Sequence[float]], name: str = "NDCG@5") -> list[Path]:
    return [make(tmp_path, f"m{n}", {name: values}) for n, values in enumerate(rows)]


def test_each_is_compared_with_the_best_wherever_it_stands(tmp_path: Path) -> None:
    rows = [around(0.5, 1), around(0.8, 2), around(0.79, 3)]
    runs = paths(tmp_path, rows)
    assert tell_apart([contenders(runs, 1)]).level == {"NDCG@5": frozenset({runs[2]})}
    assert tell_apart([contenders(runs, 0)]).level == {}


def test_the_correction_is_for_all_pairs_and_over_all_columns(tmp_path: Path) -> None:
    """p-values that are small by themselves, and not after they were taken n / 2 times and corrected by Holm."""
    base = np.random.default_rng(1).normal(0.5, 0.1, 200)
    rng = np.random.default_rng(2)
    rows = [base, *(base - 0.014 + rng.normal(0, 0.1, 200) for _ in range(4))]
    runs = [make(tmp_path, f"m{n}", {"NDCG@5": list(v), "Cost": list(-v)}) for n, v in enumerate(rows)]
    alone = [contrast(NDCG(5), [v[:, None]], [base[:, None]], np.arange(200)).p for v in rows[1:]]
    told = tell_apart([contenders(runs, 0), contenders(runs, 0, "Cost")])
    corrected = holm([min(1.0, p * 5 / 2) for p in (*alone, *alone)])[:4]
    level = {run for run, p in zip(runs[1:], corrected, strict=True) if p >= 0.05}
    assert told.level["NDCG@5"] == level
    assert told.pairs == 20
    once = {run for run, p in zip(runs[1:], holm(alone), strict=True) if p >= 0.05}
    plain = {run for run, p in zip(runs[1:], alone, strict=True) if p >= 0.05}
    assert plain < once < level or plain < level, "each step of the correction has something to do here"


def test_a_comparison_that_cannot_be_made_has_no_mark_and_does_not_count(tmp_path: Path) -> None:
    runs = paths(tmp_path, [around(0.5, n, count=9) for n in range(3)])
    told = tell_apart([contenders(runs, 0)])
    assert (told.level, told.undefined) == ({}, 2)
    assert any("2 comparisons rest on too few units" in note for note in made(tmp_path).notes)


@pytest.mark.slow
def test_equal_systems_are_seldom_told_apart_in_a_table_of_ten(tmp_path: Path) -> None:
    """Of 60 tables of ten equal systems not many more than 5 % say of anybody that it is worse than the best."""
    alarms = 0
    for world in range(60):
        rng = np.random.default_rng(world)
        common = rng.random(120)
        runs = paths(tmp_path / str(world), [list(common + rng.normal(0, 0.3, 120)) for _ in range(10)])
        means = [np.mean([record[0] for record in read(run)]) for run in runs]
        told = tell_apart([contenders(runs, int(np.argmax(means)))])
        alarms += len(told.level.get("NDCG@5", ())) < 9
    assert alarms <= binom.ppf(0.99, 60, 0.05)


def read(run: Path) -> list[list[float]]:
    return [json.loads(line)["rows"]["NDCG@5"] for line in (run / "records.jsonl").read_text().splitlines()]


def test_the_same_answers_in_another_order_are_the_same_score_and_interval(tmp_path: Path) -> None:
    values = around(0.5, 4, count=400)
    run = make(tmp_path, "a", {"NDCG@5": values})
    first = score(run, [NDCG(5)], {})
    lines = (run / "records.jsonl").read_text().splitlines(keepends=True)
    (run / "records.jsonl").write_text("".join(sorted(lines, reverse=True)))
    assert score(run, [NDCG(5)], {}) == first


def test_no_two_rows_are_called_the_same(tmp_path: Path) -> None:
    rows = {"NDCG@5": around(0.5, 1)}
    make(tmp_path, "m", rows, model={"engine": "hf", "weights": "aaaabbbb", "context": 64})
    make(tmp_path, "m", rows, model={"engine": "vllm", "weights": "aaaabbbb", "context": 64})
    make(tmp_path, "r", rows, model={"engine": "recbole", "settings": {"form": "auto", "seed": 0}})
    make(tmp_path, "r", rows, model={"engine": "recbole", "settings": {"form": "prefixes", "seed": 0}})
    twice = [make(tmp_path, "same", rows).name for _ in range(2)]
    names = {line.name for line in made(tmp_path).lines}
    assert names == {
        *("m [engine=hf]", "m [engine=vllm]", "r [form=auto]", "r [form=prefixes]"),
        *(f"same [run {name}]" for name in twice),
    }


def test_damaged_records_cost_the_marks_and_damaged_scores_the_table(tmp_path: Path) -> None:
    runs = paths(tmp_path, [around(0.5, 1), around(0.9, 2)])
    lines = (runs[0] / "records.jsonl").read_text().splitlines(keepends=True)
    (runs[0] / "records.jsonl").write_text("".join(lines[:-1]))
    found = made(tmp_path)
    assert [line.cells["NDCG@5"].place for line in found.lines] == ["best", "second"]
    assert any(note.startswith("Nothing is compared: ") for note in found.notes)
    (runs[1] / "scores.json").write_text("{")
    with pytest.raises(BadData, match=r"scores.json: not as this harness wrote it"):
        made(tmp_path)


def test_a_table_of_partial_runs_has_its_rows_everywhere(tmp_path: Path) -> None:
    make(tmp_path, "half", {"NDCG@5": around(0.5, 1)}, finish=False)
    found = made(tmp_path)
    assert "| half (not complete) |" in " ".join(markdown([found]).split())
    frame([found]).to_csv(tmp_path / "t.csv", index=False)
    (row,) = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    assert (row["model"], row["value"], row["why"]) == ("half", "", "not complete")


def seconds(line: Line) -> float | None:
    return line.seconds


def test_time_is_blank_where_a_process_left_none_behind(tmp_path: Path) -> None:
    run = make(tmp_path, "a", {"NDCG@5": around(0.5, 1)})
    assert [seconds(line) for line in made(tmp_path).lines] == [3.0]
    (run / "sessions.jsonl").write_text(json.dumps({"seconds": 1.0, "answered": 20}) + "\n")
    assert [seconds(line) for line in made(tmp_path).lines] == [None]
    (run / "sessions.jsonl").unlink()
    assert [seconds(line) for line in made(tmp_path).lines] == [None]


def test_brackets_are_explained_for_every_column(tmp_path: Path) -> None:
    hits = [float(n % 2) for n in range(60)]
    make(tmp_path, "a", {"NDCG@5": around(0.5, 1), "HR@1": hits, "Cost": around(0.5, 1)})
    said = next(note for note in made(tmp_path).notes if note.startswith("Brackets"))
    assert "bootstrap over 60 instances (NDCG@5, Cost); wilson over 60 instances (HR@1)" in said
