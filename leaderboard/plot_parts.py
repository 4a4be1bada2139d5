"""The headline in each part of the instances: by the length of the history, by the popularity of the target."""

from __future__ import annotations

from matplotlib.figure import Figure

from leaderboard.plot_curves import Curve, Spot, Words, draw
from leaderboard.plot_style import chance, score_label
from leaderboard.sheet import Breakdown, Cell, Sheet


def parts(sheet: Sheet, breakdown: Breakdown) -> Figure | None:
    """A curve for each model over the parts, in their order; None if fewer than two parts have a score.

    Chance is that over all instances: how it is in a part is not known.
    """
    rows = [(name, [cells.get(part.name) for part in breakdown.parts]) for name, cells in breakdown.rows]
    curves = [
        Curve(name, [_spot(step, cell) for step, cell in enumerate(cells)])
        for name, cells in rows
        if any(cell and cell.value is not None for cell in cells)
    ]
    spots = [spot for curve in curves for spot in curve.spots if spot.value is not None]
    if len({spot.step for spot in spots}) < 2:
        return None
    level = chance(sheet)
    steps = [_step(part.name, part.instances) for part in breakdown.parts]
    dotted = "" if level is None else "chance over all instances"
    up = score_label(sheet, any(spot.low is not None for spot in spots), dotted, "\n")
    return draw(sheet.title, sheet.badges, curves, Words(steps, _across(breakdown.trait), up), level)


def _spot(step: int, cell: Cell | None) -> Spot:
    return Spot(step, cell.value, cell.low, cell.high) if cell else Spot(step, None)


def _step(name: str, instances: int) -> str:
    return "\n".join([*name.replace(", ", ",\n").split("\n"), f"n={instances:,}"])


def _across(trait: str) -> str:
    if trait == "history":
        return "length of the history, and the number of instances"
    if trait == "popularity":
        return "popularity of the target, and the number of instances"
    return f"{trait}, and the number of instances"
