"""What the benchmarks of speed rest on: that everybody answers the same question, and that FLOPs are counted right."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import authors
from benchmarks.flops import flops, least_work, peak_of
from benchmarks.models import SHAPES, VOCABULARY, Shape, llama
from benchmarks.peers import NoPeer, Peers, install, write_task
from benchmarks.ways import Way, harness_run, in_turn, log_odds, prompts_of, run_folder, times
from harness.checkpoint import resolve
from harness.engines.encode import load_tokenizer
from harness.engines.transformers import load
from harness.metrics import sigmoid
from harness.model import Checkpoint, EngineOptions, Model
from harness.runner import drive, questions
from harness.signature import Sample
from harness.types import Prediction
from tasks.llm_trsr import LLMTRSR
from tasks.tallrec import TALLRec

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SMALL = Shape(layers=1, width=2, inner=3, heads=1)


class TestFlops:
    def test_by_hand(self) -> None:
        # 4 * 2 * 2 + 3 * 2 * 3 = 34 weights; places 1 and 2 look at 2 + 3 keys of two numbers each.
        assert flops(SMALL, 1, 3) == 2 * 34 * 2 + 4 * 2 * (2 + 3) + 2 * 2 * VOCABULARY

    def test_as_torch_counts_them(self, tiny: Checkpoint) -> None:
        import torch
        import transformers
        from torch.utils.flop_counter import FlopCounterMode

        shape = SHAPES["tiny"]
        model = transformers.AutoModelForCausalLM.from_pretrained(tiny.folder, attn_implementation="eager")
        for tokens in (1, 7, 100):
            with FlopCounterMode(display=False) as counted, torch.no_grad():
                model(torch.ones((1, tokens), dtype=torch.long), logits_to_keep=1)
            # Torch multiplies by the keys behind a token too, only to mask them.
            masked = 4 * shape.width * shape.layers * (tokens * (tokens - 1) // 2)
            assert flops(shape, 0, tokens) == counted.get_total_flops() - masked

    def test_a_shared_beginning_is_read_once_in_whole_blocks(self) -> None:
        one, other = (*range(40), 1, 2), (*range(40), 3)
        assert least_work(SMALL, [one, other]) == flops(SMALL, 0, 42) + flops(SMALL, 32, 41)
        assert least_work(SMALL, [one, one]) == flops(SMALL, 0, 42) + flops(SMALL, 32, 42)
        assert least_work(SMALL, [range(16), range(16)]) == 2 * flops(SMALL, 0, 16), "the last token is always read"
        assert least_work(SMALL, []) == 0

    @pytest.mark.parametrize(
        ("device", "peak"),
        [
            ("NVIDIA H100 80GB HBM3", 989.0),
            ("NVIDIA H100 PCIe", 756.0),
            ("NVIDIA H100 NVL", 835.0),
            ("NVIDIA H200", 989.0),
            ("NVIDIA H200 NVL", 835.0),
            ("NVIDIA A100-SXM4-80GB", 312.0),
            ("NVIDIA L40S", 362.0),
            ("NVIDIA L4", 121.0),
            ("NVIDIA A10G", None),
            ("a CPU", None),
        ],
    )
    def test_peaks_by_the_name_of_the_device(self, device: str, peak: float | None) -> None:
        assert peak_of(device) == peak


class TestTurns:
    def test_a_warming_round_then_forwards_and_backwards(self) -> None:
        asked: list[tuple[str, int]] = []

        def way(name: str, seconds: Sequence[float], warmed: bool = True) -> Way:
            def answer(turn: int) -> float:
                asked.append((name, turn))
                return seconds[turn]

            return Way(name, 12, answer, warmed)

        rates = in_turn([way("a", (9, 1, 2, 4)), way("b", (9, 3, 4, 3), warmed=False)], rounds=3)
        assert asked == [("a", 0), ("a", 1), ("b", 1), ("b", 2), ("a", 2), ("a", 3), ("b", 3)]
        assert rates == {"a": [12, 6, 3], "b": [4, 3, 4]}
        assert times(rates, "a", "b") == 2.0  # of 3, 2 and 3 / 4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Random weights, in float32, so that ways agree to many digits."""
    folder = llama(tmp_path_factory.mktemp("tiny") / "model", SHAPES["tiny"])
    return resolve(Model("hf", str(folder), dtype="float32"))


@pytest.fixture(scope="module")
def loaded(tiny: Checkpoint) -> Any:
    return load(tiny, [], EngineOptions(threads=1))


class TestAuthorsLoops:
    @pytest.mark.parametrize("written", [1, 3])
    def test_tallrec_scores_as_the_task_does(self, tiny: Checkpoint, loaded: Any, written: int) -> None:
        task, sample = TALLRec(), Sample(40)
        theirs = authors.tallrec(loaded.model, load_tokenizer(tiny), prompts_of(task, sample), written)
        ours = _predictions(task, sample, loaded)
        # They take a softmax over the two probabilities, which is a logistic function of their difference.
        assert theirs == pytest.approx([sigmoid(next(iter(one.scores.values()))) for one in ours], abs=1e-6)

    def test_llm_trsr_scores_as_the_task_does(self, tiny: Checkpoint, loaded: Any) -> None:
        task, sample = LLMTRSR(), Sample(1)
        texts = prompts_of(task, sample)
        assert len(texts) == 21
        theirs = authors.llm_trsr(loaded.model, load_tokenizer(tiny), texts[:4])
        (ours,) = _predictions(task, sample, loaded)
        assert theirs == pytest.approx(list(ours.scores.values())[:4], abs=1e-5)

    def test_a_word_of_several_tokens_is_refused(self, tiny: Checkpoint) -> None:
        with pytest.raises(ValueError, match="not a single token"):
            authors.answer_ids(load_tokenizer(tiny), ("Yes", "Supercalifragilistic"))


def test_without_an_index_there_is_one_line_and_no_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NoPeer, match=r"^pip cannot install it here \(ERROR: [^\n]*\)$"):
        install(tmp_path / "peers")


@pytest.mark.slow
def test_lm_evaluation_harness_is_asked_the_same(tmp_path: Path, tiny: Checkpoint, loaded: Any) -> None:
    task, sample = TALLRec(), Sample(24)
    harness_run(loaded, tmp_path, task, sample)(0)
    ours = log_odds(run_folder(tmp_path, "hf", task, 0), task, sample)
    liked = [max(one.relevance.values()) > 0 for one in questions(task, "test", sample)]
    asked = write_task(tmp_path / "task", prompts_of(task, sample), liked)
    try:
        libraries = install(tmp_path / "libraries")
    except NoPeer as error:
        pytest.skip(f"lm-evaluation-harness: {error}")
    with Peers(libraries, tmp_path / "work", tiny, asked, prompts=24, backends=["hf"], batches=["8"], threads=1) as it:
        (rates,) = in_turn(it.ways(), rounds=1).values()
    assert len(rates) == 1
    assert it.odds["lm-eval, hf, batches of 8"] == pytest.approx(ours, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("with_vllm", [False, True])
def test_the_gpu_script_runs_with_and_without_vllm(tmp_path: Path, with_vllm: bool) -> None:
    """At its smallest, on whatever device there is. Without vLLM: in an interpreter that finds no such package."""
    if with_vllm:
        pytest.importorskip("vllm", exc_type=ImportError)
    farm = tmp_path / "packages"
    farm.mkdir()
    for folder in map(Path, site.getsitepackages()):
        for found in folder.iterdir():
            if with_vllm or not found.name.startswith("vllm"):
                (farm / found.name).symlink_to(found)
    words = [*([] if with_vllm else ["-S"]), "-m", "benchmarks.gpu", "--size", "tiny", "--prompts", "8", "--users", "1"]
    words += ["--rounds", "1", "--no-peers", "--peak-tflops", "1", "--json", str(tmp_path / "found.json")]
    paths = {} if with_vllm else {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, farm)))}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=os.environ | paths, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    ours = ["harness, transformers", *(["harness, vLLM", "bare vLLM"] if with_vllm else [])]
    theirs = ["the authors' loop, the model never ends", "the authors' loop, the model ends at once"]
    assert sorted(found["tallrec"]) == sorted([*ours, *theirs])
    assert all(rate > 0 for way in (found["tallrec"], found["llm_trsr"]) for rates in way.values() for rate in rates)
    assert set(found["reuse"]) == set(ours) - {"bare vLLM"}
    assert ("vLLM is not there" in done.stdout) is not with_vllm
    assert "| FLOP utilisation |" in done.stdout


def _predictions(task: TALLRec | LLMTRSR, sample: Sample, loaded: Any) -> list[Prediction]:
    """In the task's order."""
    asked = [(one.id, task.solve(one)) for one in questions(task, "test", sample)]
    found = {name: made for name, made, _ in drive(asked, loaded.engine())}
    made = [found[name] for name, _ in asked]
    assert all(isinstance(one, Prediction) for one in made)
    return [one for one in made if isinstance(one, Prediction)]
