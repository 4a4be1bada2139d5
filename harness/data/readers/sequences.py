"""What readers of sequences share: one line per user, his number, then those of his items, oldest first.

Format: whole numbers separated by single blanks, as S3-Rec and its followers publish data sets. There are no ratings
and no times: every rating is 1, every time 0, and the order of the file is the order of the events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.catalog import Dataset, codes_of
from harness.data.readers.columns import is_id, malformed, text_lines
from harness.types import Item

LINE = "user item item ..., in whole numbers"


class Lines(NamedTuple):
    """A file of sequences."""

    path: Path
    users: tuple[str, ...]
    """In the order of the lines."""
    lengths: tuple[int, ...]
    """How many items each user has."""
    items: NDArray[np.int64]
    """The numbers of all items, user after user; shape (events,)."""


def read_lines(path: Path) -> Lines:
    """All lines of the file. BadData: one is not of that form, or a user has two."""
    users: dict[str, None] = {}
    lengths: list[int] = []
    met: list[int] = []
    for number, line in enumerate(text_lines(path, "ascii"), start=1):
        user, *items = line.split(" ")
        if not items or not is_id(user) or not _are_ids(items):
            raise malformed(path, number, LINE, line)
        if user in users:
            raise malformed(path, number, "a user that no earlier line has", user)
        users[user] = None
        lengths.append(len(items))
        met.extend(map(int, items))
    return Lines(path, tuple(users), tuple(lengths), np.asarray(met, dtype=np.int64))


def _are_ids(texts: Sequence[str]) -> bool:
    """`is_id` of all, at once: of digits they are if all that they hold together is."""
    return all(texts) and is_id(max(texts, key=len)) and "".join(texts).isdigit()


def sequences_dataset(
    name: str, lines: Lines, items: Sequence[Item], attributes: Mapping[str, tuple[tuple[str, ...], ...]]
) -> Dataset:
    """A data set from sequences and a catalogue whose ids are numbers. BadData: an item is not in the catalogue."""
    events = len(lines.items)
    user = np.repeat(np.arange(len(lines.users), dtype=np.int32), lines.lengths)
    item = codes_of(lines.items, [int(item.id) for item in items])
    if (item < 0).any():
        first = int(np.argmax(item < 0))
        raise malformed(lines.path, int(user[first]) + 1, "numbers of listed items", str(lines.items[first]))
    return Dataset(
        name=name,
        items=tuple(items),
        users=lines.users,
        user=user,
        item=item,
        rating=np.ones(events, dtype=np.float32),
        time=np.zeros(events, dtype=np.int64),
        attributes=attributes,
    )
