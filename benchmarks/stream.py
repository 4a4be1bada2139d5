"""A million instances through a function engine: does memory stay bounded, and how long does a resume take?

python -m benchmarks.stream [--instances 1000000]
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from harness.engines import FunctionEngine
from harness.knobs import knob
from harness.metrics import NDCG, HitRate, Metric
from harness.runner import evaluate
from harness.scoring import Asked, score
from harness.signature import identify
from harness.store import SCHEMA, Run
from harness.task import Task
from harness.types import Instance, Item, Key, Prediction, Program, Rank, Reply, Request, Scores, Split, rank_candidates


@dataclass(frozen=True)
class Stream(Task):
    """As many ranking questions as wanted, ten candidates each."""

    name: ClassVar[str] = "stream"
    paper: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (NDCG(10), HitRate(1))

    count: int = knob(1_000_000, "how many instances", instances=True)

    def data_digests(self) -> Mapping[str, str]:
        return {}

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        items = tuple(Item(f"i{n}", f"item {n}") for n in range(10))
        for number in range(self.count):
            yield Instance(f"{split}-{number}", f"u{number}", (), items, {f"i{number % 10}": 1.0})

    def solve(self, instance: Instance) -> Program[Prediction]:
        return rank_candidates(instance)


def peak() -> float:
    """Largest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def answer(key: Key, request: Request) -> Reply:
    assert isinstance(request, Rank)
    return Scores(tuple(float(hash((key.instance, item.id)) % 1000) for item in request.candidates or ()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--instances", type=int, default=1_000_000)
    count = parser.parse_args().instances
    task = Stream(count=count)
    identity = identify(task, "test", None, {"stream": 1})
    manifest = {"schema": SCHEMA, "task": task.name, "identity": identity._asdict()}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        before, began = peak(), time.perf_counter()
        with Run.open(path, manifest) as run:
            evaluate(task, FunctionEngine(answer, Rank), run)
        ran = time.perf_counter() - began
        size = (path / "records.jsonl").stat().st_size
        print(f"{count:,} instances: {count / ran:,.0f}/s, records {size / 2**20:,.0f} MiB on disk")
        grown = (peak() - before) * 2**20 / count
        print(f"memory: {before:.0f} MiB before, peak {peak():.0f} MiB, {grown:.0f} bytes an instance")
        began = time.perf_counter()
        with Run.open(path, manifest) as run:
            assert len(run.done) == count
        reopened = time.perf_counter() - began
        reopened = time.perf_counter() - began
        print(f"opening the finished run again: {reopened:.1f} s, {ran / reopened:.1f} times faster than answering")
        began = time.perf_counter()
        score(path, task.metrics, Asked.of(task.metrics, task.instances()).chance)
        print(f"scoring with intervals: {time.perf_counter() - began:.1f} s, peak {peak():.0f} MiB")


if __name__ == "__main__":
    main()
