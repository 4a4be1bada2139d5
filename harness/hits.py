"""The difference of two shares over the same independent instances: hits now and hits before.

Where few instances change, the draws of a bootstrap are a handful of whole numbers, and their percentiles leave out a
difference that lies exactly on their end in about 10 of 100 cases in place of 5. Tango's score interval (Statistics in
Medicine 17, 1998) asks of each possible difference how surprising the changes would be under it, and holds its level.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from harness.metrics import MeanMetric, Metric, Rows, Users

EDGE = 1e-9
"""How near to a difference of 1 the search goes, where every variance is 0."""


def are_hits(metric: Metric, sides: Sequence[Sequence[Rows]], users: Users) -> bool:
    """Whether this is one run a side, of hits and misses of instances with a user each."""
    if not isinstance(metric, MeanMetric) or len(np.unique(users)) < len(users):
        return False
    return all(len(side) == 1 and bool(np.isin(side[0], (0.0, 1.0)).all()) for side in sides)


def score_interval(won: int, lost: int, count: int, level: float) -> tuple[float, float]:
    """Two-sided interval of (won - lost) / count, of `count` instances of which `won` are hits now only, and `lost`
    were before only. None that differs is no proof that none ever does: it has a width, too."""
    from scipy.optimize import brentq  # here, because importing it takes longer than `harness --help` may
    from scipy.stats import norm

    quantile = float(norm.ppf((1 + level) / 2))

    def beyond(difference: float, side: float) -> float:
        return _surprise(won, lost, count, difference) - side * quantile

    def end(side: float) -> float:
        if beyond(-1 + EDGE, side) < 0:
            return -1.0
        return 1.0 if beyond(1 - EDGE, side) > 0 else float(brentq(beyond, -1 + EDGE, 1 - EDGE, (side,)))

    return end(1.0), end(-1.0)


def _surprise(won: int, lost: int, count: int, difference: float) -> float:
    """How many standard errors the changes lie above what a true difference would make; the share that is lost is the
    likeliest one under it."""
    linear = -won - lost + (2 * count - won + lost) * difference
    constant = -lost * difference * (1 - difference)
    share = max((sqrt(max(linear**2 - 8 * count * constant, 0.0)) - linear) / (4 * count), 0.0)
    variance = count * (2 * share + difference * (1 - difference))
    return (won - lost - count * difference) / sqrt(max(variance, 1e-300))
