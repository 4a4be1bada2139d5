"""Scores made anew from what is on record: nothing changes by itself, and what changes is said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from filelock import FileLock

from harness.cli import main
from harness.metrics import MRR, Answer, HitRate, MeanMetric, Metric, Rows, Users
from tests.choices import Harness, Wording
from tests.edits import unsealed


@pytest.fixture
def run(harness: Harness) -> Path:
    return Path(harness("--set", "wording=B", "--run-dir", "runs/B").splitlines()[-1].strip())


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--task", "tallrec", "--model", "simple:item-mean"],
        ["--task", "sequential", "--set", "candidates=uniform", "--model", "simple:popularity"],
    ],
    ids=["tallrec", "sequential"],
)
def test_where_nothing_changed_the_file_is_the_same(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", *words, "--run-dir", "run"]) == 0
    file = Path("run/scores.json")
    before, made = file.read_bytes(), file.stat().st_mtime_ns
    capsys.readouterr()
    assert main(["rescore", "run"]) == 0
    assert capsys.readouterr().out == "run: nothing changed\n"
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (before, made)
    other = unsealed(file)
    other["tie_rate"] = 0.125
    file.write_text(json.dumps(other))
    assert main(["rescore", "run"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "run: scores.json written"
    assert file.read_bytes() == before


def test_what_changed_is_said(harness: Harness, run: Path) -> None:
    """Scores of an earlier version, which made intervals otherwise and told less."""
    file = run / "scores.json"
    expected, old = unsealed(file), unsealed(file)
    old["metrics"]["HR@1"] |= {"low": 0.25, "method": "guess", "chance": 0.4}
    old["metrics"]["HR@2"]["high"] += 1e-9
    old["metrics"]["HR@2"]["value"] = None
    del old["users"]
    old["colour"] = "red"
    file.write_text(json.dumps(old))
    new = expected["metrics"]
    assert harness("runs", command="rescore").splitlines() == [
        "runs/B: scores.json written",
        f"  metrics.HR@1.low: 0.25 to {new['HR@1']['low']:.6g}",
        "  metrics.HR@1.method: guess to wilson",
        "  metrics.HR@2.value: none to 0.5",
        f"  metrics.HR@2.high: {new['HR@2']['high'] + 1e-9!r} to {new['HR@2']['high']!r}",
        "  colour: left out",
        "  users: new",
    ]
    made = unsealed(file)
    assert made["metrics"]["HR@1"].pop("chance") == 0.4, "chance levels need the data, so they stay"
    del expected["metrics"]["HR@1"]["chance"]
    assert made == expected


@dataclass(frozen=True)
class Halved(MeanMetric):
    """A metric that was made otherwise before: its rows are those of HR@1."""

    label: ClassVar[str] = "HR@1"

    def measure(self, answer: Answer) -> tuple[float, ...]:
        return HitRate(1).measure(answer)

    def aggregate(self, rows: Rows, users: Users) -> float:
        return super().aggregate(rows, users) / 2


def changed_task(patch: pytest.MonkeyPatch, *metrics: Metric) -> None:
    """The installed task as a later release has it."""
    patch.setattr(Wording, "metrics", metrics)


def test_another_aggregation(harness: Harness, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed_task(monkeypatch, Halved(), HitRate(2))
    assert "  metrics.HR@1.value: 0.5 to 0.25\n" in harness(str(run), command="rescore")
    assert json.loads((run / "scores.json").read_text())["metrics"]["HR@2"]["value"] == 0.5


def test_metrics_come_and_go(harness: Harness, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = json.loads((run / "scores.json").read_text())["metrics"]
    changed_task(monkeypatch, HitRate(1), MRR(3))
    assert harness(str(run), command="rescore").splitlines() == [
        "runs/B: nothing changed",
        "  MRR@3 is not on record: it needs the data, so give the command of the run again",
        "  HR@2 is no metric of the task any more; kept as it was",
    ]
    assert json.loads((run / "scores.json").read_text())["metrics"] == before
    changed_task(monkeypatch, MRR(3), HitRate(2), HitRate(1))
    (found,) = json.loads(harness(str(run), "--json", command="rescore"))
    assert found == {"run": "runs/B", "changed": [], "lacking": ["MRR@3"], "kept": []}
    assert json.loads((run / "scores.json").read_text())["headline"] == "HR@1"
    changed_task(monkeypatch, MRR(3))
    assert "has rows of none of the metrics of task 'wording'" in harness(str(run), command="rescore", code=2)


def test_what_cannot_be_scored_is_refused_and_nothing_is_written(
    harness: Harness, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*words: str) -> str:
        said = harness(*words, command="rescore", code=2)
        assert said.count("\n") == 1
        return said.removeprefix("harness: ").rstrip()

    harness("--set", "wording=off", "--run-dir", "off")
    assert refused("off") == "off has no rows to score: no such wording for this model"
    harness("--set", "wording=A", "--run-dir", "partial")
    (Path("partial") / "scores.json").unlink()
    altered = json.dumps({**unsealed(run / "scores.json"), "users": 0})
    (run / "scores.json").write_text(altered)
    assert refused(str(run), "partial").startswith("partial is not complete, so it has no scores yet")
    assert (run / "scores.json").read_text() == altered
    with FileLock(run / ".lock"):
        assert "is being written by another process" in refused(str(run))
    assert refused("nothing") == "nothing is not a run directory: it is no folder"
    monkeypatch.setattr(Wording, "version", 2)
    assert refused(str(run)).startswith("runs/B is of version 1 of task 'wording', which has version 2 now")
    assert (run / "scores.json").read_text() == altered


def test_a_task_that_is_gone(harness: Harness, run: Path) -> None:
    file = run / "run.json"
    file.write_text(json.dumps({**unsealed(file), "task": "wordings"}))
    assert "no task 'wordings'; did you mean 'wording'?" in harness(str(run), command="rescore", code=2)
