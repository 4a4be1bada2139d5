"""The field's standard protocol for sequential recommendation: leave one out, rank everything.

Split (Kang and McAuley 2018, arXiv:1808.09781, `data_partition` of kang205/SASRec; RecBole 1.2's `LS: valid_and_test`
with `order: TO`): each user's events in order of time, the last one tests, the one before validates, all others
train. A user with fewer than three events asks nothing, and all he did is training. Events of one moment keep the order
of the file. Every event counts alike, whatever its rating. The catalogue is what somebody met, in any split.

An order of events within each user is no order of time over all of them: a model may train on what others did after the
event that it is tested on (Ji et al. 2023, arXiv:2010.11060).

Ranking. `candidates=full` ranks the catalogue, and such a number alone may be compared between papers. With `uniform`
or `popularity` the target stands among `negatives` items that the user never met, and the numbers are of another kind:
they need not put two models in the order in which full ranking does, not even on average over draws, and the fewer are
drawn, the more every metric becomes the AUC (Krichene and Rendle 2020, doi:10.1145/3394486.3403226). The draw of an
instance depends on its id and `candidate_seed` alone, and the order says nothing of which candidate is right. By
popularity, what was never met in training is not drawn.

Masking. `seen`: what the user met before the target (training, and for a test validation) is no answer. `none`:
everything is. `recbole`: as `seen` for models that know no order, and as `none` for sequential ones, since RecBole
1.2 masks for its general models only (its sequential models demand `repeatable: True`); a table of both is then no
comparison under one rule. The target is never masked, though the user may have met it before. Instances of the training
split are for learning, and mask nothing.

Ties fall by a salted hash, never by place; RecBole takes the order in which `torch.topk` leaves them.

Deviation from RecBole 1.2: times are whole numbers. It keeps them as float32, which are 64 seconds apart at those of
MovieLens, and so it tests 149 of the 943 users of ml-100k on another item.

A language model is asked in words of our own, the protocol has none: which of the candidates' texts continues the list
of titles most probably. The probability is of the whole text, so long titles are less probable than short ones;
candidates with one text share its score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from harness.data import Dataset, filters, load
from harness.data.candidates import Urn
from harness.errors import BadSetting, NotApplicable
from harness.exposure import ARP, Coverage, Gini
from harness.knobs import knob
from harness.metrics import MRR, NDCG, HitRate, MeanOf, Metric
from harness.task import Task
from harness.types import (
    Catalogue,
    Choose,
    Event,
    Instance,
    Item,
    Prediction,
    Program,
    Split,
    Timeline,
    ask,
)
from tasks.prompts import load_texts

HELD = 2
"""Events of a user that are kept from training: one validates, one tests."""


@dataclass(frozen=True)
class LeaveOneOut(Task):
    """What the tasks on this split share. Ranks the whole catalogue, unless a task brings candidates."""

    dataset: Literal["ml-100k", "ml-1m", "amazon-beauty", "amazon-games", "amazon-cds", "amazon-instruments"] = knob(
        "ml-100k", "which data set", instances=True
    )
    repeats: bool = knob(True, "keep what a user does with an item that he has met before", instances=True)
    untitled: bool = knob(True, "keep items that have no title, in a data set where others have one", instances=True)
    k_core: int = knob(0, "events that every user and item must have; 0 is no filter", instances=True, low=0)
    min_rating: float = knob(0.0, "events with a lower rating are dropped before anything else", instances=True, low=0)
    masking: Literal["seen", "none", "recbole"] = knob(
        "seen", "what is no answer: items seen before, none, or RecBole's rule", instances=True
    )
    max_history: int = knob(50, "how many of the last events before the target are shown", instances=True, low=1)

    @property
    def longest_history(self) -> int:
        return self.max_history

    @property
    def strata(self) -> Mapping[str, tuple[float, ...]]:
        return {"history": (5, 10, 20, 50), "popularity": (0, 5, 20, 100)}

    def traits(self, instance: Instance) -> Mapping[str, float]:
        """Events of the user before the target, shown or not, and how often the target was met in training."""
        user = self._codes[instance.user]
        place = self._asked(instance.id.partition("-")[0], user)
        if place is None:
            place = int(instance.id.rpartition("-")[2])
        (target,) = instance.relevance
        return {"history": float(place), "popularity": float(self._catalogue.met.get(target, 0))}

    def catalogue(self) -> Catalogue:
        return self._catalogue

    def masks(self, sequential: bool) -> bool:
        return not (self.masking == "recbole" and sequential)

    def data_digests(self) -> Mapping[str, str]:
        return {self.dataset: self._whole.digest}

    def size(self, split: Split = "test") -> int:
        if split == "train":
            return int(np.maximum(self._training - 1, 0).sum())
        return int(np.count_nonzero(self._lengths > HELD))

    def timelines(self) -> Iterator[Timeline]:
        for user, name in enumerate(self._data.users):
            yield Timeline(name, self._events(user, 0, int(self._training[user])))

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for user, name in enumerate(self._data.users):
            place = self._asked(split, user)
            if place is not None:
                yield self._question(f"{split}-{name}", user, place)
            elif split == "train":
                yield from self._lessons(user)

    def _asked(self, split: str, user: int) -> int | None:
        """Where in a user's events the target stands; None where there is none, or more than one."""
        length = int(self._lengths[user])
        if split == "train" or length <= HELD:
            return None
        return length - (1 if split == "test" else 2)

    def _question(self, name: str, user: int, place: int) -> Instance:
        met = self._met(user)
        target = self._data.items[met[place]]
        candidates = self._candidates(name, met, met[place])
        # By id, since the target may be among what was met before.
        hidden = set(met[:place]) - {met[place]} if candidates is None and self.masking != "none" else ()
        return Instance(
            id=name,
            user=self._data.users[user],
            history=self._events(user, max(0, place - self.max_history), place),
            candidates=candidates,
            relevance={target.id: 1.0},
            catalogue=self._catalogue,
            excluded=frozenset(self._data.items[code].id for code in hidden),
        )

    def _candidates(self, name: str, met: Sequence[int], target: int) -> tuple[Item, ...] | None:
        """Of the instance of this name, whose user met these items in all; None is the whole catalogue."""
        return None

    def _lessons(self, user: int) -> Iterator[Instance]:
        """A user's training events from the second on, each after those before it."""
        name = self._data.users[user]
        events = self._events(user, 0, int(self._training[user]))
        for place in range(1, len(events)):
            shown = events[max(0, place - self.max_history) : place]
            right = {events[place].item.id: 1.0}
            yield Instance(f"train-{name}-{place}", name, shown, None, right, catalogue=self._catalogue)

    def _met(self, user: int) -> list[int]:
        """Codes of all items of a user, oldest first."""
        starts = self._data.timelines.starts
        codes: list[int] = self._sequence[starts[user] : starts[user + 1]].tolist()
        return codes

    def _events(self, user: int, first: int, last: int) -> tuple[Event, ...]:
        """Those of a user from one place up to another."""
        start = int(self._data.timelines.starts[user])
        part, items = slice(start + first, start + last), self._data.items
        pairs = zip(self._sequence[part].tolist(), self._times[part].tolist(), strict=True)
        return tuple([Event(items[code], True, time) for code, time in pairs])

    @cached_property
    def _whole(self) -> Dataset:
        return load(self.dataset)

    @cached_property
    def _data(self) -> Dataset:
        """After the filters, without items that nobody met. BadSetting: no user is left who could be asked."""
        data = filters.k_core(self._kept(), self._core)
        if not (np.diff(data.timelines.starts) > HELD).any():
            raise BadSetting(
                f"min_rating={self.min_rating} and k_core={self.k_core} leave no user of {self.dataset} with three "
                "events; lower them"
            )
        return data

    @property
    def _core(self) -> int:
        """The published sequences of Games and CDs are five-cores, cut to 50 events of a user after that; another core
        of what is left would be smaller, so they are taken as they are. BadSetting: another core is asked for."""
        if self._whole.name not in ("amazon-games-sequences", "amazon-cds-sequences"):
            return self.k_core
        if self.k_core not in (0, 5):
            raise BadSetting(
                f"{self._whole.name} is a five-core and cannot be another; set k_core=5, not {self.k_core}"
            )
        return 0

    def _kept(self) -> Dataset:
        """After all filters but the core."""
        kept = filters.rated(self._whole, self.min_rating) if self.min_rating > 0 else self._whole
        kept = kept if self.untitled else filters.titled(kept)
        return kept if self.repeats else filters.without_repeats(kept)

    @cached_property
    def _codes(self) -> Mapping[str, int]:
        return {name: user for user, name in enumerate(self._data.users)}

    @cached_property
    def _lengths(self) -> NDArray[np.int64]:
        """Events of each user, shape (users,)."""
        return np.diff(self._data.timelines.starts)

    @cached_property
    def _training(self) -> NDArray[np.int64]:
        """Training events of each user, shape (users,)."""
        return np.where(self._lengths > HELD, self._lengths - HELD, self._lengths)

    @cached_property
    def _sequence(self) -> NDArray[np.int32]:
        """Item codes of all events, user after user, each in order of time; shape (events,)."""
        return self._data.item[self._data.timelines.order]

    @cached_property
    def _times(self) -> NDArray[np.int64]:
        """Times of the same events."""
        return self._data.time[self._data.timelines.order]

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        """Training events of each item, shape (items,)."""
        starts = self._data.timelines.starts[:-1]
        place = np.arange(len(self._sequence)) - np.repeat(starts, self._lengths)
        trained = place < np.repeat(self._training, self._lengths)
        return np.bincount(self._sequence[trained], minlength=len(self._data.items))

    @cached_property
    def _catalogue(self) -> Catalogue:
        counts = zip(self._data.items, self._counts.tolist(), strict=True)
        return Catalogue(self._data.items, {item.id: count for item, count in counts if count})


@dataclass(frozen=True)
class Sequential(LeaveOneOut):
    name: ClassVar[str] = "sequential"
    paper: ClassVar[str] = "Kang and McAuley, ICDM 2018, arXiv:1808.09781; full ranking by RecBole 1.2's rules"
    metrics: ClassVar[tuple[Metric, ...]] = (
        NDCG(10),
        HitRate(1),
        HitRate(5),
        HitRate(10),
        HitRate(20),
        NDCG(5),
        NDCG(20),
        MRR(5),
        MRR(10),
        MRR(20),
        Coverage(10),
        ARP(10),
        Gini(10),
        MeanOf("unknown"),
        MeanOf("cold"),
    )

    candidates: Literal["full", "uniform", "popularity"] = knob(
        "full", "the whole catalogue, or the target among items drawn evenly or by popularity", instances=True
    )
    negatives: int = knob(99, "how many items are drawn, unless candidates=full", instances=True, low=1)
    candidate_seed: int = knob(0, "draws them", instances=True)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        return load_texts("sequential")

    @cached_property
    def _urn(self) -> Urn:
        return Urn(self._counts if self.candidates == "popularity" else np.ones_like(self._counts))

    def _candidates(self, name: str, met: Sequence[int], target: int) -> tuple[Item, ...] | None:
        if self.candidates == "full":
            return None
        line = self._urn.line_up(name, self.candidate_seed, target, met, self.negatives)
        return tuple(self._data.items[code] for code in line)

    def solve(self, instance: Instance) -> Program[Prediction]:
        """Score each candidate by the probability of its text after the titles of the history."""
        if instance.candidates is None:
            raise NotApplicable(
                "a prompt cannot hold the whole catalogue; let a language model choose among sampled candidates with "
                "--set candidates=uniform"
            )
        texts = tuple(dict.fromkeys(item.text for item in instance.candidates))
        reply = yield from ask(Choose(self.prompt(instance), texts))
        score = dict(zip(texts, reply.values, strict=True))
        return Prediction({item.id: score[item.text] for item in instance.candidates})

    def prompt(self, instance: Instance) -> str:
        """What a language model reads before the title that it continues with."""
        wording = self.texts["products" if self.dataset.startswith("amazon") else "films"]
        return wording.format(history="\n".join(event.item.text for event in instance.history))
