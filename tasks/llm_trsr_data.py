"""Long histories, and one next item among twenty drawn ones: whom LLM-TRSR asks about, for both of its stages.

Reference: zhengzhi-1997/LLM-TRSR at commit 4708223d, preprocess/. The paper's two data sets:

amazon-m2   British sessions of 10 to 25 items before the next one, in the order of the file, the first 12,000: 10,000
            to tune on, 1,000 to validate, 1,000 to test. Negatives are 20 products drawn from all with the seed
            1000 * (row // 200) + row % 200, as pandas draws: the authors' own.
mind        users whose history has 11 to 26 news, the last being the next one; impressions are not read. The authors
            shuffled without a seed and took as many as above, so their users cannot be had again: `users_seed` freezes
            ours. Negatives are drawn with the place of the user as seed.

Ours, to be compared with no number of the paper: `amazon-beauty` and `ml-100k`, treated as `mind`, but that longer
histories are cut to their end (`overlong`), else few users were left.

Test and validation users are in no training row. The next item stands first among the candidates in the authors' files;
here their order is by hash. Deviation: a drawn negative that is the next item itself is left out, and the draw goes on,
where the authors ask for it twice; what the user has met may be drawn, as theirs.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data import Dataset, load
from harness.errors import BadSetting
from harness.knobs import knob
from harness.task import Task
from harness.types import SPLITS, Catalogue, Event, Instance, Item, Split, Timeline, tie_break

Name = Literal["ml-100k", "amazon-beauty", "mind", "amazon-m2"]
SIZES: Mapping[str, tuple[int, int, int]] = {
    "amazon-m2": (10_000, 1_000, 1_000),
    "mind": (10_000, 1_000, 1_000),
    "amazon-beauty": (3_000, 400, 800),
    "ml-100k": (543, 100, 300),
}
"""Users to tune on, to validate, to test."""
PAPER = ("amazon-m2", "mind")
CHUNK = 200
"""Sessions of one file of the authors'."""
MOST = 100
"""Negatives that can be drawn for one question."""


class Chosen(NamedTuple):
    """A user, and what he met; items are places in the catalogue."""

    row: int
    """Among all that are chosen."""
    user: str
    history: tuple[int, ...]
    """Oldest first."""
    target: int


@dataclass(frozen=True)
class LongHistories(Task, ABC):
    """Users, their split, and how an item reads."""

    dataset: Name = knob("ml-100k", "whose users", instances=True)
    train: int | None = knob(None, "users to tune on; default: as the paper, or ours", instances=True, low=0)
    valid: int | None = knob(None, "users to validate", instances=True, low=0)
    test: int | None = knob(None, "users to test", instances=True, low=1)
    users_seed: int = knob(0, "draws them; amazon-m2 takes them in the order of its file", instances=True)
    shortest: int = knob(10, "events before the next one, at least", instances=True, low=1)
    longest: int = knob(25, "events before the next one, at most", instances=True, low=1)
    overlong: Literal["auto", "drop", "cut"] = knob(
        "auto", "users with more: leave them out (the paper's data sets), or cut their history", instances=True
    )
    ids: bool = knob(True, "write the numbers of items before their titles, as the authors do")

    @property
    def longest_history(self) -> int:
        return self.longest

    def data_digests(self) -> Mapping[str, str]:
        return {self.dataset: self._data.digest}

    def size(self, split: Split = "test") -> int:
        return self._sizes[SPLITS.index(split)]

    def catalogue(self) -> Catalogue:
        return self._catalogue

    def timelines(self) -> Iterator[Timeline]:
        """The training users, their next item included."""
        for chosen in self.chosen("train"):
            met = (*chosen.history, chosen.target)
            yield Timeline(chosen.user, tuple(Event(self._data.items[place]) for place in met))

    def chosen(self, split: Split) -> Sequence[Chosen]:
        """The users of a split, in their order."""
        first = sum(self._sizes[: SPLITS.index(split)])
        return self._chosen[first : first + self.size(split)]

    def question(self, name: str, chosen: Chosen, negatives: slice) -> Instance:
        """What a user is asked: the next item among some of those that were drawn."""
        target, items = self._data.items[chosen.target], self._data.items
        drawn = (items[place] for place in self.drawn(chosen)[negatives])
        return Instance(
            id=name,
            user=chosen.user,
            history=tuple(Event(items[place]) for place in chosen.history),
            candidates=tuple(sorted((target, *drawn), key=lambda item: tie_break(name, item.id))),
            relevance={target.id: 1.0},
            catalogue=self._catalogue,
        )

    def drawn(self, chosen: Chosen) -> list[int]:
        """The first negatives in the order in which they are drawn, `MOST` of them or one more."""
        seed = chosen.row if self.dataset != "amazon-m2" else 1000 * (chosen.row // CHUNK) + chosen.row % CHUNK
        order = np.random.RandomState(seed).permutation(len(self._listed))[: MOST + 1]
        found: list[int] = self._listed[order].tolist()
        return [place for place in found if place != chosen.target]

    def sentence(self, item: Item) -> str:
        """An item as the authors write it: each attribute that it has, after its name."""
        return self._sentences[item.id]

    @property
    def kind(self) -> str:
        """Which of the two wordings is used: films and cosmetics are products here."""
        return "news" if self.dataset == "mind" else "products"

    @cached_property
    def _sentences(self) -> Mapping[str, str]:
        told = self._data.attributes
        written: dict[str, str] = {}
        for place, item in enumerate(self._data.items):
            parts = {"title": item.text}
            if self.dataset == "mind":
                parts = {"Category": told["category"][place][0], "SubCategory": told["subcategory"][place][0]}
                parts["Title"] = item.text
            elif self.dataset == "ml-100k":
                parts["genres"] = ", ".join(told["genres"][place])
            elif self.dataset == "amazon-m2":
                parts |= {name: values[place][0] for name, values in told.items()}
            code = told["asin"][place][0] if "asin" in told else item.id
            if self.ids:
                parts = {"id": code, **parts}
            written[item.id] = "; ".join(f"{name}: {value}" for name, value in parts.items() if value)
        return written

    @cached_property
    def _data(self) -> Dataset:
        return load(self.dataset)

    @cached_property
    def _listed(self) -> NDArray[np.int64]:
        """Places of the items that negatives are drawn from: all with a line in the catalogue's file."""
        told = self._data.attributes.get("category")
        return np.array([place for place in range(len(self._data.items)) if not told or told[place][0]])

    @cached_property
    def _sizes(self) -> tuple[int, int, int]:
        wanted = zip((self.train, self.valid, self.test), SIZES[self.dataset], strict=True)
        train, valid, test = (usual if said is None else said for said, usual in wanted)
        return train, valid, test

    @cached_property
    def _chosen(self) -> Sequence[Chosen]:
        data, drop = self._data, self.overlong == "drop" or (self.overlong == "auto" and self.dataset in PAPER)
        starts = data.timelines.starts.tolist()
        lengths = np.diff(data.timelines.starts) - 1
        fitting = np.flatnonzero((lengths >= self.shortest) & ((lengths <= self.longest) | (not drop)))
        users: list[int] = fitting.tolist()
        if self.dataset != "amazon-m2":
            users.sort(key=lambda user: sha256(f"{self.users_seed}\0{data.users[user]}".encode()).hexdigest())
        if len(users) < sum(self._sizes):
            sizes = dict(zip(SPLITS, self._sizes, strict=True))
            raise BadSetting(
                f"{self.dataset} has {len(users)} users with {self.shortest} to {self.longest} events before the next, "
                f"and {sum(self._sizes)} are wanted; set {', '.join(f'{k}={v}' for k, v in sizes.items())} lower"
            )
        met = data.item[data.timelines.order]
        found = []
        for row, user in enumerate(users[: sum(self._sizes)]):
            *history, target = met[starts[user] : starts[user + 1]].tolist()
            found.append(Chosen(row, data.users[user], tuple(history[-self.longest :]), target))
        return found

    @cached_property
    def _catalogue(self) -> Catalogue:
        met: dict[str, int] = {}
        for chosen in self.chosen("train"):
            for place in (*chosen.history, chosen.target):
                met[self._data.items[place].id] = met.get(self._data.items[place].id, 0) + 1
        return Catalogue(self._data.items, met)
