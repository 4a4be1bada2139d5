"""Amazon Beauty 2014, the five-core, in the form in which S3-Rec published it.

Format: `data/Beauty.txt` of the repository RUCAIBox/CIKM2020-S3Rec at commit 2a81540a is a file of sequences
(`harness.data.readers.sequences`), without ratings and times.

Titles are not in that repository. Where `items.jsonl` lies beside the sequences, one JSON object a line with
`s3rec_id`, `asin` and `title`, an item's text is its title without blanks at its ends; else, and for the seven items
whose title is empty, the text is the number. Titles keep their HTML entities. With that file there is the attribute
`asin`, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.data.catalog import Dataset
from harness.data.readers.columns import malformed, text_lines
from harness.data.readers.sequences import read_lines, sequences_dataset
from harness.types import Item

NAME = "amazon-beauty"
SEQUENCES = "Beauty.txt"
ITEMS = "items.jsonl"
ENTRY = "a JSON object with s3rec_id, asin and title"


class Entry(NamedTuple):
    """What is known of an item besides its number."""

    asin: str
    title: str


def read(folder: Path) -> Dataset:
    """From `Beauty.txt`, and `items.jsonl` if it is there; items are in the order of their numbers.

    BadData: a line is not of the documented form, a user has two lines, or an item of the sequences is not among
    the listed ones.
    """
    lines = read_lines(folder / SEQUENCES)
    numbers: list[int] = np.unique(lines.items).tolist()
    listed = _items(folder / ITEMS, numbers) if (folder / ITEMS).is_file() else None
    known: Mapping[int, Entry] = listed or {}
    texts = ((str(number), known[number].title if listed else "") for number in numbers)
    items = [Item(number, title or number) for number, title in texts]
    return sequences_dataset(
        NAME, lines, items, {"asin": tuple((known[number].asin,) for number in numbers)} if listed else {}
    )


def _items(path: Path, wanted: list[int]) -> Mapping[int, Entry]:
    found: dict[int, Entry] = {}
    for number, line in enumerate(text_lines(path, "utf-8"), start=1):
        try:
            entry = json.loads(line)
            key, asin, title = entry["s3rec_id"], entry["asin"], entry["title"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise malformed(path, number, ENTRY, line) from None
        if type(key) is not int or not isinstance(asin, str) or not isinstance(title, str):
            raise malformed(path, number, ENTRY, line)
        if key in found:
            raise malformed(path, number, "an s3rec_id that no earlier line has", str(key))
        found[key] = Entry(asin, title.strip())
    missing = [key for key in wanted if key not in found]
    if missing:
        raise malformed(path, number, f"the item {missing[0]} of {SEQUENCES} on some line", "the end of the file")
    return found
