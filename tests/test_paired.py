"""Paired differences: by hand, against scikit-learn and scipy, and whether their promises hold in simulated worlds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t, ttest_rel
from sklearn.metrics import log_loss, roc_auc_score

from harness.metrics import HitRate, Metric, Rows, Users
from harness.paired import _bootstrapped, contrast, holm
from harness.points import AUC, Accuracy, LogLoss, UserAUC
from harness.stats import Spread, replicates

MEAN = HitRate(1)
MOVIE = np.repeat(np.arange(16), [174, 158, 132, 98, 97, 69, 53, 51, 39, 30, 29, 22, 16, 12, 10, 10])
"""Whose instances they are in TALLRec's test on movies."""


def column(values: np.ndarray) -> Rows:
    return values.astype(float).reshape(-1, 1)


def points(label: np.ndarray, score: np.ndarray) -> Rows:
    return np.column_stack([label, score, np.ones(len(label))]).astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("metric", [AUC(), UserAUC(), Accuracy(), LogLoss()])
@given(data=st.data())
def test_weighing_instances_is_drawing_them_out(metric: Metric, data: st.DataObject) -> None:
    """The metrics' own way to weigh rows against the plain way, which repeats them, ties and failures included."""
    count = data.draw(st.integers(1, 12))
    rows = np.array(
        [data.draw(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(-2, 2), st.booleans())) for _ in range(count)],
        dtype=float,
    )
    users = np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    each = np.array(data.draw(st.lists(st.integers(0, 3), min_size=4, max_size=4)), dtype=float)
    weights = np.stack([each[users], np.ones(count)])
    if not weights[0].any():
        weights[0] = 1
    plain = Metric.weigher(metric, rows, users)(weights)
    assert metric.weigher(rows, users)(weights) == pytest.approx(plain, nan_ok=True)
    assert plain[1] == pytest.approx(metric.aggregate(rows, users), nan_ok=True)


def test_weighed_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    label, score, weights = rng.random(300) < 0.4, rng.normal(size=300).round(1), rng.integers(0, 4, 300)
    rows, drawn = points(label, score), weights[None].astype(float)
    assert AUC().weigher(rows, np.arange(300))(drawn) == pytest.approx(
        [roc_auc_score(label, score, sample_weight=weights)]
    )
    assert LogLoss().weigher(rows, np.arange(300))(drawn) == pytest.approx(
        [log_loss(label, 1 / (1 + np.exp(-score)), sample_weight=weights)]
    )


def test_few_units_are_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = rng.random(20), rng.random(20)
    found, known = contrast(MEAN, [column(ours)], [column(theirs)], np.arange(20)), ttest_rel(ours, theirs)
    interval = known.confidence_interval()
    assert (found.method, found.units, found.few) == ("jackknife-t", 20, True)
    assert (found.value, found.p) == pytest.approx((ours.mean() - theirs.mean(), known.pvalue))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    error = (ours - theirs).std(ddof=1) / math.sqrt(20)
    assert found.error == pytest.approx(error)
    assert found.detectable(0.9) == pytest.approx((t.ppf(0.975, 19) + t.ppf(0.9, 19)) * error)


def test_many_units_are_close_to_the_paired_t_test() -> None:
    rng = np.random.default_rng(2)
    ours, theirs = rng.random(2000) + 0.01, rng.random(2000)
    found, known = contrast(MEAN, [column(ours)], [column(theirs)], np.arange(2000)), ttest_rel(ours, theirs)
    interval = known.confidence_interval()
    assert found.method == "bootstrap"
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-3)
    assert found.p == pytest.approx(known.pvalue, abs=0.02)
    assert found.detectable() == pytest.approx(
        (norm.ppf(0.975) + norm.ppf(0.8)) * known.statistic**-1 * found.value, rel=0.05
    )


def test_one_sided_levels_are_narrower_intervals() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = [column(rng.random(400))], [column(rng.random(400))]
    wide, narrow = (contrast(MEAN, ours, theirs, np.arange(400), level=level) for level in (0.95, 0.9))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert narrow.p == wide.p
    assert narrow.detectable() < wide.detectable()


def test_runs_of_several_seeds_by_hand() -> None:
    """Two seeds against one: the spread of the two and that over the units, each with its own Student's t."""
    rng = np.random.default_rng(4)
    first, second, old = rng.random(30), rng.random(30) + 0.1, rng.random(30)
    found = contrast(MEAN, [column(first), column(second)], [column(old)], np.arange(30))
    gaps = (first + second) / 2 - old
    by_seed = np.var([first.mean(), second.mean()], ddof=1) / 2
    by_unit = gaps.var(ddof=1) / 30
    half = (by_seed * t.ppf(0.975, 1) + by_unit * t.ppf(0.975, 29)) / math.sqrt(by_seed + by_unit)
    assert found.method == "cochran-cox-t"
    assert (found.low, found.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half))
    assert found.error == pytest.approx(math.sqrt(by_seed + by_unit))
    at_zero = contrast(MEAN, [column(first), column(second)], [column(old)], np.arange(30), level=1 - found.p)
    assert min(abs(at_zero.low), abs(at_zero.high)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("sides", [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize("users", [np.arange(100), np.arange(20)])
def test_runs_that_are_equal_do_not_differ(sides: tuple[int, int], users: Users) -> None:
    rows = column(np.random.default_rng(5).random(len(users)))
    found = contrast(MEAN, [rows] * sides[0], [rows] * sides[1], users)
    assert (found.value, found.p) == (0, 1)
    assert (found.low, found.high, found.error, found.detectable()) == pytest.approx((0, 0, 0, 0), abs=1e-15)


@pytest.mark.parametrize("count", [12, 400])
def test_equal_hits_are_no_proof_that_none_ever_differs(count: int) -> None:
    """Without an instance that differs Tango's interval is z^2 / (n + z^2) on either side."""
    rows = column(np.arange(count) % 2)
    found = contrast(MEAN, [rows], [rows], np.arange(count))
    half = norm.ppf(0.975) ** 2 / (count + norm.ppf(0.975) ** 2)
    assert (found.method, found.p, found.value) == ("score", 1.0, 0.0)
    assert (found.low, found.high) == pytest.approx((-half, half))
    assert found.detectable() > half


def test_hits_by_hand() -> None:
    """Ten instances won and two lost, of forty: McNemar's test, and the interval ends at 0 where it does."""
    ours = column(np.array([1] * 10 + [0] * 2 + [1] * 28))
    theirs = column(np.array([0] * 10 + [1] * 2 + [1] * 28))
    found = contrast(MEAN, [ours], [theirs], np.arange(40))
    assert found.p == pytest.approx(2 * norm.sf(8 / math.sqrt(12)))
    edge = contrast(MEAN, [ours], [theirs], np.arange(40), level=1 - found.p)
    assert edge.low == pytest.approx(0, abs=1e-9)


def test_units_that_all_agree_are_a_coin_that_falls_alike() -> None:
    found = contrast(MEAN, [column(np.full(12, 0.5))], [column(np.zeros(12))], np.arange(12))
    assert (found.low, found.high, found.p) == (0.5, 0.5, 2.0**-11)


@pytest.mark.parametrize(("below", "p"), [(0, None), (1, 4 / 1001), (3, 8 / 1001)])
def test_a_bootstrapped_p_value_by_hand(below: int, p: float | None) -> None:
    """Twice the share of the draws beyond 0, the observed one counted; where there is none, the normal tail if less."""
    values = np.concatenate([-np.ones(below), np.linspace(0.5, 1.5, 1000 - below)])
    found = _bootstrapped((1.0, 0.0), Spread(0.09, "instance", 100, values), 0.95)
    assert found.p == pytest.approx(2 * norm.sf(1 / 0.3) if p is None else p)
    assert found.freedom == math.inf


def test_forty_units_are_enough_for_the_bootstrap() -> None:
    rng = np.random.default_rng(8)
    for units, method in ((39, "jackknife-t"), (40, "bootstrap")):
        ours, theirs = (column(rng.random(units)) for _ in range(2))
        assert contrast(MEAN, [ours], [theirs], np.arange(units)).method == method


def test_users_without_both_labels_are_no_units() -> None:
    users = np.repeat(np.arange(30), 4)
    label = np.where(users < 12, np.tile([1, 0, 1, 0], 30), 1)
    rng = np.random.default_rng(9)
    ours, theirs = (points(label, rng.normal(size=120)) for _ in range(2))
    found = contrast(UserAUC(), [ours], [theirs], users)
    assert (found.units, found.method, found.freedom) == (12, "jackknife-t", 11)


def test_draws_without_both_labels_are_left_out() -> None:
    """One disliked instance of forty: every third draw has none, and says nothing of an AUC."""
    label = np.append(np.ones(39), 0)
    rng = np.random.default_rng(10)
    ours, theirs = (points(label, rng.normal(size=40)) for _ in range(2))
    found = contrast(AUC(), [ours], [theirs], np.arange(40), draws=500)
    assert math.isfinite(found.error)
    assert found.low < found.value < found.high


def test_tables_of_other_lengths_do_not_pair() -> None:
    with pytest.raises(ValueError, match="as long as users"):
        contrast(MEAN, [column(np.ones(3))], [column(np.ones(4))], np.arange(3))
    with pytest.raises(ValueError, match="every side"):
        contrast(MEAN, [], [column(np.ones(3))], np.arange(3))


def test_holms_correction_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    corrected = holm([0.5, math.nan, 0.001, 0.6])
    assert corrected[0] == 1.0
    assert math.isnan(corrected[1])
    assert corrected[2:] == pytest.approx([0.003, 1.0])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_helps_and_keeps_the_order(p: list[float]) -> None:
    found = holm(p)
    assert all(after >= before for before, after in zip(p, found, strict=True))
    assert sorted(range(len(p)), key=lambda i: (p[i], i)) == sorted(range(len(p)), key=lambda i: (found[i], p[i], i))


@pytest.mark.slow
@pytest.mark.parametrize(("users", "worlds"), [(MOVIE, 200), (np.arange(300), 200)])
def test_equal_systems_are_seldom_told_apart(users: Users, worlds: int) -> None:
    """Of 200 pairs of equal systems not many more than 5 % differ at the 5 % level: the binomial's upper 99 % limit."""
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(worlds):
        taste = rng.normal(size=users.max() + 1)[users]
        label = rng.random(len(users)) < 1 / (1 + np.exp(-taste))
        common = 0.8 * label + taste + rng.normal(size=len(users))
        ours, theirs = (points(label, common + rng.normal(size=len(users))) for _ in range(2))
        alarms += contrast(AUC(), [ours], [theirs], users, draws=400).p < 0.05
    assert alarms <= 19


def test_draws_are_the_same_whatever_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, users = column(np.random.default_rng(7).random(120)), np.arange(120) // 2
    whole = replicates([MEAN.weigher(rows, users)], users, seed=3, draws=50)
    monkeypatch.setattr("harness.stats.AT_ONCE", 1000)
    assert replicates([MEAN.weigher(rows, users)], users, seed=3, draws=50) == pytest.approx(whole, abs=1e-15)
