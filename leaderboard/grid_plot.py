"""A grid as a picture: the score over the number of training rows, with intervals, chance and the paper's points."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leaderboard.grid import Row, Section
from leaderboard.plot_shots import ShotPoint, shots_panel, ticks_of
from leaderboard.plot_style import save, style


def plot_grid(sections: Sequence[Section], out: Path) -> Path | None:
    """Write `out`, with a panel for each test setting; None, and no file, if no row has a score."""
    shown = [section for section in sections if any(section.headline in row.found for row in section.rows)]
    if not shown:
        return None
    with style():
        # No pyplot: it keeps figures alive and picks a window system.
        figure = Figure(figsize=(8, 3.8 * len(shown)), layout="constrained")
        for axes, section in zip(figure.subplots(len(shown), squeeze=False)[:, 0], shown, strict=True):
            _panel(axes, section)
        (file,) = save(figure, out.with_suffix(""), [out.suffix.removeprefix(".")], "; ".join(s.title for s in shown))
    return file


def _panel(axes: Axes, section: Section) -> None:
    paper = [(row.shots, row.paper) for row in section.rows if row.paper is not None]
    level = section.chance.get(section.headline)
    shots_panel(axes, _points(section), ticks_of(row.shots for row in section.rows), level, paper)
    axes.set_ylabel(f"{section.headline}, 95 % interval{'' if level is None else '; dotted: chance'}")
    axes.set_title(section.title, fontsize=10, loc="left")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _points(section: Section) -> list[ShotPoint]:
    """The model as it is, is where its tunings begin."""
    rows = [row for row in section.rows if section.headline in row.found]
    rows = [row for row in rows if isfinite(row.found[section.headline].mean)]
    tuned = {(row.name, row.model) for row in rows if row.shots != 0}
    points: dict[str, list[ShotPoint]] = {}
    for row in rows:
        if row.shots != 0 or (row.name, row.model) not in tuned:
            label = _label(row)
            start = [other for other in rows if other.shots == 0 and (other.name, other.model) == (row.name, row.model)]
            begin = [_point(label, other, section) for other in start if row.shots != 0]
            points.setdefault(label, begin).append(_point(label, row, section))
    return [point for own in points.values() for point in own]


def _point(label: str, row: Row, section: Section) -> ShotPoint:
    found = row.found[section.headline]
    low, high = (found.low, found.high) if isfinite(found.low) else (None, None)
    return ShotPoint(label, row.shots, found.mean, low, high)


def _label(row: Row) -> str:
    return ", ".join(part for part in (row.name, row.model, row.trained) if part)
