"""Few-shot curves: the score over the number of training rows, with chance and what the paper reports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.grid.declared import Shots
from leaderboard.plot_curves import Curve, Spot, Words, draw, panel
from leaderboard.plot_style import REPORTED, chance, reported, score_label, scored
from leaderboard.sheet import Line, Sheet

NEITHER = "as it is"
"""Where adapters stand that do not say how many rows they were tuned on."""
ROWS = "training rows"


class ShotPoint(NamedTuple):
    """A score on a few-shot curve."""

    name: str
    """Of the curve: the same for every number of rows, and for every seed."""
    shots: Shots | None
    value: float
    low: float | None = None
    high: float | None = None
    reported: bool = False
    """By a paper, and not measured here."""


def points_of(sheet: Sheet) -> list[ShotPoint]:
    """The points of the lines that say how many rows they were tuned on, curve by curve, and those of a curve by seed.

    Lines are of one curve if their names are the same but for the numbers of rows and the seeds in them. A model as it
    is, is where the curves of its own adapters begin.
    """
    lines = [*scored(sheet), *reported(sheet)]
    curves: dict[str, list[Line]] = {}
    for line in lines:
        if line.shots is not None:
            curves.setdefault(_curve(line), []).append(line)
    points = []
    for name, own in curves.items():
        bases = [line for line in lines if line.kind == "language model" and line.shots is None]
        begin = [line for line in bases if own[0].name.startswith(f"{line.name.partition(' (')[0]} + ")]
        points += [_point(sheet, line, 0, name) for line in begin]
        points += [
            _point(sheet, line, line.shots, name)
            for line in sorted(own, key=lambda one: -1 if one.seed is None else one.seed)
        ]
    return points


def _point(sheet: Sheet, line: Line, number: int | None, name: str) -> ShotPoint:
    cell = line.cells[sheet.headline]
    assert cell.value is not None  # of lines with a score only
    return ShotPoint(name, number, cell.value, cell.low, cell.high, line.kind == "reported")


def _curve(line: Line) -> str:
    """`base + lora-64-seed-1` with 64 rows and seed 1 is `base + lora-*-seed-*`, and so is that with 16 rows; what
    says nothing else, such as `shots=64`, is left out."""
    before, plus, name = line.name.rpartition(" + ")
    for number in (line.shots, line.seed):
        if number is not None:
            name = re.sub(rf"(?:(?<=seed)|(?<=shots)|(?<![A-Za-z0-9.])){number}(?![A-Za-z0-9.])", "*", name)
    name = re.sub(r"(, |(?<=\())\w+=\*", "", name).replace("(, ", "(").replace(" ()", "")
    return f"{before}{plus}{name}{' (reported)' if line.kind == 'reported' else ''}"


def shots(sheet: Sheet, points: Sequence[ShotPoint]) -> Figure | None:
    """A curve for each name with two numbers of rows or more; None if nothing that was measured has one.

    Several points of one name and number are several seeds: each is drawn with its own interval, and the curve goes
    through their mean, which has none here: `harness.seeds` makes that, and a caller who has it gives it as one point.
    """
    seen: dict[str, set[Shots | None]] = {}
    for point in points:
        seen.setdefault(point.name, set()).add(point.shots)
    points = [point for point in points if len(seen[point.name]) > 1]
    if all(point.reported for point in points):
        return None
    level = chance(sheet)
    ticks = ticks_of(point.shots for point in points)
    dotted = "" if level is None else "chance"
    up = score_label(sheet, any(point.low is not None for point in points), dotted, "\n")
    return draw(sheet.title, sheet.badges, curves(points, ticks), Words(ticks, ROWS, up), level)


def shots_panel(
    axes: Axes,
    points: Sequence[ShotPoint],
    ticks: Sequence[str],
    level: float | None = None,
    paper: Iterable[tuple[Shots | None, float]] = (),
) -> None:
    """Draw the curves of `points` and the `paper`'s points over `ticks`, which are to hold the numbers of both."""
    panel(axes, curves(points, ticks), ticks, level)
    places = sorted({(ticks.index(tick(number)), value) for number, value in paper})
    if places:
        axes.plot(*zip(*places, strict=True), "D", color=REPORTED, markerfacecolor="white", label="paper (reported)")
    axes.set_xlabel(ROWS)


def curves(points: Sequence[ShotPoint], ticks: Sequence[str]) -> list[Curve]:
    """One for each name, as they come."""
    found: dict[str, list[Spot]] = {}
    for point in points:
        spot = Spot(ticks.index(tick(point.shots)), point.value, point.low, point.high)
        found.setdefault(point.name, []).append(spot)
    theirs = {point.name for point in points if point.reported}
    return [Curve(name, sorted(spots, key=lambda spot: spot.step), name in theirs) for name, spots in found.items()]


def ticks_of(numbers: Iterable[Shots | None]) -> list[str]:
    """What stands below the axis: numbers in order, then all rows, then what is not known."""
    return sorted({tick(number) for number in numbers}, key=_order)


def tick(number: Shots | None) -> str:
    """Rows as a word."""
    return NEITHER if number is None else str(number)


def _order(word: str) -> tuple[int, int]:
    return (0, int(word)) if word.isdecimal() else (1 if word == "all" else 2, 0)
