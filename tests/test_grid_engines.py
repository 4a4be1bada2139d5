"""The grid on real engines: one start for nine adapters, one bad adapter among good ones, and a kill at any moment."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.cli import main
from harness.errors import BadModel
from harness.loading import Base
from harness.model import EngineOptions, Model
from tasks.tallrec import TALLRec
from tests import engine_models

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent


class Models:
    """A tiny random Llama and nine random LoRAs for it, three of which claim to be the seeds of one tuning."""

    def __init__(self, folder: Path) -> None:
        self.base = engine_models.llama(folder / "llama", context=1024)
        self.adapters = [engine_models.lora(folder / f"lora-{n}", self.base, seed=n) for n in range(9)]
        for seed, adapter in enumerate(self.adapters[:3]):
            made = {"task": "tallrec", "settings": [{"domain": "movie"}], "shots": 16, "seed": seed, "pool": "train"}
            (adapter / "harness.json").write_text(json.dumps({**made, "recipe": {}}))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


def words(models: Models, engine: str) -> list[str]:
    adapters = [word for adapter in models.adapters for word in ("--adapter", str(adapter))]
    grid = ["grid", "--task", "tallrec", "--model", f"{engine}:{models.base}"]
    return [*grid, *adapters, "--sample", "40", "--threads", "1", "--kv-cache-gib", "1", "--no-cache"]


class Done(NamedTuple):
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def grid(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """The command in this process, as from a folder."""

    def run(given: list[str], cwd: Path, *more: str) -> Done:
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        return Done(main([*given, *more]), *capsys.readouterr())

    return run


def process(given: list[str], cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "harness.cli", *given]
    return subprocess.Popen(command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_nine_adapters_cost_one_start_of_vllm(models: Models, tmp_path: Path, grid: Callable[..., Done]) -> None:
    """Two test settings and an adapter that is none, too; a second time nothing is started at all."""
    (tmp_path / "grid.toml").write_text(
        f'[[block]]\ntask = "tallrec"\nmodel = "vllm:{models.base}"\ntest = [{{}}, {{readout = "log_odds"}}]\n'
        f"adapter = {json.dumps([*map(str, models.adapters), 'nothing'])}\n"
    )
    given = ["grid", "grid.toml", "--sample", "40", "--threads", "1", "--kv-cache-gib", "1"]
    first = process(given, tmp_path)
    out, said = first.communicate(timeout=500)
    assert first.returncode == 1, said
    assert said.splitlines()[-1] == "20 cells: 18 complete, 2 failed; 1 engine start", said
    assert said.count("loading ") == 1
    assert "and 9 adapters with vllm" in said
    assert "failed: no adapter folder nothing." in out
    means = re.findall(r"\| (0\.\d{4}) ", out)
    assert len(set(means)) > 8
    again = grid(given, tmp_path)
    assert again.stderr.splitlines()[-1] == "20 cells: 18 complete, 2 failed; 0 engine starts"
    assert again.stdout == out


def test_killed_at_random_moments_the_grid_ends_with_the_same_table(
    models: Models, tmp_path: Path, grid: Callable[..., Done]
) -> None:
    (tmp_path / "whole").mkdir()
    whole = grid(words(models, "hf"), tmp_path / "whole", "--out", "report")
    assert whole.code == 0, whole.stderr
    assert whole.stderr.splitlines()[-1] == "9 cells: 9 complete, 0 failed; 1 engine start"
    assert "| 16    | 0, 1, 2 |" in whole.stdout
    (tmp_path / "cut").mkdir()
    rng = random.Random(0)
    for _ in range(3):
        killed_after(words(models, "hf"), tmp_path / "cut", rng.randrange(1, 130))
    resumed = grid(words(models, "hf"), tmp_path / "cut", "--out", "report")
    assert resumed.code == 0, resumed.stderr
    assert resumed.stdout == whole.stdout
    tables = [(tmp_path / name / "report" / "grid.csv").read_text().splitlines() for name in ("whole", "cut")]
    assert len(tables[0]) == len(tables[1]) == 1 + 7 * len(TALLRec.metrics)
    for one, other in zip(*tables, strict=True):
        # A diagnosis is a mean of probabilities, and those depend on the batch in the last digits.
        assert one == other or ("yes_no_mass" in one and numbers(one) == pytest.approx(numbers(other), abs=1e-6))


def killed_after(given: list[str], cwd: Path, more: int) -> None:
    """Kill the grid once it has answered so many instances beyond those that are on record."""
    wanted = answered(cwd) + more
    started = process(given, cwd)
    deadline = time.monotonic() + 300
    while answered(cwd) < wanted and started.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    started.communicate(timeout=30)
    assert started.returncode == -signal.SIGKILL
    assert answered(cwd) < 9 * 40


def answered(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in folder.glob("runs/*/*/records.jsonl"))


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d\.\d{3,}", line)]


def test_an_adapter_that_cannot_be_loaded_costs_one_more_start_and_only_itself(models: Models, tmp_path: Path) -> None:
    """Its weights fit, as far as can be seen from outside; peft then finds no module of the name."""
    broken = tmp_path / "broken"
    shutil.copytree(models.adapters[3], broken)
    config = json.loads((broken / "adapter_config.json").read_text())
    (broken / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["nothing"]}))
    heard: list[str] = []
    with Base(Model.parse(f"hf:{models.base}"), EngineOptions(), heard.append) as base:
        bad, good = base.adapter(broken), base.adapter(models.adapters[4])
        assert base.starts == 0
        base.ready(good, "raw", lambda: engine_models.PROMPTS)
        assert base.starts == 2
        for _ in range(2):
            with pytest.raises(BadModel, match="broken cannot be put on"):
                base.ready(bad, "raw", lambda: engine_models.PROMPTS)
        base.ready(None, "raw", lambda: engine_models.PROMPTS)
        base.ready(good, "raw", lambda: engine_models.PROMPTS)
        assert base.starts == 2
    assert sum("changes log-probabilities" in line for line in heard) == 1


def test_a_base_that_cannot_be_loaded_is_tried_once(tmp_path: Path) -> None:
    folder = engine_models.llama(tmp_path / "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no_such"}))
    with Base(Model.parse(f"hf:{folder}"), EngineOptions(), lambda line: None) as base:
        for _ in range(2):
            with pytest.raises(BadModel):
                base.ready(None, "raw", tuple)
        assert base.starts == 1
