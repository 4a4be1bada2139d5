"""Metrics: `measure` one instance, `aggregate` many.

Only rows are stored, so a score, its interval and a paired test all come from the same file. Every metric says
what a random order would score on an instance (`chance`), so that a table can show how far above it a model is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, exp, inf, log1p, log2, nan
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.types import Instance, ItemId, Prediction

Rows = NDArray[np.float64]
"""Shape (instances, columns of the metric)."""
Users = NDArray[np.int64]
"""Shape (instances,): equal numbers are the same user."""
Mask = NDArray[np.bool_]
Weights = NDArray[np.float64]
"""Shape (draws, instances): how often each instance counts, in each of several draws."""
Weigher = Callable[[Weights], NDArray[np.float64]]
"""From weights to the score under each of them, shape (draws,)."""
Hit = tuple[int, float]
"""The place, from 1, of a relevant item, and its relevance."""


class Answer(NamedTuple):
    """An instance and what was answered; what several metrics read is made once and shared by all of them."""

    instance: Instance
    prediction: Prediction | None
    """None if the instance failed."""
    ordered: NDArray[np.float64]
    """All scores, the smallest first."""
    places: Mapping[ItemId, int]
    """Where, from 1, those relevant items are ranked that are."""
    hits: tuple[Hit, ...]
    """The same, the best place first."""
    relevant: tuple[float, ...]
    """All positive relevances of the instance, the largest first."""

    @classmethod
    def of(cls, instance: Instance, prediction: Prediction | None) -> Answer:
        scores = prediction.scores if prediction else {}
        # numpy sorts a hundred numbers in less time than Python needs to look at them.
        ordered = np.fromiter(scores.values(), np.float64, len(scores))
        ordered.sort()
        numbers = ordered.data  # whose numbers are Python's, as bisect likes them
        size = len(numbers)
        places: dict[ItemId, int] = {}
        hits: list[Hit] = []
        relevant: list[float] = []
        ranked: Mapping[ItemId, int] = {}
        for item, gain in instance.relevance.items():
            if gain > 0:
                relevant.append(gain)
                if (own := scores.get(item)) is not None:
                    place = size - bisect_left(numbers, own)
                    if place > 1 and numbers[size - place + 1] == own:
                        ranked = ranked or _ranked(scores, instance.id)  # items share this score
                        place = ranked[item]
                    places[item] = place
                    hits.append((place, gain))
        hits.sort()
        relevant.sort(reverse=True)
        return cls(instance, prediction, ordered, places, tuple(hits), tuple(relevant))

    @classmethod
    def kept(cls, instance: Instance, prediction: Prediction | None, places: Mapping[ItemId, int]) -> Answer:
        """One of which no score is left, but where what is relevant was ranked."""
        hits = tuple(sorted((place, instance.relevance[item]) for item, place in places.items()))
        return cls(instance, prediction, np.empty(0), places, hits, _relevant(instance))

    @property
    def tied(self) -> bool:
        """Whether items share a score, so that the hash decides between them."""
        return bool((self.ordered[1:] == self.ordered[:-1]).any())

    def top(self, k: int) -> tuple[ItemId, ...]:
        """The first k places, best first; fewer where fewer items have a score."""
        if self.prediction is None:
            return ()
        scores = self.prediction.scores
        if 0 < k < len(scores):
            least = float(self.ordered[-k])
            scores = {item: score for item, score in scores.items() if score >= least}
        return Prediction(scores).ranking(self.instance.id)[:k]


class Metric(ABC):
    """A frozen dataclass; two metrics with the same fields are the same metric."""

    label: ClassVar[str]
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_better: ClassVar[bool] = True
    resampled: ClassVar[bool] = True
    """Whether drawing instances anew says how sure the score is. It does not where a score grows with every instance,
    such as the share of the catalogue that is ever shown: a draw with replacement misses a third of them."""
    diagnostic: ClassVar[bool] = False
    """Whether it describes answers or instances without saying which model is better: the right answer need not have
    the best of it, nor a random one its mean."""

    @property
    def name(self) -> str:
        """How tables and records call it: `NDCG@10`."""
        return self.label

    @abstractmethod
    def measure(self, answer: Answer) -> tuple[float, ...] | None:
        """What this instance contributes. A failed instance is the worst answer, not a gap; None means that the
        metric has nothing to say about this kind of answer."""

    @abstractmethod
    def aggregate(self, rows: Rows, users: Users) -> float:
        """What the rows amount to; nan where that is undefined."""

    def weigher(self, rows: Rows, users: Users) -> Weigher:
        """The score as a function of how often each instance counts, a whole number; intervals ask for it ten thousand
        times. A user whose instances count twice is two users. This one draws the rows out and aggregates them, which
        any metric bears; one that can weigh its rows should."""

        def score(weights: Weights) -> NDArray[np.float64]:
            return np.array([self.aggregate(*_drawn_out(rows, users, one.astype(np.int64))) for one in weights])

        return score

    def chance(self, instance: Instance) -> float | None:
        """Expected value under a uniformly random order; None where it is unknown."""
        return None

    def counted(self, rows: Rows, users: Users) -> Mask:
        """Which rows the score rests on; intervals are made from these alone."""
        return np.ones(len(rows), dtype=bool)


class MeanMetric(Metric):
    """A metric whose score is the mean of one number per instance."""

    def aggregate(self, rows: Rows, users: Users) -> float:
        return float(rows.mean()) if len(rows) else nan

    def weigher(self, rows: Rows, users: Users) -> Weigher:
        return weighted_mean(rows[:, 0])


class HitMetric(MeanMetric):
    """A mean over instances of something that only the hits in the first places decide."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """How many places those are."""

    def measure(self, answer: Answer) -> tuple[float]:
        return (self.judge(answer.hits, answer.relevant),)

    @abstractmethod
    def judge(self, hits: Sequence[Hit], relevant: Sequence[float]) -> float:
        """From the hits, those beyond `depth` maybe among them, the best place first, and all positive relevances of
        the instance, the largest first."""


@dataclass(frozen=True)
class CutOff(HitMetric):
    """A hit metric with a name for its k places."""

    k: int

    @property
    def name(self) -> str:
        return f"{self.label}@{self.k}"

    @property
    def depth(self) -> int:
        return self.k

    def judge(self, hits: Sequence[Hit], relevant: Sequence[float]) -> float:
        return self.value([hit for hit in hits if hit[0] <= self.k], relevant)

    @abstractmethod
    def value(self, hits: Sequence[Hit], relevant: Sequence[float]) -> float:
        """From the hits in the first k places, the best place first, and all positive relevances of the instance, the
        largest first."""

    def chance(self, instance: Instance) -> float | None:
        relevant = _relevant(instance)
        if instance.candidates is None:
            if instance.catalogue is None:
                return None
            # The whole of what is relevant is in the catalogue, and never excluded.
            size = len(instance.catalogue.items) - len(instance.excluded)
            return _expected(self, size, len(relevant), sum(relevant), relevant) if relevant else 0.0
        within = [gain for item in instance.candidates if (gain := instance.relevance.get(item.id, 0.0)) > 0]
        return _expected(self, len(instance.candidates), len(within), sum(within), relevant) if within else 0.0

    @abstractmethod
    def expected(self, size: int, found: int, gain: float, relevant: Sequence[float]) -> float:
        """Mean over all orders of `size` candidates of which `found` are relevant, with total gain `gain`."""


@dataclass(frozen=True)
class HitRate(CutOff):
    """Share of instances with a relevant item in the first k places."""

    label: ClassVar[str] = "HR"

    def value(self, hits: Sequence[Hit], relevant: Sequence[float]) -> float:
        return float(bool(hits))

    def expected(self, size: int, found: int, gain: float, relevant: Sequence[float]) -> float:
        k = min(self.k, size)
        return 1 - comb(size - found, k) / comb(size, k)


@dataclass(frozen=True)
class NDCG(CutOff):
    """Discounted gain of the first k places over the best attainable (Järvelin and Kekäläinen 2002; gains are
    the relevances themselves, as in trec_eval, discounts are log2)."""

    label: ClassVar[str] = "NDCG"

    def value(self, hits: Sequence[Hit], relevant: Sequence[float]) -> float:
        found = sum([gain / log2(place + 1) for place, gain in hits])
        return found / _ideal(tuple(relevant[: self.k])) if relevant else 0.0

    def expected(self, size: int, found: int, gain: float, relevant: Sequence[float]) -> float:
        return _dcg([gain / size] * min(self.k, size)) / _dcg(relevant[: self.k])


@dataclass(frozen=True)
class MRR(CutOff):
    """Mean over instances of 1 / place of the first relevant item, 0 beyond place k."""

    label: ClassVar[str] = "MRR"

    def value(self, hits: Sequence[Hit], relevant: Sequence[float]) -> float:
        return 1 / hits[0][0] if hits else 0.0

    def expected(self, size: int, found: int, gain: float, relevant: Sequence[float]) -> float:
        first = (comb(size - place, found - 1) / place for place in range(1, min(self.k, size) + 1))
        return sum(first) / comb(size, found)


@dataclass(frozen=True)
class Recall(CutOff):
    """Share of an instance's relevant items that are in the first k places."""

    label: ClassVar[str] = "Recall"

    def value(self, hits: Sequence[Hit], relevant: Sequence[float]) -> float:
        return len(hits) / len(relevant) if relevant else 0.0

    def expected(self, size: int, found: int, gain: float, relevant: Sequence[float]) -> float:
        return found * min(self.k, size) / size / len(relevant)


@dataclass(frozen=True)
class Precision(CutOff):
    """Share of the first k places that are relevant; a list shorter than k is divided by k all the same."""

    label: ClassVar[str] = "Precision"

    def value(self, hits: Sequence[Hit], relevant: Sequence[float]) -> float:
        return len(hits) / self.k

    def expected(self, size: int, found: int, gain: float, relevant: Sequence[float]) -> float:
        return found * min(self.k, size) / size / self.k


@dataclass(frozen=True)
class MAP(CutOff):
    """Mean average precision at k, divided by min(k, relevant items), as RecBole's is."""

    label: ClassVar[str] = "MAP"

    def value(self, hits: Sequence[Hit], relevant: Sequence[float]) -> float:
        total = sum([number / place for number, (place, _) in enumerate(hits, 1)])
        return total / min(self.k, len(relevant)) if relevant else 0.0

    def expected(self, size: int, found: int, gain: float, relevant: Sequence[float]) -> float:
        others = (found - 1) / (size - 1) if size > 1 else 0.0
        total = sum((1 + (place - 1) * others) / place for place in range(1, min(self.k, size) + 1))
        return total * found / size / min(self.k, len(relevant))


@dataclass(frozen=True)
class Together(HitMetric):
    """The mean of several metrics of this kind; where their sum is what somebody selects by, it chooses the same."""

    parts: tuple[CutOff, ...]

    @property
    def name(self) -> str:
        return "+".join(part.name for part in self.parts)

    @property
    def depth(self) -> int:
        return max(part.depth for part in self.parts)

    def judge(self, hits: Sequence[Hit], relevant: Sequence[float]) -> float:
        return sum(part.judge(hits, relevant) for part in self.parts) / len(self.parts)


@dataclass(frozen=True)
class MeanOf(MeanMetric):
    """The mean of one of the prediction's facts, over the instances that have it: a diagnosis, not a score."""

    bounds: ClassVar[tuple[float, float]] = (-inf, inf)
    diagnostic: ClassVar[bool] = True

    fact: str

    @property
    def name(self) -> str:
        return self.fact

    def measure(self, answer: Answer) -> tuple[float, ...] | None:
        facts = answer.prediction.facts if answer.prediction else {}
        return (facts[self.fact],) if self.fact in facts else None


def weighted_mean(values: NDArray[np.float64], counts: NDArray[np.float64] | None = None) -> Weigher:
    """The mean of values, (instances,), under weights; `counts` says how much an instance has of what is divided by."""
    share = np.ones(len(values)) if counts is None else counts

    def score(weights: Weights) -> NDArray[np.float64]:
        # Not `@`: a thread pool for so little work waits longer than it computes where cores are shared.
        total, gain = np.einsum("ij,j->i", weights, share), np.einsum("ij,j->i", weights, values)
        found: NDArray[np.float64] = np.divide(gain, total, out=np.full(len(total), nan), where=total > 0)
        return found

    return score


def _drawn_out(rows: Rows, users: Users, counts: NDArray[np.int64]) -> tuple[Rows, Users]:
    """Each row as often as it counts; the copies of a user are users of their own."""
    picks = np.repeat(np.arange(len(rows)), counts)
    copy = np.arange(len(picks)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows[picks], users[picks] * (int(counts.max(initial=0)) + 1) + copy


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x), without overflow."""
    return exp(-log1p(exp(-x))) if x >= 0 else exp(x - log1p(exp(x)))


@lru_cache(maxsize=1 << 14)
def _expected(metric: CutOff, size: int, found: int, gain: float, relevant: tuple[float, ...]) -> float:
    """Most instances of a protocol have as many candidates and answers as their neighbours."""
    return metric.expected(size, found, gain, relevant)


@lru_cache(maxsize=1 << 14)
def _ideal(relevant: tuple[float, ...]) -> float:
    """The best attainable gain; most instances have as many answers, of the same worth, as their neighbours."""
    return _dcg(relevant)


def _ranked(scores: Mapping[ItemId, float], salt: str) -> dict[ItemId, int]:
    return {item: place for place, item in enumerate(Prediction(scores).ranking(salt), 1)}


def _relevant(instance: Instance) -> tuple[float, ...]:
    return tuple(sorted([gain for gain in instance.relevance.values() if gain > 0], reverse=True))


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / log2(place + 2) for place, gain in enumerate(gains))
