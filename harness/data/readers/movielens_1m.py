"""MovieLens 1M from its official files.

Format: fields separated by `::`, in latin-1; `ratings.dat` is user, item, rating, time, and `movies.dat` is number,
title with year, genres separated by `|` (the README of the archive). 3,883 films are listed, 3,706 have ratings.
"""

from __future__ import annotations

from pathlib import Path

from harness.data.catalog import Dataset
from harness.data.readers.columns import distinct, integers, is_id, malformed, ratings_dataset, text_lines
from harness.types import Item

NAME = "ml-1m"
RATING = "user::item::rating::time"


def read(folder: Path) -> Dataset:
    """From `ratings.dat` and `movies.dat`. BadData: a line is not of the documented form."""
    items, genres = _items(folder / "movies.dat")
    path = folder / "ratings.dat"
    rows = integers(path, path.read_bytes(), b"::", RATING)
    return ratings_dataset(NAME, path, rows, items, {"genres": tuple(genres)})


def _items(path: Path) -> tuple[list[Item], list[tuple[str, ...]]]:
    items: list[Item] = []
    genres: list[tuple[str, ...]] = []
    for number, line in enumerate(text_lines(path, "latin-1"), start=1):
        fields = line.split("::")
        if len(fields) != 3 or not is_id(fields[0]) or not fields[1].strip():
            raise malformed(path, number, "number::title::genres", line)
        items.append(Item(fields[0], fields[1]))
        genres.append(tuple(fields[2].split("|")))
    distinct(path, items)
    return items, genres
