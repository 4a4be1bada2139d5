"""Intervals over seeds and users: are they what the formulas say, do they cover, and what leaves them unchanged."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from harness.metrics import HitRate, MeanOf
from harness.points import AUC, UserAUC
from harness.seeds import SeedInterval, over_seeds
from harness.stats import interval

MEAN = MeanOf("x")


def tables(values: np.ndarray) -> list[np.ndarray]:
    """(seeds, instances) to one column of rows for each seed."""
    return [row.reshape(-1, 1) for row in np.asarray(values, dtype=float)]


def test_two_seeds_and_three_users_by_hand() -> None:
    values = np.array([[0.0, 1.0, 2.0], [1.0, 3.0, 5.0]])
    found = over_seeds(MEAN, tables(values), np.arange(3))
    assert found.mean == pytest.approx(2.0)  # of 1 and 3
    assert found.sd == pytest.approx(math.sqrt(2))
    seeds = 2 / 2
    users = 1.5**2 / 3  # of the averages 0.5, 2 and 3.5, whose jackknife is the textbook variance of a mean
    quantile = (seeds * t.ppf(0.975, 1) + users * t.ppf(0.975, 2)) / (seeds + users)
    half = quantile * math.sqrt(seeds + users)
    assert [found.low, found.high] == pytest.approx([2 - half, 2 + half])
    assert (found.seeds, found.unit, found.units, found.method) == (2, "instance", 3, "cochran-cox-t")


def test_one_seed_has_the_interval_of_its_users_and_says_so() -> None:
    rng = np.random.default_rng(1)
    users = np.repeat(np.arange(12), 10)
    rows = np.column_stack([rng.random(120) < 0.5, rng.random(120), np.ones(120)]).astype(float)
    found, alone = over_seeds(AUC(), [rows], users), interval(AUC(), rows, users)
    assert (found.sd, found.method, found.seeds) == (None, "one seed", 1)
    assert (found.low, found.high, found.units) == (alone.low, alone.high, 12)


def coverage(seeds: int, users: int, of_seed: float, of_user: float, of_both: float, worlds: int = 600) -> float:
    """How often the truth, 0, is in the interval; two answers a user, all effects normal."""
    rng = np.random.default_rng(7)
    who = np.repeat(np.arange(users), 2)
    held = 0
    for _ in range(worlds):
        values = of_seed * rng.normal(size=(seeds, 1)) + of_user * rng.normal(size=users)
        values = values + of_both * rng.normal(size=(seeds, users))
        answers = np.repeat(values, 2, axis=1) + 0.3 * rng.normal(size=(seeds, 2 * users))
        found = over_seeds(MEAN, tables(answers), who)
        held += found.low <= 0 <= found.high
    return held / worlds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "users", "of_seed", "of_user", "of_both"),
    [
        (5, 16, 0.3, 1.0, 0.5),  # few users and the user decides, as on TALLRec movie
        (5, 16, 1.0, 0.3, 0.3),  # the seed decides
        (3, 30, 0.5, 0.5, 0.5),
        (2, 16, 0.1, 1.0, 0.1),
        (2, 16, 1.0, 1.0, 1.0),  # two seeds that differ as users do: Satterthwaite's degrees of freedom give 0.90
        (5, 16, 0.0, 0.0, 1.0),  # nothing but interaction, which is counted twice
    ],
)
def test_a_95_percent_interval_holds_the_truth_as_often(
    seeds: int, users: int, of_seed: float, of_user: float, of_both: float
) -> None:
    assert coverage(seeds, users, of_seed, of_user, of_both) >= 0.93


@pytest.mark.slow
def test_from_forty_users_on_the_bootstrap_covers_as_well() -> None:
    assert coverage(4, 60, 0.3, 1.0, 0.5, worlds=250) >= 0.93


def test_leaving_the_seeds_out_would_not_cover() -> None:
    """The reason for all this: where the seed decides, users alone promise far too much."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        values = rng.normal(size=(5, 1)) + 0.3 * rng.normal(size=(5, 16))
        found = interval(MEAN, values.mean(axis=0).reshape(-1, 1), np.arange(16))
        held += found.low <= 0 <= found.high
    assert held / 300 < 0.5


MATRICES = st.integers(2, 5).flatmap(
    lambda seeds: st.lists(
        st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=seeds, max_size=seeds), min_size=3, max_size=12
    )
).map(lambda columns: np.array(columns).T)  # fmt: skip


def same(one: SeedInterval, other: SeedInterval) -> None:
    for a, b in zip(one, other, strict=True):
        assert a == pytest.approx(b, abs=1e-9) if isinstance(a, float) else a == b


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(MATRICES, st.randoms(use_true_random=False))
def test_the_order_of_seeds_and_of_instances_does_not_matter(values: np.ndarray, random: Random) -> None:
    rng = np.random.default_rng(random.randrange(2**32))
    users = np.arange(values.shape[1]) // 2
    order = rng.permutation(values.shape[1])
    shuffled = values[rng.permutation(len(values))][:, order]
    same(over_seeds(MEAN, tables(shuffled), users[order]), over_seeds(MEAN, tables(values), users))


@settings(max_examples=60, deadline=None)
@given(MATRICES, st.floats(-3, 3), st.floats(0.1, 10))
def test_another_unit_of_measure_moves_the_interval_with_it(values: np.ndarray, shift: float, scale: float) -> None:
    users = np.arange(values.shape[1])
    plain, moved = (over_seeds(MEAN, tables(v), users) for v in (values, scale * values + shift))
    for name in ("mean", "low", "high"):
        assert getattr(moved, name) == pytest.approx(scale * getattr(plain, name) + shift, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(MATRICES)
def test_the_interval_is_never_narrower_than_users_or_seeds_alone_would_have_it(values: np.ndarray) -> None:
    found = over_seeds(MEAN, tables(values), np.arange(values.shape[1]))
    assert found.low <= found.mean <= found.high
    assert found.sd is not None
    whole = (found.high - found.low) / 2
    assert whole >= 1.95 * found.sd / math.sqrt(len(values)) - 1e-9
    assert whole >= 1.95 * values.mean(axis=0).std(ddof=1) / math.sqrt(values.shape[1]) - 1e-9


def test_seeds_that_agree_leave_the_users_alone() -> None:
    rng = np.random.default_rng(4)
    users = np.repeat(np.arange(16), 20)
    rows = np.column_stack([rng.random(320) < 0.5, rng.random(320), np.ones(320)]).astype(float)
    for metric in (AUC(), UserAUC()):
        found, alone = over_seeds(metric, [rows] * 3, users), interval(metric, rows, users)
        assert [found.low, found.high] == pytest.approx([alone.low, alone.high])


def test_intervals_stay_within_the_bounds_of_the_metric() -> None:
    found = over_seeds(HitRate(1), tables(np.array([[1, 1, 0], [1, 1, 1]])), np.arange(3))
    assert found.low >= 0
    assert found.high == 1


def test_what_cannot_be_known_is_said() -> None:
    alone = over_seeds(MEAN, tables(np.array([[1.0, 2.0], [2.0, 3.0]])), np.zeros(2, dtype=int))
    assert (alone.method, alone.units) == ("undefined", 1)
    assert alone.mean == 2
    assert math.isnan(alone.low)
    equal = over_seeds(MEAN, tables(np.ones((3, 5))), np.arange(5))
    assert (equal.low, equal.high, equal.sd) == (1, 1, 0)


def test_tables_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one table of rows for each seed"):
        over_seeds(MEAN, tables(np.ones((2, 3))), np.arange(4))
    with pytest.raises(ValueError, match="one table of rows for each seed"):
        over_seeds(MEAN, [], np.arange(4))
