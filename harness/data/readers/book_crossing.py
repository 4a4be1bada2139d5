"""Book-Crossing from its official files.

Format: `;` between fields, each in double quotes, latin-1, a header line; `BX-Book-Ratings.csv` is user, ISBN and a
rating from 1 to 10, or 0 where a book was only touched; `BX-Books.csv` begins with ISBN, title and author (documented
on the home page of the data set). The files have no times.

Some titles hold quotes behind a backslash, which the format does not provide for. They are read as the csv parsers of
Python and pandas read them: stray characters stay in the title, and a line that falls into too many fields is left
out. TALLRec's published book prompts were made so, artefacts such as `\\It\\":` included. Ratings of books that are
not listed are left out as well. Everything left out is counted in `Dataset.skipped`.
"""

from __future__ import annotations

import csv
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness.data.catalog import Dataset
from harness.data.readers.columns import malformed
from harness.errors import BadData
from harness.types import Item

NAME = "book-crossing"
RATINGS = ("User-ID", "ISBN", "Book-Rating")
BOOKS = (
    "ISBN",
    "Book-Title",
    "Book-Author",
    "Year-Of-Publication",
    "Publisher",
    "Image-URL-S",
    "Image-URL-M",
    "Image-URL-L",
)
STEPS = frozenset(str(rating) for rating in range(11))
TOLERATED = 0.01
"""The share of unreadable lines beyond which this must be another file; the official ones have below 0.01 %."""


def read(folder: Path) -> Dataset:
    """From `BX-Book-Ratings.csv` and `BX-Books.csv`; the attribute is `author`.

    BadData: a header is another one, or more lines are unreadable than in any copy of the official files.
    """
    skipped: Counter[str] = Counter()
    items, authors = _books(folder / "BX-Books.csv", skipped)
    code = {item.id: place for place, item in enumerate(items)}
    path = folder / "BX-Book-Ratings.csv"
    users: dict[str, int] = {}
    user, item, rating = array("i"), array("i"), array("f")  # a list of a million tuples would take ten times the room
    bad = 0
    for row in _rows(path, RATINGS):
        if len(row) != len(RATINGS) or row[2] not in STEPS:
            bad += 1
        elif row[1] not in code:
            skipped["ratings of books that are not listed"] += 1
        else:
            user.append(users.setdefault(row[0], len(users)))
            item.append(code[row[1]])
            rating.append(int(row[2]))
    if bad:
        skipped["unreadable lines of ratings"] = bad
    _tolerable(path, bad, len(user))
    return Dataset(
        name=NAME,
        items=tuple(items),
        users=tuple(users),
        user=np.asarray(user, dtype=np.int32),
        item=np.asarray(item, dtype=np.int32),
        rating=np.asarray(rating, dtype=np.float32),
        time=np.zeros(len(user), dtype=np.int64),
        attributes={"author": tuple(authors)},
        skipped=dict(skipped),
    )


def _books(path: Path, skipped: Counter[str]) -> tuple[list[Item], list[tuple[str, ...]]]:
    items: dict[str, Item] = {}
    authors: list[tuple[str, ...]] = []
    bad = 0
    for row in _rows(path, BOOKS):
        if len(row) != len(BOOKS) or not row[0]:
            bad += 1
        elif row[0] in items:
            skipped["books listed again"] += 1
        else:
            items[row[0]] = Item(row[0], row[1])
            authors.append((row[2],))
    if bad:
        skipped["unreadable lines of books"] = bad
    _tolerable(path, bad, len(items))
    return list(items.values()), authors


def _rows(path: Path, header: tuple[str, ...]) -> Iterator[list[str]]:
    """The fields of every line below the header."""
    with path.open(encoding="latin-1", newline="") as file:
        rows = csv.reader(file, delimiter=";", quotechar='"')
        try:
            first = next(rows, [])
            if tuple(first) != header:
                raise malformed(path, 1, ";".join(header), ";".join(first))
            yield from rows
        except csv.Error as error:
            raise BadData(f"{path}, line {rows.line_num}: expected quoted fields, found a {error}") from error


def _tolerable(path: Path, bad: int, good: int) -> None:
    if not good or bad > TOLERATED * (bad + good):
        raise BadData(
            f"{path}: expected nearly all lines to be readable, found {bad:,} that are not and {good:,} that are"
        )
