"""Is a task what it says? Checks that hold for every protocol, for `harness check` and for test suites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from math import isnan, log
from typing import NamedTuple

import numpy as np

from harness.engines import FunctionEngine
from harness.errors import InstanceFailed, RequestFailed
from harness.metrics import Answer, CutOff, MeanOf, Metric
from harness.runner import drive, solver
from harness.scoring import Columns, chance_levels
from harness.stats import interval
from harness.task import Task
from harness.types import Choose, Generate, Instance, Key, Prediction, Rank, Reply, Request, Scores, Split, Text

ENOUGH = 2000
"""Instances of a large split that are looked at."""


class Finding(NamedTuple):
    what: str
    holds: bool


def check_task(task: Task, split: Split = "test") -> list[Finding]:
    """Everything that must be true of a protocol before any model's score on it means something."""
    instances = list(islice(task.instances(split), ENOUGH))
    if not instances:
        return [Finding(f"{split} has instances", False)]
    return [
        *_shape(task, split, instances),
        *_levels(task, instances),
        _asked(task, instances),
    ]


class TaskContract:
    """Subclass in a test suite, with `task` set."""

    task: Task
    splits: Sequence[Split] = ("test",)

    def test_the_protocol_holds(self) -> None:
        for split in self.splits:
            failed = [finding.what for finding in check_task(self.task, split) if not finding.holds]
            assert not failed, f"{split}: {failed}"

    def test_every_metric_has_its_own_name(self) -> None:
        names = [metric.name for metric in self.task.metrics]
        assert len(set(names)) == len(names)


def answer_with(score: Callable[[Instance, str], float], instances: Sequence[Instance]) -> FunctionEngine:
    """An engine that knows the instances and scores each candidate by a function of instance and item id."""
    known = {instance.id: instance for instance in instances}

    def answer(key: Key, request: Request) -> Reply | RequestFailed:
        if not isinstance(request, Rank) or request.candidates is None:
            return RequestFailed("needs candidates")
        return Scores(tuple(score(known[key.instance], item.id) for item in request.candidates))

    return FunctionEngine(answer, Rank)


def _shape(task: Task, split: Split, instances: Sequence[Instance]) -> Iterator[Finding]:
    ids = [instance.id for instance in instances]
    yield Finding(f"{len(ids)} {split} instances, each with its own id", len(set(ids)) == len(ids))
    again = [instance.id for instance in islice(task.instances(split), len(ids))]
    yield Finding("the same instances in the same order when asked again", ids == again)
    leaks = sum(
        any(instance.relevance.get(event.item.id, 0.0) > 0 for event in instance.history) for instance in instances
    )
    yield Finding(f"no history holds the answer ({leaks} of {len(ids)} do)", leaks == 0)
    outside = sum(
        not set(instance.relevance) <= {item.id for item in instance.candidates}
        for instance in instances
        if instance.candidates is not None
    )
    yield Finding(f"every answer is among the candidates ({outside} are not)", outside == 0)


def _levels(task: Task, instances: Sequence[Instance]) -> Iterator[Finding]:
    if any(instance.candidates is None for instance in instances):
        return
    judged = [metric for metric in task.metrics if not isinstance(metric, MeanOf)]
    rng = np.random.default_rng(0)
    engines = {
        # Far from 0 on both sides, since some metrics read a score as a log-odds.
        "oracle": answer_with(lambda instance, item: 80 * instance.relevance.get(item, 0.0) - 40, instances),
        "constant": answer_with(lambda instance, item: 0.0, instances),
        "random": answer_with(lambda instance, item: float(rng.random()), instances),
    }
    chance = chance_levels(judged, instances)
    for name, engine in engines.items():
        for metric in judged:
            columns = _measured(task, engine, metric, instances)
            if columns is None:
                continue
            rows, users = columns.table()
            value = metric.aggregate(rows, users)
            if isnan(value):
                # Such as an AUC per user where every user has one instance.
                yield Finding(f"{metric.name} is undefined here", True)
            elif name == "oracle":
                best = _best(metric, instances)
                yield Finding(f"oracle scores {metric.name} {value:.4f}, the most there is", abs(value - best) < 1e-9)
            elif metric.name in chance:
                spread = interval(metric, rows, users)
                # Twice a 95 % interval: wide enough to hold for every task and seed, and a bias still shows.
                noise = 2 * max(spread.high - value, value - spread.low) + 1e-9
                near = abs(value - chance[metric.name]) <= noise
                yield Finding(f"{name} scores {metric.name} {value:.4f}, chance is {chance[metric.name]:.4f}", near)


def _best(metric: Metric, instances: Sequence[Instance]) -> float:
    """The best score that these instances allow: 1 for most metrics, less for a precision beyond the relevant."""
    if not isinstance(metric, CutOff):
        return metric.bounds[1] if metric.higher_is_better else metric.bounds[0]
    values = []
    for instance in instances:
        gains = sorted((instance.relevance.get(item.id, 0.0) for item in instance.candidates or ()), reverse=True)
        relevant = sorted((gain for gain in instance.relevance.values() if gain > 0), reverse=True)
        values.append(metric.value(gains[: metric.k], relevant))
    return float(np.mean(values))


def _measured(task: Task, engine: FunctionEngine, metric: Metric, instances: Sequence[Instance]) -> Columns | None:
    known = {instance.id: instance for instance in instances}
    solve = solver(task, engine)
    codes: dict[str, int] = {}
    columns = None
    for key, outcome, _ in drive(((i.id, solve(i)) for i in instances), engine):
        prediction = outcome if isinstance(outcome, Prediction) else None
        row = metric.measure(Answer.of(known[key], prediction))
        if row is not None:
            columns = columns or Columns()
            columns.add(row, codes.setdefault(known[key].user, len(codes)))
    return columns


def _asked(task: Task, instances: Sequence[Instance]) -> Finding:
    """Put every instance to a stand-in model: choices are answered, texts are empty, which a task may refuse."""
    wrote: set[str] = set()
    asked = 0

    def answer(key: Key, request: Request) -> Reply | RequestFailed:
        nonlocal asked
        asked += 1
        if isinstance(request, Choose):
            if len(set(request.options)) < len(request.options) or "" in request.options:
                return RequestFailed("an option is empty or given twice")
            return Scores((-log(len(request.options)),) * len(request.options))
        wrote.add(key.instance)
        return Text("")

    engine = FunctionEngine(answer, Choose, Generate)
    outcomes = {key: outcome for key, outcome, _ in drive(((i.id, task.solve(i)) for i in instances), engine)}
    failed = {key for key, outcome in outcomes.items() if isinstance(outcome, InstanceFailed)}
    what = f"every instance can be put to a language model ({len(outcomes)} with {asked} questions, "
    what += f"{len(failed & wrote)} empty answers refused, {len(failed - wrote)} failed)"
    return Finding(what, len(outcomes) == len(instances) <= asked and not failed - wrote)
