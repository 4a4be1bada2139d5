"""Metrics of one labelled candidate per instance: was it liked, and what score did it get?"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.metrics import Answer, Mask, Metric, Rows, Users, Weigher, Weights, weighted_mean
from harness.types import Instance

WORST_LOG_LOSS = -float(np.log(np.finfo(np.float64).eps))
"""What an instance without an answer costs; scikit-learn clips probabilities at the same place."""


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

    def weigher(self, rows: Rows, users: Users) -> Weigher:
        """Sorted once: what a liked candidate outscores is a running sum of the weights of the disliked."""
        score = _worst_if_unanswered(rows)
        order = np.argsort(score, kind="stable")
        liked, score = rows[order, 0] > 0, score[order]
        starts = np.flatnonzero(np.append(True, score[1:] != score[:-1]))

        def value(weights: Weights) -> NDArray[np.float64]:
            above, below = weights[:, order] * liked, weights[:, order] * ~liked
            if len(starts) < len(score):
                above, below = (np.add.reduceat(side, starts, axis=1) for side in (above, below))
            wins = (above * (below.cumsum(axis=1) - below / 2)).sum(axis=1)
            pairs = above.sum(axis=1) * below.sum(axis=1)
            found: NDArray[np.float64] = np.divide(wins, pairs, out=np.full(len(pairs), nan), where=pairs > 0)
            return found

        return value

    def chance(self, instance: Instance) -> float:
        return 0.5


@dataclass(frozen=True)
class UserAUC(PointMetric):
    """The unweighted mean of each user's own AUC, over the users that have both labels."""

    label: ClassVar[str] = "UserAUC"

    def aggregate(self, rows: Rows, users: Users) -> float:
        defined = _aucs(rows, users)[1]
        return float(defined.mean()) if len(defined) else nan

    def weigher(self, rows: Rows, users: Users) -> Weigher:
        """A user's own AUC is that of one row, and a user counts as often as this row does."""
        known, own = _aucs(rows, users)
        _, first = np.unique(users, return_index=True)
        values, counts = np.zeros(len(rows)), np.zeros(len(rows))
        values[first[known]], counts[first[known]] = own, 1.0
        return weighted_mean(values, counts)

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
        return float(self._right(rows).mean())

    def weigher(self, rows: Rows, users: Users) -> Weigher:
        return weighted_mean(self._right(rows).astype(np.float64))

    @staticmethod
    def _right(rows: Rows) -> Mask:
        label, score, answered = rows.T > 0
        right: Mask = (score == label) & answered
        return right


@dataclass(frozen=True)
class LogLoss(PointMetric):
    """Mean negative log-likelihood of the labels in nats, where a score is a log-odds."""

    label: ClassVar[str] = "LogLoss"
    bounds: ClassVar[tuple[float, float]] = (0.0, inf)
    higher_is_better: ClassVar[bool] = False

    def aggregate(self, rows: Rows, users: Users) -> float:
        return float(self._losses(rows).mean())

    def weigher(self, rows: Rows, users: Users) -> Weigher:
        return weighted_mean(self._losses(rows))

    @staticmethod
    def _losses(rows: Rows) -> NDArray[np.float64]:
        label, score, answered = rows.T
        loss = np.logaddexp(0.0, np.where(label > 0, -score, score))
        return np.where(answered > 0, np.minimum(loss, WORST_LOG_LOSS), WORST_LOG_LOSS)


def tied_pairs(rows: Rows) -> float:
    """Share of (liked, disliked) pairs with equal scores; rows as of a `PointMetric`. nan without both labels."""
    label, answered = rows[:, 0] > 0, rows[:, 2] > 0
    _, place = np.unique(rows[answered, 1], return_inverse=True)
    liked = np.bincount(place[label[answered]], minlength=len(place))
    disliked = np.bincount(place[~label[answered]], minlength=len(place))
    pairs = int(label.sum()) * int((~label).sum())
    return float(liked @ disliked / pairs) if pairs else nan


def _auc(rows: Rows) -> float:
    label, score = rows[:, 0] > 0, _worst_if_unanswered(rows)
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (count.cumsum() - (count - 1) / 2)[place]
    liked, disliked = int(label.sum()), int((~label).sum())
    if not liked or not disliked:
        return nan
    return float((rank[label].sum() - liked * (liked + 1) / 2) / (liked * disliked))


def _worst_if_unanswered(rows: Rows) -> NDArray[np.float64]:
    return np.where(rows[:, 2] > 0, rows[:, 1], np.where(rows[:, 0] > 0, -inf, inf))


def _aucs(rows: Rows, users: Users) -> tuple[Mask, NDArray[np.float64]]:
    """Which users have both labels, in the order of their numbers, and the `_auc` of each of these."""
    label, score = rows[:, 0] > 0, _worst_if_unanswered(rows)
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
    return both, above[both] / (liked * disliked)[both]
