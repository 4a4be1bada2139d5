"""What the process that writes a run can take from workers on Ray, and what a worker's walk over all instances costs.

    python -m benchmarks.ray_records [--instances 200000] [--workers 2]

Two workers on two cores share them with the process that writes, so its own processor time is what counts: records a
second of it are what it could take with a core to itself, however many workers there are.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from benchmarks.stream import Stream
from harness.errors import EngineStopped
from harness.evaluation import perform
from harness.executors import HERE, Executor, Spread
from harness.executors.ray import Crew
from harness.job import Contestant, Job
from harness.model import EngineOptions, Model
from harness.runner import questions
from harness.store import Run, read_sessions

T = TypeVar("T")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--instances", type=int, default=200_000)
    words.add_argument("--workers", type=int, default=2)
    given = words.parse_args()
    task = Stream(given.instances)
    began = time.process_time()
    count = sum(1 for _ in questions(task, "test", None))
    print(f"walk over the instances: {1e6 * (time.process_time() - began) / count:.1f} us each")
    with TemporaryDirectory() as folder, Crew(Spread("ray", given.workers), EngineOptions(), print) as crew:
        for name, executor in (("alone", HERE), ("ray", crew)):
            clock = Timed(executor)
            job = Job(task, Model.parse("simple:random"), runs=Path(folder) / name)
            (path,) = perform(job, print, clock)
            (session,) = read_sessions(path)
            size = (path / "records.jsonl").stat().st_size / count
            print(
                f"{name}: {count / session['seconds']:,.0f} records/s by the clock, {count / clock.own:,.0f} records "
                f"a second of this process's own time, {size:.0f} bytes a record"
            )
        print(f"largest memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


class Timed:
    """An executor, and the processor time that this process spent while it answered."""

    def __init__(self, inner: Executor) -> None:
        self._inner = inner
        self.workers = inner.workers
        self.own = 0.0

    def answer(self, job: Job, contestant: Contestant, run: Run) -> None:
        began = time.process_time()
        self._inner.answer(job, contestant, run)
        self.own += time.process_time() - began

    def each(self, work: Callable[..., T], given: Sequence[tuple[Any, ...]]) -> Iterable[T | EngineStopped]:
        return self._inner.each(work, given)


if __name__ == "__main__":
    main()
