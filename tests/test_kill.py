"""SIGKILL at any moment: the run goes on where it was and ends with the records of an undisturbed one."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.store import records
from tests import engine_models

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SCRIPT = """
import sys, time
from pathlib import Path
from harness.runner import evaluate
from harness.signature import identify
from harness.store import SCHEMA, Run
from tests.fakes import Coins, noisy, text_engine

def slow(key, request):
    time.sleep(float(sys.argv[2]))
    return noisy(key, request)

task = Coins(count=400)
identity = identify(task, "test", None, {"engine": "noisy"})
with Run.open(Path(sys.argv[1]), {"schema": SCHEMA, "task": task.name, "identity": identity._asdict()}) as run:
    evaluate(task, text_engine(slow, capacity=16), run)
"""


def start(path: Path, pause: float) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(path), str(pause)], cwd=ROOT, text=True)


def lines(path: Path) -> list[str]:
    file = path / "records.jsonl"
    return file.read_text().splitlines() if file.exists() else []


def kill_at(process: subprocess.Popen[Any], path: Path, count: int) -> None:
    deadline = time.monotonic() + 300
    while len(lines(path)) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL


def undisturbed(path: Path) -> list[str]:
    assert start(path, 0).wait(timeout=60) == 0
    return sorted(lines(path))


def test_killed_in_the_middle_of_a_batch_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    kill_at(start(tmp_path / "cut", 0.004), tmp_path / "cut", 90)
    kept = lines(tmp_path / "cut")
    assert 0 < len(kept) < 400
    assert start(tmp_path / "cut", 0).wait(timeout=60) == 0
    assert sorted(lines(tmp_path / "cut")) == undisturbed(tmp_path / "whole")
    assert lines(tmp_path / "cut")[: len(kept) - 1] == kept[:-1]


def test_a_real_model_killed_and_resumed(tmp_path: Path) -> None:
    """The command itself, on transformers: the same instances, and scores within the engine's tolerance."""
    model = engine_models.llama(tmp_path / "llama", context=1024, width=256, layers=4)
    words = ["run", "--task", "tallrec", "--model", f"hf:{model}", "--no-cache"]
    words += ["--sample", "100", "--batch-tokens", "3000", "--threads", "1"]
    cut = subprocess.Popen([sys.executable, "-m", "harness.cli", *words, "--run-dir", str(tmp_path / "cut")], cwd=ROOT)
    kill_at(cut, tmp_path / "cut", 20)
    assert not (tmp_path / "cut" / "scores.json").exists()
    for name in ("cut", "whole"):
        assert main([*words, "--run-dir", str(tmp_path / name)]) == 0
    cut_records = {record.id: record for record in records(tmp_path / "cut")}
    whole = {record.id: record for record in records(tmp_path / "whole")}
    assert len(lines(tmp_path / "cut")) == 100
    assert cut_records.keys() == whole.keys()
    for name, record in whole.items():
        assert cut_records[name].facts == pytest.approx(record.facts, abs=1e-4)
    scores = [json.loads((tmp_path / name / "scores.json").read_text()) for name in ("cut", "whole")]
    assert scores[0]["metrics"]["AUC"]["value"] == pytest.approx(scores[1]["metrics"]["AUC"]["value"], abs=1e-3)


@pytest.mark.stress
@pytest.mark.timeout(1800)
def test_two_hundred_kills(tmp_path: Path) -> None:
    """Processes killed at random moments, again and again, until the run is through."""
    whole = undisturbed(tmp_path / "whole")
    rng = random.Random(0)
    kills = 0
    for round_ in range(40):
        path = tmp_path / f"cut {round_}"
        while True:
            process = start(path, 0.004)
            try:
                process.wait(timeout=rng.uniform(0.05, 1.2))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
        assert process.returncode == 0
        assert sorted(lines(path)) == whole
    assert kills >= 40
