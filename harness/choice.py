"""An option that is chosen on validation: what may be chosen, how a run on it is judged, and what came of it.

Papers try several prompts on the validation split, take the best for the model at hand, and report the test split
with it. `harness.evaluation` does so for any option; the chosen run is the same as if its value had been given, and
says in `chosen.json` how it was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from harness import registry
from harness.errors import BadSetting, NotApplicable, StaleRun
from harness.knobs import Knob, knobs
from harness.metrics import Answer, HitMetric, MeanOf, Metric
from harness.points import PointMetric
from harness.signature import Sample
from harness.store import Record, plain_disk_errors, read_scores, records, write_json
from harness.task import Task
from harness.types import Instance, Prediction, Split

ON: Split = "valid"
"""The split that options are chosen on."""
FILE = "chosen.json"


@dataclass(frozen=True)
class Choosing:
    """A choice to be made. `choosing` makes one that has been checked."""

    option: str
    values: tuple[str, ...]
    """As they are written; of equal scores the first one's wins."""
    tasks: tuple[Task, ...]
    """The task with each of them."""
    sample: Sample | None = None
    """Of the validation instances, at most so many; None for as many as the run itself asks."""


@dataclass(frozen=True)
class Alternative:
    """One value, and what it scored."""

    value: str
    run: str
    """Digest of its run on validation."""
    score: float | None
    """None where it cannot be scored;"""
    reason: str | None = None
    """and why."""


@dataclass(frozen=True)
class Choice:
    """How the option of a run came about."""

    option: str
    value: str
    metric: str
    split: Split
    instances: int
    alternatives: tuple[Alternative, ...]
    """In the order in which they were named."""

    def __str__(self) -> str:
        """`instruction=A9, chosen of 5 by HR@1 on 200 valid instances: 0.214 to 0.251`."""
        scores = [one.score for one in self.alternatives if one.score is not None]
        lost = len(self.alternatives) - len(scores)
        return (
            f"{self.option}={self.value}, chosen of {len(self.alternatives)} by {self.metric} on {self.instances} "
            f"{self.split} instances: {min(scores):.3f} to {max(scores):.3f}"
            + (f"; {lost} could not be scored" if lost else "")
        )


def read(run: Path) -> Choice | None:
    """How the option of a run was chosen; None if it was given, or is not known to have been chosen.

    StaleRun: the file was not written by this version.
    """
    from pydantic import TypeAdapter, ValidationError  # here, because `harness --help` has no need of it

    try:
        choice = TypeAdapter(Choice).validate_json((run / FILE).read_bytes(), strict=True)
    except FileNotFoundError:
        return None
    except ValidationError:
        choice = None
    if choice is None or all(one.score is None for one in choice.alternatives):
        raise StaleRun(f"{run / FILE} was not written by this version of the harness; delete it and choose once more")
    return choice


def write(run: Path, choice: Choice) -> None:
    """Put it into a run's directory, whole or not at all, in the place of an earlier one."""
    with plain_disk_errors(run):
        write_json(run / FILE, asdict(choice))


def as_json(run: Path) -> dict[str, object] | None:
    """The choice of a run as plain data, for programs; None where there is none."""
    found = read(run)
    return None if found is None else asdict(found)


def choosing(
    task: Task, given: Mapping[str, str], option: str, values: Sequence[str] | None, where: str, sample: Sample | None
) -> Choosing:
    """What is to be chosen for a task that was built from the texts `given`; None for `values` takes the task's own.

    `where` begins every error. BadSetting: there is no such option, it is given too or cannot be chosen, there are no
    two values, or one is not valid; or what the task selects by cannot be read off a run.
    """
    known = {knob.name: knob for knob in knobs(type(task))}
    if option not in known:
        raise BadSetting(f"{where}: {registry.unknown(f'option of task {task.name!r}', option, sorted(known))}")
    _check_option(known[option], option in given, where)
    if values is None:
        if option not in task.alternatives:
            raise BadSetting(f"{where}: task {task.name!r} has no alternatives of {option}; say which values to try")
        values = task.alternatives[option]
    made = {value: registry.build(type(task), {**given, option: value}, where) for value in values}
    first = {getattr(each, option): value for value, each in reversed(made.items())}
    kept = [value for value, each in made.items() if first[getattr(each, option)] == value]
    if len(kept) < 2:
        only = f"only the value {kept[0]}" if kept else "no value"
        raise BadSetting(f"{where}: {option} has {only} here, so there is nothing to choose")
    if task.selector not in task.metrics and not _on_record(task.selector):
        raise BadSetting(
            f"{where}: task {task.name!r} selects by {task.selector.name}, which is none of its metrics and cannot be "
            "read off a run"
        )
    return Choosing(option, tuple(kept), tuple(made[value] for value in kept), sample)


def selected(run: Path, task: Task, instances: Iterable[Instance]) -> float:
    """What a complete run scores in the metric that its task selects by; a failed instance counts as the worst answer.

    `instances` are the run's questions, needed where that is none of the task's metrics. NotApplicable: the metric
    has no value, and why.
    """
    metric, scores = task.selector, read_scores(run)
    if scores is None:
        raise StaleRun(f"{run} is not complete")
    if "not_applicable" in scores:
        raise NotApplicable(scores["not_applicable"])
    if metric in task.metrics:
        found = scores["metrics"][metric.name]
        value = found["value"] if found else None
    else:
        value = _measured(run, metric, instances)
    if value is None:
        raise NotApplicable(f"{metric.name} is undefined over its {scores['instances']} instances")
    return float(value)


def _check_option(knob: Knob, given: bool, where: str) -> None:
    wrong = {
        "is given, too; leave it out where it is to be chosen": given,
        "decides which questions are asked, and scores of different questions choose nothing": knob.instances,
        "decides what is tuned on, and no evaluation": knob.tuning,
        "says where files are, and no score depends on it": not knob.hashed,
    }
    for said, true in wrong.items():
        if true:
            raise BadSetting(f"{where}: {knob.name} {said}")


def _on_record(metric: Metric) -> bool:
    """Whether a metric can be had from records that were not made for it: they keep places and facts, no scores."""
    return isinstance(metric, HitMetric | MeanOf) or (isinstance(metric, PointMetric) and metric.of != "score")


def _measured(run: Path, metric: Metric, instances: Iterable[Instance]) -> float | None:
    """What a run's records amount to in a metric that they have no rows of."""
    kept = {record.id: record for record in records(run)}
    rows, users, answered = [], [], False
    for instance in instances:
        record = kept[instance.id]
        if (row := metric.measure(_answer(record, instance))) is not None:
            rows.append(row)
            users.append(instance.user)
            answered = answered or record.failure is None
    if not answered:  # failed instances have a row in every metric: they alone do not make it apply
        return None
    _, codes = np.unique(users, return_inverse=True)
    value = metric.aggregate(np.array(rows), codes)
    return value if isfinite(value) else None


def _answer(record: Record, instance: Instance) -> Answer:
    """The answer that a record keeps, without scores: places of all that is relevant, and the facts."""
    prediction = Prediction({}, record.facts, record.text) if record.failure is None else None
    return Answer.kept(instance, prediction, record.ranks)
