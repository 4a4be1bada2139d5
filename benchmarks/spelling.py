"""Seconds for a list of ten titles that are all in the catalogue, against free text of as many tokens.

Every list is ten questions: one title of 50 candidates, or of all titles of MovieLens 100K, with those that the list
already has barred. Free text is one question for the whole list. The same users, the same 58M-parameter Llama, one way
after the other in each round, so that what counts is their ratio. On vLLM the candidates are written both ways: through
the tree of their tokens, which the harness does by itself, and through vLLM's structured outputs.

    python -m benchmarks.spelling [--lists 16] [--rounds 2] [--threads 1] [--engine hf --engine vllm]
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.models import llama_58m
from harness.checkpoint import resolve
from harness.data import load as load_data
from harness.engines.text import LoadedModel
from harness.engines.transformers import load as load_hf
from harness.engines.vllm import load as load_vllm
from harness.errors import InstanceFailed
from harness.model import EngineOptions, Model
from harness.runner import drive
from harness.types import Generate, Program, ask

LENGTH = 10
CANDIDATES = 50
HISTORY = 20
User = tuple[str, tuple[str, ...]]
"""A prompt of some 300 tokens, and the candidates."""
Way = Callable[[], int]
"""Answers for all users; returns the tokens that were generated."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lists", type=int, default=16, help="users, all in flight together")
    parser.add_argument("--rounds", type=int, default=2, help="timed rounds, after one that warms up")
    parser.add_argument("--threads", type=int, help="CPU threads; say 1 on a busy machine")
    parser.add_argument("--engine", action="append", choices=("hf", "vllm"))
    given = parser.parse_args()
    catalogue = tuple(dict.fromkeys(f'{item.text}"' for item in load_data("ml-100k").items))
    people = users(catalogue, given.lists)
    print(
        f"{given.lists} lists of {LENGTH} at a time, {len(catalogue)} titles in the catalogue, best of {given.rounds}"
    )
    print("| engine | way | tokens a list | seconds a list | against free text |\n|---|---|---|---|---|")
    with TemporaryDirectory() as name:
        checkpoint = resolve(Model("auto", str(llama_58m(Path(name) / "base"))))
        for engine in given.engine or ("hf", "vllm"):
            loaded = {"hf": load_hf, "vllm": load_vllm}[engine](checkpoint, [], EngineOptions(threads=given.threads))
            try:
                report(loaded, people, catalogue, given.rounds)
            finally:
                loaded.close()


def users(catalogue: Sequence[str], count: int) -> list[User]:
    """People with random tastes, always the same."""
    draw = random.Random(0)
    made = []
    for _ in range(count):
        seen = "\n".join(f'- "{title}' for title in draw.sample(catalogue, HISTORY))
        prompt = f"A user liked these films:\n{seen}\nTen films that they will like next:\n"
        made.append((prompt, tuple(draw.sample(catalogue, CANDIDATES))))
    return made


def report(loaded: LoadedModel, people: Sequence[User], catalogue: tuple[str, ...], rounds: int) -> None:
    """Time every way in turn and print a row for each."""
    titles = partial(lists, loaded, [(prompt, catalogue) for prompt, _ in people])
    ways: dict[str, Way] = {f"all {len(catalogue)} titles": titles}
    if loaded.kind == "hf":
        ways[f"{CANDIDATES} candidates"] = partial(lists, loaded, people)
    else:
        ways[f"{CANDIDATES} candidates, structured outputs"] = partial(lists, loaded, people, CANDIDATES)
        ways[f"{CANDIDATES} candidates, tree"] = partial(lists, loaded, people, 0)
    seconds: dict[str, float] = {}
    tokens: dict[str, int] = {}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            tokens[name] = timed(loaded, name, way, seconds, turn)
            free = partial(texts, loaded, people, round(tokens[name] / len(people)))
            timed(loaded, f"free, as {name}", free, seconds, turn)
    for name in ways:
        taken, free_taken = seconds[name] / len(people), seconds[f"free, as {name}"] / len(people)
        each = tokens[name] / len(people)
        print(f"| {loaded.kind} | {name} | {each:.0f} | {taken:.3f} | {taken / free_taken:.2f} |", flush=True)
        print(f"| {loaded.kind} | free text | {each:.0f} | {free_taken:.3f} | 1 |", flush=True)


def lists(loaded: Any, people: Sequence[User], structured: int | None = None) -> int:
    """A list for each user; on vLLM, `structured` is the most options that go through its structured outputs."""
    if structured is not None:
        loaded.structured = structured
    programs = [(str(place), _ten(prompt, options)) for place, (prompt, options) in enumerate(people)]
    tokens = 0
    for _, made, usage in drive(programs, loaded.engine()):
        if isinstance(made, InstanceFailed):
            raise SystemExit(f"a list failed: {made}")
        assert len(set(made)) == LENGTH
        tokens += usage.generated_tokens
    return tokens


def texts(loaded: LoadedModel, people: Sequence[User], tokens: int) -> int:
    """A free text for each user."""
    programs = [(str(place), ask(Generate(prompt, tokens))) for place, (prompt, _) in enumerate(people)]
    return sum(usage.generated_tokens for _, _, usage in drive(programs, loaded.engine()))


def _ten(prompt: str, options: tuple[str, ...]) -> Program[list[str]]:
    written: list[str] = []
    for place in range(1, LENGTH + 1):
        prompt += f'{place}. "'
        reply = yield from ask(Generate(prompt, 1, options=options, barred=tuple(written)))
        written.append(reply.text)
        prompt += f"{reply.text}\n"
    return written


def timed(loaded: Any, name: str, way: Way, seconds: dict[str, float], turn: int) -> int:
    """Keep the best time of all rounds but the first."""
    if loaded.kind == "vllm":
        loaded._engine.reset_prefix_cache()
    began = time.perf_counter()
    tokens = way()
    if turn:
        seconds[name] = min(time.perf_counter() - began, seconds.get(name, float("inf")))
    return tokens


if __name__ == "__main__":
    main()
