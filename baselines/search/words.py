"""From a text to the pieces that a search model reads, and to their codes. No torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from baselines.recbole.material import Ints

Pieces = Literal["words", "trigrams"]
WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Letters, digits and underscores that stand together, in lower case; `"Léon (1994)"` is `léon` and `1994`.

    A single character is a word too, and no stop word is left out: titles are short, and "It" and "M" are films.
    """
    return WORD.findall(text.lower())


def pieces_of(text: str, kind: Pieces) -> list[str]:
    """Words, or the letter trigrams of each word between two marks: `cat` is `#ca`, `cat`, `at#`."""
    found = words(text)
    if kind == "words":
        return found
    marked = (f"#{word}#" for word in found)
    return [word[place : place + 3] for word in marked for place in range(len(word) - 2)]


def vocabulary(texts: Iterable[str], kind: Pieces, most: int) -> tuple[str, ...]:
    """The `most` pieces that occur most often, the most frequent first and equal ones by spelling."""
    counts = Counter(piece for text in texts for piece in pieces_of(text, kind))
    return tuple(sorted(counts, key=lambda piece: (-counts[piece], piece))[:most])


def coded(texts: Sequence[str | None], kind: Pieces, codes: Mapping[str, int], longest: int) -> Ints:
    """The codes of the first `longest` known pieces of each text, zeros behind; shape (texts, most pieces of any).

    Unknown pieces are left out. The second dimension is at least 1.
    """
    known: dict[str | None, list[int]] = {None: []}
    for text in texts:
        if text is not None and text not in known:
            known[text] = [codes[piece] for piece in pieces_of(text, kind) if piece in codes][:longest]
    table = np.zeros((len(texts), max([1, *map(len, known.values())])), dtype=np.int64)
    for row, text in zip(table, texts, strict=True):
        row[: len(known[text])] = known[text]
    return table
