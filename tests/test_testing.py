"""The checks of a protocol must fail on a protocol that is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from harness.errors import InstanceFailed
from harness.metrics import MAP, Accuracy, LogLoss, Metric, Precision, Recall
from harness.task import Task
from harness.testing import TaskContract, check_task
from harness.types import Event, Instance, Prediction, Program, Split
from tests.fakes import Coins, Shelf


class TestCoins(TaskContract):
    task = Coins()


class TestShelf(TaskContract):
    task = Shelf()


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


def test_a_sound_task_has_no_findings() -> None:
    assert failed(Broken()) == []
