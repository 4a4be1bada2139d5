"""Seconds for ten candidates of a list, with the encoder's prompt read once against ten pairs of prompt and title.

The questions are those of the task `instructrec` on MovieLens-100K: a history of twenty titles, ten candidates, and the
likelihood of each title as the answer. Both ways go through the same engine, with batches of as many tokens; a pair is
a question with one option. The same users and a T5 of Flan-T5-small's shape, one way after the other in each round, so
that what counts is their ratio.

    python -m benchmarks.encoder_reuse [--users 16] [--rounds 2] [--threads 1]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.models import t5_77m
from benchmarks.pointwise import answer
from benchmarks.spelling import timed
from harness.checkpoint import resolve
from harness.engines.transformers import load
from harness.model import EngineOptions, Model
from harness.types import Choose
from tasks.instructrec import InstructRec


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=16, help="all in flight together")
    parser.add_argument("--rounds", type=int, default=2, help="timed rounds, after one that warms up")
    parser.add_argument("--threads", type=int, help="CPU threads; say 1 on a busy machine")
    given = parser.parse_args()
    asked = [(one,) for one in questions(given.users)]
    pairs = [tuple(Choose(one.prompt, (title,), ended=True) for title in one.options) for (one,) in asked]
    seconds: dict[str, float] = {}
    with TemporaryDirectory() as name:
        loaded = load(resolve(Model("hf", str(t5_77m(Path(name))))), [], EngineOptions(threads=given.threads))
        for turn in range(given.rounds + 1):
            timed(loaded, "once", partial(answer, loaded, asked), seconds, turn)
            timed(loaded, "pairs", partial(answer, loaded, pairs), seconds, turn)
    once, each = seconds["once"], seconds["pairs"]
    print("| lists | candidates | seconds, prompt read once | seconds, each pair | ratio |\n|---|---|---|---|---|")
    print(f"| {len(asked)} | {sum(map(len, pairs))} | {once:.2f} | {each:.2f} | {each / once:.2f} |")


def questions(users: int) -> Sequence[Choose]:
    """One list of ten titles of each of some users."""
    task, asked = InstructRec(max_length=1024), []
    for instance in islice(task.instances(), users):
        (request,) = next(task.solve(instance))
        assert isinstance(request, Choose)
        asked.append(request)
    return asked


if __name__ == "__main__":
    main()
