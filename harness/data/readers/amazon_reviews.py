"""Amazon reviews of 2018 and of 2014: who reviewed which product when, what products are called, what reviews say.

Formats: one object a line. Reviews are JSON with `reviewerID`, `asin`, `overall` (the stars), `unixReviewTime` (whole
days), and mostly `reviewText` and `summary`. Metadata is JSON with `asin`, `title` and the list `category` in 2018; in
2014 its lines are Python literals, which `ast.literal_eval` reads where JSON fails, and `categories` is a list of
lists, of which the first counts. The sites nijianmo.github.io/amazon and jmcauley.ucsd.edu/data/amazon say so.

Items are the products of the metadata, in its order, then those that only reviews name. An item's text is its title as
`title_of` cleans it, or its asin where nothing is left. Its labels end before the first that has `</span>`: after that
the crawl of 2018 put sentences of the product page, and its users cut there, too (LC-Rec's `load_meta_items`).

Files are read line by line; what stays in memory is ids, titles, labels and twenty bytes an event.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from harness.data.catalog import Dataset
from harness.data.readers.columns import TOO_LARGE, malformed
from harness.errors import BadData
from harness.types import Item

REVIEW = "a JSON object with reviewerID, asin, overall from 0 to 5 and unixReviewTime"
PRODUCT = "an object with asin, title and a list of labels"
ONLY_HTML = "titles that are nothing but HTML"
TAG = re.compile(r"<[/!a-zA-Z][^<>]*>")
TORN = re.compile(r'<[/!a-zA-Z][^<>]*$|"\s*/>$')
"""A tag whose beginning or end the crawl cut off."""


class Files(NamedTuple):
    """What a data set consists of; the metadata may be absent."""

    reviews: str
    metadata: str


FILES: Mapping[str, Files] = {
    "amazon-games": Files("Video_Games.json", "meta_Video_Games.json"),
    "amazon-cds": Files("CDs_and_Vinyl.json", "meta_CDs_and_Vinyl.json"),
    "amazon-instruments": Files("reviews_Musical_Instruments_5.json", "meta_Musical_Instruments.json"),
}


@dataclass(frozen=True, slots=True)
class Review:
    """What a user wrote of an item, as `readable` makes it; either may be empty."""

    summary: str
    text: str


class Row(NamedTuple):
    """A line of reviews."""

    line: int
    user: str
    item: str
    rating: float | None
    time: int
    entry: Mapping[str, Any]


class Products(NamedTuple):
    """The metadata, in its order."""

    titles: Mapping[str, str]
    """By asin; empty where there is none."""
    labels: list[tuple[str, ...]]
    skipped: Counter[str]


def readable(text: str) -> str:
    """Without tags, with entities as the characters they mean, and every run of white space as one blank."""
    plain = " ".join(unescape(TAG.sub(" ", text)).split())
    return plain if plain.isascii() else plain.encode("utf-8", "replace").decode()  # half a surrogate pair is no text


def title_of(raw: str) -> str:
    """As `readable`, also without torn tags; empty where the crawl took a script of the page for the title.

    `getTime` is by what the data's own page tells such a title.
    """
    return "" if "getTime" in raw else readable(TORN.sub("", TAG.sub(" ", raw).strip()))


def read(name: str, folder: Path) -> Dataset:
    """Every review that has a rating is an event, in file order; reviews without one are counted under `skipped`.

    Without the metadata file there is no attribute `category`, and an item's text is its asin. Who reviewed a product
    twice has two events. BadData: a line is not of the documented form.
    """
    files = FILES[name]
    described = (folder / files.metadata).is_file()
    products = _products(folder / files.metadata) if described else Products({}, [], Counter())
    places = {asin: place for place, asin in enumerate(products.titles)}
    users: dict[str, int] = {}
    user, item, rating, time = array("i"), array("i"), array("f"), array("q")
    skipped = products.skipped
    for row in _rows(folder / files.reviews):
        if row.rating is None:
            skipped["reviews without a rating"] += 1
            continue
        user.append(users.setdefault(row.user, len(users)))
        item.append(places.setdefault(row.item, len(places)))
        rating.append(row.rating)
        time.append(row.time)
    unlisted = len(places) - len(products.labels)
    return Dataset(
        name=name,
        items=tuple(Item(asin, products.titles.get(asin) or asin) for asin in places),
        users=tuple(users),
        user=np.asarray(user, dtype=np.int32),
        item=np.asarray(item, dtype=np.int32),
        rating=np.asarray(rating, dtype=np.float32),
        time=np.asarray(time, dtype=np.int64),
        attributes={"category": (*products.labels, *((),) * unlisted)} if described else {},
        skipped=dict(skipped),
    )


def first_reviews(name: str, folder: Path, wanted: Set[tuple[str, str]]) -> Mapping[tuple[str, str], Review]:
    """By user and item, of those wanted that are there: the first rated review in time, and of one time in the file.

    So it is the review of the event that `harness.data.filters.without_repeats` keeps. BadData: a line is not of the
    documented form.
    """
    path = folder / FILES[name].reviews
    found: dict[tuple[str, str], tuple[int, Review]] = {}
    for row in _rows(path):
        key = (row.user, row.item)
        if key in wanted and row.rating is not None and (key not in found or row.time < found[key][0]):
            found[key] = (row.time, Review(_words(path, row, "summary"), _words(path, row, "reviewText")))
    return {key: review for key, (_, review) in found.items()}


def _rows(path: Path) -> Iterator[Row]:
    for number, line in _lines(path):
        try:
            entry = json.loads(line)
            user, item, time = entry["reviewerID"], entry["asin"], entry["unixReviewTime"]
            rating = entry.get("overall")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise _malformed(path, number, REVIEW, line) from None
        right = _is_key(user) and _is_key(item) and type(time) is int and 0 <= time < TOO_LARGE
        if not right or not (rating is None or (type(rating) in (int, float) and 0 <= rating <= 5)):
            raise _malformed(path, number, REVIEW, line)
        yield Row(number, user, item, rating, time, entry)


def _words(path: Path, row: Row, field: str) -> str:
    words = row.entry.get(field)
    if words is not None and not isinstance(words, str):
        raise malformed(path, row.line, f"text or nothing as {field}", repr(words))
    return readable(words or "")


def _products(path: Path) -> Products:
    titles: dict[str, str] = {}
    labels: list[tuple[str, ...]] = []
    skipped: Counter[str] = Counter()
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}  # thousands of products have the same labels
    for number, line in _lines(path):
        entry = _literal(line)
        if not isinstance(entry, dict):
            raise _malformed(path, number, PRODUCT, line)
        asin, raw, found = entry.get("asin"), entry.get("title") or "", _labels(entry)
        if not _is_key(asin) or not isinstance(raw, str) or found is None:
            raise _malformed(path, number, PRODUCT, line)
        if asin in titles:
            skipped["products listed again"] += 1
            continue
        titles[asin] = title_of(raw)
        labels.append(shared.setdefault(found, found))
        if raw.strip() and not titles[asin]:
            skipped[ONLY_HTML] += 1
    return Products(titles, labels, skipped)


def _labels(entry: Mapping[str, Any]) -> tuple[str, ...] | None:
    """None: they are not of the form of either year."""
    given = entry.get("category")
    if given is None:
        lists = entry.get("categories") or [[]]
        given = lists[0] if isinstance(lists, list) else None
    if not isinstance(given, list) or not all(isinstance(label, str) for label in given):
        return None
    end = next((place for place, label in enumerate(given) if "</span>" in label), len(given))
    return tuple(label for label in map(readable, given[:end]) if label)


def _literal(line: bytes) -> object:
    """The value of a line of metadata; None where it is neither JSON nor a Python literal."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes in titles, which Python would have doubled
            return ast.literal_eval(line.decode("utf-8"))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield number, line
    if not number:
        raise BadData(f"{path}: expected lines, found an empty file")


def _is_key(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.isascii() and value.isprintable() and value.split() == [value]


def _malformed(path: Path, number: int, expected: str, line: bytes) -> BadData:
    return malformed(path, number, expected, line.rstrip(b"\r\n").decode("utf-8", "replace"))
