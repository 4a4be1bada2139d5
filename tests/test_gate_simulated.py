"""Is the gate as often wrong as it says? Simulated pairs whose true difference is known, each decided by the gate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.gate import LAYOUTS, LIMIT, TALLREC_MOVIE, losing, study

pytestmark = pytest.mark.slow
PAIRS = 200
DRAWS = 500


@pytest.mark.parametrize("name", ["means", "users16", "users60", "clustered", "rare"])
def test_equal_pairs_are_stopped_no_more_often_than_stated_and_worse_ones_as_often(name: str) -> None:
    """With no drop allowed, equal pairs lie on the limit: 5 of 100 are stopped. One that has lost what the gate says it
    can detect is stopped in 80 of 100."""
    found = study(LAYOUTS[name], PAIRS, draws=DRAWS)
    assert round(found.stopped * PAIRS) <= binom.ppf(0.99, PAIRS, 0.05)
    assert round(found.passed * PAIRS) <= binom.ppf(0.99, PAIRS, 0.05)
    assert found.default <= found.stopped
    assert binom.ppf(0.005, PAIRS, 0.8) <= round(found.power * PAIRS) <= binom.ppf(0.995, PAIRS, 0.8)


def test_the_layout_is_that_of_the_movie_test() -> None:
    from tasks.tallrec import TALLRec

    users = [instance.user for instance in TALLRec().instances("test")]
    _, counts = np.unique(users, return_counts=True)
    assert tuple(sorted(counts, reverse=True)) == TALLREC_MOVIE


def test_a_loss_takes_what_it_should() -> None:
    layout = LAYOUTS["means"]
    assert losing(layout, 0.05, np.random.default_rng(0), sets=50) == pytest.approx(0.05, abs=1e-3)
    assert LIMIT == 0.01
