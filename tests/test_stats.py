"""Intervals: do they cover, do they see clusters, and are they what the formulas say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from harness.exposure import ARP, Coverage, Gini
from harness.metrics import Answer, HitRate, Metric
from harness.paired import contrast
from harness.points import AUC, UserAUC
from harness.stats import FEW, interval

MEAN = HitRate(1)


def column(values: np.ndarray) -> np.ndarray:
    return values.astype(float).reshape(-1, 1)


def test_few_users_get_the_jackknife_by_hand() -> None:
    """Of a mean with one value per unit it is the textbook t interval."""
    values = np.array([0.0, 0.9, 0.9, 0.3, 0.9] * 2)
    found = interval(MEAN, column(values), np.arange(10))
    half = t.ppf(0.975, 9) * values.std(ddof=1) / math.sqrt(10)
    assert found.method == "jackknife-t"
    assert found.few
    assert (found.unit, found.units) == ("instance", 10)
    assert found.low == pytest.approx(max(0.0, 0.6 - half))
    assert found.high == pytest.approx(min(1.0, 0.6 + half))


def test_many_units_get_the_bootstrap_close_to_the_normal_interval() -> None:
    values = np.random.default_rng(1).random(4000)
    found = interval(MEAN, column(values), np.arange(4000))
    half = 1.96 * values.std() / math.sqrt(4000)
    assert found.method == "bootstrap"
    assert not found.few
    assert found.low == pytest.approx(values.mean() - half, abs=0.002)
    assert found.high == pytest.approx(values.mean() + half, abs=0.002)


def test_answers_of_one_user_count_as_one_unit() -> None:
    """Ten copies of each answer say nothing new: the interval is as wide as without the copies."""
    values = np.random.default_rng(2).random(200)
    once = interval(MEAN, column(values), np.arange(200))
    copied = interval(MEAN, column(np.repeat(values, 10)), np.repeat(np.arange(200), 10))
    assert (copied.unit, copied.units) == ("user", 200)
    assert copied.high - copied.low == pytest.approx(once.high - once.low)


def test_coverage_of_the_small_sample_interval() -> None:
    """Of 400 worlds with 16 users and strong user effects, about 95 % of intervals hold the truth."""
    rng = np.random.default_rng(3)
    users = np.repeat(np.arange(16), 20)
    held = 0
    for _ in range(400):
        level = rng.beta(2, 2, size=16)
        found = interval(MEAN, column(rng.random(320) < level[users]), users)
        held += found.low <= 0.5 <= found.high
    assert 0.92 <= held / 400 <= 0.98


@pytest.mark.parametrize("metric", [AUC(), UserAUC()])
@pytest.mark.parametrize("users", [16, 60])
def test_auc_intervals_hold_the_score_and_stay_in_bounds(metric: AUC, users: int) -> None:
    rng = np.random.default_rng(4)
    who = np.repeat(np.arange(users), 12)
    label = rng.random(len(who)) < 0.5
    rows = np.column_stack([label, label + rng.normal(size=len(who)), np.ones(len(who))]).astype(float)
    found = interval(metric, rows, who)
    assert found.units == users
    assert 0 <= found.low < metric.aggregate(rows, who) < found.high <= 1


def test_a_user_drawn_twice_counts_twice() -> None:
    """The spread of a mean over users must be that of independent users, not of distinct ones."""
    rng = np.random.default_rng(5)
    who = np.repeat(np.arange(100), 2)
    label = np.tile([1.0, 0.0], 100)
    right = rng.random(100) < 0.7
    score = np.where(np.repeat(right, 2), label, 1 - label)
    found = interval(UserAUC(), np.column_stack([label, score, np.ones(200)]), who)
    half = 1.96 * math.sqrt(right.mean() * (1 - right.mean()) / 100)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_paired_difference_is_narrower_than_two_intervals() -> None:
    rng = np.random.default_rng(6)
    hard = rng.random(500)
    ours, theirs = column(rng.random(500) < hard + 0.05), column(rng.random(500) < hard)
    both = column((hard > 0.5).astype(float))
    same = contrast(MEAN, [both], [both], np.arange(500))
    assert (same.value, same.p) == (0.0, 1.0)
    assert -same.low == pytest.approx(same.high)
    found = contrast(MEAN, [ours], [theirs], np.arange(500))
    gap = float(ours.mean() - theirs.mean())
    assert found.low < gap < found.high


def test_hits_and_misses_of_independent_instances_get_the_wilson_interval() -> None:
    found = interval(MEAN, column(np.zeros(50)), np.arange(50))
    assert found.method == "wilson"
    assert found.low == 0.0
    assert found.high == pytest.approx(1.959964**2 / (50 + 1.959964**2), rel=1e-4)
    hits = np.array([1] * 20 + [0] * 80)
    found = interval(MEAN, column(hits), np.arange(100))
    assert list(found[:2]) == pytest.approx([0.1334, 0.2888], abs=1e-4)


def test_users_whose_auc_is_undefined_are_no_units() -> None:
    """Twelve users have both labels and forty have one: the interval rests on twelve, and says so."""
    rng = np.random.default_rng(8)
    users = np.repeat(np.arange(52), 10)
    label = np.where(users < 12, rng.random(520) < 0.5, users % 2 == 0)
    rows = np.column_stack([label, rng.random(520), np.ones(520)]).astype(float)
    found = interval(UserAUC(), rows, users)
    assert (found.units, found.method) == (12, "jackknife-t")
    alone = interval(UserAUC(), rows[users < 12], users[users < 12])
    assert found == alone


@pytest.mark.parametrize("metric", [MEAN, ARP(1)])
def test_a_handful_of_units_says_that_it_runs_and_no_more(metric: Metric) -> None:
    values = np.array([0.0, 1.0] * 6)
    for units, method in ((9, "undefined"), (10, "jackknife-t")):
        part = column(np.linspace(0, 1, units))
        assert interval(metric, part, np.arange(units)).method == method
        assert contrast(metric, [part], [part * 0], np.arange(units)).method == method
    assert interval(metric, column(values), np.arange(12) // 2).method == "undefined"


def test_one_user_says_nothing_about_others() -> None:
    found = interval(MEAN, column(np.ones(5)), np.zeros(5, dtype=int))
    assert found.method == "undefined"
    assert math.isnan(found.low)


def test_what_resampling_says_nothing_about_has_no_interval() -> None:
    """A hundred users see an item each: any draw of users with replacement would miss some of the items."""
    rows = np.column_stack([np.full(100, 100.0), np.arange(100.0)])
    assert Coverage(1).aggregate(rows, np.arange(100)) == 1
    for found in (
        interval(Coverage(1), rows, np.arange(100)),
        contrast(Coverage(1), [rows], [np.roll(rows, 1, axis=0)], np.arange(100)),
    ):
        assert (found.method, found.unit, found.units) == ("undefined", "instance", 100)
        assert math.isnan(found.low)
        assert math.isnan(found.high)
    assert interval(Gini(1), rows, np.repeat(np.arange(50), 2))[2:] == ("user", 50, "undefined")


def test_the_popularity_of_what_is_shown_is_a_mean_like_any_other() -> None:
    found = interval(ARP(1), column(np.arange(11.0)), np.arange(11))
    half = t.ppf(0.975, 10) * np.arange(11).std(ddof=1) / math.sqrt(11)
    assert found[:2] == pytest.approx((max(0.0, 5 - half), 5 + half))


def test_a_fast_mean_is_the_general_bootstrap() -> None:
    rng = np.random.default_rng(7)
    values, who = column(rng.random(600)), np.repeat(np.arange(200), 3)
    fast = interval(MEAN, values, who)

    class General(Metric):
        def measure(self, answer: Answer) -> None:
            return None

        def aggregate(self, rows: np.ndarray, users: np.ndarray) -> float:
            return float(rows[:, 0].mean())

    slow = interval(General(), values, who)
    assert fast[2:] == slow[2:]
    assert fast[:2] == pytest.approx(slow[:2])
    assert FEW == 40
