"""The main job with real parts: a model that has learned something, real vLLM, real transformers, real adapters."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import transformers
from safetensors.torch import load_file

from harness.cli import main
from harness.comparison import compare
from harness.store import read_scores
from harness.tuning.scratch import train_from_scratch
from tasks.tallrec import TALLRec
from tests import engine_models

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def runs(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TALLRec movie test, whole, through both engines, as a user would run it."""
    runs = tmp_path_factory.mktemp("runs")
    for engine in ("vllm", "hf"):
        words = ["run", "--task", "tallrec", "--model", f"{engine}:{tiny}", "--run-dir", str(runs / engine)]
        words += ["--no-cache", "--threads", "1"]
        subprocess.run([sys.executable, "-m", "harness.cli", *words], check=True, cwd=ROOT)
    return runs


def test_the_tiny_model_has_learned_the_task(runs: Path) -> None:
    scores = read_scores(runs / "vllm")
    assert scores is not None
    assert scores["instances"] == 1000
    assert scores["failures"] == {}
    auc = scores["metrics"]["AUC"]
    assert auc["value"] > 0.60
    assert auc["low"] > 0.5
    assert (auc["unit"], auc["units"], auc["few"], auc["method"]) == ("user", 16, True, "jackknife-t")
    assert scores["metrics"]["yes_no_mass"]["value"] > 0.9


def test_vllm_and_transformers_agree_on_all_prompts(runs: Path) -> None:
    found = compare(runs / "vllm", runs / "hf", {metric.name: metric for metric in TALLRec.metrics})
    assert found.instances == 1000
    print("largest gaps over 1,000 prompts:", dict(found.gaps))
    assert found.gaps["log_yes"] < 1e-3
    assert found.gaps["log_no"] < 1e-3
    assert all(abs(one.ours - one.theirs) < 1e-3 for one in found.differences.values())


def test_the_tiny_model_is_an_ordinary_folder(tiny: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny)
    task = TALLRec()
    prompt = tokenizer(task.prompt(next(task.instances("test"))), return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=3, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(written).removesuffix("</s>") in ("Yes.", "No.")
    manifest = json.loads((tiny / "harness.json").read_text())
    assert manifest["rows"] == 8000
    assert manifest["loss"][-1]["loss"] < manifest["loss"][0]["loss"]


def test_several_adapters_share_one_loaded_model(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    adapters = [engine_models.lora(tmp_path / f"adapter {n}", tiny, seed=n) for n in (1, 2)]
    words = ["run", "--task", "tallrec", "--model", f"hf:{tiny}", "--sample", "40", "--json"]
    assert main([*words, *(word for adapter in adapters for word in ("--adapter", str(adapter)))]) == 0
    out = capsys.readouterr()
    assert out.err.count("loading ") == 1
    assert out.err.count("changes log-probabilities by up to") == 2
    one, two = (found["scores"]["metrics"]["yes_no_mass"]["value"] for found in json.loads(out.out))
    assert one != two


class Short(TALLRec):
    """TALLRec with few unlabelled texts, and of each the beginning: the whole path in seconds."""

    def unlabelled(self) -> Iterator[str]:
        return (text[:240] for text in islice(super().unlabelled(), 2000))


def test_a_label_free_base_survives_a_kill_and_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys; from pathlib import Path; from harness.tuning.scratch import train_from_scratch\n"
        "from tests.test_end_to_end import Short\n"
        "train_from_scratch(Short(), 'tiny', Path(sys.argv[1]), unlabelled=True, threads=1)\n"
    )
    out = tmp_path / "base"
    process = subprocess.Popen([sys.executable, "-c", code, str(out)], cwd=ROOT)
    try:
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob("base.partial/*/checkpoints/checkpoint-50/trainer_state.json")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert not out.exists()
    manifest = train_from_scratch(Short(), "tiny", out, unlabelled=True, threads=1)
    assert (manifest["texts"], manifest["rows"]) == ("unlabelled", 2000)
    assert [entry["step"] for entry in manifest["loss"]] == [10, 20, 30, 40, 50, 60]
    assert "going on after step 50" in capsys.readouterr().err
    assert train_from_scratch(Short(), "tiny", out, unlabelled=True, threads=1)["loss"] == manifest["loss"]
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    train_from_scratch(Short(), "tiny", tmp_path / "whole", unlabelled=True, threads=1)
    resumed, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "whole"))
    assert max(float((resumed[name] - whole[name]).abs().max()) for name in whole) < 1e-4


def test_vllm_recbole_and_ray_live_in_one_process() -> None:
    code = "import vllm, ray, recbole.config, recbole.trainer, recbole.model.sequential_recommender as _\n"
    code += "print(ray.__version__)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.strip().splitlines()[-1].split(".")[1]) >= 50
