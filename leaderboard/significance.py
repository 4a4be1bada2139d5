"""Who cannot be told from the best? Paired comparisons within one table, corrected for how many they are.

In each column everybody is compared with the best of it, over the same instances, drawn anew for all at once
(`harness.paired`). Which one is the best is seen from the same scores, so these comparisons stand for all pairs of the
column: of n systems each p-value is taken n / 2 times, as often as there are pairs for each comparison that is made.
Then Holm's correction is over the whole table, so that 5 % is the chance of a single false difference in all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from harness.metrics import Metric
from harness.paired import contrasts, holm
from harness.scoring import aligned

LEVEL = 0.05


@dataclass(frozen=True)
class Contenders:
    """Those who have a score in one column, and which of them are its best."""

    metric: Metric
    runs: Sequence[Path]
    best: int
    """Place among the runs."""


@dataclass(frozen=True)
class Told:
    """What the comparisons of a table say."""

    level: Mapping[str, frozenset[Path]]
    """By metric, the runs that cannot be told from the best."""
    pairs: int
    """How many pairs of systems the correction is for, over all columns."""
    undefined: int
    """Comparisons that too few units say nothing of; they carry no mark."""


def tell_apart(columns: Sequence[Contenders]) -> Told:
    """Compare each run of each column with the column's best one."""
    made: list[tuple[str, Path, float]] = []
    pairs = 0
    tables: dict[tuple[Path, ...], list[Metric]] = {}
    for column in columns:
        tables.setdefault(tuple(column.runs), []).append(column.metric)
    best = {column.metric.name: column.best for column in columns}
    for runs, metrics in tables.items():
        for name, (rows, users) in aligned(runs, metrics).items():
            metric = next(one for one in metrics if one.name == name)
            found = contrasts(metric, [[table] for table in rows], users, best[name])
            others = [(run, one.p) for run, one in zip(runs, found, strict=True) if run != runs[best[name]]]
            made += [(name, run, p if isnan(p) else min(1.0, p * len(runs) / 2)) for run, p in others]
            pairs += len(runs) * (len(runs) - 1) // 2
    corrected = holm([p for _, _, p in made])
    level: dict[str, set[Path]] = {}
    for (name, run, _), p in zip(made, corrected, strict=True):
        if p >= LEVEL:
            level.setdefault(name, set()).add(run)
    undefined = sum(isnan(p) for _, _, p in made)
    return Told({name: frozenset(runs) for name, runs in level.items()}, pairs, undefined)
