"""Ways to answer the same prompts with the same model, timed in turn: how the harness does it, and how by hand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.authors import answer_ids
from harness.engines.encode import load_tokenizer
from harness.model import Checkpoint
from harness.runner import evaluate, questions
from harness.signature import Sample, identify
from harness.store import SCHEMA, Run, records
from harness.task import Task
from tasks.llm_trsr import LLMTRSR
from tasks.tallrec import TALLRec

Rates = dict[str, list[float]]
"""Prompts a second by the name of the way, one number a round."""


@dataclass(frozen=True)
class Way:
    """Something that answers prompts."""

    name: str
    prompts: int
    answer: Callable[[int], float]
    """Told the number of the round, answers all prompts; returns the seconds that it took."""
    warmed: bool = True
    """Whether it takes part in the round that warms up; what takes minutes need not."""


def in_turn(ways: Sequence[Way], rounds: int) -> Rates:
    """The rates of each way in rounds 1 to `rounds`, after a round 0 that is not timed. Every second round goes
    backwards, so that a machine that slows down or speeds up favours nobody."""
    rates: Rates = {way.name: [] for way in ways}
    for turn in range(rounds + 1):
        for way in ways if turn % 2 else reversed(ways):
            if turn or way.warmed:
                seconds = way.answer(turn)
                if turn:
                    rates[way.name].append(way.prompts / seconds)
    return rates


def times(rates: Rates, one: str, other: str) -> float:
    """How many times as fast one way is as the other: the median over rounds of the ratio within a round."""
    return median(a / b for a, b in zip(rates[one], rates[other], strict=True))


def report(
    title: str, rates: Rates, ours: Sequence[str], further: tuple[str, Callable[[float], str]] | None = None
) -> None:
    """Print a table: each way's median rate, what `further` makes of it, and how many times as fast `ours` are."""
    name, made = further or ("", str)
    heads = [title, "prompts/s", *([name] if further else []), *(f"{one}, is" for one in ours)]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for way, found in rates.items():
        rate = median(found)
        cells = [way, f"{rate:.1f}", *([made(rate)] if further else [])]
        cells += ["" if way == one else f"{times(rates, one, way):.2f} times as fast" for one in ours]
        print(f"| {' | '.join(cells)} |")
    print(flush=True)


def untold(work: Callable[[], object]) -> Callable[[int], float]:
    """The seconds of something that need not know the round."""

    def answer(turn: int) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return answer


def spending(answer: Callable[[int], float], spent: list[float]) -> Callable[[int], float]:
    """The same, adding to `spent` the CPU seconds of this process and of all that it started and that still run: what
    other people's processes change less than the clock."""

    def both(turn: int) -> float:
        before = _cpu_seconds()
        seconds = answer(turn)
        spent.append(_cpu_seconds() - before)
        return seconds

    return both


def prompts_of(task: TALLRec | LLMTRSR, sample: Sample | None) -> list[str]:
    """What a language model reads, in the task's order."""
    texts: list[str] = []
    for instance in questions(task, "test", sample):
        if isinstance(task, TALLRec):
            texts.append(task.prompt(instance))
        else:
            shown = [event.item for event in instance.history][-task.recent :]
            texts += [task.prompt(item, shown, task.summary(instance)) for item in instance.candidates or ()]
    return texts


def harness_run(loaded: Any, work: Path, task: Task, sample: Sample | None) -> Callable[[int], float]:
    """All of `harness run` but loading the model: questions, read-outs, metrics, records on disk. SystemExit: a prompt
    could not be answered."""

    def answer(turn: int) -> float:
        forget(loaded)
        path = run_folder(work, loaded.kind, task, turn)
        identity = identify(task, "test", sample, {"bench": str(path)})
        began = time.perf_counter()
        with Run.open(path, {"schema": SCHEMA, "task": task.name, "identity": identity._asdict()}) as run:
            evaluate(task, loaded.engine(None, "raw"), run, sample=sample)
        seconds = time.perf_counter() - began
        if reasons := [record.reason for record in records(path) if record.failure]:
            raise SystemExit(f"{len(reasons)} prompts could not be answered: {reasons[0]}")
        return seconds

    return answer


def run_folder(work: Path, kind: str, task: Task, turn: int) -> Path:
    """Where `harness_run` leaves the records of a round."""
    return work / f"{kind} {task.name} {turn}"


def log_odds(run: Path, task: TALLRec, sample: Sample | None) -> list[float]:
    """log P(Yes) - log P(No) of each answer, in the task's order."""
    found = {record.id: record.facts["log_odds"] for record in records(run)}
    return [found[instance.id] for instance in questions(task, "test", sample)]


def bare_vllm(loaded: Any, checkpoint: Checkpoint, texts: Sequence[str]) -> Callable[[int], float]:
    """What somebody writes who calls vLLM by hand: tokenise, one token each, read two log-probabilities.

    The prompts in the order in which the harness hands them over, so that both find the same in the prefix cache.
    """
    ordered, tokenizer = sorted(texts), load_tokenizer(checkpoint)

    def answer(turn: int) -> float:
        forget(loaded)
        began = time.perf_counter()
        _bare(loaded._engine, tokenizer, ordered, turn)
        return time.perf_counter() - began

    return answer


def forget(loaded: Any) -> None:
    """Empty vLLM's prefix cache: every way reads its prompts for the first time."""
    if loaded.kind == "vllm":
        loaded._engine.reset_prefix_cache()


def _bare(engine: Any, tokenizer: Any, texts: Sequence[str], turn: int) -> None:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    answers = answer_ids(tokenizer, ("Yes", "No"))
    params = SamplingParams(
        max_tokens=1, temperature=0, logprob_token_ids=answers, detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )  # fmt: skip
    for number, ids in enumerate(tokenizer(list(texts)).input_ids):
        engine.add_request(f"bare {turn} {number}", {"prompt_token_ids": ids}, params)
    done = 0
    while engine.has_unfinished_requests():
        for output in engine.step():
            done += output.outputs[0].logprobs[0].keys() >= set(answers)
    assert done == len(texts)


def _cpu_seconds() -> float:
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        parents[int(folder.name)], ticks[int(folder.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(ticks[pid] for pid in ours) / os.sysconf("SC_CLK_TCK")
