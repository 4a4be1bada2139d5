"""The instances whose answers moved most between two sides: where to look when a score fell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.comparison import parts_of
from harness.metrics import Metric, Rows, Users
from harness.points import PointMetric
from leaderboard.gate.evidence import Answered, Evidence, Side, Table


@dataclass(frozen=True)
class Flip:
    """An instance, before and after. Several runs of a side are averaged."""

    id: str
    user: str
    old: float
    new: float
    """What it adds to the score; of a labelled candidate the share of the others that it is ordered right with."""
    gain: float
    """New minus old, turned so that more is better."""
    old_place: float | None
    new_place: float | None
    """Of the first relevant item, from 1; None where it was not ranked, or where nothing is ranked."""


def flips(metric: Metric, evidence: Evidence, table: Table, count: int) -> tuple[Flip, ...]:
    """The `count` instances that moved most, of equal ones the worse first; none of a metric that belongs to no single
    instance, such as the share of the catalogue that is shown."""
    if count < 1:
        return ()
    old, new = (_mean_parts(metric, side, table.users) for side in (table.old, table.new))
    gain = np.nan_to_num(new - old) * (1.0 if metric.higher_is_better else -1.0)
    ranked = not isinstance(metric, PointMetric)
    order = sorted(np.flatnonzero(gain), key=lambda n: (-abs(gain[n]), gain[n], table.ids[n]))
    return tuple(
        Flip(
            id=table.ids[n],
            user=evidence.new.runs[0][table.ids[n]].user,
            old=float(old[n]),
            new=float(new[n]),
            gain=float(gain[n]),
            old_place=_place(evidence.old, table.ids[n]) if ranked else None,
            new_place=_place(evidence.new, table.ids[n]) if ranked else None,
        )
        for n in order[:count]
    )


def _mean_parts(metric: Metric, tables: list[Rows], users: Users) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.mean([parts_of(metric, rows, users) for rows in tables], axis=0)
    return found


def _place(side: Side, instance: str) -> float | None:
    answers: list[Answered] = [run[instance] for run in side.runs]
    places = [one.place for one in answers if one.place is not None]
    return float(np.mean(places)) if places else None
