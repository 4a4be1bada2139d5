"""What a conventional model learns from, and the codes it knows users and items by. No torch, no RecBole.

A code is a place in the vocabulary plus one; 0 is nobody and nothing, as in RecBole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import sha256
from itertools import accumulate, chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import BadSetting, NotApplicable
from harness.task import Task
from harness.types import Event, Instance, ItemId

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
DISLIKED = " (disliked)"
"""What is put behind an item's id where a disliked item of a history is a token of its own."""


@dataclass(frozen=True, eq=False)
class Lists:
    """Lists of codes, one behind the other."""

    values: Ints
    ends: Ints
    """Shape (lists,): where each list ends in `values`."""

    @classmethod
    def of(cls, lists: Iterable[Sequence[int]]) -> Lists:
        kept = list(lists)
        ends = np.fromiter(accumulate(map(len, kept)), dtype=np.int64, count=len(kept))
        return cls(np.fromiter(chain.from_iterable(kept), dtype=np.int64, count=int(ends[-1]) if kept else 0), ends)

    @property
    def lengths(self) -> Ints:
        return np.diff(self.ends, prepend=0)

    def __iter__(self) -> Iterator[Ints]:
        return iter(np.split(self.values, self.ends[:-1]) if len(self.ends) else [])


class Rows(NamedTuple):
    """Questions with their answers: whose, after what, which item, and for labelled ones whether it was liked."""

    user: Ints
    history: Lists
    item: Ints
    label: Floats | None


@dataclass(frozen=True)
class Material:
    """Everything that a training reads, in plain arrays."""

    users: tuple[str, ...]
    items: tuple[ItemId, ...]
    timelines: Lists
    """The training interactions of the users, in the order of `users`; empty for users without any."""
    labelled: Rows | None
    """Training rows with labels, where the protocol has them."""
    valid: Rows | None
    longest: int
    """Events that a history of the task can have."""

    @cached_property
    def met(self) -> Ints:
        """How often each code occurs in training, in a labelled row's history as well; shape (items + 1,)."""
        rows = self.labelled
        seen = [self.timelines.values] if rows is None else [rows.item, rows.history.values]
        return np.bincount(np.concatenate(seen), minlength=len(self.items) + 1)

    @cached_property
    def trained_users(self) -> frozenset[str]:
        """Those of whom there is a training row."""
        if self.labelled is not None:
            return frozenset(self.users[code - 1] for code in set(self.labelled.user.tolist()) if code)
        return frozenset(user for user, events in zip(self.users, self.timelines.lengths, strict=True) if events)

    @cached_property
    def digest(self) -> str:
        """Over everything in it, order included."""
        return _digest(self.users, self.items, _arrays(self))

    @cached_property
    def interactions(self) -> str:
        """The same over vocabulary and timelines alone: what a model of sequences or pairs has seen."""
        return _digest(self.users, self.items, _arrays(self.timelines))


def material(task: Task, labelled: bool, likes: bool, shots: int | None, seed: int) -> Material:
    """Everything that a model may learn from in this task.

    `labelled` takes the rows of the training split, or `shots` of them, drawn by `seed` as pandas'
    `DataFrame.sample(n=shots, random_state=seed)` draws; otherwise the users' timelines. `likes` gives disliked items
    in histories a code of their own. NotApplicable where the task has neither; BadSetting for too many shots.
    """
    if labelled:
        return _of_rows(task, likes, shots, seed)
    if shots is not None:
        raise BadSetting("shots is for labelled rows, and this model learns from whole sequences; leave it out")
    timelines = list(task.timelines())
    catalogue = task.catalogue()
    users = {timeline.user: code for code, timeline in enumerate(timelines, 1)}
    items = {item.id: code for code, item in enumerate(catalogue.items, 1)}
    valid = list(task.instances("valid"))
    # Where some are known, only they say how well; a protocol whose users are all new has none of them.
    valid = [instance for instance in valid if instance.user in users] or valid
    return Material(
        users=tuple(users),
        items=tuple(items),
        timelines=Lists.of([items[event.item.id] for event in timeline.events] for timeline in timelines),
        labelled=None,
        valid=_rows(valid, users, items, likes=False, labelled=False),
        longest=_longest(task, valid),
    )


def _of_rows(task: Task, likes: bool, shots: int | None, seed: int) -> Material:
    train = list(task.instances("train"))
    if any(instance.candidates is None for instance in train):
        raise NotApplicable(f"task {task.name!r} has no labelled rows to learn from")
    valid, test = list(task.instances("valid")), task.instances("test")
    users = {user: code for code, user in enumerate(dict.fromkeys(instance.user for instance in train), 1)}
    # An item of the test split without a training row has a code, and the weights that it started with.
    known = dict.fromkeys(item for instance in chain(train, valid, test) for item in _items(instance))
    names = [*known, *(f"{item}{DISLIKED}" for item in known if likes)]
    items = {item: code for code, item in enumerate(names, 1)}
    drawn = train if shots is None else [train[row] for row in draw(len(train), shots, seed)]
    return Material(
        users=tuple(users),
        items=tuple(items),
        timelines=Lists.of([] for _ in users),
        labelled=_rows(drawn, users, items, likes, labelled=True),
        valid=_rows(valid, users, items, likes, labelled=True),
        longest=_longest(task, [*train, *valid]),
    )


def rows_of(instances: Sequence[Instance], known: Material) -> Rows:
    """Questions with one answer each in the codes of a material."""
    users = {user: code for code, user in enumerate(known.users, 1)}
    items = {item: code for code, item in enumerate(known.items, 1)}
    return _rows(instances, users, items, likes=False, labelled=False)


def draw(rows: int, shots: int, seed: int) -> list[int]:
    """Row numbers as `DataFrame.sample(n=shots, random_state=seed)` takes them, in its order."""
    if not 1 <= shots <= rows:
        raise BadSetting(f"shots={shots} is not between 1 and the {rows} rows of the training split")
    return [int(row) for row in np.random.RandomState(seed).choice(rows, size=shots, replace=False)]


def history_codes(history: Sequence[Event], items: Mapping[ItemId, int], likes: bool, longest: int) -> list[int]:
    """The codes of the last `longest` known items of a history, oldest first."""
    names = (event.item.id if event.liked or not likes else event.item.id + DISLIKED for event in history)
    return [items[name] for name in names if name in items][-longest:]


def _rows(
    instances: Sequence[Instance], users: Mapping[str, int], items: Mapping[ItemId, int], likes: bool, labelled: bool
) -> Rows:
    """One row per relevant item, or with labels, per candidate. Without a known history there is nothing to learn."""
    rows = [
        (users.get(instance.user, 0), history, items[item], label)
        for instance in instances
        if (history := history_codes(instance.history, items, likes, len(instance.history)))
        for item, label in _judged(instance, labelled)
        if item in items
    ]
    user, histories, item, label = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Rows(
        np.array(user, dtype=np.int64),
        Lists.of(histories),
        np.array(item, dtype=np.int64),
        np.array(label, dtype=np.float32) if labelled else None,
    )


def _judged(instance: Instance, labelled: bool) -> list[tuple[ItemId, float]]:
    if labelled:
        asked = instance.candidates or ()
        return [(item.id, float(instance.relevance.get(item.id, 0.0) > 0)) for item in asked]
    return [(item, 1.0) for item, gain in instance.relevance.items() if gain > 0]


def _items(instance: Instance) -> list[ItemId]:
    return [event.item.id for event in instance.history] + [item.id for item in instance.candidates or ()]


def _longest(task: Task, instances: Iterable[Instance]) -> int:
    declared = task.longest_history
    return declared if declared is not None else max((len(instance.history) for instance in instances), default=1)


def _digest(users: Sequence[str], items: Sequence[ItemId], arrays: Iterable[NDArray[np.generic]]) -> str:
    content = sha256()
    for words in (users, items):
        content.update("\n".join(map(repr, words)).encode() + b"\0")
    for array in arrays:
        content.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return content.hexdigest()[:16]


def _arrays(thing: object) -> Iterator[NDArray[np.generic]]:
    """The arrays in a Material, in the order of its fields."""
    if isinstance(thing, np.ndarray):
        yield thing
    elif isinstance(thing, Rows):
        yield from chain.from_iterable(map(_arrays, thing))
    elif isinstance(thing, (Lists, Material)):
        yield from chain.from_iterable(_arrays(getattr(thing, field.name)) for field in fields(thing))
    elif isinstance(thing, int):
        yield np.array(thing)
