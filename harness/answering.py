"""An engine for one job, with its wrappers and its counts, and the local way to have a run's questions answered."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from harness import __version__
from harness.data.home import home
from harness.engines import Engine
from harness.engines.cache import FILE, Cached, ResponseCache
from harness.engines.wrappers import Counted, Retried
from harness.job import Contestant, Job
from harness.machine import machine
from harness.progress import progress_bar
from harness.runner import evaluate
from harness.store import Run
from harness.types import Usage
from harness.versions import versions


class Counts(NamedTuple):
    """What answering has cost."""

    asked: int = 0
    """Questions that reached the model."""
    cached: int = 0
    """Questions that the response cache answered."""
    usage: Usage = Usage()

    def plus(self, other: Counts) -> Counts:
        return Counts(self.asked + other.asked, self.cached + other.cached, self.usage.plus(other.usage))


@dataclass(frozen=True)
class Desk:
    """Where a job's questions are answered: a ready engine that counts."""

    engine: Engine
    """Retries what failed in passing, and looks answers up if the job says so."""
    software: str
    _counted: Counted
    _cached: Cached | None

    def counts(self) -> Counts:
        return Counts(self._counted.asked, self._cached.hits if self._cached else 0, self._counted.usage)


@contextmanager
def desk(job: Job, contestant: Contestant) -> Iterator[Desk]:
    """Make the contestant ready. Raises BadModel where it cannot be, and HarnessError for an unusable cache."""
    with ExitStack() as stack:
        store = None
        if job.cache and contestant.cacheable:
            store = ResponseCache(home() / FILE)  # before the model is loaded, which takes longer
            stack.callback(store.close)
        ready = contestant.prepare()
        counted = Counted(ready.engine)
        engine: Engine = Retried(counted)
        stack.callback(lambda: engine.close())
        cached = None
        if store is not None:
            who = {**contestant.who, "software": ready.version, "harness": __version__}
            engine = cached = Cached(engine, store, who)
        yield Desk(engine, ready.version, counted, cached)


def answer(job: Job, contestant: Contestant, run: Run) -> None:
    """Ask here, in this process, what is owed of a run. Raises as `evaluate`, and as `desk`."""
    began, before = time.monotonic(), len(run.done)
    session: dict[str, Any] = {"started": now()}
    with desk(job, contestant) as asked:
        loaded = time.monotonic()
        session["loading_seconds"] = round(loaded - began, 3)
        with progress_bar(title(job, contestant), total(job), before) as bar:
            try:
                evaluate(job.task, asked.engine, run, job.split, job.sample, bar)
            finally:
                session |= {"seconds": round(time.monotonic() - loaded, 3), "answered": len(run.done) - before}
                run.note_session({**session, **noted(job, asked.counts(), asked.software)})


def title(job: Job, contestant: Contestant) -> str:
    """What a progress bar says."""
    return f"{job.task.name} {contestant.shown['name']}"


def total(job: Job) -> int | None:
    """How many instances the job has, where that is known beforehand."""
    return job.sample.size if job.sample else job.task.size(job.split)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def noted(job: Job, counts: Counts, software: str) -> Mapping[str, Any]:
    """What every session says of itself besides its times."""
    return {
        "asked": counts.asked,
        "cached": counts.cached,
        "tokens": counts.usage._asdict(),
        "software": software,
        "options": asdict(job.options),
        "machine": machine(),
        "versions": versions(),
        "command": ["harness", *sys.argv[1:]],
    }
