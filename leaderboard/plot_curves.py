"""Scores over steps that have names: one curve for each model, with intervals and chance."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from leaderboard.plot_style import CHANCE, COLOURS, MARKERS, SOFT, Frame, settle, shortened

TOGETHER = 6
"""So many curves can be told from each other in one panel."""
ACROSS = 3
"""Panels side by side where there are more."""
PANEL = 38
"""Characters of the name above a small panel."""
LEGEND = 44
"""Characters of a name in a legend of two columns."""


class Spot(NamedTuple):
    """A score of a curve."""

    step: int
    value: float | None
    """None breaks the curve."""
    low: float | None = None
    high: float | None = None


class Curve(NamedTuple):
    name: str
    spots: Sequence[Spot]
    """In the order of their steps; several at one step are joined through their mean."""
    reported: bool = False
    """Not measured here: hollow and dashed."""


class Words(NamedTuple):
    """What is written on the axes."""

    steps: Sequence[str]
    across: str
    up: str


def draw(title: str, badges: Sequence[str], curves: Sequence[Curve], words: Words, level: float | None) -> Figure:
    """One panel if the curves can be told from each other there, else one for each, with the others in grey.

    `level` is chance.
    """
    if len(curves) <= TOGETHER:
        frame = Frame(title, badges, [_handle(n, curve) for n, curve in enumerate(curves)], columns=2)
        figure = frame.around(3.6)
        axes = figure.subplots()
        panel(axes, curves, words.steps, level)
        axes.set_xlabel(words.across)
        axes.set_ylabel(words.up)
        return figure
    rows = -(-len(curves) // ACROSS)
    notes = ["Each panel shows one model in colour and the others in grey."]
    if any(curve.reported for curve in curves):
        notes.append("Hollow and dashed: reported by the paper, not measured here.")
    figure = Frame(title, badges, notes=[" ".join(notes)]).around(1.3 * rows + 0.8)
    panels = figure.subplots(rows, ACROSS, sharex=True, sharey=True, squeeze=False).ravel()
    for place, axes in enumerate(panels):
        if place >= len(curves):
            axes.remove()
            continue
        _alone(axes, place, curves, words.steps, level)
        axes.tick_params(labelsize=7)
    # A label of the whole figure would stand on the notes.
    panels[ACROSS * (rows - 1)].set_xlabel(words.across, loc="left", fontsize=8)
    figure.supylabel(words.up, fontsize=9)
    settle(figure)
    for place in range(len(curves), len(panels)):  # what stands below the last of a column takes the free room there
        panels[place - ACROSS].tick_params(labelbottom=True)
    return figure


def panel(axes: Axes, curves: Sequence[Curve], steps: Sequence[str], level: float | None) -> None:
    """Draw all curves, side by side at each step so that no interval hides another, each with a label."""
    for number, curve in enumerate(curves):
        shift = 0.12 * (number - (len(curves) - 1) / 2) / max(1, len(curves) / 4)
        _curve(axes, curve, shift, number)
    _finish(axes, steps, level)


def _alone(axes: Axes, mine: int, curves: Sequence[Curve], steps: Sequence[str], level: float | None) -> None:
    for other in curves:
        if other is not curves[mine]:
            axes.plot(*_means(other, 0), color=SOFT, linewidth=0.7, alpha=0.3)
    _curve(axes, curves[mine], 0, 0)
    _finish(axes, steps, level)
    axes.set_title(shortened(curves[mine].name, PANEL), fontsize=7.5, loc="left", pad=3)


def _curve(axes: Axes, curve: Curve, shift: float, number: int) -> None:
    colour, marker = _look(number)
    axes.plot(*_means(curve, shift), color=colour, linewidth=1.4, linestyle="--" if curve.reported else "-")
    spots = [spot for spot in curve.spots if spot.value is not None]
    for place, spot in zip(_spread(spots, shift), spots, strict=True):
        if spot.low is not None and spot.high is not None:
            axes.plot([place, place], [spot.low, spot.high], color=colour, linewidth=2, alpha=0.4)
    axes.plot(
        _spread(spots, shift),
        [spot.value for spot in spots],
        marker,
        color=colour,
        markersize=5,
        markerfacecolor="white" if curve.reported else colour,
        label=shortened(curve.name, LEGEND),
    )


def _means(curve: Curve, shift: float) -> tuple[list[float], list[float]]:
    """Where the line goes: through the mean of what stands at one step, broken where there is nothing."""
    at: dict[int, list[float | None]] = {}
    for spot in curve.spots:
        at.setdefault(spot.step, []).append(spot.value)
    heights = []
    for values in at.values():
        known = [value for value in values if value is not None]
        heights.append(sum(known) / len(known) if known else nan)
    return [step + shift for step in at], heights


def _spread(spots: Sequence[Spot], shift: float) -> list[float]:
    """Where the points stand: those at one step a little apart."""
    places = []
    for number, spot in enumerate(spots):
        same = [n for n, other in enumerate(spots) if other.step == spot.step]
        places.append(spot.step + shift + 0.05 * (same.index(number) - (len(same) - 1) / 2))
    return places


def _finish(axes: Axes, steps: Sequence[str], level: float | None) -> None:
    if level is not None:
        axes.axhline(level, color=CHANCE, linestyle=":", linewidth=1.4, zorder=0)
    axes.set_xticks(range(len(steps)), steps)
    axes.set_xlim(-0.5, len(steps) - 0.5)
    axes.grid(axis="y")


def _handle(number: int, curve: Curve) -> Line2D:
    colour, marker = _look(number)
    face, stroke = ("white", "--") if curve.reported else (colour, "-")
    name = shortened(curve.name, LEGEND)
    return Line2D([], [], color=colour, marker=marker, markersize=5, markerfacecolor=face, linestyle=stroke, label=name)


def _look(number: int) -> tuple[str, str]:
    """Colours come again with other markers."""
    again, place = divmod(number, len(COLOURS))
    return COLOURS[place], MARKERS[(place + again) % len(MARKERS)]
