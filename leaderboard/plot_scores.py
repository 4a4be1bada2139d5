"""Everybody's headline score with its interval, chance, and what the paper reports."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leaderboard.numbers import number
from leaderboard.plot_style import (
    CHANCE,
    LOOKS,
    SOFT,
    Frame,
    chance,
    handles,
    point,
    reported,
    score_label,
    scored,
    shortened,
)
from leaderboard.sheet import Line, Sheet

LEVEL = "†"
"""Stands behind the scores that are level with the best."""
NAMED = 6
"""So many rows are named that are not shown; more are counted."""


def scores(sheet: Sheet) -> Figure | None:
    """One row for each score; None if nobody has one."""
    ours, theirs = scored(sheet), reported(sheet)
    if not ours:
        return None
    rows = [*ours, *theirs]
    frame = Frame(sheet.title, sheet.badges, handles([line.kind for line in rows]), _notes(sheet))
    figure = frame.around(0.27 * len(rows) + 0.75)
    axes = figure.subplots()
    for place, line in enumerate(rows):
        _row(axes, place, line, sheet.headline)
    if theirs:
        axes.axhline(len(ours) - 0.5, color=SOFT, linewidth=0.6, alpha=0.5)
    level = chance(sheet)
    if level is not None:
        axes.axvline(level, color=CHANCE, linestyle=":", linewidth=1.4, zorder=0)
    axes.set_yticks(range(len(rows)), [_name(line) for line in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    intervals = any(line.cells[sheet.headline].low is not None for line in rows)
    axes.set_xlabel(score_label(sheet, intervals, "" if level is None else "chance"))
    axes.grid(axis="x")
    return figure


def _row(axes: Axes, place: int, line: Line, headline: str) -> None:
    cell, look = line.cells[headline], LOOKS[line.kind]
    assert cell.value is not None
    if cell.low is not None and cell.high is not None:
        axes.plot([cell.low, cell.high], [place, place], color=look.colour, linewidth=2.4, alpha=0.45)
    point(axes, (cell.value, place), look)
    axes.text(
        1.015,
        place,
        number(cell.value) + (LEVEL if cell.level else ""),
        transform=axes.get_yaxis_transform(),
        va="center_baseline",
        fontsize=8,
        weight="bold" if cell.place == "best" else "normal",
        color=SOFT if line.kind == "reported" else None,
    )


def _name(line: Line) -> str:
    told = line.kind != "reported" or "(reported)" in line.name
    return shortened(line.name if told else f"{line.name} (reported)")


def _notes(sheet: Sheet) -> list[str]:
    notes = []
    if any(line.cells[sheet.headline].level for line in scored(sheet)):
        notes.append(f"{LEVEL}: cannot be told from the best: paired differences, Holm's correction.")
    left = [
        line for line in sheet.lines if line.kind in LOOKS and line.kind != "reported" and line not in scored(sheet)
    ]
    if len(left) > NAMED:
        notes.append(f"Not shown: {len(left)} rows without a score.")
    elif left:
        why = (line.cells[sheet.headline].why if sheet.headline in line.cells else "" for line in left)
        named = (f"{shortened(line.name)} ({said or 'no score'})" for line, said in zip(left, why, strict=True))
        notes.append(f"Not shown: {', '.join(named)}.")
    return notes
