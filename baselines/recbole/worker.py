"""The process in which RecBole runs: `python -m baselines.recbole.worker FD`, started by `harness`, not by people.

It takes a `Fit`, a `Load` or `Questions` at a time from the socket and answers with ("step", done, total) any number
of times, then with ("done", result) or ("failed", kind, reason). It ends when the harness does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from baselines.recbole.job import Fit, Load, Questions, Recipe

EVERY = 0.5
"""Seconds between two words about steps."""


def main() -> None:
    with Connection(int(sys.argv[1])) as harness:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        import torch

        from baselines.recbole.compat import import_recbole

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        import_recbole()
        desk = Desk(harness)
        while True:
            try:
                message = harness.recv()
            except (EOFError, ConnectionError):
                return
            try:
                harness.send(("done", desk.serve(message)))
            except ConnectionError:
                return
            except Exception as error:
                traceback.print_exc()
                harness.send(("failed", type(error).__name__, _line(error)))


class Desk:
    """Does what is asked, and keeps the model that it was told to load."""

    def __init__(self, harness: Connection) -> None:
        self._harness = harness
        self._scorer: Any = None
        self._said = 0.0

    def serve(self, message: Fit | Load | Questions) -> Any:
        if isinstance(message, Fit):
            from baselines.recbole.fitting import fit

            return fit(message, self._step)
        if isinstance(message, Load):
            from baselines.recbole.scoring import Scorer

            told = json.loads((message.folder / "harness.json").read_text(encoding="utf-8"))
            recipe = Recipe(told["model"], told["form"], told["loss"], told["options"])
            self._scorer = Scorer(recipe, message.folder, message.cold)
            return None
        return self._scorer.answer(message)

    def _step(self, done: int, total: int) -> None:
        if time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            self._harness.send(("step", done, total))


def _end_with(harness: int) -> None:
    """A harness that was killed leaves nobody behind who goes on writing."""
    while os.getppid() == harness:
        time.sleep(0.5)
    os._exit(1)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
