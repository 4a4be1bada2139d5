"""Prompts a second: the harness, the bare engine, lm-evaluation-harness, and the authors' loops.

Every way answers the same prompts with the same loaded model and the same number of threads, in turn, in one run, so
that what counts is the ratio of two rates within a round; the median over rounds is shown.

    TALLRec    the harness on vLLM and on transformers, bare vLLM, lm-evaluation-harness (hf, vllm; installed for the
               purpose, see benchmarks/peers.py), and the authors' loop with a model that never ends a text and with one
               that ends after three tokens
    LLM-TRSR   the harness on vLLM and on transformers, and the authors' loop

    python -m benchmarks.throughput [--prompts 1000] [--sample 192] [--users 4] [--rounds 3] [--threads N]
                                    [--peers FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks import authors
from benchmarks.models import llama_58m
from benchmarks.peers import Peers, default_folder, write_task
from benchmarks.ways import (
    Rates,
    Way,
    bare_vllm,
    harness_run,
    in_turn,
    log_odds,
    prompts_of,
    report,
    run_folder,
    spending,
    untold,
)
from harness.checkpoint import resolve
from harness.engines.encode import load_tokenizer
from harness.engines.transformers import load as load_transformers
from harness.engines.vllm import load as load_vllm
from harness.model import Checkpoint, EngineOptions, Model
from harness.runner import questions
from harness.signature import Sample
from harness.task import Task
from tasks.llm_trsr import LLMTRSR
from tasks.tallrec import TALLRec

OURS = ("harness, vLLM", "harness, transformers")
BARE = "bare vLLM"


class Subjects(NamedTuple):
    """The model, loaded by each engine, and where runs are written."""

    work: Path
    checkpoint: Checkpoint
    vllm: Any
    transformers: Any
    tokenizer: Any
    rounds: int
    threads: int | None

    def ours(self, task: Task, sample: Sample | None, prompts: int) -> list[Way]:
        engines = (self.vllm, self.transformers)
        return [
            Way(name, prompts, harness_run(engine, self.work, task, sample))
            for name, engine in zip(OURS, engines, strict=True)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=1000, help="of TALLRec, for the overhead over the bare engine")
    parser.add_argument("--sample", type=int, default=192, help="of them, for all other ways")
    parser.add_argument("--users", type=int, default=4, help="of LLM-TRSR, 21 prompts each")
    parser.add_argument("--rounds", type=int, default=3, help="timed ones")
    parser.add_argument("--threads", type=int, help="CPU threads of every way; say 1 on a busy machine")
    parser.add_argument(
        "--peers", type=Path, default=default_folder(), help="where lm-evaluation-harness is or will be"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with TemporaryDirectory() as folder, ExitStack() as loaded:
        subjects = load(Path(folder), loaded, given.rounds, given.threads)
        size = f"{(subjects.checkpoint.parameters or 0) / 1e6:.0f}M parameters, {subjects.checkpoint.dtype}"
        print(f"{size}, {given.rounds} rounds, threads: {given.threads or 'as many as cores'}\n", flush=True)
        found = {
            **vars(given) | {"peers": None, "json": None},
            "overhead": overhead(subjects, Sample(given.prompts) if given.prompts < 1000 else None),
            "tallrec": tallrec(subjects, Sample(given.sample), given.peers),
            "llm-trsr": llm_trsr(subjects, Sample(given.users)),
        }
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


def load(work: Path, loaded: ExitStack, rounds: int, threads: int | None) -> Subjects:
    """The model in both engines; `loaded` closes them."""
    options = EngineOptions(threads=threads)
    checkpoint = resolve(Model("auto", str(llama_58m(work / "model"))))
    vllm = load_vllm(checkpoint, [], options)
    loaded.callback(vllm.close)
    transformers = load_transformers(checkpoint, [], options)
    loaded.callback(transformers.close)
    return Subjects(work, checkpoint, vllm, transformers, load_tokenizer(checkpoint), rounds, threads)


def overhead(subjects: Subjects, sample: Sample | None) -> Rates:
    """The harness on vLLM and the same engine by hand, one straight after the other."""
    task = TALLRec()
    texts = prompts_of(task, sample)
    ours = harness_run(subjects.vllm, subjects.work / "overhead", task, sample)
    bare = bare_vllm(subjects.vllm, subjects.checkpoint, texts)
    spent: dict[str, list[float]] = {OURS[0]: [], BARE: []}
    answers = {OURS[0]: ours, BARE: bare}
    ways = [Way(name, len(texts), spending(answer, spent[name])) for name, answer in answers.items()]
    rates = in_turn(ways, subjects.rounds)
    report(f"TALLRec, {len(texts)} prompts", rates, OURS[:1])
    by_clock = [there / here for here, there in zip(rates[OURS[0]], rates[BARE], strict=True)]
    by_cpu = [here / there for here, there in list(zip(spent[OURS[0]], spent[BARE], strict=True))[1:]]
    for what, ratios in (("time", by_clock), ("CPU time of all processes", by_cpu)):
        each = ", ".join(f"{ratio - 1:+.1%}" for ratio in ratios)
        print(f"overhead of the harness over bare vLLM, {what}: {median(ratios) - 1:+.1%} (rounds: {each})")
    print(flush=True)
    return rates


def tallrec(subjects: Subjects, sample: Sample, libraries: Path) -> Rates:
    """Everybody's way to answer a sample of TALLRec's prompts."""
    task = TALLRec()
    texts = prompts_of(task, sample)
    liked = [max(one.relevance.values()) > 0 for one in questions(task, "test", sample)]
    asked = write_task(subjects.work / "lm-eval task", texts, liked)
    ways = subjects.ours(task, sample, len(texts))
    for name, written in (("never ends", authors.WRITTEN), ("ends at once", authors.SHORT)):
        loop = partial(authors.tallrec, subjects.transformers.model, subjects.tokenizer, texts, written)
        ways.append(Way(f"the authors' loop, the model {name}", len(texts), untold(loop), warmed=False))
    peers = Peers(libraries, subjects.work, subjects.checkpoint, asked, prompts=len(texts), threads=subjects.threads)
    with peers:
        rates = in_turn([*ways, *peers.ways()], subjects.rounds)
    report(f"TALLRec, {len(texts)} prompts", rates, OURS)
    ours = log_odds(run_folder(subjects.work, "vllm", task, subjects.rounds), task, sample)
    for name, odds in peers.odds.items():
        gap = max(abs(one - other) for one, other in zip(odds, ours, strict=True))
        print(f"{name}: log P(Yes) - log P(No) differs from ours on vLLM by up to {gap:.3g}")
    print(flush=True)
    return rates


def llm_trsr(subjects: Subjects, sample: Sample) -> Rates:
    """The harness and the authors' loop on all candidates of a few users."""
    task = LLMTRSR()
    texts = prompts_of(task, sample)
    loop = partial(authors.llm_trsr, subjects.transformers.model, subjects.tokenizer, texts)
    ways = [*subjects.ours(task, sample, len(texts)), Way("the authors' loop", len(texts), untold(loop), warmed=False)]
    rates = in_turn(ways, subjects.rounds)
    report(f"LLM-TRSR, {len(texts)} prompts of {sample.size} users", rates, OURS)
    return rates


if __name__ == "__main__":
    main()
