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
from harness.paired import contrast, holm
from harness.points import AUC, Accuracy, LogLoss, UserAUC
from harness.stats import replicates

MEAN = HitRate(1)
MOVIE = np.repeat(np.arange(16), [174, 158, 132, 98, 97, 69, 53, 51, 39, 30, 29, 22, 16, 12, 10, 10])
"""Whose instances they are in TALLRec's test on movies."""


def column(values: np.ndarray) -> Rows:
    return values.astype(float).reshape(-1, 1)


def points(label: np.ndarray, score: np.ndarray) -> Rows:
    return np.column_stack([label, score, np.ones(len(label))]).astype(float)


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
    rows = column(np.random.default_rng(5).random(len(users)) < 0.5)
    found = contrast(MEAN, [rows] * sides[0], [rows] * sides[1], users)
    assert (found.value, found.low, found.high, found.error, found.p, found.detectable()) == (0, 0, 0, 0, 1, 0)


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
