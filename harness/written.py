"""Metrics of lists that a language model writes, and of the shortlist that it may choose from.

A written list is judged twice: strictly, by the metrics of every model, and leniently, with the items that were read
with doubt. What an earlier stage found sets a ceiling and two marks: its own order, and no order at all. These three
are the same for every model that answers the same instances with the same shortlists.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan
from typing import ClassVar

from harness.metrics import Answer, CutOff, MeanMetric, Metric, Rows, Users
from harness.types import Instance, Prediction


@dataclass(frozen=True)
class Lenient(MeanMetric):
    """A metric of the list with the doubtful items in it."""

    diagnostic: ClassVar[bool] = True

    metric: CutOff

    @property
    def name(self) -> str:
        return f"{self.metric.name}[lenient]"

    def measure(self, answer: Answer) -> tuple[float, ...] | None:
        if answer.prediction is None:
            return (0.0,)
        listed = answer.prediction.lenient
        return None if listed is None else self.metric.measure(Answer.of(answer.instance, Prediction.ranked(listed)))


@dataclass(frozen=True)
class Ceiling(MeanMetric):
    """Share of an instance's relevant items that the shortlist holds: more than that nobody can choose from it."""

    label: ClassVar[str] = "ceiling"
    diagnostic: ClassVar[bool] = True

    def measure(self, answer: Answer) -> tuple[float, ...] | None:
        shortlist = answer.instance.shortlist
        if shortlist is None or not answer.relevant:
            return None
        found = sum(answer.instance.relevance.get(item.id, 0.0) > 0 for item in shortlist)
        return (found / len(answer.relevant),)


@dataclass(frozen=True)
class AsFound(MeanMetric):
    """What the shortlist scores in the order in which the earlier stage found it: a second stage that does nothing."""

    diagnostic: ClassVar[bool] = True

    metric: CutOff

    @property
    def name(self) -> str:
        return f"{self.metric.name}[identity]"

    def measure(self, answer: Answer) -> tuple[float, ...] | None:
        shortlist = answer.instance.shortlist
        if shortlist is None:
            return None
        return self.metric.measure(Answer.of(answer.instance, Prediction.ranked([item.id for item in shortlist])))


@dataclass(frozen=True)
class Shuffled(MeanMetric):
    """What the shortlist is expected to score in a uniformly random order, exactly."""

    diagnostic: ClassVar[bool] = True

    metric: CutOff

    @property
    def name(self) -> str:
        return f"{self.metric.name}[random]"

    def measure(self, answer: Answer) -> tuple[float, ...] | None:
        expected = by_chance(self.metric, answer.instance)
        return None if expected is None else (expected,)


@dataclass(frozen=True)
class AboveShuffled(MeanMetric):
    """How far a model is above that, instance by instance, so that the interval is of the paired difference."""

    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    diagnostic: ClassVar[bool] = True

    metric: CutOff

    @property
    def name(self) -> str:
        return f"{self.metric.name}[above random]"

    def measure(self, answer: Answer) -> tuple[float, ...] | None:
        expected, measured = by_chance(self.metric, answer.instance), self.metric.measure(answer)
        return None if expected is None else (measured[0] - expected,)


@dataclass(frozen=True)
class Share(Metric):
    """How much of one fact there is in another, over all instances together: of all lines, those of some kind."""

    diagnostic: ClassVar[bool] = True

    fact: str
    of: str

    @property
    def name(self) -> str:
        return self.fact

    def measure(self, answer: Answer) -> tuple[float, ...] | None:
        if answer.prediction is None:
            return 0.0, 0.0
        facts = answer.prediction.facts
        return (facts[self.fact], facts[self.of]) if self.fact in facts else None

    def aggregate(self, rows: Rows, users: Users) -> float:
        part, whole = rows.sum(axis=0) if len(rows) else (0.0, 0.0)
        return float(part / whole) if whole else nan


def by_chance(metric: CutOff, instance: Instance) -> float | None:
    """What a random order of the shortlist is expected to score; None where there is no shortlist."""
    if instance.shortlist is None:
        return None
    return metric.chance(replace(instance, candidates=instance.shortlist)) if instance.shortlist else 0.0
