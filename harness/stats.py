"""How sure are we? Resampling over stored rows, so no model is ever asked twice.

The unit of resampling is the user wherever a user has several instances, because one user's answers are not
independent. With fewer than `FEW` units the bootstrap is too narrow, so a small-sample method takes its place:
the delete-one-unit jackknife with Student's t on (units - 1) degrees of freedom (Cameron and Miller 2015, who put
the line near 40). Hits and misses of independent instances get the Wilson interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics import MeanMetric, Metric, Rows, Users

FEW = 40
TOO_FEW = 10
"""A handful of units says that a pipeline works, and nothing of how sure its score is."""
DRAWS = 1000
LEVEL = 0.95

Picks = NDArray[np.int64]
Statistic = Callable[[Picks, Users], float]
"""A score from row numbers and the users that they stand for."""


class Interval(NamedTuple):
    low: float
    high: float
    unit: Literal["user", "instance"]
    units: int
    """How many independent units there are."""
    method: Literal["bootstrap", "jackknife-t", "wilson", "undefined"]

    @property
    def few(self) -> bool:
        """Too few units for the bootstrap; tables put a badge on it."""
        return self.units < FEW


def interval(metric: Metric, rows: Rows, users: Users, seed: int = 0) -> Interval:
    """95 % interval of a score. `rows`: (n, columns); `users`: (n,), equal numbers are the same user.

    Undefined, with nan for both ends, for a metric that resampling says nothing about, and below `TOO_FEW` units.
    """
    counted = metric.counted(rows, users)
    rows, users = rows[counted], users[counted]
    if not metric.resampled or len(np.unique(users)) < TOO_FEW:
        return _undefined(users)
    if isinstance(metric, MeanMetric):
        made = _mean_interval(rows[:, 0], users, seed)
    else:
        made = _resample(lambda picks, who: metric.aggregate(rows[picks], who), users, seed)
    return _within(made, *metric.bounds)


def difference(metric: Metric, ours: Rows, theirs: Rows, users: Users, seed: int = 0) -> Interval:
    """95 % interval of ours minus theirs over the same instances, drawn for both.

    Not a permutation test: swapping rows between systems would mix their score scales, which a rank statistic
    such as AUC does not survive. Undefined, with nan for both ends, for a metric that resampling says nothing about,
    and below `TOO_FEW` units.
    """

    def gap(picks: Picks, who: Users) -> float:
        return metric.aggregate(ours[picks], who) - metric.aggregate(theirs[picks], who)

    counted = metric.counted(ours, users) & metric.counted(theirs, users)
    ours, theirs, users = ours[counted], theirs[counted], users[counted]
    if not metric.resampled or len(np.unique(users)) < TOO_FEW:
        return _undefined(users)
    if isinstance(metric, MeanMetric):
        return _resample_mean(ours[:, 0] - theirs[:, 0], users, seed)
    return _resample(gap, users, seed)


class Spread(NamedTuple):
    """How much a score varies with the units that it is measured on."""

    variance: float
    """nan with fewer than two units, or where the score is undefined without one."""
    unit: Literal["user", "instance"]
    units: int


def spread(statistic: Statistic, users: Users, seed: int = 0) -> Spread:
    """Variance of a statistic over units drawn anew: jackknife below `FEW` units, bootstrap from there on.

    `statistic` gets row numbers, and `users`: (n,) says whose rows they are.
    """
    members = _members(users)
    unit: Literal["user", "instance"] = "user" if len(members) < len(users) else "instance"
    if len(members) < 2:
        return Spread(float("nan"), unit, len(members))
    values = _replicates(statistic, members, unit, users, seed)
    if len(members) < FEW:
        return Spread(_jackknife_variance(values), unit, len(members))
    defined = values[~np.isnan(values)]
    return Spread(float(defined.var(ddof=1)) if len(defined) > 1 else float("nan"), unit, len(members))


def _resample(statistic: Statistic, users: Users, seed: int) -> Interval:
    members = _members(users)
    unit: Literal["user", "instance"] = "user" if len(members) < len(users) else "instance"
    if len(members) < 2:
        return Interval(float("nan"), float("nan"), unit, len(members), "undefined")
    values = _replicates(statistic, members, unit, users, seed)
    if len(members) < FEW:
        return _jackknife(statistic(np.arange(len(users)), users), values, unit)
    return _percentiles(values, unit, len(members))


def _replicates(
    statistic: Statistic, members: Sequence[Picks], unit: Literal["user", "instance"], users: Users, seed: int
) -> NDArray[np.float64]:
    """The statistic without each unit in turn if they are few, else over units drawn with replacement."""
    if len(members) < FEW:
        without = [np.concatenate([*members[:i], *members[i + 1 :]]) for i in range(len(members))]
        return np.array([statistic(picks, users[picks]) for picks in without])
    rng = np.random.default_rng(seed)
    values = np.empty(DRAWS)
    for draw in range(DRAWS):
        chosen = rng.integers(len(members), size=len(members))
        picks = np.concatenate([members[i] for i in chosen]) if unit == "user" else chosen
        # A user drawn twice counts as two users, or a mean over users would forget the second.
        who = np.repeat(np.arange(len(chosen)), [len(members[i]) for i in chosen]) if unit == "user" else chosen
        values[draw] = statistic(picks, who)
    return values


def _mean_interval(values: NDArray[np.float64], users: Users, seed: int) -> Interval:
    """Hits and misses of independent instances have an exact theory; resampling gives [0, 0] where none hit."""
    count = len(values)
    if count < 2 or len(np.unique(users)) < count or not np.isin(values, (0.0, 1.0)).all():
        return _resample_mean(values, users, seed)
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share = float(values.mean())
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return Interval(max(0.0, middle - half), min(1.0, middle + half), "instance", count, "wilson")


def _resample_mean(values: NDArray[np.float64], users: Users, seed: int) -> Interval:
    """The same for a mean, from one sum per unit: a million instances take seconds, not hours."""
    _, code = np.unique(users, return_inverse=True)
    count = np.bincount(code).astype(float)
    total = np.bincount(code, weights=values)
    unit: Literal["user", "instance"] = "user" if len(count) < len(values) else "instance"
    if len(count) < 2:
        return Interval(float("nan"), float("nan"), unit, len(count), "undefined")
    if len(count) < FEW:
        without = (total.sum() - total) / (count.sum() - count)
        return _jackknife(float(values.mean()), without, unit)
    rng = np.random.default_rng(seed)
    means = np.empty(DRAWS)
    for draw in range(DRAWS):
        chosen = rng.integers(len(count), size=len(count))
        means[draw] = total[chosen].sum() / count[chosen].sum()
    return _percentiles(means, unit, len(count))


def _jackknife(whole: float, without: NDArray[np.float64], unit: Literal["user", "instance"]) -> Interval:
    from scipy.stats import t  # here, because importing it takes longer than `harness --help` may

    n = len(without)
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * sqrt(_jackknife_variance(without))
    if np.isnan(half) or np.isnan(whole):
        return Interval(float("nan"), float("nan"), unit, n, "undefined")
    return Interval(whole - half, whole + half, unit, n, "jackknife-t")


def _jackknife_variance(without: NDArray[np.float64]) -> float:
    n = len(without)
    return float((n - 1) / n * np.sum((without - without.mean()) ** 2))


def _percentiles(values: NDArray[np.float64], unit: Literal["user", "instance"], units: int) -> Interval:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return Interval(float("nan"), float("nan"), unit, units, "undefined")
    low, high = np.quantile(defined, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(float(low), float(high), unit, units, "bootstrap")


def _undefined(users: Users) -> Interval:
    units = len(np.unique(users))
    unit: Literal["user", "instance"] = "user" if units < len(users) else "instance"
    return Interval(float("nan"), float("nan"), unit, units, "undefined")


def _within(found: Interval, low: float, high: float) -> Interval:
    return found._replace(low=float(np.clip(found.low, low, high)), high=float(np.clip(found.high, low, high)))


def _members(users: Users) -> list[Picks]:
    """Row numbers of each user."""
    order = np.argsort(users, kind="stable")
    cuts = np.flatnonzero(np.diff(users[order])) + 1
    return [part for part in np.split(order, cuts) if len(part)]
