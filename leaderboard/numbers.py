"""Numbers as every rendering of a sheet writes them."""

from __future__ import annotations

from leaderboard.sheet import Cell, Line


def number(value: float | None) -> str:
    """Four places; blank for nothing."""
    return "" if value is None else f"{value:.4f}"


def interval(cell: Cell) -> str:
    """`[0.6229, 0.8291]`; blank without both ends."""
    return "" if cell.low is None or cell.high is None else f"[{number(cell.low)}, {number(cell.high)}]"


def count(value: int | None) -> str:
    """With commas between thousands."""
    return "" if value is None else f"{value:,}"


def share(value: float | None) -> str:
    """A fraction as per cent, with one place."""
    return "" if value is None else f"{100 * value:.1f} %"


def duration(line: Line) -> str:
    """Seconds up to two minutes, minutes up to two hours, then hours; `cached` where the time says little."""
    if line.cached:
        return "cached"
    if line.seconds is None:
        return ""
    if line.seconds < 120:
        return f"{line.seconds:.1f} s"
    return f"{line.seconds / 60:.1f} min" if line.seconds < 7200 else f"{line.seconds / 3600:.1f} h"
