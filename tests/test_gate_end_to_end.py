"""The gate with a real model: a checkpoint made worse is stopped, an equal one passes, a tiny sample cannot tell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
POLICY = """
[[check]]
metric = "AUC"
max_drop = 0.02
[[check]]
metric = "failure_rate"
max_drop = 0.01
"""


def altered(tiny: Path, out: Path, noise: float) -> Path:
    """The same model with noise on every weight, as a share of how much the weights of its matrix vary."""
    shutil.copytree(tiny, out)
    weights, generator = load_file(out / "model.safetensors"), torch.Generator().manual_seed(0)
    for name, weight in weights.items():
        drawn = torch.randn(weight.shape, generator=generator) * weight.float().std() * noise
        weights[name] = (weight + drawn.to(weight.dtype)).contiguous()
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    return out


def evaluated(model: Path, out: Path, *words: str) -> Path:
    given = ["--task", "tallrec", "--model", f"hf:{model}", "--run-dir", str(out), "--no-cache", "--threads", "1"]
    assert main(["run", *given, *words]) == 0
    return out


@pytest.fixture(scope="module")
def old(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated(tiny, tmp_path_factory.mktemp("old") / "run")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "policy.toml").write_text(POLICY)
    return tmp_path / "policy.toml"


def test_a_checkpoint_made_worse_is_stopped(tiny: Path, old: Path, policy: Path, tmp_path: Path) -> None:
    new = evaluated(altered(tiny, tmp_path / "worse", noise=1.0), tmp_path / "new")
    words = ["regress", str(new), "--against", str(old), "--policy", str(policy)]
    assert main([*words, "--show-flips", "5", "--out", str(tmp_path / "gate")]) == 1
    found = json.loads((tmp_path / "gate" / "gate.json").read_text())
    auc = found["checks"][0]
    print({key: auc[key] for key in ("old", "new", "gain", "detectable")})
    assert (auc["verdict"], auc["unit"], auc["units"], auc["few"]) == ("no-go", "user", 16, True)
    assert len(auc["flips"]) == 5


def test_an_equal_checkpoint_passes(tiny: Path, old: Path, policy: Path, tmp_path: Path) -> None:
    """Other weights by a millionth: another checkpoint to the harness, and the same to its users."""
    new = evaluated(altered(tiny, tmp_path / "equal", noise=1e-6), tmp_path / "new")
    words = ["regress", str(new), "--against", str(old), "--policy", str(policy)]
    assert main([*words, "--out", str(tmp_path / "gate")]) == 0
    found = json.loads((tmp_path / "gate" / "gate.json").read_text())
    assert found["checks"][0]["gain"]["low"] > -0.001
    assert (
        json.loads((new / "run.json").read_text())["identity"]["run"]
        != (json.loads((old / "run.json").read_text())["identity"]["run"])
    )


def test_a_tiny_sample_cannot_tell(
    tiny: Path, old: Path, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = altered(tiny, tmp_path / "equal", noise=1e-6)
    new, few = (evaluated(model, tmp_path / name, "--sample", "12") for name, model in (("n", other), ("o", tiny)))
    capsys.readouterr()
    words = ["regress", str(new), "--policy", str(policy), "--against"]
    assert main([*words, str(few)]) == 3
    assert "cannot tell: AUC" in capsys.readouterr().out
    assert main([*words, str(old)]) == 2
    assert "since they differ in sample: 12 of seed 0 and all" in capsys.readouterr().err
