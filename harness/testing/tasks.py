"""Is a task what it says? Checks that hold for every protocol, for `harness check` and for test suites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import islice
from math import isnan, log
from typing import NamedTuple

import numpy as np

from harness.engines import FunctionEngine
from harness.errors import InstanceFailed, NotApplicable, RequestFailed
from harness.exposure import Exposure
from harness.metrics import Answer, CutOff, Metric
from harness.runner import drive, solver
from harness.scoring import Asked, Columns
from harness.stats import interval
from harness.task import Task
from harness.types import (
    Choose,
    Generate,
    Instance,
    ItemId,
    Key,
    Prediction,
    Program,
    Rank,
    Ranked,
    Reply,
    Request,
    Scores,
    Split,
    Text,
    tie_break,
)

ENOUGH = 2000
"""Instances of a large split that are looked at."""
SOME = 200
"""Of these, how many are asked twice."""
ECHOED = 200
"""Characters at the end of a prompt that a stand-in model writes again, so that there is something to read."""


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
        *_shortlists(task, instances),
        *_levels(task, instances),
        _blind(task, instances),
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


def answer_with(
    score: Callable[[Instance, str], float],
    instances: Sequence[Instance],
    best: Callable[[Instance, Rank], Sequence[ItemId]] | None = None,
) -> FunctionEngine:
    """An engine that knows the instances and scores each candidate by a function of instance and item id.

    `best` lists items, best first, where the whole catalogue is asked for; without it, such a question fails.
    """
    known = {instance.id: instance for instance in instances}

    def answer(key: Key, request: Request) -> Reply | RequestFailed:
        if isinstance(request, Rank) and request.candidates is not None:
            return Scores(tuple(score(known[key.instance], item.id) for item in request.candidates))
        if isinstance(request, Rank) and best is not None:
            return Ranked(tuple(best(known[key.instance], request)))
        return RequestFailed("needs candidates")

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
    whole = [instance for instance in instances if instance.candidates is None]
    if whole:
        yield from _whole(whole)


def _whole(instances: Sequence[Instance]) -> Iterator[Finding]:
    """What must hold where the whole catalogue is ranked."""
    catalogues = {id(instance.catalogue) for instance in instances}
    yield Finding("all instances share one catalogue", len(catalogues) == 1 and instances[0].catalogue is not None)
    outside = sum(not (i.catalogue and i.relevance.keys() <= i.catalogue.places.keys()) for i in instances)
    yield Finding(f"every answer is in the catalogue ({outside} are not)", outside == 0)
    hidden = sum(not i.excluded.isdisjoint(i.relevance) for i in instances)
    yield Finding(f"no answer is excluded ({hidden} are)", hidden == 0)
    unknown = sum(not (i.catalogue and i.excluded <= i.catalogue.places.keys()) for i in instances)
    yield Finding(f"what is excluded is in the catalogue ({unknown} times it is not)", unknown == 0)


def _shortlists(task: Task, instances: Sequence[Instance]) -> Iterator[Finding]:
    """Nothing is in a shortlist that an earlier stage did not find itself."""
    listed = [instance for instance in instances if instance.shortlist is not None]
    if not listed:
        return
    met = _met(task, listed)
    changed = min((_changed(stage.lists, listed, met) for stage in task.stages.values()), default=len(listed))
    what = f"every shortlist is what an earlier stage found, in its order ({changed} of {len(listed)} are not)"
    yield Finding(what, changed == 0)
    held = sum(
        any(instance.relevance.get(item.id, 0.0) > 0 for item in instance.shortlist or ()) for instance in listed
    )
    yield Finding(f"{held} of {len(listed)} shortlists hold the answer: the ceiling is {held / len(listed):.4f}", True)


def _met(task: Task, instances: Sequence[Instance]) -> Mapping[str, Set[ItemId]]:
    """By instance, what its user met before, as far as the task tells."""
    try:
        lines = {line.user: {event.item.id for event in line.events} for line in task.timelines()}
    except NotApplicable:
        lines = {}
    return {i.id: {event.item.id for event in i.history} | lines.get(i.user, set()) for i in instances}


def _changed(
    lists: Mapping[str, Sequence[ItemId]], instances: Sequence[Instance], met: Mapping[str, Set[ItemId]]
) -> int:
    """How many shortlists are not the first items of these lists, as many for all; nothing is left out of them, or
    what is excluded, or what was met before."""
    most = max(len(instance.shortlist or ()) for instance in instances)
    kinds: tuple[Mapping[str, Set[ItemId]], ...]
    kinds = ({}, {i.id: i.excluded for i in instances}, {i.id: i.excluded | met[i.id] for i in instances})

    def differs(instance: Instance, without: Set[ItemId]) -> bool:
        left = [item for item in lists.get(instance.id, ()) if item not in without]
        return [item.id for item in instance.shortlist or ()] != left[:most]

    return min(sum(differs(i, kind.get(i.id, frozenset())) for i in instances) for kind in kinds)


def _blind(task: Task, instances: Sequence[Instance]) -> Finding:
    """What is asked of an instance, and made of the replies, stays the same when something else is right."""
    changed = 0
    for instance in instances[:SOME]:
        changed += _conversation(task, instance) != _conversation(task, _otherwise(instance))
    asked = min(SOME, len(instances))
    return Finding(f"no question and no reading depends on what is right ({changed} of {asked} do)", changed == 0)


def _conversation(task: Task, instance: Instance) -> list[object]:
    """Every question with its reply, and what came of them; a reply depends on nothing but its question."""
    said: list[object] = []

    def answer(key: Key, request: Request) -> Reply | RequestFailed:
        said.append(request)
        if isinstance(request, Choose):
            return Scores(tuple(-1 - int(tie_break(request.prompt, text)[:6], 16) / 2**24 for text in request.options))
        if isinstance(request, Generate):
            free = [text for text in request.options if text not in request.barred]
            return Text(free[0] if free else request.prompt[-ECHOED:])
        return RequestFailed("is not for language models")

    try:
        ((_, outcome, _),) = drive([(instance.id, task.solve(instance))], FunctionEngine(answer, Choose, Generate))
    except NotApplicable as reason:
        return [str(reason)]
    said.append(str(outcome) if isinstance(outcome, InstanceFailed) else outcome)
    return said


def _otherwise(instance: Instance) -> Instance:
    """The same question where what is right is wrong, and another item is right."""
    among = instance.candidates or (instance.catalogue.items if instance.catalogue else ())
    decoy = next((item.id for item in among if item.id not in instance.relevance), None)
    turned = {item: float(gain <= 0) for item, gain in instance.relevance.items()}
    return replace(instance, relevance=turned if decoy is None else {decoy: 1.0, **turned})


def _levels(task: Task, instances: Sequence[Instance]) -> Iterator[Finding]:
    judged = [metric for metric in task.metrics if not metric.diagnostic]
    chance = Asked.of(judged, instances).chance
    for name, engine in _engines(instances).items():
        answers = _answers(task, engine, instances)
        for metric in judged:
            columns = _measured(metric, answers)
            if columns is None or (name == "oracle" and isinstance(metric, Exposure)):
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
                level = chance[metric.name]
                near = abs(value - level) <= _noise(metric, columns, value, level)
                yield Finding(f"{name} scores {metric.name} {value:.4f}, chance is {level:.4f}", near)


def _noise(metric: Metric, columns: Columns, value: float, level: float) -> float:
    """How far from chance a score without skill may fall: enough for every task and seed, and a bias still shows."""
    rows, users = columns.table()
    spread = interval(metric, rows, users)
    noise = 2 * max(spread.high - value, value - spread.low) + 1e-9
    if isinstance(metric, CutOff):
        # A handful of hits, as in a whole catalogue, says too little of its own spread. No number between 0 and 1 of
        # this mean varies more than a hit does; one hit more is for means near 0.
        noise = max(noise, 4 * ((level * (1 - level) + 1 / len(rows)) / len(rows)) ** 0.5)
    return noise


def _engines(instances: Sequence[Instance]) -> dict[str, FunctionEngine]:
    """Models whose scores are known beforehand."""
    rng = np.random.default_rng(0)

    def right(instance: Instance, request: Rank) -> list[ItemId]:
        return sorted(instance.relevance, key=instance.relevance.__getitem__, reverse=True)

    def any_order(instance: Instance, request: Rank) -> list[ItemId]:
        items = instance.catalogue.items if instance.catalogue else ()
        enough = min(len(items), request.top + len(request.excluded))
        drawn = (items[place].id for place in rng.choice(len(items), enough, replace=False))
        return [item for item in drawn if item not in request.excluded][: request.top]

    engines = {
        # Far from 0 on both sides, since some metrics read a score as a log-odds.
        "oracle": answer_with(lambda instance, item: 80 * instance.relevance.get(item, 0.0) - 40, instances, right),
        "random": answer_with(lambda instance, item: float(rng.random()), instances, any_order),
    }
    if all(instance.candidates is not None for instance in instances):
        # Whether the order of candidates gives the answer away; a catalogue has no order of an instance's own.
        engines["constant"] = answer_with(lambda instance, item: 0.0, instances)
    return engines


def _best(metric: Metric, instances: Sequence[Instance]) -> float:
    """The best score that these instances allow: 1 for most metrics, less for a precision beyond the relevant."""
    if not isinstance(metric, CutOff):
        return metric.bounds[1] if metric.higher_is_better else metric.bounds[0]
    values = []
    for instance in instances:
        gains = sorted(instance.relevance.values(), reverse=True)
        if instance.candidates is not None:
            gains = sorted((instance.relevance.get(item.id, 0.0) for item in instance.candidates), reverse=True)
        relevant = sorted((gain for gain in instance.relevance.values() if gain > 0), reverse=True)
        hits = [(place, gain) for place, gain in enumerate(gains[: metric.k], 1) if gain > 0]
        values.append(metric.value(hits, relevant))
    return float(np.mean(values))


def _answers(task: Task, engine: FunctionEngine, instances: Sequence[Instance]) -> list[Answer]:
    known = {instance.id: instance for instance in instances}
    solve = solver(task, engine)
    outcomes = ((key, outcome) for key, outcome, _ in drive(((i.id, solve(i)) for i in instances), engine))
    return [Answer.of(known[key], outcome if isinstance(outcome, Prediction) else None) for key, outcome in outcomes]


def _measured(metric: Metric, answers: Sequence[Answer]) -> Columns | None:
    codes: dict[str, int] = {}
    columns = None
    for place, answer in enumerate(answers):
        row = metric.measure(answer)
        if row is not None:
            columns = columns or Columns()
            columns.add(row, codes.setdefault(answer.instance.user, len(codes)), place)
    return columns


class _NotAsked(InstanceFailed):
    """The task says itself that no language model can be asked this."""


def _caught(solve: Callable[[Instance], Program[Prediction]], instance: Instance) -> Program[Prediction]:
    try:
        return (yield from solve(instance))
    except NotApplicable as reason:
        raise _NotAsked(str(reason)) from reason


def _asked(task: Task, instances: Sequence[Instance]) -> Finding:
    """Put every instance to a stand-in model: choices are answered, texts are empty, which a task may refuse.

    A task that is not for language models at all says so by NotApplicable for every instance.
    """
    wrote: set[str] = set()
    asked = 0

    def answer(key: Key, request: Request) -> Reply | RequestFailed:
        nonlocal asked
        asked += 1
        if isinstance(request, Choose):
            if len(set(request.options)) < len(request.options) or "" in request.options:
                return RequestFailed("an option is empty or given twice")
            return Scores((-log(len(request.options)),) * len(request.options))
        if isinstance(request, Generate) and request.options:
            return Text(next(text for text in request.options if text not in request.barred))
        wrote.add(key.instance)
        return Text("")

    engine = FunctionEngine(answer, Choose, Generate)
    outcomes = {key: outcome for key, outcome, _ in drive(((i.id, _caught(task.solve, i)) for i in instances), engine)}
    reasons = {str(outcome) for outcome in outcomes.values() if isinstance(outcome, _NotAsked)}
    if reasons and all(isinstance(outcome, _NotAsked) for outcome in outcomes.values()):
        return Finding(f"no language model can be asked: {'; '.join(sorted(reasons))}", True)
    failed = {key for key, outcome in outcomes.items() if isinstance(outcome, InstanceFailed)}
    what = f"every instance can be put to a language model ({len(outcomes)} with {asked} questions, "
    what += f"{len(failed & wrote)} empty answers refused, {len(failed - wrote)} failed)"
    return Finding(what, len(outcomes) == len(instances) <= asked and not failed - wrote)
