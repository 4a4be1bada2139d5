"""Metrics over everything that a model shows, right or wrong: how much of the catalogue, how evenly, how popular.

What is shown is the first k places of every answer, be it a list of the whole catalogue or an order of candidates.
They are RecBole's ItemCoverage, AveragePopularity and GiniIndex, except that RecBole counts its padding item as one
more item of the catalogue. An instance without a catalogue says nothing about them.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from math import inf, nan
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.metrics import Answer, MeanMetric, Metric, Rows, Users
from harness.types import Catalogue, Instance


@dataclass(frozen=True)
class Exposure(Metric):
    """Something about the first k places of all answers that does not ask what is right."""

    k: int

    @property
    def name(self) -> str:
        return f"{self.label}@{self.k}"


@dataclass(frozen=True)
class ShownItems(Exposure):
    """Something about how often each item of the catalogue is shown.

    Its row is the size of the catalogue and the k items shown, by their place in it; -1 stands for an empty place, as
    in a short answer or a failed one, and for an item that is not in the catalogue.
    """

    resampled: ClassVar[bool] = False
    diagnostic: ClassVar[bool] = True

    def measure(self, answer: Answer) -> tuple[float, ...] | None:
        catalogue = answer.instance.catalogue
        if catalogue is None:
            return None
        shown = [float(catalogue.places.get(item, -1)) for item in answer.top(self.k)]
        return (float(len(catalogue.items)), *shown, *[-1.0] * (self.k - len(shown)))

    def aggregate(self, rows: Rows, users: Users) -> float:
        if not len(rows):
            return nan
        places = rows[:, 1:].astype(np.int64)
        return self.of_counts(np.bincount(places[places >= 0], minlength=int(rows[0, 0])))

    @abstractmethod
    def of_counts(self, counts: NDArray[np.int64]) -> float:
        """From how often each item was shown; shape (items of the catalogue,)."""


@dataclass(frozen=True)
class Coverage(ShownItems):
    """Share of the catalogue that is in anybody's first k places."""

    label: ClassVar[str] = "Coverage"

    def of_counts(self, counts: NDArray[np.int64]) -> float:
        return float((counts > 0).mean())


@dataclass(frozen=True)
class Gini(ShownItems):
    """How unequally the items of the catalogue are shown: 0 if all are as often, near 1 if it is always the same few.

    Items that are never shown count. nan where nothing is shown at all.
    """

    label: ClassVar[str] = "Gini"
    higher_is_better: ClassVar[bool] = False

    def of_counts(self, counts: NDArray[np.int64]) -> float:
        size, total = len(counts), int(counts.sum())
        weights = 2 * np.arange(1, size + 1) - size - 1
        return float(np.sort(counts) @ weights / (size * total)) if total else nan


@dataclass(frozen=True)
class ARP(Exposure, MeanMetric):
    """Average recommendation popularity: the mean number of training interactions of the first k items of an answer,
    averaged over the instances. An instance that shows nothing is left out: no popularity is the worst. RecBole takes
    fewer for better."""

    label: ClassVar[str] = "ARP"
    bounds: ClassVar[tuple[float, float]] = (0.0, inf)
    higher_is_better: ClassVar[bool] = False

    def measure(self, answer: Answer) -> tuple[float, ...] | None:
        catalogue, shown = answer.instance.catalogue, answer.top(self.k)
        if catalogue is None or not shown:
            return None
        return (sum([catalogue.met.get(item, 0) for item in shown]) / len(shown),)

    def chance(self, instance: Instance) -> float | None:
        catalogue = instance.catalogue
        if catalogue is None:
            return None
        if instance.candidates is not None:
            met = [catalogue.met.get(item.id, 0) for item in instance.candidates]
            return sum(met) / len(met)
        hidden = sum(catalogue.met.get(item, 0) for item in instance.excluded)
        return (_interactions(catalogue) - hidden) / (len(catalogue.items) - len(instance.excluded))


@lru_cache(maxsize=4)
def _interactions(catalogue: Catalogue) -> int:
    """All that was met of a catalogue; every instance of a protocol asks the same one."""
    return sum(catalogue.met.get(item.id, 0) for item in catalogue.items)
