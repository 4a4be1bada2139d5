"""Seconds for 21 candidates of a user, each asked about by itself, with the shared prompt read once against 21 times.

The questions are those of the task `llm-trsr`: a recent history, and one candidate at the end of it. Without sharing, a
number stands before each prompt, so that no two begin alike; two or three tokens more are all that differs. The same
users and the same 58M-parameter Llama, one way after the other in each round, so that what counts is their ratio.

    python -m benchmarks.pointwise [--users 8] [--rounds 2] [--threads 1] [--engine hf --engine vllm]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.models import llama_58m
from benchmarks.spelling import timed
from harness.checkpoint import resolve
from harness.engines.text import LoadedModel
from harness.engines.transformers import load as load_hf
from harness.engines.vllm import load as load_vllm
from harness.errors import InstanceFailed
from harness.model import EngineOptions, Model
from harness.runner import drive
from harness.types import Choose, ask_all
from tasks.llm_trsr import LLMTRSR

RECENT = 20
"""Items of a history in a prompt, in place of a summary and five: some 700 tokens."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=8, help="all in flight together")
    parser.add_argument("--rounds", type=int, default=2, help="timed rounds, after one that warms up")
    parser.add_argument("--threads", type=int, help="CPU threads; say 1 on a busy machine")
    parser.add_argument("--engine", action="append", choices=("hf", "vllm"))
    given = parser.parse_args()
    asked = questions(given.users)
    print("| engine | questions | seconds, shared | seconds, each alone | ratio |\n|---|---|---|---|---|")
    with TemporaryDirectory() as name:
        checkpoint = resolve(Model("auto", str(llama_58m(Path(name) / "base"))))
        for engine in given.engine or ("hf", "vllm"):
            loaded = {"hf": load_hf, "vllm": load_vllm}[engine](checkpoint, [], EngineOptions(threads=given.threads))
            try:
                report(loaded, asked, given.rounds)
            finally:
                loaded.close()


def questions(users: int) -> list[tuple[Choose, ...]]:
    """What a few users are asked, 21 questions each."""
    task, asked = LLMTRSR(recent=RECENT), []
    for instance in islice(task.instances(), users):
        first = next(task.solve(instance))
        asked.append(tuple(request for request in first if isinstance(request, Choose)))
    return asked


def report(loaded: LoadedModel, asked: Sequence[Sequence[Choose]], rounds: int) -> None:
    """Both ways in turn, and a row with the best time of each."""
    numbers = count(1)
    seconds: dict[str, float] = {}
    for turn in range(rounds + 1):
        apart = [[Choose(f"{next(numbers):05} {one.prompt}", one.options) for one in some] for some in asked]
        timed(loaded, "shared", partial(answer, loaded, asked), seconds, turn)
        timed(loaded, "apart", partial(answer, loaded, apart), seconds, turn)
    shared, alone = seconds["shared"], seconds["apart"]
    total = sum(map(len, asked))
    print(f"| {loaded.kind} | {total} | {shared:.2f} | {alone:.2f} | {alone / shared:.2f} |", flush=True)


def answer(loaded: LoadedModel, asked: Sequence[Sequence[Choose]]) -> int:
    """Every question of every user; how many tokens their prompts have."""
    tokens = 0
    for _, made, usage in drive([(str(n), ask_all(some)) for n, some in enumerate(asked)], loaded.engine()):
        if isinstance(made, InstanceFailed):
            raise SystemExit(f"a question failed: {made}")
        tokens += usage.prompt_tokens
    return tokens


if __name__ == "__main__":
    main()
