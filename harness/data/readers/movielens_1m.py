"""MovieLens 1M from its official files, or from the order of each user's films alone.

Format: fields separated by `::`, in latin-1; `ratings.dat` is user, item, rating, time, and `movies.dat` is number,
title with year, genres separated by `|` (the README of the archive). 3,883 films are listed, 3,706 have ratings.

`sequences.txt` is a file of sequences (`harness.data.readers.sequences`) with the numbers of `movies.dat`, one line per
user of `ratings.dat`, in its order: his films by time, and those of one second in the order of `ratings.dat`. That is
the order of `Dataset.timelines` (compared for users 1 to 533). Yet they are two data sets, of two digests: here all
ratings are 1 and all times 0.
"""

from __future__ import annotations

from pathlib import Path

from harness.data.catalog import Dataset
from harness.data.readers.columns import distinct, integers, is_id, malformed, ratings_dataset, text_lines
from harness.data.readers.sequences import read_lines, sequences_dataset
from harness.types import Item

NAME = "ml-1m"
SEQUENCES = "ml-1m-sequences"
"""The name of the data set that has no ratings and times."""
RATING = "user::item::rating::time"


def read(folder: Path) -> Dataset:
    """From `ratings.dat` and `movies.dat`. BadData: a line is not of the documented form."""
    items, genres = _items(folder / "movies.dat")
    path = folder / "ratings.dat"
    rows = integers(path, path.read_bytes(), b"::", RATING)
    return ratings_dataset(NAME, path, rows, items, {"genres": tuple(genres)})


def read_sequences(folder: Path) -> Dataset:
    """From `sequences.txt` and `movies.dat`; the catalogue and the users are those of `read`, in the same order.

    BadData: a line is not of the documented form.
    """
    items, genres = _items(folder / "movies.dat")
    return sequences_dataset(SEQUENCES, read_lines(folder / "sequences.txt"), items, {"genres": tuple(genres)})


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
