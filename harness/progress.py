"""Progress with remaining time: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

EVERY = 30.0
"""Seconds between two lines in a log."""


class Bar:
    """Counts what is done, of `total` if that is known."""

    def __init__(self, what: str, total: int | None, done: int, out: TextIO) -> None:
        self.done = done
        self._what, self._total, self._failed = what, total, 0
        self._began, self._first, self._said = time.monotonic(), done, time.monotonic()
        self._out = out
        self._rich: tuple[Progress, TaskID] | None = None

    def attach(self, progress: Progress) -> None:
        self._rich = progress, progress.add_task(self._what, total=self._total, completed=self.done)

    def advance(self, failed: bool = False, by: int = 1) -> None:
        self.done += by
        self._failed += failed
        if self._rich is not None:
            progress, bar = self._rich
            what = self._what + (f" ({self._failed} failed)" if self._failed else "")
            progress.update(bar, completed=self.done, description=what)
        elif time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            print(self._line(), file=self._out, flush=True)

    def _line(self) -> str:
        rate = (self.done - self._first) / max(1e-9, time.monotonic() - self._began)
        line = f"{self._what}: {self.done}" + (f"/{self._total}" if self._total else "") + f", {rate:.1f}/s"
        if self._total and rate > 0:
            line += f", {(self._total - self.done) / rate:.0f} s left"
        return line + (f", {self._failed} failed" if self._failed else "")


@contextmanager
def progress_bar(what: str, total: int | None = None, done: int = 0) -> Iterator[Bar]:
    """`with progress_bar("prompts", 1000) as bar: bar.advance()`. Everything goes to standard error."""
    bar = Bar(what, total, done, sys.stderr)
    if not sys.stderr.isatty():
        yield bar
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as shown:
        bar.attach(shown)
        yield bar


@contextmanager
def late_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """For work that says how much there is only when it is under way: `step(done, total)` moves a bar that appears
    with the first call."""
    with ExitStack() as stack:
        bars: list[Bar] = []

        def step(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(progress_bar(what, total, done)))
            bars[0].advance(by=done - bars[0].done)

        yield step
