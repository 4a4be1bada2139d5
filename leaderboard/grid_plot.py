"""A grid as a picture: the score over the number of training rows, with intervals, chance and the paper's points."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from harness.grid.declared import Shots
from harness.seeds import SeedInterval
from leaderboard.grid import Row, Section
from leaderboard.plots import CHANCE, REPORTED

COLOURS = ("#0b6e99", "#2f9e6e", "#7a4fb5", "#c0392b", "#8a6d0b", "#4a4a4a")
NEITHER = "as it is"
"""Where adapters stand that do not say how many rows they were tuned on."""


def plot_grid(sections: Sequence[Section], out: Path) -> Path | None:
    """Write `out`, with a panel for each test setting; None, and no file, if no row has a score."""
    shown = [section for section in sections if any(section.headline in row.found for row in section.rows)]
    if not shown:
        return None
    # No pyplot: it keeps figures alive and picks a window system.
    figure = Figure(figsize=(7.5, 3.8 * len(shown)), layout="constrained")
    for axes, section in zip(figure.subplots(len(shown), squeeze=False)[:, 0], shown, strict=True):
        _panel(axes, section)
    out.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "harness", "svg.fonttype": "none"}):
        figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else {"Software": None})
    return out


def _panel(axes: mpl.axes.Axes, section: Section) -> None:
    ticks = sorted({_tick(row.shots) for row in section.rows}, key=_order)
    lines = _curves(section)
    for number, (label, points) in enumerate(lines.items()):
        shift = 0.12 * (number - (len(lines) - 1) / 2) / max(1, len(lines) / 4)  # so that intervals do not hide
        colour = COLOURS[number % len(COLOURS)]
        places, means = [ticks.index(tick) + shift for tick, _ in points], [found.mean for _, found in points]
        axes.plot(places, means, "o-", color=colour, markersize=5, linewidth=1.4, label=label)
        for place, (_, found) in zip(places, points, strict=True):
            if isfinite(found.low):
                axes.plot([place, place], [found.low, found.high], color=colour, linewidth=2, alpha=0.45)
    paper = sorted({(ticks.index(_tick(row.shots)), row.paper) for row in section.rows if row.paper is not None})
    if paper:
        axes.plot(*zip(*paper, strict=True), "D", color=REPORTED, markerfacecolor="white", label="paper (reported)")
    if section.headline in section.chance:
        axes.axhline(section.chance[section.headline], color=CHANCE, linestyle=":", linewidth=1.2, label="chance")
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlabel("training rows")
    axes.set_ylabel(f"{section.headline}, 95 % interval")
    axes.set_title(section.title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _curves(section: Section) -> dict[str, list[tuple[str, SeedInterval]]]:
    """Ticks and scores of each curve, by its label. The model as it is, is where its tunings begin."""
    rows = [row for row in section.rows if section.headline in row.found]
    rows = sorted(
        (row for row in rows if isfinite(row.found[section.headline].mean)), key=lambda r: _order(_tick(r.shots))
    )
    tuned = {(row.name, row.model) for row in rows if row.shots != 0}
    curves: dict[str, list[tuple[str, SeedInterval]]] = {}
    for row in rows:
        if row.shots != 0 or (row.name, row.model) not in tuned:
            start = [other for other in rows if other.shots == 0 and (other.name, other.model) == (row.name, row.model)]
            begin = [(_tick(0), other.found[section.headline]) for other in start if row.shots != 0]
            curves.setdefault(_label(row), begin).append((_tick(row.shots), row.found[section.headline]))
    return curves


def _label(row: Row) -> str:
    return ", ".join(part for part in (row.name, row.model, row.trained) if part)


def _tick(shots: Shots | None) -> str:
    return NEITHER if shots is None else str(shots)


def _order(tick: str) -> tuple[int, int]:
    """Numbers in order, then all rows, then what is not known."""
    return (0, int(tick)) if tick.isdecimal() else (1 if tick == "all" else 2, 0)
