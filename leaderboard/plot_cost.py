"""Quality against cost: the headline over the seconds and the tokens that an instance takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from leaderboard.plot_labels import Box, leader, place
from leaderboard.plot_style import (
    CHANCE,
    LOOKS,
    SOFT,
    Frame,
    chance,
    handles,
    point,
    score_label,
    scored,
    settle,
    shortened,
    upward,
)
from leaderboard.sheet import Cell, Line, Sheet

LONGEST, NAMED = 34, 24
"""Characters of a name, and how many points can all have one."""
FONT, PAD = 7.5, 1.5
"""Size of a name and what is free beside it, in points."""


class Spot(NamedTuple):
    line: Line
    cost: float
    """For one instance."""
    cell: Cell
    value: float


def cost(sheet: Sheet) -> Figure | None:
    """A panel for the seconds and one for the tokens, each if it has two rows or more; None if neither has."""
    rows = scored(sheet)
    timed = [(line, _seconds(line)) for line in rows]
    read = [(line, _tokens(line)) for line in rows]
    panels = [
        (words, spots)
        for words, costs in (("seconds per instance", timed), ("tokens read and written per instance", read))
        if len(spots := _spots(sheet, costs)) >= 2
    ]
    if not panels:
        return None
    kinds = [spot.line.kind for _, spots in panels for spot in spots]
    notes = _notes(rows) if panels[0][0].startswith("seconds") else []
    if any(len(spots) > NAMED for _, spots in panels):
        notes.append(
            f"Of more than {NAMED} points those are named that no other beats or equals in both score and cost."
        )
    heights = [2.6 + 0.1 * min(len(spots), NAMED) for _, spots in panels]
    figure = Frame(sheet.title, sheet.badges, handles(kinds), notes).around(sum(heights))
    all_axes = figure.subplots(len(panels), squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axes, (words, spots) in zip(all_axes, panels, strict=True):
        _panel(axes, sheet, words, spots)
    settle(figure)  # names are placed on what the layout leaves, and do not take part in it
    for axes, (_, spots) in zip(all_axes, panels, strict=True):
        named = spots if len(spots) <= NAMED else _unbeaten(spots, upward(sheet))
        _names(axes, spots, named, chance(sheet))
    return figure


def _spots(sheet: Sheet, costs: Sequence[tuple[Line, float | None]]) -> list[Spot]:
    cells = ((line, paid, line.cells[sheet.headline]) for line, paid in costs if paid)
    return [Spot(line, paid, cell, cell.value) for line, paid, cell in cells if cell.value is not None]


def _unbeaten(spots: Sequence[Spot], up: bool) -> list[Spot]:
    """From the cheapest on, each that is better than all before it."""
    found: list[Spot] = []
    for spot in sorted(spots, key=lambda one: (one.cost, -one.value if up else one.value)):
        if not found or (spot.value > found[-1].value if up else spot.value < found[-1].value):
            found.append(spot)
    return found


def _seconds(line: Line) -> float | None:
    return line.seconds / line.instances if line.seconds and line.instances and not line.cached else None


def _tokens(line: Line) -> float | None:
    return sum(line.tokens) / line.instances if line.tokens and line.instances else None


def _notes(rows: Sequence[Line]) -> list[str]:
    cached = [shortened(line.name) for line in rows if line.cached]
    unknown = [shortened(line.name) for line in rows if not line.cached and not _seconds(line)]
    said = []
    if cached:
        said.append(f"No time is shown where answers came from the cache: {', '.join(cached)}.")
    if unknown:
        said.append(f"No time is known of: {', '.join(unknown)}.")
    return said


def _panel(axes: Axes, sheet: Sheet, words: str, spots: Sequence[Spot]) -> None:
    for spot in spots:
        look, cell = LOOKS[spot.line.kind], spot.cell
        if cell.low is not None and cell.high is not None:
            axes.plot([spot.cost] * 2, [cell.low, cell.high], color=look.colour, linewidth=2, alpha=0.35)
        point(axes, (spot.cost, spot.value), look)
    level = chance(sheet)
    if level is not None:
        axes.axhline(level, color=CHANCE, linestyle=":", linewidth=1.4, zorder=0)
    axes.set_xscale("log")
    axes.margins(x=0.12 if len(spots) < 8 else 0.22, y=0.1)  # names need room on both sides
    low, high = axes.get_xlim()
    if high / low < 10:  # a point beside a point a little dearer is not far from it
        middle = (low * high) ** 0.5
        low, high = middle / 10**0.5, middle * 10**0.5
        axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,), numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    axes.set_xlabel(f"{words}, log scale")
    intervals = any(spot.cell.low is not None for spot in spots)
    axes.set_ylabel(score_label(sheet, intervals, "" if level is None else "chance", "\n"))
    axes.grid()


def _names(axes: Axes, spots: Sequence[Spot], named: Sequence[Spot], level: float | None) -> None:
    scale = 72 / axes.figure.dpi  # all lengths are in points of the font, whatever the picture is saved with

    def to_points(x: float, y: float) -> tuple[float, float]:
        across, up = axes.transData.transform((x, y)) * scale
        return float(across), float(up)

    inside = Box(*(float(edge) * scale for edge in axes.bbox.extents))
    markers, bars = [], []
    for spot in spots:
        x, y = to_points(spot.cost, spot.value)
        markers.append(Box(x - 4.5, y - 4.5, x + 4.5, y + 4.5))
        if spot.cell.low is not None and spot.cell.high is not None:
            (_, low), (_, high) = to_points(spot.cost, spot.cell.low), to_points(spot.cost, spot.cell.high)
            bars.append(Box(x - 1.5, low, x + 1.5, high))
    if level is not None:
        _, y = to_points(spots[0].cost, level)
        bars.append(Box(inside.left, y - 1, inside.right, y + 1))
    anchors = [to_points(spot.cost, spot.value) for spot in named]
    boxes = place(anchors, [_size(axes, spot, scale) for spot in named], inside, markers, bars)
    for spot, anchor, box in zip(named, anchors, boxes, strict=True):
        _name(axes, spot, anchor, box)


def _size(axes: Axes, spot: Spot, scale: float) -> tuple[float, float]:
    text = axes.text(0, 0, shortened(spot.line.name, LONGEST), fontsize=FONT)
    extent = text.get_window_extent()
    text.remove()
    return float(extent.width * scale) + 2 * PAD, float(extent.height * scale) + 1


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else np.format_float_positional(value, precision=12, trim="-")


def _name(axes: Axes, spot: Spot, anchor: tuple[float, float], box: Box) -> None:
    # Held at the end that is next to the point: another font in the place of this one moves only the other.
    side = "left" if box.left > anchor[0] else "right" if box.right < anchor[0] else "center"
    held = {"left": box.left + PAD, "right": box.right - PAD, "center": (box.left + box.right) / 2}[side]
    at, middle = (spot.cost, spot.value), (box.bottom + box.top) / 2
    beside = {"textcoords": "offset points", "fontsize": FONT, "va": "center_baseline", "ha": side}
    axes.annotate(shortened(spot.line.name, LONGEST), at, (held - anchor[0], middle - anchor[1]), **beside)
    line = leader(box, anchor)
    if line:
        _, (x, y) = line
        thin = {"arrowstyle": "-", "linewidth": 0.6, "color": SOFT, "shrinkA": 0, "shrinkB": 3.5}
        axes.annotate("", at, (x - anchor[0], y - anchor[1]), textcoords="offset points", arrowprops=thin)
