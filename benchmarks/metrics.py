"""Six metrics of a hundred thousand users with a hundred scored candidates each: the harness, RecBole and ranx.

All begin with the same dictionaries and must come to the same numbers. Each way is also timed from where it likes to
begin: RecBole from one tensor of scores and the places of what is relevant, ranx from its own `Qrels` and `Run`, the
harness from the records of a run on disk, whence it makes intervals, too. One thread, all ways in turn, the best round.

    python -m benchmarks.metrics [--users 100000] [--rounds 3]

ranx is no dependency: the first time installs it into a folder below HARNESS_HOME; where that fails it is left out.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from harness.data.home import home
from harness.meter import Meter
from harness.metrics import MAP, MRR, NDCG, Answer, CutOff, HitRate, Precision, Recall
from harness.runner import make_record
from harness.scoring import score
from harness.store import SCHEMA, Run
from harness.task import Task
from harness.types import Instance, Prediction, Program, Split, Usage, rank_candidates

K = 10
METRICS: tuple[CutOff, ...] = (NDCG(K), HitRate(K), MRR(K), Recall(K), Precision(K), MAP(K))
RECBOLE = {"NDCG": "ndcg", "HR": "hit", "MRR": "mrr", "Recall": "recall", "Precision": "precision", "MAP": "map"}
RANX = RECBOLE | {"HR": "hit_rate"}
PACKAGES = ("ranx==0.3.21", "ir-datasets==0.5.11", "lz4==4.4.5", "orjson==3.11.3", "seaborn==0.13.2",
            "fastparquet==2025.12.0")  # fmt: skip
"""ranx, and what it imports of packages that the harness has no use for."""
AGREE = 1e-9

Found = Mapping[str, float]
"""By the harness's names."""


@dataclass(frozen=True)
class Problem(Task):
    """What an evaluation has: for each user, the scores of some items by their ids, and which of them are right."""

    name: ClassVar[str] = "metrics"
    paper: ClassVar[str] = "none"
    metrics: ClassVar[tuple[CutOff, ...]] = METRICS

    scores: Sequence[Mapping[str, float]]
    relevance: Sequence[Mapping[str, float]]

    @classmethod
    def draw(cls, users: int, candidates: int, catalogue: int = 3000) -> Problem:
        """Random scores of random candidates, one to five of them right."""
        rng = np.random.default_rng(0)
        names = np.array([f"item-{n}" for n in range(catalogue)], dtype=object)
        scores, relevance = [], []
        for values in rng.random((users, candidates)).tolist():
            items = names[rng.choice(catalogue, candidates, replace=False)].tolist()
            scores.append(dict(zip(items, values, strict=True)))
            relevance.append(dict.fromkeys(rng.permutation(items)[: rng.integers(1, 6)].tolist(), 1.0))
        return cls(scores, relevance)

    def data_digests(self) -> Mapping[str, str]:
        return {}

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for number, relevance in enumerate(self.relevance):
            yield Instance(f"{split}-{number}", f"u{number}", (), None, relevance)

    def solve(self, instance: Instance) -> Program[Prediction]:
        return rank_candidates(instance)

    def answers(self) -> Iterator[tuple[Instance, Prediction]]:
        return zip(self.instances(), map(Prediction, self.scores), strict=True)


@dataclass(frozen=True)
class Way:
    tool: str
    start: str
    measure: Callable[[], Found]


def harness_ways(problem: Problem, folder: Path) -> Iterator[Way]:
    def measured() -> Found:
        meter = Meter(METRICS)
        found: dict[str, array[float]] = {metric.name: array("d") for metric in METRICS}
        for instance, prediction in problem.answers():
            rows = meter.rows(Answer.of(instance, prediction))
            for column, row in zip(found.values(), rows.values(), strict=True):
                column.extend(row or ())
        users = np.arange(len(problem.scores))
        return {metric.name: metric.aggregate(np.array(found[metric.name])[:, None], users) for metric in METRICS}

    def scored() -> Found:
        found = score(folder / "run", METRICS, {})["metrics"]
        return {metric.name: found[metric.name]["value"] for metric in METRICS}

    def recorded() -> Found:
        rmtree(folder / "run", ignore_errors=True)
        manifest = {"schema": SCHEMA, "task": problem.name, "identity": {"run": "metrics"}}
        meter = Meter(METRICS)
        with Run.open(folder / "run", manifest) as run:
            for instance, prediction in problem.answers():
                run.append(make_record(problem, meter, instance, prediction, Usage()))
        return scored()

    yield Way("harness", "dictionaries", measured)
    yield Way("harness, as a run: records on disk, then intervals", "dictionaries", recorded)
    yield Way("harness, with intervals", "records on disk", scored)


def recbole_ways(problem: Problem) -> Iterator[Way]:
    from baselines.recbole.compat import import_recbole

    import_recbole()
    import torch
    from recbole.config import Config
    from recbole.evaluator import Collector, Evaluator

    torch.set_num_threads(1)
    told = {"metrics": list(RECBOLE.values()), "valid_metric": "NDCG@10", "topk": [K], "metric_decimal_place": 12}
    config = Config(model="Pop", dataset="ml-100k", config_dict={**told, "use_gpu": False})

    def layout() -> tuple[Any, Any, Any]:
        """The smallest that it can have: a column for each place in a user's dictionary."""
        width = len(problem.scores[0])
        values = chain.from_iterable(own.values() for own in problem.scores)
        scores = np.fromiter(values, np.float64, width * len(problem.scores)).reshape(-1, width)
        users: list[int] = []
        places: list[int] = []
        for user, (own, relevance) in enumerate(zip(problem.scores, problem.relevance, strict=True)):
            items = list(own)
            users += [user] * len(relevance)
            places += map(items.index, relevance)
        return torch.from_numpy(scores), torch.tensor(users), torch.tensor(places)

    def evaluated(scores: Any, users: Any, places: Any) -> Found:
        collector = Collector(config)
        collector.eval_batch_collect(scores, None, users, places)
        found = Evaluator(config).evaluate(collector.get_data_struct())
        return {metric.name: float(found[f"{RECBOLE[metric.label]}@{K}"]) for metric in METRICS}

    made = layout()
    yield Way("RecBole", "dictionaries", lambda: evaluated(*layout()))
    yield Way("RecBole", "a tensor of scores", lambda: evaluated(*made))


def ranx_ways(problem: Problem) -> Iterator[Way]:
    ranx = _import_ranx()
    if ranx is None:
        return
    names = {f"{RANX[metric.label]}@{K}": metric.name for metric in METRICS}
    asked = list(names)

    def dictionaries() -> tuple[dict[str, Any], dict[str, Any]]:
        """Its relevances are whole numbers."""
        users = [f"test-{number}" for number in range(len(problem.scores))]
        right = [{item: int(gain) for item, gain in relevance.items()} for relevance in problem.relevance]
        return dict(zip(users, right, strict=True)), dict(zip(users, problem.scores, strict=True))

    def evaluated(right: Any, run: Any) -> Found:
        return {names[name]: float(v) for name, v in ranx.evaluate(right, run, asked, threads=1).items()}

    right, run = dictionaries()
    first = list(right)[:20]
    few = {user: right[user] for user in first}, {user: run[user] for user in first}
    evaluated(*few)  # compiles
    evaluated(ranx.Qrels(few[0]), ranx.Run(few[1]))
    made = ranx.Qrels(right), ranx.Run(run)
    yield Way("ranx", "dictionaries", lambda: evaluated(*dictionaries()))
    yield Way("ranx", "its Qrels and Run", lambda: evaluated(*made))


def _import_ranx() -> Any:
    """None, and a line that says why, where it cannot be installed."""
    folder = home() / "benchmarks" / PACKAGES[0].replace("==", "-")
    if not folder.is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*command, "--target", folder, *PACKAGES], capture_output=True, text=True)
        if done.returncode != 0:
            rmtree(folder, ignore_errors=True)
            print(f"ranx is left out, since pip cannot install it: {(done.stderr.splitlines() or ['?'])[-1]}")
            return None
    sys.path.append(str(folder))
    return import_module("ranx")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    problem = Problem.draw(given.users, given.candidates)
    with TemporaryDirectory() as folder:
        ways = [*harness_ways(problem, Path(folder)), *recbole_ways(problem), *ranx_ways(problem)]
        seconds: dict[Way, list[float]] = {way: [] for way in ways}
        found: dict[Way, Found] = {}
        gc.collect()
        gc.freeze()  # millions of objects, which no way has made, would be looked through at every collection
        for _ in range(given.rounds):
            for way in ways:
                began = time.process_time()
                found[way] = way.measure()
                seconds[way].append(time.process_time() - began)
    for way in ways:
        gap = max(abs(found[way][metric.name] - found[ways[0]][metric.name]) for metric in METRICS)
        assert gap < AGREE, f"{way.tool} and the harness differ by {gap}"
        best = min(seconds[way])
        print(
            f"{way.tool}, from {way.start}: {best:.2f} s, {best / min(seconds[ways[0]]):.2f} times the harness's time"
        )
    print("; ".join(f"{name} {value:.6f}" for name, value in found[ways[0]].items()))


if __name__ == "__main__":
    main()
