"""Metrics of written lists and shortlists: values by hand, and the random order against all orders that there are."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from math import isnan, log2
from pathlib import Path

import numpy as np
import pytest

from harness.metrics import NDCG, Answer, HitRate, Metric
from harness.scoring import aligned
from harness.store import SCHEMA, Record, Run
from harness.types import Instance, Item, Prediction
from harness.written import AboveShuffled, AsFound, Ceiling, Lenient, Share, Shuffled, by_chance

ITEMS = tuple(Item(letter, letter) for letter in "abcde")
ASKED = Instance("q", "ann", (), None, {"c": 1.0}, shortlist=ITEMS)
MISSED = replace(ASKED, id="r", relevance={"z": 1.0})
PLAIN = replace(ASKED, id="s", shortlist=None)


def answer(instance: Instance, *items: str, lenient: tuple[str, ...] | None = None) -> Answer:
    return Answer.of(instance, replace(Prediction.ranked(items), lenient=lenient))


def value(metric: Metric, given: Answer) -> float:
    row = metric.measure(given)
    assert row is not None
    (number,) = row
    return number


def test_the_ceiling_is_what_the_first_stage_found() -> None:
    assert Ceiling().measure(answer(ASKED)) == (1.0,)
    assert Ceiling().measure(answer(MISSED)) == (0.0,)
    assert Ceiling().measure(answer(replace(ASKED, relevance={"a": 1.0, "z": 1.0}))) == (0.5,)
    assert Ceiling().measure(answer(PLAIN)) is None


def test_its_own_order_scores_the_same_whatever_is_answered() -> None:
    for given in (answer(ASKED, "c"), answer(ASKED, "z"), Answer.of(ASKED, None)):
        assert AsFound(NDCG(10)).measure(given) == (1 / log2(4),)
        assert AsFound(HitRate(2)).measure(given) == (0.0,)
    assert AsFound(HitRate(10)).measure(answer(MISSED)) == (0.0,)
    assert AsFound(HitRate(10)).measure(answer(PLAIN, "c")) is None


@pytest.mark.parametrize("metric", [HitRate(2), NDCG(2), NDCG(10)])
def test_a_random_order_scores_the_mean_of_all_orders(metric: HitRate | NDCG) -> None:
    orders = [metric.measure(answer(ASKED, *order))[0] for order in permutations("abcde")]
    assert value(Shuffled(metric), answer(ASKED)) == pytest.approx(np.mean(orders))
    assert by_chance(metric, MISSED) == 0.0
    assert by_chance(metric, replace(ASKED, shortlist=())) == 0.0
    assert by_chance(metric, PLAIN) is None


def test_above_a_random_order() -> None:
    assert value(AboveShuffled(HitRate(2)), answer(ASKED, "c")) == pytest.approx(1 - 0.4)
    assert value(AboveShuffled(HitRate(2)), answer(ASKED, "a")) == pytest.approx(-0.4)
    assert value(AboveShuffled(HitRate(2)), Answer.of(ASKED, None)) == pytest.approx(-0.4)
    assert AboveShuffled(HitRate(2)).measure(answer(PLAIN, "c")) is None


def test_doubtful_items_count_in_the_lenient_list_alone() -> None:
    found = answer(ASKED, "a", lenient=("a", "c"))
    assert NDCG(10).measure(found) == (0.0,)
    assert Lenient(NDCG(10)).measure(found) == (1 / log2(3),)
    assert Lenient(NDCG(10)).measure(answer(ASKED, "c")) is None
    assert Lenient(NDCG(10)).measure(Answer.of(ASKED, None)) == (0.0,)


def test_a_share_is_of_all_lines_together() -> None:
    share, users = Share("exact", "lines"), np.zeros(3, dtype=np.int64)
    counts = ({"exact": 1.0, "lines": 2.0}, {"exact": 0.0, "lines": 6.0})
    measured = [share.measure(Answer.of(ASKED, Prediction({}, facts))) for facts in counts]
    measured.append(share.measure(Answer.of(ASKED, None)))
    assert measured == [(1.0, 2.0), (0.0, 6.0), (0.0, 0.0)]
    assert share.aggregate(np.array(measured), users) == 1 / 8
    assert isnan(share.aggregate(np.zeros((1, 2)), users[:1]))
    assert share.measure(answer(ASKED)) is None


def test_names_tell_them_apart() -> None:
    made = [
        metric.name for metric in (Lenient(NDCG(10)), AsFound(NDCG(10)), Shuffled(NDCG(10)), AboveShuffled(NDCG(10)))
    ]
    assert made == ["NDCG@10[lenient]", "NDCG@10[identity]", "NDCG@10[random]", "NDCG@10[above random]"]


def test_failed_answers_alone_give_no_lenient_score(tmp_path: Path) -> None:
    """A model that ranks by likelihood writes no list; that it failed to answer once does not make one."""
    metrics: list[Metric] = [HitRate(2), Lenient(HitRate(2))]
    question = Instance("q", "u", (), None, {"a": 1.0})
    given = {"answered": Prediction({"a": 1.0}), "failed": None}
    with Run.open(tmp_path / "run", {"schema": SCHEMA, "identity": {}}) as run:
        for name, prediction in given.items():
            rows = {metric.name: metric.measure(Answer.of(question, prediction)) for metric in metrics}
            failure = None if prediction else "InstanceFailed"
            run.append(Record(name, "u", rows, {}, (), False, {}, (0, 0), failure=failure))
    assert set(aligned([tmp_path / "run"], metrics)) == {"HR@2"}
