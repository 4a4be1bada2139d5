"""Whom and what InstructRec (arXiv:2305.07001, section 2.1 and 3.1) asks about: users, items and what is said of them.

Users and items with five events, repeats and items without a title dropped, each user's events in order of time, the
last one for the test, the one before for validation, histories of their last 20 items: as the same group's LC-Rec and
LLMRank do it for the same data. The paper gives counts only: Games has 50,546 users and 16,859 items, as here, and
410,907 events, which is the sum over users of their events up to the last 20. Where the official files are not there,
the sequences that LLMRank published stand in: the last 50 events of each user. A specific intention (I2) is the labels
of the target's category with commas between; what the target's review says is for the teacher,
`tasks.instructrec_write`.

`items=reviews` is ours, for data sets without titles: an item is called by the words that mark its reviews among all
others. Only reviews of training events are read for it, so no name holds a word from a review of a target of validation
or test.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from math import log
from typing import Literal, NamedTuple

from harness.data import Dataset, Review, reviews
from harness.data.readers import amazon_reviews
from harness.errors import NotApplicable
from harness.knobs import knob
from harness.types import Item, ItemId, Split
from tasks.sequential import LeaveOneOut

WORD = re.compile(r"[a-z]{3,}")
LABELS = ("category", "genres")
"""Attributes of items that say what they are."""
WORDS = 5
"""Of an item's name, where it is made of its reviews."""
SPREAD = 5
"""Items whose reviews have a word, at least, for it to name one: rarer ones are slips of the pen."""


class Asked(NamedTuple):
    """One event of a user that somebody is asked about."""

    id: str
    user: int
    """Place of the user."""
    place: int
    """Of the event among the user's, from 0."""


@dataclass(frozen=True)
class Shopping(LeaveOneOut):
    """Users, items and texts, for all tasks of the paper."""

    dataset: Literal["ml-100k", "amazon-games", "amazon-cds", "amazon-instruments"] = knob(
        "ml-100k", "which data set", instances=True
    )
    k_core: int = knob(5, "events that every user and item must have; 0 is no filter", instances=True, low=0)
    repeats: bool = knob(False, "keep what a user does with an item that he has met before", instances=True)
    untitled: bool = knob(False, "keep items that have no title, in a data set where others have one", instances=True)
    max_history: int = knob(20, "how many of the last events before the target are shown", instances=True, low=1)
    items: Literal["title", "reviews"] = knob(
        "title", "what items are called: their titles, or words of their reviews", instances=True
    )

    def asked(self, split: Split, lessons: int = 1) -> Iterator[Asked]:
        """One event of each user in a split; of the training split the last `lessons` ones, the latest first."""
        for user, name in enumerate(self._data.users):
            place = self._asked(split, user)
            if place is not None:
                yield Asked(f"{split}-{name}", user, place)
            elif split == "train":
                last = int(self._training[user]) - 1
                for at in range(last, max(0, last - lessons), -1):
                    yield Asked(f"train-{name}-{at}", user, at)

    def category(self, item: Item) -> str:
        """The specific intention behind an item: `Video Games, PC, Accessories.`; empty where it has no labels."""
        labels = self.categories[self._whole_places[item.id]]
        return f"{', '.join(labels)}." if labels else ""

    def review(self, user: int, place: int) -> str:
        """What the user wrote of his event at this place, the headline first; empty where he wrote nothing.

        NotApplicable: the data set has no reviews.
        """
        review = self._reviews.get((self._data.users[user], self._data.items[self._met(user)[place]].id))
        return ". ".join(part for part in (review.summary, review.text) if part) if review else ""

    @cached_property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        """Labels of all items of the data set. NotApplicable: it has none."""
        told = self._whole.attributes
        for name in LABELS:
            if name in told:
                return told[name]
        raise NotApplicable(
            f"{self._whole.name} has no categories of its items, which are the specific intentions (I2); "
            "amazon-cds, and amazon-games with its official metadata, have them"
        )

    @property
    def has_categories(self) -> bool:
        return any(name in self._whole.attributes for name in LABELS)

    @property
    def has_reviews(self) -> bool:
        return self._whole.name in amazon_reviews.FILES

    @cached_property
    def _whole_places(self) -> Mapping[ItemId, int]:
        return {item.id: place for place, item in enumerate(self._whole.items)}

    @cached_property
    def _reviews(self) -> Mapping[tuple[str, ItemId], Review]:
        data = self._data
        pairs = ((name, data.items[code].id) for user, name in enumerate(data.users) for code in self._met(user))
        return reviews(self._whole.name, set(pairs))

    @cached_property
    def reviews_digest(self) -> str:
        """Twelve hexadecimal digits over the reviews that can be read."""
        content = sha256()
        for (user, item), review in sorted(self._reviews.items()):
            content.update(repr((user, item, review.summary, review.text)).encode())
        return content.hexdigest()[:12]

    @cached_property
    def _data(self) -> Dataset:
        data = super()._data  # which is what `_met` reads until this one is made
        if self.items == "title":
            return data
        names = self._names(data)
        return replace(data, items=tuple(Item(item.id, name) for item, name in zip(data.items, names, strict=True)))

    def _names(self, data: Dataset) -> Iterator[str]:
        """Every item by the words that are frequent in its training reviews and rare in those of others."""
        said: list[Counter[str]] = [Counter() for _ in data.items]
        for user, name in enumerate(data.users):
            for code in self._met(user)[: int(self._training[user])]:
                review = self._reviews.get((name, data.items[code].id))
                if review is not None:
                    said[code].update(set(WORD.findall(f"{review.summary} {review.text}".lower())))
        spread = Counter(word for words in said for word in words)
        for item, words in zip(data.items, said, strict=True):
            weight = {w: n * log(len(said) / spread[w]) for w, n in words.items() if spread[w] >= SPREAD}
            best = sorted(weight, key=lambda word: (-weight[word], word))[:WORDS]
            yield " ".join(best) or item.id
