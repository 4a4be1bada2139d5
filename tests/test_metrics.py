"""Metrics against values worked out by hand, scikit-learn, and properties that hold for every input."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, log_loss, ndcg_score, roc_auc_score

from harness.metrics import (
    MAP,
    MRR,
    NDCG,
    Answer,
    CutOff,
    HitRate,
    MeanOf,
    Metric,
    Precision,
    Recall,
    sigmoid,
)
from harness.points import AUC, WORST_LOG_LOSS, Accuracy, LogLoss, UserAUC, tied_pairs
from harness.types import Instance, Item, Prediction

CUT_OFFS: tuple[CutOff, ...] = tuple(
    kind(k) for kind in (HitRate, NDCG, MRR, Recall, Precision, MAP) for k in (1, 3, 5, 30)
)


def listed(size: int, relevant: Sequence[int] | dict[int, float]) -> Instance:
    gains = relevant if isinstance(relevant, dict) else dict.fromkeys(relevant, 1.0)
    items = tuple(Item(str(n), f"item {n}") for n in range(size))
    return Instance("i", "u", (), items, {str(n): gain for n, gain in gains.items()})


def point(name: str, label: float) -> Instance:
    return Instance(name, name, (), (Item("x", "x"),), {"x": label})


def value(metric: CutOff, instance: Instance, order: Sequence[int]) -> float:
    (found,) = metric.measure(Answer.of(instance, Prediction.ranked([str(n) for n in order])))
    return found


def pointwise(
    metric: Metric, labels: Sequence[float], scores: Sequence[float | None], users: Sequence[int] = ()
) -> float:
    rows = [
        metric.measure(Answer.of(point(str(n), label), None if score is None else Prediction({"x": score})))
        for n, (label, score) in enumerate(zip(labels, scores, strict=True))
    ]
    return metric.aggregate(np.array(rows, dtype=float), np.array(users or range(len(rows))))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (HitRate(1), 0.0),
        (HitRate(2), 1.0),
        (MRR(1), 0.0),
        (MRR(5), 1 / 2),
        (Recall(2), 1 / 3),
        (Recall(5), 2 / 3),
        (Precision(2), 1 / 2),
        (Precision(5), 2 / 5),
        (MAP(5), (1 / 2 + 2 / 4) / 3),
        (MAP(2), (1 / 2) / 2),
        (NDCG(2), (1 / math.log2(3)) / (1 + 1 / math.log2(3))),
        (NDCG(5), (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / 2)),
    ],
)
def test_a_list_worked_out_by_hand(metric: CutOff, expected: float) -> None:
    """Ten candidates, 1, 3 and 9 are right; the model lists 0 1 2 3 4 and not 9."""
    assert value(metric, listed(10, [1, 3, 9]), [0, 1, 2, 3, 4]) == pytest.approx(expected)


def test_graded_relevance_by_hand() -> None:
    instance = listed(4, {0: 1.0, 1: 3.0})
    assert value(NDCG(2), instance, [0, 1]) == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))


@pytest.mark.parametrize("metric", CUT_OFFS)
def test_a_failed_instance_scores_zero(metric: CutOff) -> None:
    assert metric.measure(Answer.of(listed(5, [0]), None)) == (0.0,)


@given(st.data())
def test_bounds_order_and_perfection(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    relevant = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    order = data.draw(st.permutations(range(size)))
    instance = listed(size, sorted(relevant))
    best = [*sorted(relevant), *(n for n in range(size) if n not in relevant)]
    for metric in CUT_OFFS:
        got, top = value(metric, instance, order), value(metric, instance, best)
        assert 0 <= got <= top + 1e-12 <= 1 + 1e-12
        if not isinstance(metric, Precision | Recall):
            assert top == pytest.approx(1)


@given(st.data())
def test_ndcg_and_average_precision_are_scikit_learns(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 12))
    gains = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=size, max_size=size))
    assume(any(gains))
    order = data.draw(st.permutations(range(size)))
    scores = [-float(order.index(n)) for n in range(size)]
    instance = listed(size, {n: gain for n, gain in enumerate(gains) if gain})
    for k in (1, 3, size):
        assert value(NDCG(k), instance, order) == pytest.approx(ndcg_score([gains], [scores], k=k))
    assert value(MAP(size), instance, order) == pytest.approx(average_precision_score(gains, scores))


@given(st.data())
def test_a_row_is_what_the_relevance_of_each_place_in_turn_gives(data: st.DataObject) -> None:
    """To the last digit: gains of several worths, some of them of items that the model does not list."""
    gains = data.draw(st.dictionaries(st.integers(0, 40), st.sampled_from([0.0, 0.3, 1.0, 3.0]), max_size=12))
    order = data.draw(st.lists(st.integers(0, 40), unique=True, max_size=40))
    answer = Answer.of(listed(41, gains), Prediction.ranked([str(n) for n in order]))
    relevant = sorted((gain for gain in gains.values() if gain > 0), reverse=True)
    for metric in CUT_OFFS:
        hits = [(place, gain) for place, n in enumerate(order[: metric.k], 1) if (gain := gains.get(n, 0.0)) > 0]
        assert metric.measure(answer) == (metric.value(hits, relevant),)
    assert answer.places == {str(n): order.index(n) + 1 for n, gain in gains.items() if gain > 0 and n in order}


@given(
    st.lists(st.integers(-3, 3) | st.floats(-1, 1), max_size=30),
    st.sets(st.integers(0, 35)),
    st.integers(0, 32),
    st.text(max_size=3),
)
def test_what_an_answer_says_of_places_is_its_ranking(scores: list[float], named: set[int], k: int, salt: str) -> None:
    """With many ties and few, and items that have no score: by the whole order, which the hash decides."""
    prediction = Prediction({str(n): float(score) for n, score in enumerate(scores)})
    answer = Answer.of(Instance(salt, "u", (), None, {str(n): n % 3 for n in named}), prediction)
    ranking = prediction.ranking(salt)
    places = {item: place for place, item in enumerate(ranking, 1)}
    assert answer.top(k) == ranking[:k]
    relevance = {item: gain for item, gain in answer.instance.relevance.items() if gain > 0}
    assert list(answer.places.items()) == [(item, places[item]) for item in relevance if item in places]
    assert list(answer.hits) == [(places[item], relevance[item]) for item in ranking if item in relevance]
    assert Answer.kept(answer.instance, prediction, answer.places)[3:] == answer[3:]
    assert answer.tied == (len(set(scores)) < len(scores))


@pytest.mark.slow
@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_chance_is_the_mean_over_all_orders(size: int, k: int, data: st.DataObject) -> None:
    relevant = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    instance = listed(size, sorted(relevant))
    rng = random.Random(0)
    orders = [rng.sample(range(size), size) for _ in range(300)]
    for kind in (HitRate, NDCG, MRR, Recall, Precision, MAP):
        metric = kind(k)
        seen = [value(metric, instance, order) for order in orders]
        expected = metric.chance(instance)
        assert expected is not None
        assert abs(np.mean(seen) - expected) <= 5 * np.std(seen) / math.sqrt(len(seen)) + 1e-9


def test_chance_by_hand() -> None:
    instance = listed(21, [4])
    assert HitRate(5).chance(instance) == pytest.approx(5 / 21)
    assert MRR(2).chance(instance) == pytest.approx((1 + 1 / 2) / 21)
    assert HitRate(5).chance(Instance("i", "u", (), None, {"4": 1.0})) is None


LABELLED = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(-5, 5).map(float)), min_size=2, max_size=60)


@given(LABELLED)
def test_auc_accuracy_and_log_loss_are_scikit_learns(rows: list[tuple[float, float]]) -> None:
    labels, scores = [label for label, _ in rows], [score for _, score in rows]
    assume(len(set(labels)) == 2)
    assert pointwise(AUC(), labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    assert pointwise(Accuracy(), labels, scores) == pytest.approx(accuracy_score(labels, [s > 0 for s in scores]))
    assert pointwise(LogLoss(), labels, scores) == pytest.approx(log_loss(labels, [sigmoid(s) for s in scores]))


def test_auc_by_hand_with_ties_and_failures() -> None:
    assert pointwise(AUC(), [1, 0, 1, 0], [0.9, 0.9, 0.2, 0.1]) == pytest.approx((0.5 + 1 + 0 + 1) / 4)
    assert pointwise(AUC(), [1, 0, 1, 0], [0.9, 0.1, None, 0.2]) == pytest.approx(0.5)
    assert pointwise(AUC(), [1, 0], [0.9, None]) == 0.0
    assert math.isnan(pointwise(AUC(), [1, 1], [0.9, 0.1]))


def test_user_auc_is_the_mean_over_users_with_both_labels() -> None:
    labels, scores, users = [1.0, 0.0, 0.0, 1.0, 1.0], [2.0, 1.0, 1.0, 0.0, 9.0], [7, 7, 3, 3, 5]
    assert pointwise(UserAUC(), labels, scores, users) == pytest.approx((1 + 0) / 2)


def test_a_failure_costs_the_most_that_a_probability_can() -> None:
    assert pointwise(LogLoss(), [1, 1], [0.0, None]) == pytest.approx((math.log(2) + WORST_LOG_LOSS) / 2)
    assert pointwise(Accuracy(), [1, 0], [1.0, None]) == 0.5


def test_facts_are_judged_by_name_and_absent_ones_do_not_apply() -> None:
    told = Answer.of(point("a", 1.0), Prediction({"x": 0.1}, {"log_odds": 2.5, "mass": 0.75}))
    silent = Answer.of(point("a", 1.0), Prediction({"x": 0.1}))
    assert AUC(of="log_odds").measure(told) == (1.0, 2.5, 1.0)
    assert AUC(of="log_odds").measure(silent) is None
    assert MeanOf("mass").measure(told) == (0.75,)
    assert MeanOf("mass").measure(silent) is None
    assert AUC(of="log_odds").measure(Answer.of(point("a", 1.0), None)) == (1.0, 0.0, 0.0)


def test_tied_pairs_by_hand() -> None:
    rows = np.array([[1, 5, 1], [0, 5, 1], [0, 4, 1], [1, 4, 0]], dtype=float)
    assert tied_pairs(rows) == pytest.approx(1 / 4)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=6))
def test_ties_fall_by_hash_and_not_by_the_order_of_candidates(scores: list[float]) -> None:
    pairs = {str(n): score for n, score in enumerate(scores)}
    backwards = dict(reversed(list(pairs.items())))
    assert Prediction(pairs).ranking("salt") == Prediction(backwards).ranking("salt")


def test_a_model_that_cannot_tell_scores_chance_whatever_the_order_of_candidates() -> None:
    hits = [
        HitRate(5).measure(
            Answer.of(
                Instance(str(n), "u", (), tuple(Item(str(i), "") for i in range(20)), {"0": 1.0}),
                Prediction({str(i): 0.0 for i in range(20)}),
            )
        )[0]
        for n in range(4000)
    ]
    assert np.mean(hits) == pytest.approx(5 / 20, abs=0.03)


def test_names() -> None:
    assert [m.name for m in (NDCG(10), HitRate(k=5), AUC(), AUC(of="log_odds"), MeanOf("mass"))] == [
        "NDCG@10",
        "HR@5",
        "AUC",
        "AUC[log_odds]",
        "mass",
    ]
