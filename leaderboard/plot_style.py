"""What the pictures have in common: colours, shortened names, a frame with title, legend and notes, files."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from types import MappingProxyType
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from leaderboard.sheet import Kind, Line, Sheet

LONGEST = 48
"""Characters of a name: a longer one, such as a path, would leave no room for the scores."""
WIDTH = 8.0
"""Inches. Shown as wide as a README is, its letters are as large as the text around it."""
TITLE, SMALL = 88, 116
"""Characters of a line of the title and of the notes."""
INK, SOFT, CHANCE, REPORTED = "#222222", "#5f5f5f", "#8a8a8a", "#b4540a"
COLOURS = ("#0072b2", "#cc6677", "#000000", "#999933", "#332288", "#7a4a00")
"""Of curves, from Okabe and Ito's and Tol's: apart for every kind of colour vision. Their markers differ as well."""
MARKERS = ("o", "s", "^", "v", "P", "X")


class Look(NamedTuple):
    colour: str
    marker: str
    size: float
    filled: bool = True
    words: str = ""


LOOKS: Mapping[Kind, Look] = MappingProxyType(
    {
        "language model": Look("#0072b2", "o", 6.5, words="language model"),
        "adapter": Look("#009e73", "s", 6.0, words="adapter"),
        "baseline": Look("#3d3d3d", "^", 6.5, words="baseline"),
        "reported": Look(REPORTED, "D", 5.5, filled=False, words="reported by the paper, not measured here"),
    }
)
"""Of the kinds of rows that are drawn as points."""


@dataclass(frozen=True)
class Frame:
    """What stands around the panels."""

    title: str
    badges: Sequence[str] = ()
    handles: Sequence[Line2D] = ()
    """Of the legend."""
    notes: Sequence[str] = ()
    columns: int = 4
    """Of the legend, at most."""
    head: Sequence[str] = field(init=False)
    foot: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "head", _whole(" ".join(self.title.replace(",", ", ").split())))
        object.__setattr__(self, "foot", [line for note in self.notes for line in wrap(note, SMALL)])

    def around(self, height: float) -> Figure:
        """An empty figure with room of `height` inches for panels between what is above and below them."""
        badges = wrap("; ".join(self.badges), SMALL)
        rows = -(-len(self.handles) // self.columns)
        parts = (0.08, 0.2 * len(self.head), 0.17 * len(badges), 0.2 * rows + 0.05 * bool(rows))
        above, below = sum(parts) + 0.04, 0.15 * len(self.foot) + 0.06 * bool(self.foot)
        total = above + height + below
        # No pyplot: it keeps figures alive and picks a window system.
        figure = Figure(figsize=(WIDTH, total), layout="constrained")
        engine = figure.get_layout_engine()
        assert engine is not None
        left, top = 0.08 / WIDTH, total - parts[0]
        engine.set(rect=(left / 2, below / total, 1 - left, height / total))
        figure.text(left, top / total, "\n".join(self.head), va="top", fontsize=10, weight="bold", color=INK)
        top -= parts[1]
        figure.text(left, top / total, "\n".join(badges), va="top", fontsize=8, color=SOFT)
        top -= parts[2]
        if self.handles:
            figure.legend(
                handles=self.handles,
                loc="upper left",
                bbox_to_anchor=(left, top / total),
                ncols=min(self.columns, len(self.handles)),
                frameon=False,
                borderpad=0.2,
                borderaxespad=0,
                fontsize=8,
                handletextpad=0.4,
                columnspacing=1.5,
            )
        figure.text(left, 0.06 / total, "\n".join(self.foot), va="bottom", fontsize=7.5, color=SOFT)
        return figure


def _whole(title: str) -> list[str]:
    """Lines of the title. What stands in square brackets stays together."""
    kept = re.sub(r"\[[^]]*\]", lambda found: found[0].replace(" ", "\0"), title)
    return [line.replace("\0", " ") for line in wrap(kept, TITLE)]


@contextmanager
def style() -> Iterator[None]:
    """Pictures that are made and saved in here look the same, and their SVGs are the same bytes, everywhere."""
    with mpl.rc_context(), warnings.catch_warnings():
        # A name in letters that the font lacks is whole in an SVG, and has boxes in a PNG.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from font")
        mpl.rcdefaults()  # not those of a matplotlibrc
        mpl.rcParams.update(
            {
                "svg.hashsalt": "harness",
                "svg.fonttype": "none",
                "text.parse_math": False,  # a $ in the name of a model is a $
                "text.hinting": "none",  # a name is as wide at every resolution
                "font.size": 9,
                "text.color": INK,
                "axes.labelcolor": INK,
                "axes.edgecolor": SOFT,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.axisbelow": True,
                "axes.formatter.useoffset": False,
                "axes.formatter.limits": (-5, 7),
                "axes.formatter.use_mathtext": False,
                "grid.alpha": 0.25,
                "xtick.color": SOFT,
                "ytick.color": SOFT,
                "xtick.labelcolor": INK,
                "ytick.labelcolor": INK,
            }
        )
        yield


def save(figure: Figure, stem: Path, formats: Sequence[str], title: str) -> list[Path]:
    """Write `figure` in each format, to be called within `style`, and return the files."""
    settle(figure)
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in formats]
    for file in files:
        # No date and no version: the same numbers are the same bytes.
        plain: dict[str, Any] = {"Date": None, "Creator": None} if file.suffix == ".svg" else {"Software": None}
        figure.savefig(file, dpi=150, metadata={"Title": title, **plain})
    return files


def settle(figure: Figure) -> None:
    """Lay `figure` out once, for every format; what is drawn on it afterwards moves nothing."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")


def shortened(name: str, longest: int = LONGEST) -> str:
    """The end of a name tells more: the folder of a model, its adapter."""
    name = " ".join(name.split())
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def scored(sheet: Sheet) -> list[Line]:
    """The rows with a headline score that were measured here."""
    return [line for line in sheet.lines if line.kind in LOOKS and line.kind != "reported" and _has(sheet, line)]


def reported(sheet: Sheet) -> list[Line]:
    """The published rows with the headline: of the paper's own method, which its other rows would bury in a picture."""
    return [line for line in sheet.lines if line.kind == "reported" and line.own and _has(sheet, line)]


def chance(sheet: Sheet) -> float | None:
    """What a random order scores, if that is known."""
    found = (line.cells[sheet.headline].value for line in sheet.lines if line.kind == "chance" and _has(sheet, line))
    return next(found, None)


def _has(sheet: Sheet, line: Line) -> bool:
    return sheet.headline in line.cells and line.cells[sheet.headline].value is not None


def upward(sheet: Sheet) -> bool:
    """Whether more of the headline is better."""
    return next((column.higher_is_better for column in sheet.columns if column.name == sheet.headline), True)


def score_label(sheet: Sheet, interval: bool, dotted: str = "", apart: str = "; ") -> str:
    """Of the axis with the scores; `interval` says whether intervals are drawn, `dotted` what that line is."""
    words = [sheet.headline, *([] if upward(sheet) else ["lower is better"]), *(["95 % interval"] if interval else [])]
    return ", ".join(words) + (f"{apart}dotted: {dotted}" if dotted else "")


def point(axes: Axes, place: tuple[float, float], look: Look) -> None:
    """A score."""
    face = look.colour if look.filled else "white"
    axes.plot(*place, look.marker, color=look.colour, markersize=look.size, markerfacecolor=face)


def handles(kinds: Sequence[Kind]) -> list[Line2D]:
    """The legend of these kinds of rows, each once, in the order of `LOOKS`."""
    return [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=look.marker,
            color=look.colour,
            markersize=look.size,
            markerfacecolor=look.colour if look.filled else "white",
            label=look.words,
        )
        for kind, look in LOOKS.items()
        if kind in kinds
    ]
