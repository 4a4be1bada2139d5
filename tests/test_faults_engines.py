"""Engines that do wrong, behind all the wrappers of a real run: complete correct records, or one clear error that
keeps what was answered before; and nothing wrong gets into the cache."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.engines import Answered, FunctionEngine
from harness.engines.cache import Cached, ResponseCache
from harness.engines.wrappers import Counted, Retried
from harness.errors import HarnessError
from harness.runner import evaluate
from harness.signature import identify
from harness.store import SCHEMA, Record, Run, records
from harness.types import Choose, Generate, Key, Scores, Text
from tests.fakes import Coins, noisy

COINS = Coins(count=60)
GOOD_CALLS = 2
"""Calls of `collect` before the fault."""
Fault = Callable[[list[Answered]], list[Answered]]


class Faulty(FunctionEngine):
    """Answers right, and what it has answered is changed by the fault before it is handed over."""

    def __init__(self, fault: Fault, after: int = GOOD_CALLS) -> None:
        super().__init__(noisy, Choose, Generate, capacity=10)
        self._fault, self._after = fault, after

    def collect(self) -> Sequence[Answered]:
        done = list(super().collect())
        self._after -= 1
        return self._fault(done) if self._after < 0 else done


@dataclass(frozen=True)
class Place:
    """A run directory and a cache, as a run on this disk has them."""

    folder: Path

    def run(self, fault: Fault, after: int = GOOD_CALLS) -> dict[str, Record]:
        """Run, or go on; the records that there are then."""
        identity = identify(COINS, "test", None, {"engine": "noisy"})
        cache = ResponseCache(self.folder / "responses.sqlite")
        engine = Cached(Retried(Counted(Faulty(fault, after))), cache, {"weights": "w"})
        manifest = {"schema": SCHEMA, "task": COINS.name, "identity": identity._asdict()}
        try:
            with Run.open(self.folder / "run", manifest) as run:
                evaluate(COINS, engine, run)
        finally:
            cache.close()
        return self.records()

    def records(self) -> dict[str, Record]:
        return {record.id: record for record in records(self.folder / "run")}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "faulty")


@pytest.fixture
def right(tmp_path: Path) -> dict[str, Record]:
    """The records of a run by an engine without faults."""
    return Place(tmp_path / "right").run(lambda done: done)


def scored(values: Callable[[Scores], tuple[float, ...]]) -> Fault:
    """The first answer gets other values."""

    def fault(done: list[Answered]) -> list[Answered]:
        (key, reply), *rest = done
        assert isinstance(reply, Scores)
        return [(key, Scores(values(reply))), *rest]

    return fault


FAULTS: dict[str, tuple[Fault, str]] = {
    "loses one": (lambda done: done[1:], "nothing in hand any more, and [0-9]+ questions are not answered"),
    "loses all": (lambda done: [], "nothing in hand any more, and 10 questions are not answered"),
    "answers twice": (lambda done: [*done, done[0]], "twice, or without having been asked"),
    "answers another": (lambda done: [(Key("nobody"), done[0][1]), *done[1:]], "twice, or without having been asked"),
    "answers a later question": (
        lambda done: [(done[0][0]._replace(step=7), done[0][1]), *done[1:]],
        "twice, or without having been asked",
    ),
    "too few scores": (scored(lambda reply: reply.values[:1]), "with 1 scores, not 2 scores"),
    "too many scores": (scored(lambda reply: (*reply.values, 0.0)), "with 3 scores, not 2 scores"),
    "no scores": (scored(lambda reply: ()), "with 0 scores, not 2 scores"),
    "a text": (lambda done: [(done[0][0], Text("Yes")), *done[1:]], "with a Text, not 2 scores"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_answer_stops_the_run_and_what_was_answered_stays(
    place: Place, right: dict[str, Record], name: str
) -> None:
    fault, said = FAULTS[name]
    with pytest.raises(HarnessError, match=said) as caught:
        place.run(fault)
    assert "\n" not in str(caught.value)
    kept = place.records()
    assert len(kept) >= 10
    assert kept == {key: right[key] for key in kept}
    assert place.run(lambda done: done) == right


@pytest.mark.parametrize("name", FAULTS)
def test_an_engine_that_is_wrong_from_the_first_answer_leaves_no_run(place: Place, name: str) -> None:
    with pytest.raises(HarnessError):
        place.run(FAULTS[name][0], after=0)
    assert not (place.folder / "run").exists() or place.records()


def test_the_order_of_answers_changes_nothing(place: Place, right: dict[str, Record]) -> None:
    rng = random.Random(0)
    assert place.run(lambda done: rng.sample(done, len(done)), after=0) == right


@pytest.mark.parametrize("worst", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_a_failed_instance_and_is_not_kept(
    place: Place, right: dict[str, Record], worst: float
) -> None:
    found = place.run(scored(lambda reply: (worst, *reply.values[1:])))
    failed = {key: record for key, record in found.items() if record.failure}
    assert len(failed) == 4
    assert {record.reason for record in failed.values()} == {
        f"the engine gave a score of {worst}, which is no finite number"
    }
    assert {record.rows["AUC"] for record in failed.values()} <= {(1.0, 0.0, 0.0), (0.0, 0.0, 0.0)}
    assert {key: record for key, record in found.items() if not record.failure} == {
        key: record for key, record in right.items() if key not in failed
    }
    (place.folder / "run" / "records.jsonl").unlink()
    assert place.run(lambda done: done) == right


def test_a_wrong_answer_is_not_answered_from_the_cache_later(place: Place, right: dict[str, Record]) -> None:
    for name in ("too few scores", "a text"):
        with pytest.raises(HarnessError):
            place.run(FAULTS[name][0], after=0)
    assert place.run(lambda done: done) == right
