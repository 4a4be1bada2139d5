"""Few-shot tuning on a base that knows nothing of preferences, as a user would do it: tune, evaluate, compare."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from harness.comparison import compare
from harness.tuning.recipe import Draw
from harness.tuning.rows import draw
from tasks.tallrec import TALLRec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parent.parent
THREADS = "1"
"""Two modules run at the same time."""
METRICS = {metric.name: metric for metric in TALLRec.metrics}


def harness(*words: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *map(str, words)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def tuned(label_free: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA tuned on 3,200 rows, once over, by the small recipe; all 8,000 take minutes more (docs/performance.md)."""
    out = tmp_path_factory.mktemp("tuned") / "many"
    settings = ["--set", "budget=ci", "--shots", "3200", "--set", "max_steps=100", "--threads", THREADS]
    harness("tune", "--task", "tallrec", *settings, "--model", label_free, "--out", out)
    return out


@pytest.fixture(scope="module")
def runs(label_free: Path, tuned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base and the adapter on the whole test; the adapter on both engines on some of it, since vLLM on a CPU
    copies the matrices of a LoRA for every token."""
    runs = tmp_path_factory.mktemp("runs")
    for name, engine, rest in (
        ("base", "hf", ()),
        ("tuned", "hf", ("--adapter", tuned)),
        ("hf", "hf", ("--adapter", tuned, "--sample", "200")),
        ("vllm", "vllm", ("--adapter", tuned, "--sample", "200")),
    ):
        words = ["--task", "tallrec", "--model", f"{engine}:{label_free}", "--no-cache", "--threads", THREADS]
        harness("run", *words, *rest, "--run-dir", runs / name)
    return runs


def test_tuning_on_many_rows_beats_the_untuned_base(runs: Path) -> None:
    compared = compare(runs / "tuned", runs / "base", METRICS)
    assert compared.instances == 1000
    found = compared.differences
    assert found["AUC"].low > 0
    assert found["AUC"].ours > 0.6
    assert abs(found["AUC"].theirs - 0.5) < 0.1


def test_a_lora_scores_the_same_on_vllm_and_on_transformers(runs: Path) -> None:
    found = compare(runs / "vllm", runs / "hf", METRICS)
    assert found.instances == 200
    print("largest gaps over 200 prompts with a LoRA:", dict(found.gaps))
    assert max(found.gaps["log_yes"], found.gaps["log_no"]) < 1e-3


def test_a_run_says_what_its_adapter_was_tuned_on(runs: Path, tuned: Path) -> None:
    manifest = json.loads((runs / "vllm" / "run.json").read_text())
    told = manifest["model"]["tuned"]
    assert (told["task"], told["shots"], told["seed"], told["recipe"]["targets"]) == ("tallrec", 3200, 0, "all")
    assert "loss" not in told
    (rows,) = json.loads((tuned / "harness.json").read_text())["rows"]
    assert (rows["pool"], len(set(rows["drawn"]))) == (8000, 3200)


def test_the_rows_that_a_manifest_names_are_the_authors_draw(
    label_free: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--set", "budget=ci", "--set", "max_steps=2", "--set", "valid_rows=20", "--model", str(label_free)]
    words += ["--threads", THREADS]
    few, both = tmp_path / "few", tmp_path / "both"
    assert main(["tune", "--task", "tallrec", "--shots", "16", "--seed", "3", *words, "--out", str(few)]) == 0
    (rows,) = json.loads((few / "harness.json").read_text())["rows"]
    assert rows["drawn"] == list(draw(TALLRec(), Draw(shots=16, seed=3)).rows)
    capsys.readouterr()
    joint = ["tune", "--task", "tallrec", "--also", "domain=book", "--shots", "4", *words, "--out", str(both)]
    assert main(joint) == 2
    assert "harness data fetch tallrec-book" in capsys.readouterr().err
