"""Small protocols and engines for the tests of the core."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from harness.engines import FunctionEngine
from harness.errors import RequestFailed
from harness.knobs import knob
from harness.metrics import MRR, NDCG, HitRate, Metric
from harness.points import AUC
from harness.task import Task
from harness.types import (
    Choose,
    Event,
    Example,
    Generate,
    Instance,
    Item,
    Key,
    Prediction,
    Program,
    Rank,
    Reply,
    Request,
    Scores,
    Split,
    Text,
    ask,
)


@dataclass(frozen=True)
class Coins(Task):
    """Point-wise: will this coin be liked?"""

    name: ClassVar[str] = "coins"
    paper: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (AUC(),)

    count: int = knob(200, "how many", instances=True)
    style: Literal["plain", "loud"] = knob("plain", "how it is asked")

    def data_digests(self) -> Mapping[str, str]:
        return {"coins": "1"}

    def size(self, split: Split = "test") -> int:
        return self.count

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for n in range(self.count):
            coin = Item(f"coin {n}", f"coin {n}")
            past = Item(f"past {n}", f"past {n}")
            yield Instance(f"{split}-{n}", f"user {n % 50}", (Event(past),), (coin,), {coin.id: float(n * 7 % 3 > 0)})

    def solve(self, instance: Instance) -> Program[Prediction]:
        (coin,) = instance.candidates or ()
        reply = yield from ask(Choose(f"Does {instance.user} like {coin.text}?", ("Yes", "No")))
        return Prediction({coin.id: reply.values[0] - reply.values[1]})

    def examples(self, split: Split = "train") -> Iterator[Example]:
        for instance in self.instances(split):
            (coin,) = instance.candidates or ()
            liked = instance.relevance[coin.id] > 0
            yield Example(f"Does {instance.user} like {coin.text}?", "Yes." if liked else "No.")

    @property
    def recipes(self) -> Mapping[str, Mapping[str, Any]]:
        quick = {"batch": 16, "micro_batch": 8, "epochs": 4, "learning_rate": 5e-3, "evaluate_steps": 4}
        return {"quick": quick, "none": {"learning_rate": 0.0, "selection": "last"}}


@dataclass(frozen=True)
class Shelf(Task):
    """List-wise: which of ten books is next?"""

    name: ClassVar[str] = "shelf"
    paper: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (NDCG(10), HitRate(3), MRR(10))

    def data_digests(self) -> Mapping[str, str]:
        return {"books": "1"}

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for n in range(300):
            books = tuple(Item(f"{n}-{b}", f"book {b}") for b in range(10))
            yield Instance(f"{split}-{n}", f"user {n}", (), books, {books[n % 10].id: 1.0})

    def solve(self, instance: Instance) -> Program[Prediction]:
        reply = yield from ask(Generate(f"{instance.user} reads", 8))
        return Prediction.ranked([item.id for item in instance.candidates or () if item.text in reply.text])


def noisy(key: Key, request: Request) -> Reply | RequestFailed:
    """A model of text that answers by the hash of the prompt: deterministic, and a different one per prompt."""
    if isinstance(request, Rank):
        return RequestFailed("reads text")
    rng = random.Random(request.prompt)
    if isinstance(request, Choose):
        return Scores(tuple(math.log(rng.random() * 0.5 + 1e-9) for _ in request.options))
    return Text(f"book {rng.randrange(10)}")


def text_engine(answer: Callable[[Key, Request], Reply | RequestFailed] = noisy, capacity: int = 64) -> FunctionEngine:
    return FunctionEngine(answer, Choose, Generate, capacity=capacity)
