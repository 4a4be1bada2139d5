"""How sure are we? Resampling over stored rows, so no model is ever asked twice.

The unit of resampling is the user wherever a user has several instances, because one user's answers are not
independent. With fewer than `FEW` units the bootstrap is too narrow, so a small-sample method takes its place:
the delete-one-unit jackknife with Student's t on (units - 1) degrees of freedom (Cameron and Miller 2015, who put
the line near 40). Hits and misses of independent instances get the Wilson interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, sqrt
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics import MeanMetric, Metric, Rows, Users, Weigher, Weights, weighted_mean

FEW = 40
TOO_FEW = 10
"""A handful of units says that a pipeline works, and nothing of how sure its score is."""
DRAWS = 1000
LEVEL = 0.95

AT_ONCE = 1 << 16
"""Weights that are held at a time: half a megabyte, which a core's own cache bears."""


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
        made = _resample(metric.weigher(rows, users), users, seed)
    return _within(made, *metric.bounds)


class Spread(NamedTuple):
    """How much a score varies with the units that it is measured on."""

    variance: float
    """nan with fewer than two units, or where the score is undefined without one."""
    unit: Literal["user", "instance"]
    units: int
    values: NDArray[np.float64]
    """The score over all that was drawn, or without each unit."""


def spread(weigher: Weigher, users: Users, seed: int = 0, draws: int = DRAWS) -> Spread:
    """How a score varies over units drawn anew: each left out in turn (jackknife) below `FEW`, bootstrap from there on.

    `weigher` gives the score under weights of the rows, and `users`: (n,) says whose rows they are.
    """
    return spread_of(replicates([weigher], users, seed, draws)[0], users)


def spread_of(values: NDArray[np.float64], users: Users) -> Spread:
    """The same from the score's `replicates`."""
    unit, units = unit_of(users)
    if units < FEW:
        return Spread(_jackknife_variance(values) if units > 1 else float("nan"), unit, units, values)
    defined = values[~np.isnan(values)]
    return Spread(float(defined.var(ddof=1)) if len(defined) > 1 else float("nan"), unit, units, values)


def replicates(weighers: Sequence[Weigher], users: Users, seed: int = 0, draws: int = DRAWS) -> NDArray[np.float64]:
    """Scores over the same draws, a line each: without each unit in turn if they are few, else in `draws` draws of all
    units with replacement."""
    found = [[weigher(weights) for weigher in weighers] for weights in _weights(users, seed, draws)]
    return np.concatenate(found, axis=1)


def unit_of(users: Users) -> tuple[Literal["user", "instance"], int]:
    """What is drawn, and how many of them there are: users where one has several rows, else instances."""
    units = len(np.unique(users))
    return "user" if units < len(users) else "instance", units


def t_quantile(share: float, freedom: float) -> float:
    """Of Student's distribution; the normal one's with `freedom` inf."""
    from scipy.stats import t  # here, because importing it takes longer than `harness --help` may

    return float(t.ppf(share, freedom))


def _weights(users: Users, seed: int, draws: int) -> Iterator[Weights]:
    """How often each row counts in each draw, some draws at a time. A unit counts whole, with all its rows."""
    _, code = np.unique(users, return_inverse=True)
    units = int(code.max()) + 1
    alone = units == len(users) and bool((code == np.arange(units)).all())
    if units < FEW:
        yield (1.0 - np.eye(units))[:, code]
        return
    rng, size = np.random.default_rng(seed), max(1, AT_ONCE // len(users))
    for start in range(0, draws, size):
        count = min(size, draws - start)
        chosen = rng.integers(units, size=(count, units)) + np.arange(count)[:, None] * units
        found = np.bincount(chosen.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)
        yield found if alone else found[:, code]


def _resample(weigher: Weigher, users: Users, seed: int) -> Interval:
    found = spread(weigher, users, seed)
    if not isfinite(found.variance):
        return _undefined(users)
    if found.units < FEW:
        whole = float(weigher(np.ones((1, len(users))))[0])
        half = t_quantile((1 + LEVEL) / 2, found.units - 1) * sqrt(found.variance)
        return Interval(whole - half, whole + half, found.unit, found.units, "jackknife-t")
    low, high = np.nanquantile(found.values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(float(low), float(high), found.unit, found.units, "bootstrap")


def _mean_interval(values: NDArray[np.float64], users: Users, seed: int) -> Interval:
    """Hits and misses of independent instances have an exact theory; resampling gives [0, 0] where none hit."""
    count = len(values)
    if count < 2 or len(np.unique(users)) < count or not np.isin(values, (0.0, 1.0)).all():
        return _resample(weighted_mean(values), users, seed)
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share = float(values.mean())
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return Interval(max(0.0, middle - half), min(1.0, middle + half), "instance", count, "wilson")


def _jackknife_variance(without: NDArray[np.float64]) -> float:
    n = len(without)
    return float((n - 1) / n * np.sum((without - without.mean()) ** 2))


def _undefined(users: Users) -> Interval:
    unit, units = unit_of(users)
    return Interval(float("nan"), float("nan"), unit, units, "undefined")


def _within(found: Interval, low: float, high: float) -> Interval:
    return found._replace(low=float(np.clip(found.low, low, high)), high=float(np.clip(found.high, low, high)))
