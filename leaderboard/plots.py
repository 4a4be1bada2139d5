"""A leaderboard as pictures: scores, quality against cost, parts of the instances, few-shot curves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from leaderboard.plot_cost import cost
from leaderboard.plot_parts import parts
from leaderboard.plot_scores import scores
from leaderboard.plot_shots import ShotPoint, points_of, shots
from leaderboard.plot_style import save, style
from leaderboard.sheet import Sheet


def pictures(
    sheet: Sheet, stem: Path, formats: Sequence[str] = ("svg", "png"), points: Sequence[ShotPoint] | None = None
) -> list[Path]:
    """Write all pictures for which `sheet` has the numbers, and return the files.

    `stem` is a path without an ending: of `out/movie` are made `out/movie-scores.svg`, `-cost`, `-by-history`,
    `-by-popularity` (and so on for each trait) and `-shots`, each in every format. `points` of few-shot curves are
    those of the sheet's own lines if none are given. A sheet without a score makes none.
    """
    files = []
    with style():
        for what, figure in _figures(sheet, points):
            if figure is not None:
                name = stem.with_name(f"{stem.name}-{what}")
                files += save(figure, name, formats, f"{sheet.headline}, {what.replace('-', ' ')}: {sheet.title}")
    return files


def _figures(sheet: Sheet, points: Sequence[ShotPoint] | None) -> Iterator[tuple[str, Figure | None]]:
    yield "scores", scores(sheet)
    yield "cost", cost(sheet)
    for breakdown in sheet.breakdowns:
        yield "-".join(["by", *re.findall(r"\w+", breakdown.trait)]), parts(sheet, breakdown)
    yield "shots", shots(sheet, points_of(sheet) if points is None else points)
