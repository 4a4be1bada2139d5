"""The instances whose answers moved most between two sides: where to look when a score fell."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isnan, nan

import numpy as np
from numpy.typing import NDArray

from harness.metrics import MeanMetric, Metric, Rows
from harness.points import PointMetric
from leaderboard.gate.evidence import Answered, Evidence, Side, Table

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Flip:
    """An instance, before and after. Several runs of a side are averaged."""

    id: str
    user: str
    old: float | None
    new: float | None
    """What it contributes to the metric; of a labelled candidate the score, turned so that more is right; None if it
    failed."""
    gain: float
    """New minus old, turned so that more is better; infinite where only one side answered."""
    old_place: float | None
    new_place: float | None
    """Of the first relevant item, from 1; None where it was not ranked, or where nothing is ranked."""


def flips(metric: Metric, evidence: Evidence, table: Table, count: int) -> tuple[Flip, ...]:
    """The `count` instances that moved most, of equal ones the worse first; none of a metric that belongs to no single
    instance, such as the share of the catalogue that is shown."""
    if count < 1 or not isinstance(metric, MeanMetric | PointMetric):
        return ()
    old, new = (_values(metric, side) for side in (table.old, table.new))
    gain = _gain(old, new)
    if isinstance(metric, MeanMetric) and not metric.higher_is_better:
        gain = -gain
    order = sorted(np.flatnonzero(gain != 0), key=lambda n: (-abs(gain[n]), gain[n], table.ids[n]))
    ranked = not isinstance(metric, PointMetric)
    return tuple(
        Flip(
            id=table.ids[n],
            user=evidence.new.runs[0][table.ids[n]].user,
            old=None if isnan(old[n]) else float(old[n]),
            new=None if isnan(new[n]) else float(new[n]),
            gain=float(gain[n]),
            old_place=_place(evidence.old, table.ids[n]) if ranked else None,
            new_place=_place(evidence.new, table.ids[n]) if ranked else None,
        )
        for n in order[:count]
    )


def _values(metric: Metric, tables: list[Rows]) -> Column:
    """One number an instance, the mean over runs; nan where a labelled candidate got no score in any of them."""
    if not isinstance(metric, PointMetric):
        plain: Column = np.mean([rows[:, 0] for rows in tables], axis=0)
        return plain
    turned = [np.where(rows[:, 0] > 0, rows[:, 1], -rows[:, 1]) for rows in tables]
    answered = np.array([rows[:, 2] > 0 for rows in tables])
    count = answered.sum(axis=0)
    total = np.where(answered, turned, 0.0).sum(axis=0)
    scored: Column = np.divide(total, count, out=np.full(len(total), nan), where=count > 0)
    return scored


def _gain(old: Column, new: Column) -> Column:
    lost, won = ~np.isnan(old) & np.isnan(new), np.isnan(old) & ~np.isnan(new)
    found: Column = np.where(lost, -inf, np.where(won, inf, np.nan_to_num(new) - np.nan_to_num(old)))
    return found


def _place(side: Side, instance: str) -> float | None:
    answers: list[Answered] = [run[instance] for run in side.runs]
    places = [one.place for one in answers if one.place is not None]
    return float(np.mean(places)) if places else None
