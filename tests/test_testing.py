"""The checks of a protocol must fail on a protocol that is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from harness.errors import InstanceFailed, NotApplicable
from harness.exposure import ARP, Coverage
from harness.metrics import MAP, MRR, NDCG, HitRate, MeanOf, Metric, Precision, Recall
from harness.points import Accuracy, LogLoss
from harness.task import Task
from harness.testing import TaskContract, check_task
from harness.types import Catalogue, Event, Instance, Item, Prediction, Program, Split
from tests.fakes import Coins, Shelf


class TestCoins(TaskContract):
    task = Coins()


class TestShelf(TaskContract):
    task = Shelf()


@dataclass(frozen=True)
class Lucky(HitRate):
    """Promises more by chance than there is."""

    def chance(self, instance: Instance) -> float:
        return 0.5


def failed(task: Task) -> list[str]:
    return [finding.what for finding in check_task(task) if not finding.holds]


@dataclass(frozen=True)
class Broken(Shelf):
    """A shelf with one fault."""

    fault: str = ""

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for number, instance in enumerate(super().instances(split)):
            if self.fault == "ids":
                yield replace(instance, id="same" if number < 2 else instance.id)
            elif self.fault == "leak":
                (right,) = [item for item in instance.candidates or () if item.id in instance.relevance]
                yield replace(instance, history=(Event(right),))
            elif self.fault == "outside":
                yield replace(instance, relevance={"elsewhere": 1.0})
            elif self.fault == "empty":
                return
            else:
                yield instance

    def solve(self, instance: Instance) -> Program[Prediction]:
        if self.fault == "solve":
            raise KeyError("a bug in a prompt")
        if self.fault == "refuse":
            raise InstanceFailed("never asks")
        return (yield from super().solve(instance))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("leak", "no history holds the answer"),
        ("outside", "every answer is among the candidates"),
        ("empty", "has instances"),
        ("refuse", "every instance can be put to a language model (300 with 0 questions"),
    ],
)
def test_a_fault_is_found(fault: str, said: str) -> None:
    assert any(said in what for what in failed(Broken(fault=fault)))


def test_two_instances_with_one_id_are_found() -> None:
    with pytest.raises(ValueError, match="two instances have the id"):
        check_task(Broken(fault="ids"))


def test_a_bug_in_a_prompt_is_not_hidden() -> None:
    with pytest.raises(KeyError, match="a bug in a prompt"):
        check_task(Broken(fault="solve"))


@dataclass(frozen=True)
class Strict(Shelf):
    """A shelf judged by metrics that even the oracle cannot bring to 1."""

    metrics: ClassVar[tuple[Metric, ...]] = (Precision(5), Recall(3), MAP(4))


@dataclass(frozen=True)
class Likely(Coins):
    """Coins judged by metrics that read a score as a log-odds."""

    metrics: ClassVar[tuple[Metric, ...]] = (LogLoss(), Accuracy())


@pytest.mark.parametrize("task", [Strict(), Likely()])
def test_the_oracle_need_only_reach_the_best_there_is(task: Task) -> None:
    assert [what for what in failed(task) if "oracle" in what] == []


BOOKS = tuple(Item(f"book {n}", f"book {n}") for n in range(400))
LIBRARY = Catalogue(BOOKS, {"book 1": 3})


@dataclass(frozen=True)
class Library(Shelf):
    """The whole catalogue is ranked, with one fault or none."""

    metrics: ClassVar[tuple[Metric, ...]] = (HitRate(1), NDCG(10), MRR(5), ARP(10), Coverage(10), MeanOf("cold"))

    fault: str = ""

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for n in range(300):
            right = "elsewhere" if self.fault == "outside" else BOOKS[n].id
            excluded = {BOOKS[n + 1].id, *({right} if self.fault == "hidden" else ())}
            excluded |= {"elsewhere"} if self.fault == "unknown" else set()
            catalogue = Catalogue(BOOKS, {}) if self.fault == "many" else LIBRARY
            yield Instance(f"{split}-{n}", f"user {n}", (), None, {right: 1.0}, None, catalogue, frozenset(excluded))

    def solve(self, instance: Instance) -> Program[Prediction]:
        if self.fault != "some" or instance.id == "test-7":
            raise NotApplicable("no prompt holds a library")
        return (yield from super().solve(instance))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("outside", "every answer is in the catalogue (300 are not)"),
        ("hidden", "no answer is excluded (300 are)"),
        ("unknown", "what is excluded is in the catalogue (300 times it is not)"),
        ("many", "all instances share one catalogue"),
        (
            "some",
            "every instance can be put to a language model (300 with 299 questions, 0 empty answers refused, 1 failed)",
        ),
    ],
)
def test_a_fault_of_a_whole_catalogue_is_found(fault: str, said: str) -> None:
    assert [what[: len(said)] for what in failed(Library(fault=fault))] == [said]


def test_a_sound_catalogue_is_ranked_by_the_oracle_and_by_chance() -> None:
    found = check_task(Library())
    assert [finding for finding in found if not finding.holds] == []
    said = {finding.what for finding in found}
    assert "oracle scores NDCG@10 1.0000, the most there is" in said
    assert "no language model can be asked: no prompt holds a library" in said
    assert {what.split()[2] for what in said if what.startswith("random scores")} == {
        "HR@1",
        "NDCG@10",
        "MRR@5",
        "ARP@10",
    }


@dataclass(frozen=True)
class Leaning(Shelf):
    """A shelf judged by a metric that is wrong about chance."""

    metrics: ClassVar[tuple[Metric, ...]] = (Lucky(3),)


def test_a_score_far_from_chance_is_found() -> None:
    assert [what.rsplit(" ", 4)[0] for what in failed(Leaning())] == ["random scores HR@3", "constant scores HR@3"]


def test_a_sound_task_has_no_findings() -> None:
    assert failed(Broken()) == []
