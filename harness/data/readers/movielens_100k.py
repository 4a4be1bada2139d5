"""MovieLens 100K, from the official files or from the copy inside the package recbole; both give the same data set.

Formats: `u.data` is user, item, rating, time, separated by tabs; `u.item` is 24 fields separated by `|`: number, title
with year, two dates, address, and 19 flags, one per genre (the README of the archive). The copy has the same ratings in
the same order under a header line, and titles whose year stands in a column of its own.

An item's text is the title column of `u.item`, without the blank that two of them end with (items 1201 and 1635): the
copy does not have those blanks, and no model should read them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from harness.data.catalog import Dataset
from harness.data.readers.columns import distinct, integers, is_id, malformed, ratings_dataset, text_lines
from harness.errors import BadData
from harness.types import Item

NAME = "ml-100k"
RATING = "user\titem\trating\ttime"
GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
"""In the order of the flags in `u.item`."""
BEFORE_GENRES = 5
"""Fields of `u.item` before the flags."""
INTER_HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
ITEM_HEADER = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
UNKNOWN_IN_COPY = "unkonwn"
"""What the copy has for title and year of the one film that `u.item` calls `unknown`."""

Genres = list[tuple[str, ...]]


def read(folder: Path) -> Dataset:
    """From `u.data` and `u.item`. BadData: a line is not of the documented form."""
    items, genres = _official_items(folder / "u.item")
    path = folder / "u.data"
    rows = integers(path, path.read_bytes(), b"\t", RATING)
    return ratings_dataset(NAME, path, rows, items, {"genres": tuple(genres)})


def read_copy(folder: Path) -> Dataset:
    """From `ml-100k.inter` and `ml-100k.item`. BadData: a line is not of the form of RecBole's atomic files."""
    return _read_copy(folder, (folder / "ml-100k.item").read_bytes(), (folder / "ml-100k.inter").read_bytes())


@lru_cache(maxsize=1)
def _read_copy(folder: Path, item: bytes, inter: bytes) -> Dataset:
    """Read once for all tasks of a process, which a grid has many of; the bytes tell another content."""
    items, genres = _copied_items(folder / "ml-100k.item")
    path = folder / "ml-100k.inter"
    rows = integers(path, ratings_of_copy(path), b"\t", RATING, line=2)
    return ratings_dataset(NAME, path, rows, items, {"genres": tuple(genres)}, line=2)


def ratings_of_copy(path: Path) -> bytes:
    """The content of `u.data`, byte for byte, from an intact `ml-100k.inter`. BadData: the header is another one."""
    header, _, ratings = path.read_bytes().partition(b"\n")
    if header != INTER_HEADER.encode():
        raise malformed(path, 1, INTER_HEADER, header.decode("latin-1"))
    return ratings


def _official_items(path: Path) -> tuple[list[Item], Genres]:
    items: list[Item] = []
    genres: Genres = []
    for number, line in enumerate(text_lines(path, "latin-1"), start=1):
        fields = line.split("|")
        flags = fields[BEFORE_GENRES:]
        if len(flags) != len(GENRES) or not is_id(fields[0]) or not set(flags) <= {"0", "1"}:
            raise malformed(path, number, f"number|title|date|date|address|{len(GENRES)} flags", line)
        items.append(Item(fields[0], fields[1].strip()))
        genres.append(tuple(genre for genre, flag in zip(GENRES, flags, strict=True) if flag == "1"))
    distinct(path, items)
    return items, genres


def _copied_items(path: Path) -> tuple[list[Item], Genres]:
    header, *lines = text_lines(path, "utf-8")
    if header != ITEM_HEADER:
        raise malformed(path, 1, ITEM_HEADER, header)
    items: list[Item] = []
    genres: Genres = []
    for number, line in enumerate(lines, start=2):
        fields = line.split("\t")
        if len(fields) != 4 or not is_id(fields[0]) or not set(fields[3].split(" ")) <= set(GENRES):
            raise malformed(path, number, "number, title, year and genres, separated by tabs", line)
        title = "unknown" if fields[1] == fields[2] == UNKNOWN_IN_COPY else f"{fields[1]} ({fields[2]})"
        items.append(Item(fields[0], title.strip()))
        genres.append(tuple(genre for genre in GENRES if genre in fields[3].split(" ")))
    if not items:
        raise BadData(f"{path}: expected items below the header, found none")
    distinct(path, items, line=2)
    return items, genres
