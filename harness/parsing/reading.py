"""What a model said, line by line: which item each line names, and how it counts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal

from harness.parsing.lookup import resolve
from harness.parsing.markup import is_refusal, unwrapped
from harness.parsing.names import Found, Match, Names
from harness.parsing.objects import Piece
from harness.parsing.splitting import split
from harness.types import ItemId


class Outcome(StrEnum):
    """What became of a line. A request that failed has no lines: it is a failed instance and never comes here."""

    EXACT = "exact"
    NORMALISED = "normalised"
    FUZZY = "fuzzy"
    OUT_OF_CANDIDATES = "out_of_candidates"
    NOT_IN_CATALOGUE = "not_in_catalogue"
    DUPLICATE = "duplicate"
    IN_HISTORY = "in_history"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    REFUSED = "refused"


STRICT = frozenset({Outcome.EXACT, Outcome.NORMALISED})
LENIENT = STRICT | {Outcome.FUZZY}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an answer, in exactly one class."""

    text: str
    """As it was written, without marks of the list."""
    outcome: Outcome
    item: ItemId | None = None
    """What it names, whatever the outcome; always an item of the catalogue."""
    match: Match | None = None
    """How it was recognised; None where nothing was."""


@dataclass(frozen=True)
class Reading:
    """An answer as it was read; nothing is repaired, padded or put in order."""

    lines: tuple[Line, ...]

    @cached_property
    def counts(self) -> Mapping[Outcome, int]:
        """Lines by outcome, zeros included; they add up to the number of lines."""
        return {outcome: sum(line.outcome is outcome for line in self.lines) for outcome in Outcome}

    @cached_property
    def strict(self) -> tuple[ItemId, ...]:
        """Items of exact and normalised lines, in the order of the answer; none twice."""
        return tuple(line.item for line in self.lines if line.item is not None and line.outcome in STRICT)

    @cached_property
    def lenient(self) -> tuple[ItemId, ...]:
        """The same with those of fuzzy lines."""
        return tuple(line.item for line in self.lines if line.item is not None and line.outcome in LENIENT)

    @cached_property
    def spelled(self) -> int:
        """Lines that are to the character the text or code of an item, whatever their outcome."""
        return sum(line.match == "exact" for line in self.lines)


def read(
    text: str,
    names: Names,
    *,
    candidates: Collection[ItemId] | None,
    history: Collection[ItemId],
    finish: Literal["stop", "length"] = "stop",
    limit: int = 10,
) -> Reading:
    """The first `limit` lines of an answer; with `candidates` None, no item is out of candidates.

    Which of several items of one name is taken: a candidate, else one that is not in the history, else the first of
    the catalogue. `finish` is why the model stopped. ValueError: the limit is below 1.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}, expected 1 or more")
    among = None if candidates is None else _set(candidates)
    seen = _set(history)
    answer = unwrapped(text)
    if not re.search(r"\w", answer):
        cut = finish == "length" and re.search(r"\w", text) is not None
        return Reading((Line(text.strip(), Outcome.TRUNCATED if cut else Outcome.EMPTY),))
    pieces = split(answer, names)
    found = [resolve(piece, names) for piece in pieces[:limit]]
    if is_refusal(answer) and not any(found) and len(pieces) < 3:
        return Reading((Line(answer.strip(), Outcome.REFUSED),))
    if not pieces:
        outcome = Outcome.TRUNCATED if finish == "length" else Outcome.NOT_IN_CATALOGUE
        return Reading((Line(answer.strip(), outcome),))
    lines: list[Line] = []
    named: set[ItemId] = set()
    for place, (piece, what) in enumerate(zip(pieces[:limit], found, strict=True)):
        if finish == "length" and place == len(pieces) - 1 and _unended(piece, what, names):
            lines.append(Line(piece.text.strip(), Outcome.TRUNCATED))
        elif what is None:
            lines.append(Line(piece.text.strip(), Outcome.NOT_IN_CATALOGUE))
        else:
            item = _chosen(what.items, among, seen)
            outcome = _outcome(item, what.match, among, seen, named)
            lines.append(Line(piece.text.strip(), outcome, item, what.match))
            named.add(item)
    return Reading(tuple(lines))


def _unended(piece: Piece, what: Found | None, names: Names) -> bool:
    """Whether an answer that was cut off in this line may have been in the middle of a name."""
    behind = what is not None and re.search(r"\w", what.rest) is not None
    return not piece.closed and (not behind or names.begins(piece.text))


def _set(items: Collection[ItemId]) -> Set[ItemId]:
    return items if isinstance(items, Set) else frozenset(items)


def _chosen(items: Sequence[ItemId], among: Set[ItemId] | None, seen: Set[ItemId]) -> ItemId:
    wanted = [item for item in items if among is not None and item in among]
    unseen = [item for item in items if item not in seen]
    return (wanted or unseen or items)[0]


def _outcome(item: ItemId, match: Match, among: Set[ItemId] | None, seen: Set[ItemId], named: Set[ItemId]) -> Outcome:
    if item in seen:
        return Outcome.IN_HISTORY
    if item in named:
        return Outcome.DUPLICATE
    if among is not None and item not in among:
        return Outcome.OUT_OF_CANDIDATES
    return Outcome(match)
