"""What the networks learn from: a task's own training questions, in plain arrays. No torch.

A code is a place plus one; 0 is nobody, nothing, no piece of a text. The vocabulary is made of the catalogue's texts
and of training queries, and of no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from baselines.recbole.material import Ints, Lists
from baselines.search.settings import Learning
from baselines.search.words import Pieces, coded, vocabulary
from harness.data.candidates import Urn
from harness.errors import NotApplicable
from harness.task import Task
from harness.types import Event, Instance, ItemId

DRAWN = 99
"""Wrong answers that a validation question without candidates is given."""


class Rows(NamedTuple):
    """Questions, each with one right answer."""

    user: Ints
    history: Ints
    """Shape (questions, longest history), the last item first, zeros behind."""
    query: Ints
    """Shape (questions, longest query); all zeros where there is none."""
    item: Ints
    others: Lists
    """For training: further right answers of the same question. For validation: wrong ones to stand beside."""


@dataclass(frozen=True, eq=False)
class Material:
    """Everything that a training reads."""

    users: tuple[str, ...]
    """Of the training questions."""
    items: tuple[ItemId, ...]
    """The catalogue."""
    words: tuple[str, ...]
    titles: Ints
    """Pieces of each item's text, shape (items + 1, longest)."""
    train: Rows
    valid: Rows

    @cached_property
    def met(self) -> Ints:
        """How often each code occurs in the training questions, as answer or in a history; shape (items + 1,)."""
        counts = np.bincount(self.train.item, minlength=len(self.items) + 1)
        counts += np.bincount(self.train.history.ravel(), minlength=len(self.items) + 1)
        counts[0] = 0
        return counts

    @cached_property
    def contexts(self) -> bool:
        """Whether there is any word of a query to learn from."""
        return bool(self.train.query.any())

    @cached_property
    def digest(self) -> str:
        """Over everything in it, order included."""
        content = sha256()
        for words in (self.users, self.items, self.words):
            content.update("\n".join(map(repr, words)).encode() + b"\0")
        for array in (self.titles, *_arrays(self.train), *_arrays(self.valid)):
            content.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        return content.hexdigest()[:16]


class Question(NamedTuple):
    """One row before it is in arrays."""

    user: str
    history: list[int]
    query: str | None
    item: int
    others: Sequence[int]


@dataclass(frozen=True)
class Reader:
    """Questions to codes; what is made for training serves answering as well."""

    users: Mapping[str, int]
    items: Mapping[ItemId, int]
    words: Mapping[str, int]
    pieces: Pieces
    max_pieces: int
    max_history: int

    @classmethod
    def of(cls, material: Material, set_to: Learning) -> Reader:
        users, items, words = (
            {name: code for code, name in enumerate(names, 1)}
            for names in (material.users, material.items, material.words)
        )
        return cls(users, items, words, set_to.pieces, set_to.max_pieces, set_to.max_history)

    def history(self, events: Sequence[Event]) -> list[int]:
        """The codes of the last known items, the last one first."""
        found = [self.items[event.item.id] for event in events if event.item.id in self.items]
        return found[: -self.max_history - 1 : -1]

    def questions(
        self, users: Iterable[str], histories: Sequence[Sequence[int]], queries: Sequence[str | None]
    ) -> tuple[Ints, Ints, Ints]:
        """Users, histories and queries as in `Rows`."""
        table = np.zeros((len(histories), max([1, *map(len, histories)])), dtype=np.int64)
        for row, history in zip(table, histories, strict=True):
            row[: len(history)] = history
        who = np.array([self.users.get(user, 0) for user in users], dtype=np.int64)
        return who, table, coded(queries, self.pieces, self.words, self.max_pieces)

    def rows(self, asked: Sequence[Question]) -> Rows:
        who, histories, queries = self.questions(
            (question.user for question in asked),
            [question.history for question in asked],
            [question.query for question in asked],
        )
        item = np.array([question.item for question in asked], dtype=np.int64)
        return Rows(who, histories, queries, item, Lists.of(question.others for question in asked))


def material(task: Task, model: str, set_to: Learning) -> Material:
    """NotApplicable in one line where the task has no catalogue, no questions to learn from, or labelled ones."""
    catalogue = task.catalogue()
    items = {item.id: code for code, item in enumerate(catalogue.items, 1)}
    codes = Reader({}, items, {}, set_to.pieces, set_to.max_pieces, set_to.max_history)
    train = [row for instance in _lessons(task, model) for row in _right(instance, codes)]
    if not train:
        raise NotApplicable(f"search:{model} learns from training questions, and task {task.name!r} has none")
    users = tuple(dict.fromkeys(row.user for row in train))
    queries = (row.query for row in train if row.query is not None)
    texts = [item.text for item in catalogue.items]
    words = vocabulary([*texts, *queries], set_to.pieces, set_to.vocabulary)
    reader = Reader(
        {user: code for code, user in enumerate(users, 1)},
        items,
        {word: code for code, word in enumerate(words, 1)},
        set_to.pieces,
        set_to.max_pieces,
        set_to.max_history,
    )
    urn = Urn(np.ones(len(items), dtype=np.int64))
    valid = [row for instance in task.instances("valid") for row in _wrong(instance, reader, urn)]
    titles = coded([None, *texts], set_to.pieces, reader.words, set_to.max_pieces)
    return Material(users, tuple(items), words, titles, reader.rows(train), reader.rows(valid))


def _lessons(task: Task, model: str) -> Iterator[Instance]:
    for instance in task.instances("train"):
        if instance.candidates is not None:
            raise NotApplicable(
                f"search:{model} learns what is right among all items, and the training questions of task "
                f"{task.name!r} are labelled candidates"
            )
        yield instance


def _right(instance: Instance, reader: Reader) -> Iterator[Question]:
    """One training row for each right answer, with the other right ones."""
    right = _answers(instance, reader)
    history = reader.history(instance.history)
    for item in right:
        yield Question(instance.user, history, instance.context, item, [other for other in right if other != item])


def _wrong(instance: Instance, reader: Reader, urn: Urn) -> Iterator[Question]:
    """One validation row for each right answer, with the wrong candidates or with as many as are drawn."""
    right = _answers(instance, reader)
    history = reader.history(instance.history)
    for item in right:
        if instance.candidates is not None:
            shown = [reader.items[other.id] for other in instance.candidates if other.id in reader.items]
            wrong = [other for other in shown if other not in right]
        else:
            met = {*right, *(reader.items[name] for name in instance.excluded if name in reader.items), *history}
            places = {code - 1 for code in met}
            count = min(DRAWN, len(reader.items) - len(places))
            drawn = urn.line_up(instance.id, 0, item - 1, places, count)
            wrong = [place + 1 for place in drawn if place != item - 1]
        yield Question(instance.user, history, instance.context, item, wrong)


def _answers(instance: Instance, reader: Reader) -> list[int]:
    return [reader.items[item] for item, gain in instance.relevance.items() if gain > 0 and item in reader.items]


def _arrays(rows: Rows) -> Iterator[Ints]:
    for part in rows:
        if isinstance(part, Lists):
            yield from (getattr(part, field.name) for field in fields(part))
        else:
            yield part
