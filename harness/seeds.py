"""A score over several training seeds: how sure are we, when both the seed and the test users are samples?

The design is crossed: every seed's model answers the same questions. The mean over the n seeds varies for three
reasons: other seeds, other users, and users who like one seed's model better than another's.

    variance = sd^2 / n                     the seeds, and the share of the interaction that shows there
             + variance over users          of the mean over seeds; again with its share of the interaction

The interaction is so counted twice, which makes the interval wider, never narrower (Owen 2007, "The pigeonhole
bootstrap", shows that no resampling gets it exactly right, and that erring on this side is the choice). The two
parts rest on few seeds and often few users, so each brings its own Student's t, and the mean of the two, weighted by
their variances, takes the place of 1.96 (Cochran and Cox 1950). Satterthwaite's degrees of freedom would be a little
narrower, but with two or three seeds they hold the truth in only 90 to 93 cases of 100 where 95 are promised. One
seed has no spread of its own: its interval is that of the test users alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics import MeanMetric, Metric, Rows, Users, Weigher, Weights
from harness.stats import LEVEL, interval, spread, t_quantile


class SeedInterval(NamedTuple):
    mean: float
    """Over the seeds, of the score on all rows."""
    sd: float | None
    """Over the seeds, with n - 1; None for a single seed."""
    low: float
    high: float
    seeds: int
    unit: Literal["user", "instance"]
    units: int
    """How many independent units the test side has."""
    method: Literal["cochran-cox-t", "one seed", "undefined"]


def over_seeds(metric: Metric, rows: Sequence[Rows], users: Users, draws: int = 0) -> SeedInterval:
    """Mean and 95 % interval of a score over seeds.

    `rows`: one (instances, columns) table for each seed, over the same instances in the same order; `users`:
    (instances,), equal numbers are the same user. `draws` seeds the bootstrap. Raises ValueError without a table,
    or where they differ in length.
    """
    if not rows or any(len(table) != len(users) for table in rows):
        raise ValueError("over_seeds needs one table of rows for each seed, all as long as users")
    scores = np.array([metric.aggregate(table, users) for table in rows])
    mean = float(scores.mean())
    if len(rows) == 1:
        alone = interval(metric, rows[0], users, draws)
        method: Literal["one seed", "undefined"] = "undefined" if alone.method == "undefined" else "one seed"
        return SeedInterval(mean, None, alone.low, alone.high, 1, alone.unit, alone.units, method)
    sd = float(scores.std(ddof=1))
    counted = np.logical_and.reduce([metric.counted(table, users) for table in rows])
    if not metric.resampled:
        alone = interval(metric, rows[0], users, draws)
        return SeedInterval(mean, sd, alone.low, alone.high, len(rows), alone.unit, alone.units, "undefined")
    tested = spread(mean_weigher(metric, [table[counted] for table in rows], users[counted]), users[counted], draws)
    half = half_width([(sd**2 / len(rows), len(rows) - 1), (tested.variance, tested.units - 1)])
    if not isfinite(half) or not isfinite(mean):
        nothing = float("nan")
        return SeedInterval(mean, sd, nothing, nothing, len(rows), tested.unit, tested.units, "undefined")
    low, high = (float(np.clip(end, *metric.bounds)) for end in (mean - half, mean + half))
    return SeedInterval(mean, sd, low, high, len(rows), tested.unit, tested.units, "cochran-cox-t")


def mean_weigher(metric: Metric, rows: Sequence[Rows], users: Users) -> Weigher:
    """The mean over several tables of the same instances, as a function of how often each instance counts."""
    if isinstance(metric, MeanMetric):  # the mean of means is the mean of one averaged row
        return metric.weigher(np.mean(rows, axis=0), users)
    weighers = [metric.weigher(table, users) for table in rows]

    def mean(weights: Weights) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.mean([weigher(weights) for weigher in weighers], axis=0)
        return found

    return mean


def half_width(parts: Sequence[tuple[float, float]], level: float = LEVEL) -> float:
    """Half of the interval around a mean whose variance is the sum of these parts, each with its degrees of freedom."""
    total = sum(variance for variance, _ in parts)
    if not total > 0:
        return total  # 0: nothing varies; nan: nothing is known
    weighted = (variance * t_quantile((1 + level) / 2, freedom) for variance, freedom in parts)
    return sum(weighted) / total * sqrt(total)
