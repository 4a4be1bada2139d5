"""The rows of TALLRec's two data sets. Sources and deviations are in `tasks/tallrec.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from harness.data import load
from harness.data.catalog import Dataset
from harness.data.readers import tallrec_book
from harness.data.sources import source
from harness.errors import BadData, NotApplicable
from harness.types import Event, Instance, Item, Split

WINDOW = 10
SLICE = 10_000
CUTS: Mapping[Split, slice] = {"train": slice(0, 8000), "valid": slice(8000, 9000), "test": slice(9000, SLICE)}
BOOK_INPUT = re.compile(
    r"User Preference: (?P<liked>.*)\nUser Unpreference: (?P<disliked>.*)\n"
    r'Whether the user will like the target book "(?P<target>.*)"\?'
)
NEXT_BOOK = re.compile(r', (?=")')
"""Where one book of a published list ends and the next begins."""


class Movies:
    """Sliding windows over MovieLens-100K (preprocess_movie.py)."""

    @cached_property
    def dataset(self) -> Dataset:
        return load("ml-100k")

    @cached_property
    def digests(self) -> Mapping[str, str]:
        return {"ml-100k": self.dataset.digest}

    def rows(self, split: Split) -> Sequence[Instance]:
        return [
            self._instance(f"movie-{split}-{number}", user, place)
            for number, (user, place) in enumerate(self._slice[CUTS[split]])
        ]

    def unlabelled(self) -> Iterator[Instance]:
        """One window in ten of the users who are in no split; what was liked, and the answer, are thrown by a coin."""
        taken = {user for user, _ in self._slice}
        for user, events in enumerate(self._histories):
            if user in taken:
                continue
            coin = np.random.default_rng(user)
            for place in range(WINDOW, len(events), WINDOW):
                *liked, answer = (bool(side) for side in coin.integers(2, size=WINDOW + 1))
                window = zip(events[place - WINDOW : place], liked, strict=True)
                history = tuple(replace(event, liked=side) for event, side in window)
                target = events[place].item
                relevance = {target.id: float(answer)}
                yield Instance(f"unlabelled-{user}-{place}", self.dataset.users[user], history, (target,), relevance)

    @cached_property
    def _histories(self) -> Sequence[tuple[Event, ...]]:
        """Each user's events in time order, ties in file order; users in order of first appearance."""
        # The authors sort times as strings; all have nine digits, so numbers sort the same.
        data, (order, starts) = self.dataset, self.dataset.timelines
        columns = (data.item[order].tolist(), (data.rating[order] > 3).tolist(), data.time[order].tolist())
        events = [Event(data.items[code], liked, time) for code, liked, time in zip(*columns, strict=True)]
        return [tuple(events[start:end]) for start, end in pairwise(starts.tolist())]

    @cached_property
    def _slice(self) -> Sequence[tuple[int, int]]:
        """(user, place of the target) of the last 10,000 windows."""
        histories = enumerate(self._histories)
        windows = [(user, place) for user, events in histories for place in range(WINDOW, len(events))]
        return windows[-SLICE:]

    def _instance(self, name: str, user: int, place: int) -> Instance:
        events = self._histories[user]
        target = events[place]
        return Instance(
            id=name,
            user=self.dataset.users[user],
            history=events[place - WINDOW : place],
            candidates=(target.item,),
            relevance={target.item.id: float(target.liked)},
        )


class Books:
    """The published Book-Crossing records: one per user, in no order of time."""

    @cached_property
    def digests(self) -> Mapping[str, str]:
        checksums = {file.name: file.checksum for file in source("tallrec-book").files}
        return {name: checksum.value for name, checksum in checksums.items() if checksum}

    def rows(self, split: Split) -> Sequence[Instance]:
        return [_book_instance(f"book-{split}-{n}", record) for n, record in enumerate(tallrec_book.read(split))]

    def unlabelled(self) -> Iterator[Instance]:
        raise NotApplicable("task 'tallrec' has no unlabelled texts for domain=book: the published files name no users")


def _book_instance(name: str, record: tallrec_book.Record) -> Instance:
    found = BOOK_INPUT.fullmatch(record.input)
    if found is None:
        raise BadData(f"tallrec-book, record {name}: not an input as TALLRec published it")
    liked, disliked = (
        tuple(Event(Item(book, book), side == "liked") for book in NEXT_BOOK.split(found[side]) if book)
        for side in ("liked", "disliked")
    )
    target = found["target"]
    yes = float(record.output == "Yes.")
    return Instance(name, name, liked + disliked, (Item(target, target),), {target: yes})
