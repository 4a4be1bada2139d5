"""Baselines without training: the lines that every model has to beat.

They answer the same instances as everything else and see what a conventional model sees: user, history,
candidates; the counting ones also see the training interactions, or where a protocol has none, the labelled instances
of its training split. `oracle` alone sees what is right; it and `constant` check a protocol rather than compete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256
from heapq import nsmallest
from random import Random

from harness.engines import FunctionEngine
from harness.errors import BadModel, BadSetting, NotApplicable, RequestFailed
from harness.model import ModelSettings
from harness.registry import Baseline, unknown
from harness.task import Task
from harness.types import Event, Item, ItemId, Key, Rank, Ranked, Reply, Request, Scores, Split, tie_break

PRIOR = 5
"""Item means are shrunk as if each item had this many more average ratings."""
Suit = Callable[[Key, Rank, Item], float]
"""How well a candidate suits; higher is better."""
Listing = Callable[[Key, Rank], Ranked]
"""The best of the whole catalogue."""


class Simple:
    """The group `simple:`."""

    version = 1
    names: Mapping[str, str] = {
        "random": "a number drawn per instance and item",
        "constant": "the same score for everything",
        "oracle": "the right answer; must score 1",
        "like-rate": "share of liked items in the history, the same for every candidate; 0.5 without a history",
        "recency": "whether the last item of the history was liked; 0.5 without a history",
        "popularity": "how often the candidate occurs in the training split",
        "item-mean": "share of likes of the candidate in the training split, shrunk towards the overall share",
    }

    def find(self, name: str, task: Task, split: Split, settings: ModelSettings) -> Baseline:
        if name not in self.names:
            raise BadModel(unknown("model", f"simple:{name}", sorted(f"simple:{known}" for known in self.names)))
        if settings != ModelSettings():
            raise BadSetting(f"simple:{name} has no settings; leave --model-set and --model-config out")
        who = {"baseline": name, "version": self.version}
        return Baseline(f"simple:{name}", who, lambda options: _engine(name, task, split))


simple = Simple()


def _engine(name: str, task: Task, split: Split) -> FunctionEngine:
    makers: Mapping[str, Callable[[Task, Split], Suit]] = {
        "random": lambda task, split: _random,
        "constant": lambda task, split: lambda key, request, item: 0.0,
        "oracle": _oracle,
        "like-rate": lambda task, split: lambda key, request, item: _like_rate(request.history),
        "recency": _recency,
        "popularity": _popularity,
        "item-mean": _item_mean,
    }
    listings: Mapping[str, Callable[[Task, Split], Listing]] = {
        "random": _random_list,
        "oracle": _oracle_list,
        "popularity": _popular_list,
    }
    first = next(iter(task.instances(split)), None)
    if first is not None and first.candidates is None:
        if name not in listings:
            raise NotApplicable(f"simple:{name} scores given candidates, and here the whole catalogue is ranked")
        listing = listings[name](task, split)

        def best(key: Key, request: Request) -> Reply | RequestFailed:
            return listing(key, request) if isinstance(request, Rank) else RequestFailed(f"simple:{name} reads no text")

        return FunctionEngine(best, Rank)
    suit = makers[name](task, split)

    def answer(key: Key, request: Request) -> Reply | RequestFailed:
        if not isinstance(request, Rank) or request.candidates is None:
            return RequestFailed(f"simple:{name} scores given candidates only")
        return Scores(tuple(suit(key, request, item) for item in request.candidates))

    return FunctionEngine(answer, Rank)


def _random(key: Key, request: Rank, item: Item) -> float:
    drawn = sha256(f"{key.instance}\0{item.id}".encode()).digest()
    return int.from_bytes(drawn[:7], "big") / 2**56


def _oracle(task: Task, split: Split) -> Suit:
    right = {instance.id: instance.relevance for instance in task.instances(split)}
    return lambda key, request, item: right[key.instance].get(item.id, 0.0)


def _like_rate(history: tuple[Event, ...]) -> float:
    return sum(event.liked for event in history) / len(history) if history else 0.5


def _recency(task: Task, split: Split) -> Suit:
    first = next((instance.history for instance in task.instances(split) if instance.history), ())
    if not any(event.time for event in first):
        raise NotApplicable("simple:recency needs histories in order of time, and this protocol has no times")
    return lambda key, request, item: float(request.history[-1].liked) if request.history else 0.5


def _popularity(task: Task, split: Split) -> Suit:
    seen = _met(task)
    return lambda key, request, item: float(seen.get(item.id, 0))


def _item_mean(task: Task, split: Split) -> Suit:
    liked, seen = _counts(task)
    overall = liked.total() / max(1, seen.total())
    return lambda key, request, item: (liked[item.id] + PRIOR * overall) / (seen[item.id] + PRIOR)


def _counts(task: Task) -> tuple[Counter[str], Counter[str]]:
    """Liked and labelled occurrences of each item as a candidate of the training split."""
    liked: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for instance in task.instances("train"):
        for item in instance.candidates or ():
            seen[item.id] += 1
            liked[item.id] += instance.relevance.get(item.id, 0.0) > 0
    return liked, seen


def _met(task: Task) -> Mapping[ItemId, int]:
    try:
        met = task.catalogue().met
    except NotApplicable:
        return _counts(task)[1]
    if not met:
        raise NotApplicable("simple:popularity counts who met what in training, and in this protocol nobody did")
    return met


def _random_list(task: Task, split: Split) -> Listing:
    items = task.catalogue().items

    def best(key: Key, request: Rank) -> Ranked:
        drawn = Random(key.instance).sample(items, min(len(items), request.top + len(request.excluded)))
        return Ranked(tuple(item.id for item in drawn if item.id not in request.excluded)[: request.top])

    return best


def _oracle_list(task: Task, split: Split) -> Listing:
    right = {instance.id: instance.relevance for instance in task.instances(split)}
    return lambda key, request: Ranked(tuple(sorted(right[key.instance], key=right[key.instance].__getitem__))[::-1])


def _popular_list(task: Task, split: Split) -> Listing:
    catalogue = task.catalogue()
    tiers: dict[int, list[ItemId]] = {}
    for item in catalogue.items:
        tiers.setdefault(catalogue.met.get(item.id, 0), []).append(item.id)
    counts = sorted(tiers, reverse=True)

    def best(key: Key, request: Rank) -> Ranked:
        chosen: dict[ItemId, float] = {}
        for count in counts:
            free = (item for item in tiers[count] if item not in request.excluded)
            tier = nsmallest(request.top - len(chosen), free, key=lambda item: tie_break(key.instance, item))
            chosen |= dict.fromkeys(tier, float(count))
            if len(chosen) == request.top:
                break
        return Ranked(tuple(chosen), scores=tuple(chosen.values()))

    return best
