"""Metrics: `measure` one instance, `aggregate` many.

Only rows are stored, so a score, its interval and a paired test all come from the same file. Every metric says
what a random order would score on an instance (`chance`), so that a table can show how far above it a model is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, exp, inf, log1p, log2, nan
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.types import Instance, ItemId, Prediction

Rows = NDArray[np.float64]
"""Shape (instances, columns of the metric)."""
Users = NDArray[np.int64]
"""Shape (instances,): equal numbers are the same user."""
Mask = NDArray[np.bool_]
WORST_LOG_LOSS = -float(np.log(np.finfo(np.float64).eps))
"""What an instance without an answer costs; scikit-learn clips probabilities at the same place."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An instance and what was answered; what several metrics read is made once and shared by all of them."""

    instance: Instance
    prediction: Prediction | None
    """None if the instance failed."""
    ranking: tuple[ItemId, ...]
    places: Mapping[ItemId, int]
    """Where, from 1, those items are ranked that the instance names a relevance of."""
    gains: tuple[float, ...]
    """Relevance of each place of the ranking, up to the last one that the instance names; 0 from there on."""
    relevant: tuple[float, ...]
    """All positive relevances of the instance, the largest first."""

    @classmethod
    def of(cls, instance: Instance, prediction: Prediction | None) -> Answer:
        relevance = instance.relevance
        ranking = prediction.ranking(instance.id) if prediction else ()
        places = {item: place for place, item in enumerate(ranking, 1) if item in relevance}
        gains = [0.0] * max(places.values(), default=0)
        for item, place in places.items():
            gains[place - 1] = relevance[item]
        return cls(instance, prediction, ranking, places, tuple(gains), _relevant(instance))


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


@dataclass(frozen=True)
class CutOff(MeanMetric):
    """A mean over instances of something read off the first k places."""

    k: int

    @property
    def name(self) -> str:
        return f"{self.label}@{self.k}"

    def measure(self, answer: Answer) -> tuple[float, ...]:
        return (self.value(answer.gains[: self.k], answer.relevant),)

    @abstractmethod
    def value(self, gains: Sequence[float], relevant: Sequence[float]) -> float:
        """From the gains of the first places, where zeros at the end may be left out, and all positive relevances of
        the instance, the largest first."""

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

    def value(self, gains: Sequence[float], relevant: Sequence[float]) -> float:
        return float(max(gains, default=0.0) > 0)

    def expected(self, size: int, found: int, gain: float, relevant: Sequence[float]) -> float:
        k = min(self.k, size)
        return 1 - comb(size - found, k) / comb(size, k)


@dataclass(frozen=True)
class NDCG(CutOff):
    """Discounted gain of the first k places over the best attainable (Järvelin and Kekäläinen 2002; gains are
    the relevances themselves, as in trec_eval, discounts are log2)."""

    label: ClassVar[str] = "NDCG"

    def value(self, gains: Sequence[float], relevant: Sequence[float]) -> float:
        return _dcg(gains) / _ideal(tuple(relevant[: self.k])) if relevant else 0.0

    def expected(self, size: int, found: int, gain: float, relevant: Sequence[float]) -> float:
        return _dcg([gain / size] * min(self.k, size)) / _dcg(relevant[: self.k])


@dataclass(frozen=True)
class MRR(CutOff):
    """Mean over instances of 1 / place of the first relevant item, 0 beyond place k."""

    label: ClassVar[str] = "MRR"

    def value(self, gains: Sequence[float], relevant: Sequence[float]) -> float:
        return next((1 / place for place, gain in enumerate(gains, 1) if gain > 0), 0.0)

    def expected(self, size: int, found: int, gain: float, relevant: Sequence[float]) -> float:
        first = (comb(size - place, found - 1) / place for place in range(1, min(self.k, size) + 1))
        return sum(first) / comb(size, found)


@dataclass(frozen=True)
class Recall(CutOff):
    """Share of an instance's relevant items that are in the first k places."""

    label: ClassVar[str] = "Recall"

    def value(self, gains: Sequence[float], relevant: Sequence[float]) -> float:
        return sum(gain > 0 for gain in gains) / len(relevant) if relevant else 0.0

    def expected(self, size: int, found: int, gain: float, relevant: Sequence[float]) -> float:
        return found * min(self.k, size) / size / len(relevant)


@dataclass(frozen=True)
class Precision(CutOff):
    """Share of the first k places that are relevant; a list shorter than k is divided by k all the same."""

    label: ClassVar[str] = "Precision"

    def value(self, gains: Sequence[float], relevant: Sequence[float]) -> float:
        return sum(gain > 0 for gain in gains) / self.k

    def expected(self, size: int, found: int, gain: float, relevant: Sequence[float]) -> float:
        return found * min(self.k, size) / size / self.k


@dataclass(frozen=True)
class MAP(CutOff):
    """Mean average precision at k, divided by min(k, relevant items), as RecBole's is."""

    label: ClassVar[str] = "MAP"

    def value(self, gains: Sequence[float], relevant: Sequence[float]) -> float:
        hits, total = 0, 0.0
        for place, gain in enumerate(gains, 1):
            if gain > 0:
                hits += 1
                total += hits / place
        return total / min(self.k, len(relevant)) if relevant else 0.0

    def expected(self, size: int, found: int, gain: float, relevant: Sequence[float]) -> float:
        others = (found - 1) / (size - 1) if size > 1 else 0.0
        total = sum((1 + (place - 1) * others) / place for place in range(1, min(self.k, size) + 1))
        return total * found / size / min(self.k, len(relevant))


@dataclass(frozen=True)
class Together(MeanMetric):
    """The mean of several metrics of this kind; where their sum is what somebody selects by, it chooses the same."""

    parts: tuple[CutOff, ...]

    @property
    def name(self) -> str:
        return "+".join(part.name for part in self.parts)

    def measure(self, answer: Answer) -> tuple[float, ...]:
        return (sum(part.measure(answer)[0] for part in self.parts) / len(self.parts),)


@dataclass(frozen=True)
class PointMetric(Metric):
    """A metric of one labelled candidate per instance. Its row is (label, score, answered)."""

    of: str = "score"
    """Which number is judged: the candidate's score, or one of the prediction's facts."""

    @property
    def name(self) -> str:
        return self.label if self.of == "score" else f"{self.label}[{self.of}]"

    def measure(self, answer: Answer) -> tuple[float, ...] | None:
        (item,) = answer.instance.candidates or ()
        label = float(answer.instance.relevance.get(item.id, 0.0) > 0)
        if answer.prediction is None:
            return label, 0.0, 0.0
        numbers = answer.prediction.scores if self.of == "score" else answer.prediction.facts
        key = item.id if self.of == "score" else self.of
        if key not in numbers:
            return (label, 0.0, 0.0) if self.of == "score" else None
        return label, numbers[key], 1.0


@dataclass(frozen=True)
class AUC(PointMetric):
    """Chance that a liked candidate outscores a disliked one, over all instances together; ties count half."""

    label: ClassVar[str] = "AUC"

    def aggregate(self, rows: Rows, users: Users) -> float:
        return _auc(rows)

    def chance(self, instance: Instance) -> float:
        return 0.5


@dataclass(frozen=True)
class UserAUC(PointMetric):
    """The unweighted mean of each user's own AUC, over the users that have both labels."""

    label: ClassVar[str] = "UserAUC"

    def aggregate(self, rows: Rows, users: Users) -> float:
        defined = _aucs(rows, users)
        return float(defined.mean()) if len(defined) else nan

    def counted(self, rows: Rows, users: Users) -> Mask:
        _, code = np.unique(users, return_inverse=True)
        liked = np.bincount(code, weights=rows[:, 0] > 0)
        return ((liked > 0) & (liked < np.bincount(code)))[code]

    def chance(self, instance: Instance) -> float:
        return 0.5


@dataclass(frozen=True)
class Accuracy(PointMetric):
    """Share of labels guessed right, where a score is a log-odds: above 0 means yes."""

    label: ClassVar[str] = "Accuracy"

    def aggregate(self, rows: Rows, users: Users) -> float:
        label, score, answered = rows.T
        return float((((score > 0) == (label > 0)) & (answered > 0)).mean())


@dataclass(frozen=True)
class LogLoss(PointMetric):
    """Mean negative log-likelihood of the labels in nats, where a score is a log-odds."""

    label: ClassVar[str] = "LogLoss"
    bounds: ClassVar[tuple[float, float]] = (0.0, inf)
    higher_is_better: ClassVar[bool] = False

    def aggregate(self, rows: Rows, users: Users) -> float:
        label, score, answered = rows.T
        loss = np.logaddexp(0.0, np.where(label > 0, -score, score))
        return float(np.where(answered > 0, np.minimum(loss, WORST_LOG_LOSS), WORST_LOG_LOSS).mean())


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


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x), without overflow."""
    return exp(-log1p(exp(-x))) if x >= 0 else exp(x - log1p(exp(x)))


def tied_pairs(rows: Rows) -> float:
    """Share of (liked, disliked) pairs with equal scores; rows as of a `PointMetric`. nan without both labels."""
    label, answered = rows[:, 0] > 0, rows[:, 2] > 0
    _, place = np.unique(rows[answered, 1], return_inverse=True)
    liked = np.bincount(place[label[answered]], minlength=len(place))
    disliked = np.bincount(place[~label[answered]], minlength=len(place))
    pairs = int(label.sum()) * int((~label).sum())
    return float(liked @ disliked / pairs) if pairs else nan


def _auc(rows: Rows) -> float:
    label, answered = rows[:, 0] > 0, rows[:, 2] > 0
    score = np.where(answered, rows[:, 1], np.where(label, -inf, inf))
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (count.cumsum() - (count - 1) / 2)[place]
    liked, disliked = int(label.sum()), int((~label).sum())
    if not liked or not disliked:
        return nan
    return float((rank[label].sum() - liked * (liked + 1) / 2) / (liked * disliked))


def _aucs(rows: Rows, users: Users) -> NDArray[np.float64]:
    """`_auc` of every user that has both labels, all at once, since intervals ask for it thousands of times."""
    label, answered = rows[:, 0] > 0, rows[:, 2] > 0
    score = np.where(answered, rows[:, 1], np.where(label, -inf, inf))
    order = np.lexsort((score, users))
    label, score, users = label[order], score[order], users[order]
    fresh = np.diff(users, prepend=users[:1] - 1) != 0
    ends = np.append(np.flatnonzero(fresh | np.append(True, score[1:] != score[:-1]))[1:], len(users))
    count = np.diff(ends, prepend=0)
    rank = np.repeat(ends - (count - 1) / 2, count)
    user = np.cumsum(fresh) - 1
    before = np.flatnonzero(fresh)
    liked = np.bincount(user[label], minlength=len(before))
    disliked = np.bincount(user, minlength=len(before)) - liked
    above = np.bincount(user, weights=np.where(label, rank, 0.0)) - liked * before - liked * (liked + 1) / 2
    both = (liked > 0) & (disliked > 0)
    found: NDArray[np.float64] = above[both] / (liked * disliked)[both]
    return found


@lru_cache(maxsize=1 << 14)
def _expected(metric: CutOff, size: int, found: int, gain: float, relevant: tuple[float, ...]) -> float:
    """Most instances of a protocol have as many candidates and answers as their neighbours."""
    return metric.expected(size, found, gain, relevant)


@lru_cache(maxsize=1 << 14)
def _ideal(relevant: tuple[float, ...]) -> float:
    """The best attainable gain; most instances have as many answers, of the same worth, as their neighbours."""
    return _dcg(relevant)


def _relevant(instance: Instance) -> tuple[float, ...]:
    return tuple(sorted([gain for gain in instance.relevance.values() if gain > 0], reverse=True))


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / log2(place + 2) for place, gain in enumerate(gains))
