"""A million instances through a function engine: what each step after another costs in memory and time.

A run; one that is killed nine tenths of the way and resumed; the scores of both; a leaderboard of the two, their
comparison and the gate between them. Each step is a process of its own, so its largest memory is its own.

    python -m benchmarks.stream [--instances 1000000] [--folder FOLDER]

With --folder the runs stay there, and the steps that are named are taken: `--step leaderboard --step compare`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from zlib import crc32

from harness.comparison import compare
from harness.engines import FunctionEngine
from harness.knobs import knob
from harness.metrics import NDCG, HitRate, Metric
from harness.runner import evaluate
from harness.scoring import Asked, score
from harness.signature import describe, identify
from harness.store import SCHEMA, Run
from harness.task import Task
from harness.types import Instance, Item, Key, Prediction, Program, Rank, Reply, Request, Scores, Split, rank_candidates

STEPS = ("run", "killed", "resume", "score", "score-resumed", "leaderboard", "compare", "regress")


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


@dataclass
class Answering:
    """Scores as good as random, the same in every process; it notes when it is first asked, and may kill itself."""

    model: str
    kill_after: int | None = None
    asked: int = 0
    first: tuple[float, float] | None = None
    """When it was first asked, and what this process had spent of a core."""

    def __call__(self, key: Key, request: Request) -> Reply:
        assert isinstance(request, Rank)
        self.first = self.first or (time.perf_counter(), time.process_time())
        self.asked += 1
        if self.kill_after is not None and self.asked > self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        salt = crc32(f"{self.model}{key.instance}".encode())
        return Scores(tuple(float(crc32(item.id.encode(), salt) % 1000) for item in request.candidates or ()))


def manifest_of(task: Task, model: str) -> dict[str, Any]:
    """What `harness run` writes, as far as it is read here."""
    return {
        "schema": SCHEMA,
        "task": task.name,
        "version": task.version,
        "described": describe(task),
        "settings": {},
        "split": "test",
        "sample": None,
        "model": {"name": model, "engine": "function"},
        "metrics": [metric.name for metric in task.metrics],
        "identity": identify(task, "test", None, {"model": model})._asdict(),
    }


def answered(task: Stream, folder: Path, model: str, kill_after: int | None = None) -> dict[str, Any]:
    engine, began, spent = Answering(model, kill_after), time.perf_counter(), time.process_time()
    with Run.open(folder / "stream" / model, manifest_of(task, model)) as run:
        before = len(run.done)
        evaluate(task, FunctionEngine(engine, Rank), run)
    size = (folder / "stream" / model / "records.jsonl").stat().st_size
    first = engine.first or (began, spent)
    return {
        "answered": engine.asked,
        "done before": before,
        "first question after": first[0] - began,
        "of a core": first[1] - spent,
        "records, MiB": size / 2**20,
    }


def scored(task: Stream, folder: Path, model: str) -> dict[str, Any]:
    with Run.open(folder / "stream" / model, manifest_of(task, model)) as run:
        found = score(run.path, task.metrics, Asked.of(task.metrics, task.instances()).chance)
        run.finish(found)
    return {name: f"{one['value']:.4f} [{one['low']:.4f}, {one['high']:.4f}]" for name, one in found["metrics"].items()}


def tabled(task: Stream, folder: Path) -> dict[str, Any]:
    from leaderboard.build import sheet
    from leaderboard.collect import collect

    (standing,) = collect(folder)
    made = sheet(standing, {metric.name: metric for metric in task.metrics})
    return {"lines": [line.name for line in made.lines]}


def compared(task: Stream, folder: Path) -> dict[str, Any]:
    paths = folder / "stream" / "whole", folder / "stream" / "resumed"
    found = compare(*paths, {metric.name: metric for metric in task.metrics})
    return {name: f"{one.value:.5f} [{one.low:.5f}, {one.high:.5f}]" for name, one in found.differences.items()}


def gated(task: Stream, folder: Path) -> dict[str, Any]:
    from leaderboard.gate.evidence import gather
    from leaderboard.gate.judge import judge
    from leaderboard.gate.policy import parse_policy

    checks = "".join(f'[[check]]\nmetric = "{metric.name}"\nmax_drop = 0.01\n' for metric in task.metrics)
    evidence = gather([folder / "stream" / "whole"], [folder / "stream" / "resumed"])
    findings = judge(parse_policy(checks, "benchmark"), evidence, task.metrics)
    return {found.metric: found.verdict for found in findings}


def take(step: str, task: Stream, folder: Path) -> dict[str, Any]:
    """One step, in this process."""
    match step:
        case "run":
            return answered(task, folder, "whole")
        case "killed":
            return answered(task, folder, "resumed", kill_after=task.count * 9 // 10)
        case "resume":
            return answered(task, folder, "resumed")
        case "score":
            return scored(task, folder, "whole")
        case "score-resumed":
            return scored(task, folder, "resumed")
        case "leaderboard":
            return tabled(task, folder)
        case "compare":
            return compared(task, folder)
        case _:
            return gated(task, folder)


def peak() -> float:
    """Largest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def inside(step: str, task: Stream, folder: Path) -> None:
    before, began, spent = peak(), time.perf_counter(), time.process_time()
    found = take(step, task, folder)
    times = {"seconds": time.perf_counter() - began, "of a core": time.process_time() - spent}
    print(json.dumps({"before": before, "peak": peak(), **times, "found": found}))


def outside(step: str, count: int, folder: Path) -> None:
    """One step in a process of its own, and a line about it."""
    words = [sys.executable, "-m", "benchmarks.stream", "--inside", step, "--instances", str(count)]
    done = subprocess.run([*words, "--folder", folder], stdout=subprocess.PIPE, text=True)
    if step == "killed":
        assert done.returncode == -signal.SIGKILL, done.returncode
        return
    done.check_returncode()
    told = json.loads(done.stdout)
    grown = (told["peak"] - told["before"]) * 2**20 / count
    print(
        f"{step}: {told['seconds']:.1f} s ({told['of a core']:.1f} s of a core), peak {told['peak']:.0f} MiB, ", end=""
    )
    print(f"{told['before']:.0f} before, {grown:.0f} bytes an instance; ", end="")
    print(
        ", ".join(f"{what} {round(one, 1) if isinstance(one, float) else one}" for what, one in told["found"].items())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", action="append", choices=STEPS)
    parser.add_argument("--inside", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        inside(given.inside, Stream(count=given.instances), given.folder)
        return
    with TemporaryDirectory() as temporary:
        for step in given.step or STEPS:
            outside(step, given.instances, given.folder or Path(temporary))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
