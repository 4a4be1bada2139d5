"""PALR's tuning texts: which users, which windows of their training events, which candidates beside the targets.

Paper, section 2.2: a fifth of the users; "Recommend" lists what the user did next, "Recommend_Retrieval" the same from
candidates that hold all targets and a few similar items; short lists are enriched from the user's 3-hop affinity
(user, item, co-user, item); some items are swapped between history and label. Numbers are not given, so they are knobs
of the task `palr`. Similar is here what many users met beside the targets; "of the same genre", the paper's other word
for it, is not asked, since Beauty has no genres here.

Guards. All is made from the training events of the chosen users: no event of validation or test is read, not even to
keep it out of a list (a gap would tell), and nothing of any other user.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.types import ItemId, Timeline

AFFINE = 50
"""How many items of a user's 3-hop affinity his short lists are filled from."""


class Window(NamedTuple):
    """What one tuning text tells: places of items in the catalogue."""

    history: tuple[int, ...]
    targets: tuple[int, ...]
    offered: tuple[int, ...]
    """The targets, and what many met beside them and the user did not meet in training."""
    draw: float
    """Between 0 and 1, for whoever takes a share of the windows."""


@dataclass(frozen=True)
class Choices:
    """What the paper leaves open."""

    share: float
    """Of the users."""
    seed: int
    shown: int
    """Longest history."""
    wanted: int
    """Targets of a text."""
    stride: int
    """Events from one window of a user to the next."""
    negatives: int
    """At most; from none to so many are drawn, each number as often."""
    swaps: float
    """Chance that an item of a text's label changes places with one of its history."""
    enrich: bool
    mixed: bool
    """Whether the candidates stand in no order; else the targets keep theirs among the others."""
    drawn: bool = False
    """Whether the targets stand in a drawn order; else in that of time."""


class Texts:
    """The windows of the chosen users, in an order that never changes."""

    def __init__(self, lines: Sequence[Timeline], places: Mapping[ItemId, int], choices: Choices) -> None:
        self._how = choices
        chosen = sorted(lines, key=lambda line: _hash(choices.seed, line.user))
        kept = {line.user for line in chosen[: max(1, round(len(lines) * choices.share))]}
        self._events = {
            line.user: [places[event.item.id] for event in line.events] for line in lines if line.user in kept
        }
        self._size = len(places)

    @property
    def users(self) -> Sequence[str]:
        """The chosen ones, in the order of the data."""
        return list(self._events)

    def windows(self) -> Iterator[Window]:
        """Those of all chosen users, in their order."""
        for user in self._events:
            yield from self.windows_of(user)

    def windows_of(self, user: str) -> Iterator[Window]:
        """Those of one user, the earliest first. KeyError: this user was not chosen."""
        how, events = self._how, self._events[user]
        affine = self._affine(events) if how.enrich else []
        for place in range(1, len(events), how.stride):
            random = np.random.Generator(np.random.PCG64(int(_hash(how.seed, f"{user}\0{place}")[:32], 16)))
            history, targets = events[max(0, place - how.shown) : place], events[place : place + how.wanted]
            history, targets = _swapped(history, targets, how.swaps, random)
            targets = [*targets, *_drawn(affine, how.wanted - len(targets), random)]
            if how.drawn:
                targets = [targets[place] for place in random.permutation(len(targets))]
            offered = _among(targets, self._similar(events, targets, random), how.mixed, random)
            yield Window(tuple(history), tuple(targets), offered, random.random())

    @cached_property
    def _together(self) -> Any:
        """How many chosen users met both items: a sparse matrix, shape (items, items)."""
        from scipy.sparse import csr_array  # here, since an evaluation has no use for it

        lines = list(self._events.values())
        rows = np.repeat(np.arange(len(lines)), [len(events) for events in lines])
        columns = np.array([item for events in lines for item in events], dtype=np.int64)
        met = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(lines), self._size))
        return (met.T @ met).tocsr()

    def _beside(self, items: Sequence[int], events: Sequence[int]) -> NDArray[np.float64]:
        """How often the chosen users met each item beside these, those of `events` and themselves left out."""
        weight: NDArray[np.float64] = np.asarray(self._together[list(items)].sum(axis=0)).ravel()
        weight[[*items, *events]] = 0
        return weight

    def _affine(self, events: Sequence[int]) -> list[int]:
        """The items that those who share an item with this user met most often, weighted by what they share."""
        weight = self._beside(events, ())
        best = np.argsort(-weight, kind="stable")[:AFFINE]
        found: list[int] = best[weight[best] > 0].tolist()
        return found

    def _similar(self, events: Sequence[int], targets: Sequence[int], random: np.random.Generator) -> list[int]:
        """Items that many users met beside the targets, drawn in proportion to how many did; how many is drawn, too."""
        weight = self._beside(targets, events)
        count = min(int(random.random() * (self._how.negatives + 1)), int(np.count_nonzero(weight)))
        if not count:
            return []
        # The smallest of exponential times whose rates are the weights: so drawing needs plain doubles alone.
        with np.errstate(divide="ignore"):
            times = -np.log1p(-random.random(len(weight))) / weight
        found: list[int] = np.argsort(times, kind="stable")[:count].tolist()
        return found


def _swapped(
    history: Sequence[int], targets: Sequence[int], rate: float, random: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Each target changes places with some event of the history with this chance."""
    history, targets = list(history), list(targets)
    for place in range(len(targets)):
        if random.random() < rate:
            other = int(random.random() * len(history))
            history[other], targets[place] = targets[place], history[other]
    return history, targets


def _among(targets: Sequence[int], others: Sequence[int], mixed: bool, random: np.random.Generator) -> tuple[int, ...]:
    """Targets and others in one line: in no order, or with the targets in theirs."""
    first = random.random(len(targets))
    places = np.concatenate((first if mixed else np.sort(first), random.random(len(others))))
    line = [*targets, *others]
    return tuple(line[place] for place in np.argsort(places, kind="stable").tolist())


def _drawn(items: Sequence[int], count: int, random: np.random.Generator) -> list[int]:
    """At most so many of them, in no order."""
    order = np.argsort(random.random(len(items)), kind="stable")
    return [items[place] for place in order[: max(0, count)].tolist()]


def _hash(seed: int, name: str) -> str:
    return sha256(f"{seed}\0{name}".encode()).hexdigest()
