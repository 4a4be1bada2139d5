"""A standing as a table that is ready to be written: every renderer shows the same cells, marks and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["language model", "adapter", "baseline", "chance", "reported"]
Place = Literal["", "best", "second"]


@dataclass(frozen=True)
class Column:
    """A metric of the table."""

    name: str
    higher_is_better: bool
    diagnostic: bool
    """It describes answers and says not which model is better: no best, no marks."""


@dataclass(frozen=True)
class Cell:
    """One number, or the reason why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    why: Literal["", "n/a", "undefined", "not complete"] = ""
    """Why there is no value."""
    place: Place = ""
    level: bool = False
    """Not distinguishable from the best of the column: its paired difference is not significant after Holm's
    correction. Never set on the best itself."""


@dataclass(frozen=True)
class Verdict:
    """What can be said of a published number."""

    word: Literal["reproduced", "not reproduced", "inconclusive", "not attempted"]
    why: str
    """The run, its interval and the tolerance; or in what the runs differ from the paper's setting."""


@dataclass(frozen=True)
class Line:
    """A row: somebody who answered, chance, or a number of a paper's."""

    name: str
    kind: Kind
    cells: Mapping[str, Cell]
    """By the name of the column; a column that is not here is blank."""
    run: str | None = None
    """The run directory; the run card of that name says all about it."""
    instances: int | None = None
    failure_rate: float | None = None
    parse_rate: float | None = None
    """Share of the answers that could be read; None for who writes nothing."""
    tokens: tuple[int, int] | None = None
    """Read and written."""
    seconds: float | None = None
    cached: bool = False
    """Some answers came from the cache, so the time says little."""
    note: str = ""
    """Why it is n/a, how its option was chosen, or why a reported number is no good target."""
    source: str = ""
    """Of a reported row: where it stands, and what is said of the whole table."""
    own: bool = False
    """A reported row of the paper's own method."""
    verdict: Verdict | None = None
    """Of reported rows only."""
    shots: int | None = None
    """Training rows; None where nothing is drawn, or it is not known."""
    seed: int | None = None
    """Of the training."""


@dataclass(frozen=True)
class Part:
    """A part of the instances by a trait: `history`, `up to 5`."""

    name: str
    instances: int


@dataclass(frozen=True)
class Breakdown:
    """The headline in each part of the instances."""

    trait: str
    parts: Sequence[Part]
    rows: Sequence[tuple[str, Mapping[str, Cell]]]
    """The model, and its cell by the name of the part."""


@dataclass(frozen=True)
class Sheet:
    """One table: everybody who answered the same questions in the same protocol, and what the paper reports of it."""

    title: str
    key: str
    """Digits that no other table has, for file names and anchors."""
    task: str
    paper: str
    headline: str
    badges: Sequence[str]
    """Short warnings about every number: `sampled metric: 10 candidates`, `sample of 1000`, `few users: 16`."""
    columns: Sequence[Column]
    lines: Sequence[Line]
    """Complete runs first, best first; then the others, chance, and the reported."""
    breakdowns: Sequence[Breakdown]
    notes: Sequence[str]
    """Full sentences: how intervals were made, what is corrected for, what marks mean."""


@dataclass(frozen=True)
class Card:
    """What stands behind a number: enough to make it again."""

    run: str
    facts: Mapping[str, Any]
    """From a name that people read to plain text, in the order in which they should read it."""
