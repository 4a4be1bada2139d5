"""Which questions InstructRec (arXiv:2305.07001) asks: scenarios, candidates, and the split of product search.

Scenarios, section 3: sequential <P1,I0>, product search <P0,I2>, personalised search <P1,P2>, <P1,I1> and <P1,I2>;
where the headers of its tables and the text differ, the text is followed.

Candidates. `random9`: nine drawn evenly of all items that the user never met (product search: all but the target);
`random99`: 99. `hard9`: the first nine of a run of the task `retrieval` that the user never met, for the sequential
scenario. The paper tells neither how it drew nor in which order; here draw and order are seeded by split and user.

Product search splits all items with a title and a category 80/10/10, by hash, since the paper's draw is not known. With
`k_core=0`, and where published sequences stand in, these are all items of the catalogue, met or not.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np

from harness.data.candidates import Urn
from harness.errors import BadSetting, NotApplicable, StaleRun
from harness.knobs import knob
from harness.stages import Stage, agree, as_options, find_stage
from harness.types import SPLITS, Catalogue, Instance, Item, Split, Timeline
from tasks.instructrec_templates import Intention, Preference
from tasks.instructrec_told import Told

Scenario = Literal["sequential", "product-search", "personalised-search"]
FAMILIES: Mapping[str, str] = {"sequential": "A", "product-search": "B", "personalised-search": "C"}
"""Of templates."""
ASKED: Mapping[str, tuple[tuple[str, str], ...]] = {
    "sequential": (("P1", "I0"), ("P2", "I0")),
    "product-search": (("P0", "I2"),),
    "personalised-search": (("P1", "I1"), ("P1", "I2"), ("P2", "I0"), ("P2", "I1"), ("P2", "I2")),
}
"""With which preference and intention, the default first."""
DRAWN: Mapping[str, int] = {"random9": 9, "hard9": 9, "random99": 99}
TENTHS = (8, 9)
"""Of the items of product search: where tuning ends, and where validation ends."""


@dataclass(frozen=True)
class Questions(Told, ABC):
    """The questions, and how they are split."""

    scenario: Scenario = knob("sequential", "what is asked for", instances=True)
    preference: Literal["auto", Preference] = knob(
        "auto", "P0 none, P1 history, P2 the teacher's sentence as well; auto: the scenario's first", instances=True
    )
    intention: Literal["auto", Intention] = knob(
        "auto", "I0 none, I1 vague, I2 labels of the target's category", instances=True
    )
    candidates: Literal["random9", "hard9", "random99"] = knob(
        "random9", "whom the target stands among", instances=True
    )
    candidate_seed: int = knob(0, "draws them", instances=True)
    items_seed: int = knob(0, "splits the items of product search", instances=True)
    retrieval: str = knob("", "digests of runs of 'retrieval', one for each split, for candidates=hard9", hashed=False)

    def __post_init__(self) -> None:
        """Puts what `auto` means in its place, so that one question has one name."""
        meant = [
            (preference, intention)
            for preference, intention in ASKED[self.scenario]
            if self.preference in ("auto", preference) and self.intention in ("auto", intention)
        ]
        if not meant:
            ways = " or ".join(f"preference={p} intention={i}" for p, i in ASKED[self.scenario])
            asks = f"<{self.preference},{self.intention}>"
            raise BadSetting(f"scenario={self.scenario} is not asked with {asks}; there is {ways}")
        object.__setattr__(self, "preference", meant[0][0])
        object.__setattr__(self, "intention", meant[0][1])
        if self.candidates == "hard9" and self.scenario != "sequential":
            raise BadSetting("candidates=hard9 is what a model of sequences finds; set scenario=sequential")

    @property
    def query(self) -> str | None:
        """Of which kind the query is; None where there is none."""
        if self.scenario == "sequential":
            return None
        return self.preference if self.intention == "I0" else self.intention

    def data_digests(self) -> Mapping[str, str]:
        told = self.told_digests(preference=self.preference == "P2", vague=self.intention == "I1")
        found = {f"retrieval of {split}": stage.content for split, stage in self._found.items()}
        return {**super().data_digests(), **told, **found}

    def size(self, split: Split = "test") -> int:
        if self.scenario == "product-search":
            return len(self.searched[split])
        if split == "train" and self.query is not None:
            return sum(1 for _ in self.instances(split))
        return super().size(split)

    def catalogue(self) -> Catalogue:
        return self._pool if self.scenario == "product-search" else super().catalogue()

    def timelines(self) -> Iterator[Timeline]:
        if self.scenario == "product-search":
            raise NotApplicable("product search has no users, so there are no sequences to learn from")
        return super().timelines()

    @property
    def strata(self) -> Mapping[str, tuple[float, ...]]:
        return {} if self.scenario == "product-search" else super().strata

    def traits(self, instance: Instance) -> Mapping[str, float]:
        return {} if self.scenario == "product-search" else super().traits(instance)

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        """Training questions are for models that learn from them: every event in its turn that has a query, and no
        candidates. The sentence on a preference was made of all but the last of them, so it is a query for that."""
        if self.scenario == "product-search":
            yield from (self._search(split, item, offered=split != "train") for item in self.searched[split])
        elif split != "train":
            yield from self.offered(split)
        elif self.scenario == "sequential":
            yield from super().instances("train")
        else:
            for question in super().instances("train"):
                user, place = self._codes[question.user], int(question.id.rpartition("-")[2])
                if self.query == "P2" and place < int(self._training[user]) - 1:
                    continue
                if context := self._context(question.id, user, place):
                    yield replace(question, context=context)

    def offered(self, split: Split, lessons: int = 1) -> Iterator[Instance]:
        """Questions with candidates: of the training split the last `lessons` events of each user."""
        if self.scenario == "product-search":
            yield from (self._search(split, item, offered=True) for item in self.searched[split])
            return
        for name, user, place in self.asked(split, lessons):
            yield replace(self._question(name, user, place), context=self._context(name, user, place))

    def _context(self, name: str, user: int, place: int) -> str | None:
        """The query: empty where a training event has none."""
        if self.query is None:
            return None
        if self.query == "I2":
            return self.category(self._data.items[self._met(user)[place]])
        return self.preference_of(user) if self.query == "P2" else self.vague(name, user, place)

    def _candidates(self, name: str, met: Sequence[int], target: int) -> tuple[Item, ...]:
        count, items = DRAWN[self.candidates], self._data.items
        if self.candidates == "hard9" and not name.startswith("train-"):
            return self._hard(name, met, target)
        return tuple(items[code] for code in self._urn.line_up(name, self.candidate_seed, target, met, count))

    def _hard(self, name: str, met: Sequence[int], target: int) -> tuple[Item, ...]:
        """What an earlier stage found for the user, in an order that says nothing of which is right."""
        split = name.partition("-")[0]
        stage = self._found.get(split)
        if stage is None:
            raise StaleRun(
                f"retrieval names no run of the {split} split; make one with `{self._retrieval_command(split)}`"
            )
        if name not in stage.lists:
            raise StaleRun(f"run {stage.name} has no items for {name}; make one of all instances")
        items = self._data.items
        known = {items[code].id for code in met}
        found = [item for item in stage.lists[name] if item not in known][: DRAWN["hard9"]]
        if len(found) < DRAWN["hard9"]:
            raise StaleRun(f"run {stage.name} found {len(found)} new items for {name}, and nine are needed")
        line = [items[target], *(items[self._catalogue.places[item]] for item in found)]
        return tuple(sorted(line, key=lambda item: _draw(self.candidate_seed, name, item.id)))

    @cached_property
    def _urn(self) -> Urn:
        return Urn(np.ones(len(self._data.items), dtype=np.int64))

    @cached_property
    def _found(self) -> Mapping[str, Stage]:
        """Runs of the first stage by split. StaleRun: two of one split, or one of other data."""
        if self.candidates != "hard9":
            return {}
        found: dict[str, Stage] = {}
        for digest in self.retrieval.split(","):
            stage = find_stage(Path(self.runs), "retrieval", digest.strip(), self._retrieval_command("test"))
            split = stage.manifest["split"]
            if split in found:
                raise StaleRun(f"retrieval={self.retrieval} names two runs of the {split} split; leave one out")
            agree(stage, {**self._split_by, self.dataset: self._whole.digest}, self._retrieval_command(split))
            found[split] = stage
        return found

    def _retrieval_command(self, split: str) -> str:
        return f"harness run --task retrieval{as_options(self._split_by)} --split {split} --model search:TwoTower"

    @property
    def _split_by(self) -> Mapping[str, str | int | float | bool]:
        """What an earlier stage must have in common."""
        names = ("dataset", "min_rating", "k_core", "repeats", "untitled")
        return {name: getattr(self, name) for name in names}

    def _search(self, split: Split, item: Item, offered: bool) -> Instance:
        """A question of product search: whose intention the labels of its category are."""
        name, places = f"{split}-{item.id}", self._pool.places
        candidates = None
        if offered:
            count, place = DRAWN[self.candidates], places[item.id]
            drawn = self._pool_urn.line_up(name, self.candidate_seed, place, [place], count)
            candidates = tuple(self._pool.items[each] for each in drawn)
        return Instance(
            id=name,
            user=item.id,
            history=(),
            candidates=candidates,
            relevance={item.id: 1.0},
            context=self.category(item),
            catalogue=self._pool,
        )

    @cached_property
    def _pool(self) -> Catalogue:
        """Items that product search knows. Nobody met them here: it has no users."""
        items = self._data.items if self._core else self._whole.items
        known = [item for item in items if self.category(item) and item.text != item.id]
        if len(known) < 2 * DRAWN[self.candidates]:
            raise BadSetting(
                f"k_core={self.k_core} leaves {len(known)} items of {self._whole.name} with title and category, too "
                "few to draw candidates from; set k_core=0 to take the whole catalogue"
            )
        return Catalogue(tuple(known), {})

    @cached_property
    def _pool_urn(self) -> Urn:
        return Urn(np.ones(len(self._pool.items), dtype=np.int64))

    @cached_property
    def searched(self) -> Mapping[Split, Sequence[Item]]:
        """The items that product search asks about in each split, in an order of their own."""
        # By title, so that no item is asked about whose namesake was tuned on.
        items = sorted(self._pool.items, key=lambda item: (_draw(self.items_seed, "titles", item.text), item.id))
        first, second = (_next_title(items, len(items) * tenths // 10) for tenths in TENTHS)
        return dict(zip(SPLITS, (items[:first], items[first:second], items[second:]), strict=True))


def _next_title(items: Sequence[Item], place: int) -> int:
    """The place from this one on at which another title begins."""
    while 0 < place < len(items) and items[place].text == items[place - 1].text:
        place += 1
    return place


def _draw(seed: int, name: str, item: str) -> str:
    return sha256(f"{seed}\0{name}\0{item}".encode()).hexdigest()
