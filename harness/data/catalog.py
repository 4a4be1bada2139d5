"""What every data set becomes: items that a model can read, and events that say who met which item.

A `Dataset` is columns, not objects: a million ratings are four arrays of some twenty megabytes. The columns keep the
order of the file, because protocols are defined on that order; `timelines` gives the order in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.types import Item

Codes = NDArray[np.int32]


class Timelines(NamedTuple):
    """The events of every user, oldest first; user `u` has `order[starts[u]:starts[u + 1]]`."""

    order: NDArray[np.int64]
    """Positions in the event columns, shape (events,)."""
    starts: NDArray[np.int64]
    """Shape (users + 1,)."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """The usual table of a data set; `density` is over the items that someone met, as papers count it."""

    users: int
    items: int
    """Listed in the catalogue."""
    items_met: int
    """In at least one event."""
    interactions: int
    density: float
    history_mean: float
    history_median: float
    ratings: tuple[tuple[float, int], ...]
    """Every rating and how often it was given, lowest first."""
    first_time: int | None
    """Seconds since 1970; None where the data set has no times."""
    last_time: int | None
    skipped: Mapping[str, int]
    """Lines that the reader left out, by reason."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Items, users and the events between them. Two data sets are the same when their digests are."""

    name: str
    items: tuple[Item, ...]
    """The whole catalogue, in the order of its file, whether met or not."""
    users: tuple[str, ...]
    """In the order in which they first appear in the events."""
    user: Codes
    """Per event, in file order, the place of its user in `users`; shape (events,)."""
    item: Codes
    """Per event, the place of its item in `items`; shape (events,)."""
    rating: NDArray[np.float32]
    """As in the file; what counts as liked is the protocol's business."""
    time: NDArray[np.int64]
    """Seconds since 1970; all 0 where the data set has no times."""
    attributes: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """What else is known about the items: per attribute, the values of every item, in the order of `items`."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Lines of the files that the reader left out, by reason. Not part of the digest."""

    def __post_init__(self) -> None:
        columns = {"user": np.int32, "item": np.int32, "rating": np.float32, "time": np.int64}
        for name, kind in columns.items():
            column = np.array(getattr(self, name), dtype=kind)
            if column.shape != (len(self.user),):
                raise ValueError(f"column {name!r} has shape {column.shape}, expected ({len(self.user)},)")
            column.flags.writeable = False
            object.__setattr__(self, name, column)
        for codes, known in ((self.user, len(self.users)), (self.item, len(self.items))):
            if codes.size and (codes.min() < 0 or codes.max() >= known):
                raise ValueError(f"codes run from {codes.min()} to {codes.max()}, expected 0 to {known - 1}")
        for attribute, values in self.attributes.items():
            if len(values) != len(self.items):
                raise ValueError(f"attribute {attribute!r} has {len(values)} values for {len(self.items)} items")

    def __len__(self) -> int:
        """How many events there are."""
        return len(self.user)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that change with any name, text, attribute or event, and with their order."""
        content = sha256()
        _feed(content.update, (self.name,))
        _feed(content.update, (item.id for item in self.items))
        _feed(content.update, (item.text for item in self.items))
        _feed(content.update, self.users)
        for name in sorted(self.attributes):
            _feed(content.update, (name,))
            _feed(content.update, ("\x1f".join((str(len(v)), *v)) for v in self.attributes[name]))
        # Little-endian whatever the machine, so that a digest means the same everywhere.
        for column, kind in ((self.user, "<i4"), (self.item, "<i4"), (self.rating, "<f4"), (self.time, "<i8")):
            content.update(np.ascontiguousarray(column, dtype=kind).data)
        return content.hexdigest()[:16]

    @cached_property
    def timelines(self) -> Timelines:
        """Every user's events in time; events of one moment keep the order of the file."""
        order = np.lexsort((self.time, self.user)).astype(np.int64, copy=False)
        counts = np.bincount(self.user, minlength=len(self.users))
        starts = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)))
        for column in (order, starts):
            column.flags.writeable = False
        return Timelines(order, starts)

    def statistics(self) -> Statistics:
        """Counts, density, length of histories, histogram of ratings and range of times."""
        lengths = np.bincount(self.user, minlength=len(self.users))
        met = int(np.count_nonzero(np.bincount(self.item, minlength=len(self.items))))
        values, counts = np.unique(self.rating, return_counts=True)
        cells = len(self.users) * met
        timed = bool(self.time.any())
        return Statistics(
            users=len(self.users),
            items=len(self.items),
            items_met=met,
            interactions=len(self),
            density=len(self) / cells if cells else 0.0,
            history_mean=float(lengths.mean()) if lengths.size else 0.0,
            history_median=float(np.median(lengths)) if lengths.size else 0.0,
            ratings=tuple((float(v), int(n)) for v, n in zip(values, counts, strict=True)),
            first_time=int(self.time.min()) if timed else None,
            last_time=int(self.time.max()) if timed else None,
            skipped=dict(self.skipped),
        )


def _feed(update: Callable[[bytes], object], texts: Iterable[str]) -> None:
    """Hash texts so that no two lists of texts look alike: each is preceded by its length."""
    encoded = [text.encode() for text in texts]
    update(f"{len(encoded)};{','.join(str(len(text)) for text in encoded)};".encode())
    update(b"".join(encoded))


def first_appearance(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], Codes]:
    """Distinct ids in the order in which they first appear, and for every id its place among them.

    Shapes: (n,) -> (distinct,) and (n,).
    """
    distinct, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    appearance = np.argsort(first, kind="stable")
    place = np.empty(len(distinct), dtype=np.int32)
    place[appearance] = np.arange(len(distinct), dtype=np.int32)
    return distinct[appearance], place[inverse]


def codes_of(ids: NDArray[np.int64], listed: Sequence[int]) -> Codes:
    """For every id its place in `listed`, or -1 where it is not listed; shape (n,)."""
    known = np.asarray(listed, dtype=np.int64)
    if not known.size:
        return np.full(len(ids), -1, dtype=np.int32)
    order = np.argsort(known, kind="stable")
    place = np.minimum(np.searchsorted(known, ids, sorter=order), len(known) - 1)
    found = order[place]
    return np.where(known[found] == ids, found, -1).astype(np.int32)
