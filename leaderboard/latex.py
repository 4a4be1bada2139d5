"""Sheets as LaTeX, for a paper: a `table` each, with the rules of booktabs, in plain ASCII.

Diagnostic columns and breakdowns are left out. What a note or a verdict says of a row stands below the table, by
letter. A table that is too wide or too high for the page is made smaller, never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from string import ascii_lowercase
from typing import NamedTuple

from leaderboard.latex_text import breakable, escape
from leaderboard.numbers import count, duration, interval, number, share
from leaderboard.sheet import Cell, Column, Line, Sheet

PACKAGES = "\\usepackage{array,booktabs,graphicx}"
HEADER = f"""\
% Made by `harness leaderboard`: a table for each leaderboard, to be read by \\input.
% Before \\begin{{document}} it needs {PACKAGES}.
"""
_ROOMY = 3
"""So many metrics have their intervals beside the values; more have them below."""
_LONG_NAME = 44
_FIT = (
    "\\resizebox*{!}{\\ifdim\\totalheight>0.8\\textheight 0.8\\textheight\\else\\totalheight\\fi}{%",
    "\\begin{minipage}{\\linewidth}\\centering\\small",
    "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
)
"""Opens three braces: all that is below the caption, a block of the page's width, and the table."""


def latex(sheets: Sequence[Sheet]) -> str:
    """A file for \\input: a comment that says what it needs, and a `table` for each sheet."""
    return "\n".join([HEADER, *map(_table, sheets)])


def document(sheets: Sequence[Sheet]) -> str:
    """A whole document with nothing but these tables, each on a page of its own."""
    head = ["\\documentclass{article}", "\\usepackage[margin=2cm]{geometry}", PACKAGES, "\\begin{document}"]
    return "\n".join([*head, *(f"{_table(sheet)}\\clearpage" for sheet in sheets), "\\end{document}\n"])


class _Extra(NamedTuple):
    """A column about the run; left out where it is blank for all."""

    name: str
    text: Callable[[Line], str]


_EXTRAS = (
    _Extra("n", lambda line: count(line.instances)),
    _Extra("failed", lambda line: share(line.failure_rate)),
    _Extra("parsed", lambda line: share(line.parse_rate)),
    _Extra("tokens", lambda line: " / ".join(map(count, line.tokens)) if line.tokens else ""),
    _Extra("time", duration),
)


def _table(sheet: Sheet) -> str:
    columns = [column for column in sheet.columns if not column.diagnostic]
    extras = [extra for extra in _EXTRAS if any(extra.text(line) for line in sheet.lines)]
    said = _Said()
    body = []
    for _, rows in groupby(sorted(sheet.lines, key=_group), key=_group):
        body += ["\\midrule", *(_row(line, columns, extras, said) for line in rows)]
    wide = max((len(line.name + _status(line)) for line in sheet.lines), default=0) > _LONG_NAME
    first = ">{\\raggedright\\arraybackslash}p{6cm}" if wide else "l"
    badges = f" ({'; '.join(sheet.badges)})." if sheet.badges else "."
    caption = " ".join(map(escape, [f"{sheet.title}{badges}", *sheet.notes]))
    lines = [
        "\\begin{table}[htbp]",
        "\\centering",
        f"\\caption{{{caption}}}",
        f"\\label{{tab:leaderboard-{sheet.key}}}",
        "\\par\\medskip",
        *_FIT,
        f"\\begin{{tabular}}{{{first}{'l' * len(columns)}{'r' * len(extras)}}}",
        "\\toprule",
        " & ".join(["Model", *map(_head, columns), *(extra.name for extra in extras)]) + " \\\\",
        *body,
        "\\bottomrule",
        "\\end{tabular}}",
        *said.below(),
        "\\end{minipage}}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


class _Said:
    """What stands below a table; the same words have the same letter."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def letters(self, *texts: str) -> str:
        """The letters of these texts, raised; none for a blank one. After z come aa, ab, ..."""
        for text in filter(None, texts):
            wraps, place = divmod(len(self._letters), 26)
            letter = (ascii_lowercase[wraps - 1] if wraps else "") + ascii_lowercase[place]
            self._letters.setdefault(text, letter)
        found = ",".join(self._letters[text] for text in texts if text)
        return f"\\textsuperscript{{{found}}}" if found else ""

    def below(self) -> list[str]:
        """The lines that say it all; none if there is nothing to say."""
        told = [f"\\textsuperscript{{{letter}}}~{escape(text)}\\par" for text, letter in self._letters.items()]
        return ["\\par\\smallskip\\footnotesize\\raggedright", *told] if told else []


def _group(line: Line) -> int:
    """What we measured, then chance, then what others report."""
    return {"chance": 1, "reported": 2}.get(line.kind, 0)


def _head(column: Column) -> str:
    arrow = "\\uparrow" if column.higher_is_better else "\\downarrow"
    return f"{escape(column.name)} ${arrow}$"


def _status(line: Line) -> str:
    """What a row is if it was not measured here; blank if it was."""
    if line.kind != "reported":
        return ""
    return f" (reported: {line.verdict.word})" if line.verdict else " (reported)"


def _row(line: Line, columns: Sequence[Column], extras: Sequence[_Extra], said: _Said) -> str:
    name = breakable(line.name)
    marks = said.letters(line.verdict.why if line.verdict else "", line.note, line.source)
    if line.kind == "chance":
        name = f"\\emph{{{name}}}"
    elif line.kind == "reported":
        name += f" \\emph{{{_status(line).strip()}}}"
    shown = [_cell(line.cells.get(column.name), below=len(columns) > _ROOMY) for column in columns]
    told = [escape(extra.text(line)) for extra in extras]
    return " & ".join([name + marks, *shown, *told]) + " \\\\"


def _cell(cell: Cell | None, below: bool) -> str:
    if cell is None:
        return ""
    if cell.value is None:
        return f"{{\\scriptsize {cell.why}}}"
    value = {"best": "\\textbf{%s}", "second": "\\underline{%s}", "": "%s"}[cell.place] % number(cell.value)
    value += "$^{\\dagger}$" if cell.level else ""
    between = f"{{\\scriptsize {interval(cell)}}}"
    if not interval(cell):
        return value
    if below:
        return f"\\begin{{tabular}}[t]{{@{{}}l@{{}}}}{value}\\\\[-0.5ex]{between}\\end{{tabular}}"
    return f"{value} {between}"
