"""Two sides that answered the same instances: how far apart are they, and how sure is that?

The instances are drawn anew for both sides at once, by the units of `harness.stats`. Not a permutation test: swapping
rows between systems would mix their score scales, which a rank statistic such as AUC does not survive. A side may be
several runs that differ in the seed: its score is their mean, and their spread counts as in `harness.seeds`. Hits and
misses of independent instances, one run a side, have a theory of their own (`harness.hits`).

A difference that is tested against a limit is found with probability `power` if it is as large beyond it as
`detectable` says: the quantile of the test and that of the power, in standard errors (Bloom 1995, "Minimum detectable
effects").
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite, isnan, nan, sqrt
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.hits import are_hits, score_interval
from harness.metrics import Metric, Rows, Users
from harness.seeds import half_width, mean_weigher
from harness.stats import FEW, LEVEL, TOO_FEW, Spread, replicates, spread_of, t_quantile, unit_of

Scores = NDArray[np.float64]
"""Shape (runs,): what each run of a side scored."""
DRAWS = 10_000
"""More than for an interval alone: after Holm's correction a p-value must be able to be small."""


class Contrast(NamedTuple):
    """Ours minus theirs on one metric; nan for what resampling says nothing about."""

    ours: float
    theirs: float
    """Scores of the sides: means over their runs."""
    low: float
    high: float
    """Two-sided, at `level`."""
    error: float
    """Standard error of the difference."""
    p: float
    """Two-sided, of no difference."""
    level: float
    unit: Literal["user", "instance"]
    units: int
    method: Literal["bootstrap", "jackknife-t", "cochran-cox-t", "score", "undefined"]
    freedom: float
    """Degrees of freedom of the error: those of its weakest part, and inf from `FEW` units of one run a side on."""

    @property
    def value(self) -> float:
        return self.ours - self.theirs

    @property
    def few(self) -> bool:
        """Too few units for the bootstrap; tables put a badge on it."""
        return self.units < FEW

    def detectable(self, power: float = 0.8) -> float:
        """The smallest true difference, beyond a limit, that a one-sided test at (1 + level) / 2 finds this often."""
        if not isfinite(self.error):
            return nan
        return (t_quantile((1 + self.level) / 2, self.freedom) + t_quantile(power, self.freedom)) * self.error


def contrast(
    metric: Metric,
    ours: Sequence[Rows],
    theirs: Sequence[Rows],
    users: Users,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Contrast:
    """Compare the means of two sides, one (instances, columns) table for each run, all over the same instances.

    `users`: (instances,), equal numbers are the same user. Undefined below `TOO_FEW` units, and for a metric that
    resampling says nothing about. Raises ValueError without a table on a side, or where they differ in length.
    """
    return contrasts(metric, [ours, theirs], users, 1, level=level, draws=draws, seed=seed)[0]


def contrasts(
    metric: Metric,
    sides: Sequence[Sequence[Rows]],
    users: Users,
    against: int,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Contrast]:
    """Each side minus the one at place `against`, over the same draws for all: see `contrast`."""
    tables = [table for side in sides for table in side]
    if not all(sides) or any(len(table) != len(users) for table in tables):
        raise ValueError("contrasts need a table of rows for each run of every side, all as long as users")
    scores = [np.array([metric.aggregate(table, users) for table in side]) for side in sides]
    counted = np.logical_and.reduce([metric.counted(table, users) for table in tables])
    sides, users = [[table[counted] for table in side] for side in sides], users[counted]
    unit, units = unit_of(users)
    if not metric.resampled or units < TOO_FEW:
        theirs = float(scores[against].mean())
        return [_undefined((float(own.mean()), theirs), unit, units, level) for own in scores]
    if are_hits(metric, sides, users):
        return [
            _of_hits(own[0] - sides[against][0], (float(score[0]), float(scores[against][0])), level)
            for own, score in zip(sides, scores, strict=True)
        ]
    values = replicates([mean_weigher(metric, side, users) for side in sides], users, seed, draws)
    return [
        _contrast(own, scores[against], spread_of(value - values[against], users), level)
        for own, value in zip(scores, values, strict=True)
    ]


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): the smallest times n, the next times n - 1, and none below the
    one before it. nan, a comparison that could not be made, stays and does not count."""
    known = sorted((value, place) for place, value in enumerate(p) if not isnan(value))
    found, above = list(p), 0.0
    for rank, (value, place) in enumerate(known):
        above = max(above, min(1.0, value * (len(known) - rank)))
        found[place] = above
    return found


def _contrast(ours: Scores, theirs: Scores, tested: Spread, level: float) -> Contrast:
    means = float(ours.mean()), float(theirs.mean())
    parts = [(float(side.var(ddof=1)) / len(side), len(side) - 1.0) for side in (ours, theirs) if len(side) > 1]
    if not tested.variance >= 0 or not isfinite(means[0] - means[1]):
        return _undefined(means, tested.unit, tested.units, level)
    if not parts and tested.units >= FEW:
        return _bootstrapped(means, tested, level)
    method: Literal["cochran-cox-t", "jackknife-t"] = "cochran-cox-t" if parts else "jackknife-t"
    parts = [*parts, (tested.variance, tested.units - 1.0)]
    value, half = means[0] - means[1], half_width(parts, level)
    error, freedom = sqrt(sum(variance for variance, _ in parts)), min(freedom for _, freedom in parts)
    found = value - half, value + half, error, _p(value, parts)
    return Contrast(*means, *found, level, tested.unit, tested.units, method, freedom)


def _of_hits(gaps: Rows, means: tuple[float, float], level: float) -> Contrast:
    """The test is the score interval's own, of a difference of 0: McNemar's."""
    won, lost, count = int((gaps > 0).sum()), int((gaps < 0).sum()), len(gaps)
    p = 2 * NormalDist().cdf(-abs(won - lost) / sqrt(won + lost)) if won + lost else 1.0
    ends = score_interval(won, lost, count, level)
    error = sqrt(float(gaps.var(ddof=1)) / count)
    if error == 0:
        error = (ends[1] - ends[0]) / 2 / NormalDist().inv_cdf((1 + level) / 2)
    freedom = inf if count >= FEW else count - 1.0
    return Contrast(*means, *ends, error, p, level, "instance", count, "score", freedom)


def _bootstrapped(means: tuple[float, float], tested: Spread, level: float) -> Contrast:
    """Ends and p-value are shares of the draws; where none lies beyond 0, the normal distribution says how seldom."""
    values, value, error = tested.values[~np.isnan(tested.values)], means[0] - means[1], sqrt(tested.variance)
    low, high = (float(end) for end in np.quantile(values, ((1 - level) / 2, (1 + level) / 2)))
    beyond = min(int((values <= 0).sum()), int((values >= 0).sum()))
    p = min(1.0, 2 * (beyond + 1) / (len(values) + 1))
    if beyond == 0 and error > 0:
        p = min(p, 2 * NormalDist().cdf(-abs(value) / error))
    return Contrast(*means, low, high, error, p, level, tested.unit, tested.units, "bootstrap", inf)


def _undefined(means: tuple[float, float], unit: Literal["user", "instance"], units: int, level: float) -> Contrast:
    return Contrast(*means, nan, nan, nan, nan, level, unit, units, "undefined", nan)


def _p(value: float, parts: Sequence[tuple[float, float]]) -> float:
    """One minus the level at which the interval of `half_width` just reaches 0."""
    if not sum(variance for variance, _ in parts) > 0:
        # Units that all agree are as surprising as that many throws of a coin that all fall alike.
        return 1.0 if value == 0 else 2.0 ** -min(freedom for _, freedom in parts)
    from scipy.optimize import brentq  # here, because importing it takes longer than `harness --help` may

    def short(level: float) -> float:
        return half_width(parts, level) - abs(value)

    if value == 0 or short(1e-12) >= 0:
        return 1.0
    return 1.0 - float(brentq(short, 1e-12, 1 - 1e-15)) if short(1 - 1e-15) > 0 else 1e-15
