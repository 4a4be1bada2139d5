"""Sheets as one page that holds everything it needs: it opens from a file and asks nobody for anything.

The tables are in the page as tables. The script sorts and filters them, opens run cards in place, and switches between
light and dark; without it everything is still there to read. The content security policy allows the page's own style
and script, by their digests, and nothing else: no text of a run can become either.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined

from leaderboard.numbers import count, duration, interval, number, share
from leaderboard.sheet import Breakdown, Card, Cell, Column, Kind, Line, Sheet


def page(sheets: Sequence[Sheet], cards: Sequence[Card], title: str = "Leaderboard") -> str:
    """The whole HTML file. A row whose `Line.run` has no card, such as a reported one, opens none."""
    environment = Environment(
        loader=PackageLoader("leaderboard", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    ids = {card.run: f"card-{place}" for place, card in enumerate(cards, 1)}
    papers: dict[str, list[_Table]] = {}
    for sheet in sheets:
        papers.setdefault(sheet.paper, []).append(_table(sheet))
    return environment.get_template("page.html").render(
        title=title,
        papers=papers,
        cards=cards,
        ids=ids,
        kinds=_kinds(sheets),
        rows=sum(len(sheet.lines) for sheet in sheets),
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'",
    )


class _Bar(NamedTuple):
    """Where an interval lies on the scale of its column, in per cent."""

    low: float
    value: float
    high: float
    chance: float | None


class _Shown(NamedTuple):
    """A cell as it is written, and the number to sort it by, blank if it has none."""

    text: str
    sort: str
    cell: Cell | None = None
    interval: str = ""
    bar: _Bar | None = None


class _Head(NamedTuple):
    """A column's head. `rising`: a first click puts the smallest first."""

    name: str
    about: str
    rising: bool
    column: Column | None = None


class _Row(NamedTuple):
    place: int | None
    line: Line
    cells: Sequence[_Shown]


@dataclass(frozen=True)
class _Split:
    """A breakdown, with a kind for each row so that the filter reaches it."""

    trait: str
    heads: Sequence[_Head]
    rows: Sequence[tuple[str, str, Sequence[_Shown]]]


@dataclass(frozen=True)
class _Table:
    sheet: Sheet
    heads: Sequence[_Head]
    rows: Sequence[_Row]
    splits: Sequence[_Split]


@dataclass(frozen=True)
class _Extra:
    """A column about the run rather than its answers' worth; left out where it is blank for all."""

    head: _Head
    value: Callable[[Line], float | None]
    text: Callable[[Line], str]


_EXTRAS = (
    _Extra(_Head("n", "Instances", False), lambda line: line.instances, lambda line: count(line.instances)),
    _Extra(
        _Head("failed", "Share of the instances that failed", True),
        lambda line: line.failure_rate,
        lambda line: share(line.failure_rate),
    ),
    _Extra(
        _Head("parsed", "Share of the answers that could be read", False),
        lambda line: line.parse_rate,
        lambda line: share(line.parse_rate),
    ),
    _Extra(
        _Head("tokens read", "Tokens of all prompts", True),
        lambda line: line.tokens and line.tokens[0],
        lambda line: count(line.tokens[0]) if line.tokens else "",
    ),
    _Extra(
        _Head("tokens written", "Tokens of all answers", True),
        lambda line: line.tokens and line.tokens[1],
        lambda line: count(line.tokens[1]) if line.tokens else "",
    ),
    _Extra(_Head("time", "Time of answering", True), lambda line: None if line.cached else line.seconds, duration),
)


def _table(sheet: Sheet) -> _Table:
    extras = [extra for extra in _EXTRAS if any(extra.text(line) for line in sheet.lines)]
    heads = [_head(column) for column in sheet.columns] + [extra.head for extra in extras]
    metrics = [_column(column, sheet.lines) for column in sheet.columns]
    rows, places = [], 0
    for index, line in enumerate(sheet.lines):
        found = line.cells.get(sheet.headline)
        placed = line.kind not in ("chance", "reported") and found is not None and found.value is not None
        places += placed
        cells = [column[index] for column in metrics]
        cells += [_Shown(extra.text(line), _key(extra.value(line))) for extra in extras]
        rows.append(_Row(places if placed else None, line, cells))
    kinds = {line.name: line.kind for line in sheet.lines}
    return _Table(sheet, heads, rows, [_split(one, kinds) for one in sheet.breakdowns])


def _head(column: Column) -> _Head:
    if column.diagnostic:
        return _Head(column.name, "Diagnostic: it describes answers, and does not say which is better", False, column)
    better = "Higher" if column.higher_is_better else "Lower"
    return _Head(column.name, f"{better} is better", not column.higher_is_better, column)


def _column(column: Column, lines: Sequence[Line]) -> list[_Shown]:
    """The cells of a metric, one a line. A diagnostic has no bars: there is nothing to win."""
    cells = [line.cells.get(column.name) for line in lines]
    scale = (0.0, 0.0) if column.diagnostic else _scale(cells)
    chance = next((c.value for line, c in zip(lines, cells, strict=True) if c and line.kind == "chance"), None)
    return [_shown(cell, scale, chance) for cell in cells]


def _split(breakdown: Breakdown, kinds: Mapping[str, str]) -> _Split:
    heads = [_Head(part.name, f"n = {count(part.instances)}", False) for part in breakdown.parts]
    table = [[cells.get(part.name) for part in breakdown.parts] for _, cells in breakdown.rows]
    scale = _scale(cell for row in table for cell in row)
    rows = [
        (name, kinds.get(name, ""), [_shown(cell, scale, None) for cell in row])
        for (name, _), row in zip(breakdown.rows, table, strict=True)
    ]
    return _Split(breakdown.trait, heads, rows)


def _scale(cells: Iterable[Cell | None]) -> tuple[float, float]:
    """The least and the greatest number that a bar has to show."""
    ends = [end for cell in cells if cell for end in (cell.low, cell.value, cell.high) if end is not None]
    return min(ends, default=0.0), max(ends, default=0.0)


def _shown(cell: Cell | None, scale: tuple[float, float], chance: float | None) -> _Shown:
    if cell is None:
        return _Shown("", "")
    if cell.value is None:
        return _Shown(cell.why, "", cell)
    return _Shown(number(cell.value), _key(cell.value), cell, interval(cell), _bar(cell, cell.value, scale, chance))


def _bar(cell: Cell, value: float, scale: tuple[float, float], chance: float | None) -> _Bar | None:
    start, end = scale
    if end <= start:
        return None

    def at(point: float) -> float:
        return round(100 * (point - start) / (end - start), 2)

    low, high = (value if point is None else point for point in (cell.low, cell.high))
    return _Bar(at(low), at(value), at(high), None if chance is None else at(chance))


def _key(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _kinds(sheets: Sequence[Sheet]) -> list[tuple[str, int]]:
    """The kinds of row that there are, with how many rows each has."""
    found = [line.kind for sheet in sheets for line in sheet.lines]
    return [(kind, found.count(kind)) for kind in get_args(Kind) if kind in found]


def _asset(name: str) -> str:
    return (files("leaderboard") / "page" / name).read_text("utf-8")


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
