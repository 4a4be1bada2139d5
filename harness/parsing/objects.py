"""Lists in JSON, whole or cut off, and the quoted list that prompts ask for, which is JSON without brackets."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

TITLES = ("title", "movie_title", "product_name", "movie", "film", "name", "item", "product", "text")
CODES = ("asin", "parent_asin", "item_id", "product_id", "id", "code")

_START = re.compile(r"\[\s*(?:[\"{\[])|^[ \t]*(?:\"|\{\s*\")", re.MULTILINE)


class Piece(NamedTuple):
    """What one line of an answer says of an item, before anybody looks it up."""

    text: str
    closed: bool = True
    """Whether its end was written: false for the last one of an answer that was cut off inside it."""
    whole: str | None = None
    """The same with what was taken for a mark of the list, in case it was part of the name."""
    known: bool = False
    """Whether it is known to be one name, so that nothing is to be cut off it."""


def listed(text: str) -> list[Piece] | None:
    """The elements of the first JSON list; None where there is none, or the text is JSON only at first sight."""
    start = _START.search(text)
    if start is None or sum(1 for line in text[: start.start()].split("\n") if line.strip()) > 2:
        return None
    if re.search(r"^\s*(?:\d{1,3}[.)]|[-*•]\s)", text[: start.start()], re.MULTILINE):
        return None
    pieces: list[Piece] = []
    place, bracketed = start.start(), False
    while True:
        while place < len(text) and (text[place].isspace() or text[place] == ","):
            place += 1
        if place == len(text):
            return pieces or None
        if text[place] in "[]":
            bracketed = text[place] == "["
            place += 1
            continue
        if text[place] not in '"{':
            return _ended(pieces, text[place:])
        try:
            begin, (element, place) = place, json.JSONDecoder(strict=False).raw_decode(text, place)
        except (json.JSONDecodeError, RecursionError):
            return _broken(pieces, text[place:], bracketed)
        # A title may itself hold a backslash, and have been quoted without escaping it.
        raw = text[begin + 1 : place - 1]
        pieces += [Piece(element, known=True, whole=raw)] if isinstance(element, str) else _pieces(element)
        if not re.match(r"\s*(?:[,\]\[}]|\n|$)", text[place:]):
            return _ended(pieces, text[place:])


def _ended(pieces: list[Piece], rest: str) -> list[Piece] | None:
    # Behind a year the list is of another kind: `"Heat" (2004)` is not `"Heat"`.
    if not pieces or re.search(r"[\"“”]", rest) or re.match(r"\W{0,4}(?:18|19|20)\d\d\b", rest):
        return None
    return pieces


def _broken(pieces: list[Piece], rest: str, bracketed: bool) -> list[Piece] | None:
    """The last element does not end: cut off, or no JSON."""
    if rest.startswith("{"):
        inner = re.match(r"\{\s*\"\w+\"\s*:\s*(\[)", rest)
        if inner and not pieces:
            return listed(rest[inner.start(1) :])
        return [*pieces, Piece(rest, closed=False)] if pieces or bracketed else None
    if re.search(r'(?<!\\)"', rest[1:]) or (not pieces and not bracketed) or "\n" in rest.strip():
        return None
    return [*pieces, Piece(rest[1:], closed=False)]


def _pieces(element: object) -> list[Piece]:
    if isinstance(element, str):
        return [Piece(element, known=True)]
    if isinstance(element, list):
        return [piece for inner in element for piece in _pieces(inner)]
    if not isinstance(element, dict):
        return []
    fields = {str(key).casefold(): value for key, value in element.items()}
    title = next((str(fields[key]) for key in TITLES if isinstance(fields.get(key), str)), None)
    code = next((str(fields[key]) for key in CODES if isinstance(fields.get(key), str)), None)
    year = fields.get("year")
    if title and year and f"({year})" not in title:
        title = f"{title} ({year})"
    if title and code:
        return [Piece(f"{code} ({title})", known=True)]
    if title or code:
        return [Piece(title or code or "", known=True)]
    inner = [piece for value in fields.values() if isinstance(value, list | dict) for piece in _pieces(value)]
    if inner:
        return inner
    texts = [(key, value) for key, value in element.items() if isinstance(value, str)]
    return [Piece(value if re.fullmatch(r"\W*\w{0,6}?\d*", key) else f"{key} ({value})", known=True)
            for key, value in texts]  # fmt: skip
