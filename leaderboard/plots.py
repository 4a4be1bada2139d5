"""A standing as a picture: scores with their intervals, chance, and what the paper reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import matplotlib as mpl
from matplotlib.figure import Figure

from leaderboard.collect import Standing

LONGEST = 48
"""Characters of a name: a longer one, such as a path, would leave no room for the scores."""
WIDTH = 60
"""Characters of a line of the title, which takes its room from the scores, too."""
OURS, REPORTED, CHANCE = "#0b6e99", "#b4540a", "#8a8a8a"


def plot(standing: Standing, out: Path, formats: Sequence[str] = ("svg", "png")) -> list[Path]:
    """Write one picture in each format and return the files; a standing without a complete run makes none."""
    points = [(entry.model, found) for entry in standing.entries if (found := entry.metric(standing.headline))]
    points = [(model, found) for model, found in points if found["value"] is not None]
    if not points:
        return []
    reported = [
        (f"{table.own}, {table.columns[0]}={row[0]} (reported)", row[table.columns.index(table.own)])
        for table in standing.reported
        for row in table.rows
        if table.metric == standing.headline
    ]
    names = [model for model, _ in points] + [name for name, _ in reported]
    title = wrap(" ".join(standing.title.replace(",", ", ").split()), WIDTH)
    # No pyplot: it keeps figures alive and picks a window system.
    figure = Figure(figsize=(8, 0.34 * len(names) + 1.1 + 0.2 * len(title)), layout="constrained")
    axes = figure.subplots()
    for place, (_, found) in enumerate(points):
        low, high = found["low"], found["high"]
        if low is not None:
            axes.plot([low, high], [place, place], color=OURS, linewidth=2.2, solid_capstyle="round", alpha=0.55)
        axes.plot(found["value"], place, "o", color=OURS, markersize=6.5)
    for place, (_, value) in enumerate(reported, len(points)):
        axes.plot(value, place, "D", color=REPORTED, markersize=5.5, markerfacecolor="white")
    if standing.headline in standing.chance:
        axes.axvline(standing.chance[standing.headline], color=CHANCE, linestyle=":", linewidth=1.2, zorder=0)
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlabel(f"{standing.headline}, 95 % interval; dotted: chance")
    axes.set_title("\n".join(title), fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    out.parent.mkdir(parents=True, exist_ok=True)
    files = [out.with_name(f"{out.name}.{kind}") for kind in formats]
    with mpl.rc_context({"svg.hashsalt": "harness", "svg.fonttype": "none"}):
        for file in files:
            plain = {"Date": None} if file.suffix == ".svg" else {"Software": None}
            figure.savefig(file, dpi=150, metadata=plain)
    return files


def _short(name: str) -> str:
    """The end of a name tells more: the folder of a model, its adapter."""
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
