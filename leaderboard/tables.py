"""Sheets as markdown for people, and as CSV and JSON for programs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

import pandas as pd

from harness.names import printable
from leaderboard.numbers import count, duration, interval, number, share
from leaderboard.published import Reported
from leaderboard.sheet import Breakdown, Card, Cell, Line, Sheet

SCHEMA = 1
"""Of the JSON; raised whenever a reader of it would have to change."""
OURS = ("language model", "adapter", "baseline")


def markdown(sheets: Sequence[Sheet], title: str = "Leaderboard") -> str:
    """One section a sheet: ours and chance, their parts, and what is reported."""
    return "\n".join([f"# {plain(title)}", "", *(line for sheet in sheets for line in _section(sheet))]) + "\n"


def frame(sheets: Sequence[Sheet]) -> pd.DataFrame:
    """One row per line and metric, numbers unrounded; blank where a run is partial or a metric does not apply."""
    rows = [
        {
            "standing": sheet.title,
            "kind": line.kind,
            "model": line.name,
            "metric": column.name,
            **{key: getattr(line.cells.get(column.name, Cell(None)), key) for key in ("value", "low", "high", "why")},
            "place": line.cells.get(column.name, Cell(None)).place,
            "level_with_best": line.cells.get(column.name, Cell(None)).level,
            "chance": next((_value(other, column.name) for other in sheet.lines if other.kind == "chance"), None),
            "instances": line.instances,
            "failure_rate": line.failure_rate,
            "parse_rate": line.parse_rate,
            "prompt_tokens": line.tokens[0] if line.tokens else None,
            "generated_tokens": line.tokens[1] if line.tokens else None,
            "seconds": line.seconds,
            "shots": line.shots,
            "seed": line.seed,
            "verdict": line.verdict.word if line.verdict else None,
            "note": line.note,
            "run": line.run,
        }
        for sheet in sheets
        for line in sheet.lines
        if line.kind != "chance"
        for column in sheet.columns
        if line.kind != "reported" or column.name in line.cells
    ]
    whole = ("instances", "prompt_tokens", "generated_tokens", "shots", "seed")
    return pd.DataFrame(rows).astype(dict.fromkeys(whole, "Int64"))


def as_json(sheets: Sequence[Sheet], cards: Sequence[Card]) -> dict[str, Any]:
    """Everything that the tables show, with the cards by the name of their run."""
    return {
        "schema": SCHEMA,
        "tables": [asdict(sheet) for sheet in sheets],
        "cards": {card.run: dict(card.facts) for card in cards},
    }


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """For CSV: a text that a spreadsheet would take for a formula begins with an apostrophe, as a spreadsheet asks."""

    def plain(value: Any) -> Any:
        return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(("=", "+", "-", "@")) else value

    texts = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    return table.assign(**{name: table[name].map(plain) for name in texts})


def plain(text: str) -> str:
    """A text of anybody's in markdown: in one line, and no tag, no link and no picture, whoever renders it."""
    flat = printable(" ".join(text.split()))
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", flat).replace("](", "]\\(")


def cards_markdown(cards: Sequence[Card]) -> str:
    """What stands behind each number, a section a run."""
    lines = ["# Run cards", ""]
    for card in cards:
        lines += [f"## {plain(card.run)}", "", *(f"* {name}: {plain(said)}" for name, said in card.facts.items()), ""]
    return "\n".join(lines)


def _section(sheet: Sheet) -> list[str]:
    lines = [f"## {plain(sheet.title)}", ""]
    lines += [" ".join(f"`{plain(badge)}`" for badge in sheet.badges), ""] if sheet.badges else []
    lines += [*_table(sheet), ""]
    for note in sheet.notes:
        lines += [plain(note), ""]
    for line in sheet.lines:
        if line.note and line.kind in OURS:
            na = any(cell.why == "n/a" and line.instances is None for cell in line.cells.values())
            lines += [f"{'n/a: ' if na else ''}{plain(line.name)}: {plain(line.note)}.", ""]
    for breakdown in sheet.breakdowns:
        lines += [f"{sheet.headline} by {breakdown.trait}:", "", *_parts(breakdown), ""]
    return [*lines, *_reported(sheet)]


def _table(sheet: Sheet) -> list[str]:
    names = [column.name for column in sheet.columns]
    parsed = any(line.parse_rate is not None for line in sheet.lines)
    head = ["", "Model", *names, "n", "failed", *(["parsed"] if parsed else []), "tokens read / written", "time"]
    places = iter(range(1, len(sheet.lines) + 1))
    rows = []
    for line in (line for line in sheet.lines if line.kind != "reported"):
        partial = any(cell.why == "not complete" for cell in line.cells.values())
        ranked = line.kind in OURS and _value(line, sheet.headline) is not None
        name = plain(line.name)
        name = f"*{name}*" if line.kind == "chance" else f"{name} (not complete)" if partial else name
        spent = f"{count(line.tokens[0])} / {count(line.tokens[1])}" if line.tokens else ""
        cells = [_cell(line.cells.get(column)) for column in names]
        about = [count(line.instances), share(line.failure_rate), *([share(line.parse_rate)] if parsed else [])]
        rows.append([str(next(places)) if ranked else "", name, *cells, *about, spent, duration(line)])
    return table(head, rows)


def _parts(breakdown: Breakdown) -> list[str]:
    head = ["Model", *(f"{part.name} (n={part.instances})" for part in breakdown.parts)]
    rows = [[plain(name), *(_cell(own.get(p.name)) for p in breakdown.parts)] for name, own in breakdown.rows]
    return table(head, rows)


def _reported(sheet: Sheet) -> Iterator[str]:
    """The published rows, a table for each source. Why a verdict is what it is, and what is known to be wrong with a
    number, stands below by its number, each text once."""
    lines = [line for line in sheet.lines if line.kind == "reported"]
    for source, group in groupby(lines, key=lambda line: line.source):
        own = list(group)
        names = [column.name for column in sheet.columns if any(column.name in line.cells for line in own)]
        said = [text for line in own for text in (line.note, line.verdict.why if line.verdict else "") if text]
        marks = {text: n for n, text in enumerate(dict.fromkeys(said), 1)}

        def marked(word: str, text: str, marks: Mapping[str, int] = marks) -> str:
            return f"{word} ({marks[text]})" if text in marks else word

        yield f"Reported, not measured here: {source}."
        yield ""
        rows = []
        for line in own:
            verdict = marked(line.verdict.word, line.verdict.why) if line.verdict else ""
            rows.append([marked(line.name, line.note), *(_cell(line.cells.get(name)) for name in names), verdict])
        yield from table(["Reported", *names, "verdict"], rows)
        yield ""
        for text, mark in marks.items():
            yield f"({mark}) {text}."
            yield ""


def _cell(cell: Cell | None) -> str:
    if cell is None or cell.why == "not complete":
        return ""
    if cell.value is None:
        return cell.why
    value = {"best": f"**{number(cell.value)}**", "second": f"<u>{number(cell.value)}</u>"}.get(cell.place)
    between = interval(cell)
    return f"{value or number(cell.value)}{'†' if cell.level else ''}{f' {between}' if between else ''}"


def _value(line: Line, metric: str) -> float | None:
    return line.cells[metric].value if metric in line.cells else None


def published(reported: Sequence[Reported]) -> list[str]:
    """A paper's own tables, with their source. Several metrics of the same row are one table, a line for each."""
    lines: list[str] = []
    for (source, note, own, columns, single), group in groupby(reported, key=_in_common):
        found = list(group)
        head = ["metric" if single else columns[0], *(f"**{name}**" if name == own else name for name in columns[1:])]
        rows = [(one.metric if single else str(first), rest) for one in found for first, *rest in one.rows]
        what = single or found[0].metric
        lines += [f"Reported by the paper, not measured here: {what}, {source}. {note}.", ""]
        lines += [*table(head, [[first, *(number(value) for value in rest)] for first, rest in rows]), ""]
    return lines


def _in_common(one: Reported) -> tuple[str, str, str, Sequence[str], str]:
    """What metrics of one table of a paper's share: where it has one row, what that is about."""
    single = str(one.rows[0][0]) if len(one.rows) == 1 else ""
    return one.source, one.note, one.own, one.columns, single


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A markdown table, a line each; neither an upright stroke in a cell nor a line break ends it."""
    head, *rows = ([" ".join(cell.splitlines()) for cell in cells] for cells in (head, *rows))
    head, *rows = ([re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in cells] for cells in (head, *rows))
    columns = list(zip(head, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return [line(head), line(["-" * width for width in widths]), *(line(row) for row in rows)]
