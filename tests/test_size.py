"""Large runs in bounded memory: each step of `benchmarks.stream` in a process of its own, at a tenth of its size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import StaleRun
from harness.metrics import NDCG, HitRate
from harness.scoring import aligned
from harness.store import Record

INSTANCES = 100_000
BOUNDS = {"run": 40, "score": 60, "score-resumed": 60, "leaderboard": 250, "compare": 250, "regress": 350}
"""MiB that a step may grow by over what its process has when the step begins."""


def grown(step: str, folder: Path) -> float:
    """By how many MiB."""
    words = [sys.executable, "-m", "benchmarks.stream", "--inside", step, "--instances", str(INSTANCES)]
    told = json.loads(subprocess.run([*words, "--folder", folder], check=True, stdout=subprocess.PIPE).stdout)
    return float(told["peak"] - told["before"])


@pytest.mark.slow
def test_every_step_of_a_large_run_stays_within_its_memory(tmp_path: Path) -> None:
    found = {}
    for step in BOUNDS:
        if step == "score-resumed":
            grown("resume", tmp_path)  # of a run that was not begun: all of it
        found[step] = grown(step, tmp_path)
    assert {step: mib for step, mib in found.items() if mib > BOUNDS[step]} == {}


def written(path: Path, *kept: tuple[str, str, float | None, str | None]) -> Path:
    """A run of records in this order: id, user, NDCG@10 and failure; every one has a hit."""
    path.mkdir()
    with (path / "records.jsonl").open("wb") as out:
        for name, user, value, failure in kept:
            rows = {"NDCG@10": None if value is None else (value,), "HR@1": (1.0,)}
            out.write(Record(name, user, rows, {}, (), False, {}, (0, 0), failure=failure).line())
    return path


def test_rows_stand_in_the_order_of_ids_however_they_were_answered(tmp_path: Path) -> None:
    ours = written(tmp_path / "a", ("q3", "x", 0.3, None), ("q1", "y", 0.1, None), ("q2", "x", 0.2, None))
    theirs = written(tmp_path / "b", ("q2", "x", None, None), ("q3", "x", 0.5, "TooLong"), ("q1", "y", 0.4, None))
    found = aligned([ours, theirs], [NDCG(10), HitRate(1)])
    (first, second), users = found["NDCG@10"]
    assert (first[:, 0].tolist(), second[:, 0].tolist(), users.tolist()) == ([0.1, 0.3], [0.4, 0.5], [0, 1])
    (first, second), users = found["HR@1"]
    assert (first[:, 0].tolist(), second[:, 0].tolist(), users.tolist()) == ([1.0] * 3, [1.0] * 3, [0, 1, 1])


def test_a_metric_that_only_failures_have_a_row_for_is_left_out(tmp_path: Path) -> None:
    ours = written(tmp_path / "a", ("q1", "x", 0.0, "TooLong"), ("q2", "y", None, None))
    assert set(aligned([ours, ours], [NDCG(10), HitRate(1)])) == {"HR@1"}
    assert aligned([], [NDCG(10)]) == {}


@pytest.mark.parametrize("others", [("q1",), ("q1", "q3"), ("q1", "q2", "q3")])
def test_runs_of_other_instances_do_not_pair(tmp_path: Path, others: tuple[str, ...]) -> None:
    ours = written(tmp_path / "a", ("q1", "x", 0.1, None), ("q2", "x", 0.2, None))
    theirs = written(tmp_path / "b", *((name, "x", 0.1, None) for name in others))
    with pytest.raises(StaleRun, match="did not answer the same instances"):
        aligned([ours, theirs], [NDCG(10)])
