"""What is shown: values worked out by hand, RecBole's own evaluator, and properties that hold for every input."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.exposure import ARP, Coverage, Exposure, Gini
from harness.metrics import Answer
from harness.scoring import Columns
from harness.types import Catalogue, Instance, Item, Prediction

KINDS: tuple[type[Exposure], ...] = (Coverage, ARP, Gini)
ALL: tuple[Exposure, ...] = tuple(kind(k) for kind in KINDS for k in (1, 2, 5))
Lists = Sequence[Sequence[int] | None]
"""Places in the catalogue by instance, best first; None is a failed instance."""


def catalogue(met: Sequence[int]) -> Catalogue:
    items = tuple(Item(f"i{place}", f"item {place}") for place in range(len(met)))
    return Catalogue(items, {f"i{place}": count for place, count in enumerate(met) if count})


def answer(known: Catalogue | None, shown: Sequence[int] | None, **more: tuple[Item, ...]) -> Answer:
    instance = Instance("i", "u", (), more.get("candidates"), {"i0": 1.0}, catalogue=known)
    return Answer.of(instance, None if shown is None else Prediction.ranked([f"i{place}" for place in shown]))


def value(metric: Exposure, met: Sequence[int], lists: Lists) -> float:
    known, columns = catalogue(met), Columns()
    for user, shown in enumerate(lists):
        row = metric.measure(answer(known, shown))
        if row is not None:
            columns.add(row, user, user)
    return metric.aggregate(*columns.table())


def test_three_lists_worked_out_by_hand() -> None:
    """Five items; the first two places show items 0, 1 and 2 three, two and one times, 3 and 4 never."""
    met, lists = [10, 4, 1, 0, 7], [[0, 1, 3], [1, 0], [0, 2, 4]]
    assert value(Coverage(2), met, lists) == 3 / 5
    assert value(Coverage(3), met, lists) == 1
    assert value(ARP(2), met, lists) == pytest.approx(((10 + 4) / 2 + (4 + 10) / 2 + (10 + 1) / 2) / 3)
    assert value(ARP(3), met, lists) == pytest.approx((14 / 3 + 14 / 2 + 18 / 3) / 3)
    assert value(Gini(2), met, lists) == pytest.approx((0 * 1 + 2 * 2 + 4 * 3) / (5 * 6))


def test_the_extremes_of_inequality() -> None:
    assert value(Gini(1), [0, 0, 0, 0], [[0], [1], [2], [3]]) == 0
    assert value(Gini(1), [0, 0, 0, 0], [[2], [2], [2], [2]]) == pytest.approx(3 / 4)
    assert value(Gini(3), [0], [[0]]) == 0


def test_a_row_is_the_size_of_the_catalogue_and_a_place_for_each_item_shown() -> None:
    known = catalogue([0] * 7)
    for metric in (Coverage(3), Gini(3)):
        assert metric.measure(answer(known, [6, 2, 4, 1])) == (7.0, 6.0, 2.0, 4.0)
        assert metric.measure(answer(known, [5])) == (7.0, 5.0, -1.0, -1.0)
        assert metric.measure(answer(known, [9, 5])) == (7.0, -1.0, 5.0, -1.0)
        assert metric.measure(answer(known, None)) == (7.0, -1.0, -1.0, -1.0)


def test_an_answer_that_shows_nothing_has_no_popularity_and_covers_nothing() -> None:
    known = catalogue([3, 3])
    assert ARP(5).measure(answer(known, None)) is None
    assert ARP(5).measure(answer(known, [])) is None
    assert value(ARP(5), [3, 5], [[1], None]) == 5
    assert value(Coverage(5), [3, 5], [None, []]) == 0
    assert math.isnan(value(Gini(5), [3, 5], [None, []]))


@pytest.mark.parametrize("metric", ALL)
def test_without_a_catalogue_there_is_nothing_to_say(metric: Exposure) -> None:
    assert metric.measure(answer(None, [0, 1])) is None
    assert metric.measure(answer(None, None)) is None
    assert metric.chance(answer(None, None).instance) is None
    assert math.isnan(metric.aggregate(np.empty((0, 1)), np.empty(0, dtype=int)))


def test_of_given_candidates_the_first_are_shown() -> None:
    known = catalogue([8, 0, 2, 6])
    few = answer(known, [3, 2, 0], candidates=(known.items[0], known.items[2], known.items[3]))
    assert Coverage(2).measure(few) == (4.0, 3.0, 2.0)
    assert ARP(2).measure(few) == (4.0,)
    assert ARP(2).chance(few.instance) == pytest.approx((8 + 2 + 6) / 3)


def test_chance_leaves_out_what_is_excluded() -> None:
    known = catalogue([8, 0, 2, 6, 4])
    instance = Instance("i", "u", (), None, {"i0": 1.0}, catalogue=known, excluded=frozenset({"i1", "i3"}))
    assert ARP(2).chance(instance) == pytest.approx((8 + 2 + 4) / 3)
    assert Coverage(2).chance(instance) is None


def test_names() -> None:
    assert [kind(10).name for kind in KINDS] == ["Coverage@10", "ARP@10", "Gini@10"]


WORLDS = st.integers(1, 9).flatmap(
    lambda size: st.tuples(
        st.lists(st.integers(0, 30), min_size=size, max_size=size),
        st.lists(st.none() | st.lists(st.integers(0, size - 1), unique=True), min_size=1, max_size=12),
    )
)


@pytest.mark.slow
@given(WORLDS, st.randoms(use_true_random=False))
def test_bounds_and_the_order_of_instances(world: tuple[list[int], Lists], rng: Random) -> None:
    met, lists = world
    turned = rng.sample(lists, len(lists))
    for metric in ALL:
        found, again = value(metric, met, lists), value(metric, met, turned)
        shown = sum(bool(shown) for shown in lists)
        assert math.isnan(found) == (shown == 0 and not isinstance(metric, Coverage))
        if not math.isnan(found):
            assert metric.bounds[0] <= found <= metric.bounds[1]
            assert again == pytest.approx(found, rel=1e-12)
    assert value(Coverage(5), met, lists) <= min(1, 5 * len(lists) / len(met))


@given(WORLDS)
def test_more_places_and_more_instances_never_cover_less(world: tuple[list[int], Lists]) -> None:
    met, lists = world
    deeper = [value(Coverage(k), met, lists) for k in (1, 2, 5, 9)]
    longer = [value(Coverage(2), met, lists[:end]) for end in range(1, len(lists) + 1)]
    assert all(less <= more for row in (deeper, longer) for less, more in pairwise(row))


@given(WORLDS)
def test_gini_is_half_the_mean_difference_of_any_two_items_over_their_mean(world: tuple[list[int], Lists]) -> None:
    met, lists = world
    counts = np.array([sum(place in (shown or [])[:2] for shown in lists) for place in range(len(met))])
    if counts.any():
        expected = np.abs(counts[:, None] - counts[None, :]).mean() / (2 * counts.mean())
        assert value(Gini(2), met, lists) == pytest.approx(expected)


THEIRS = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
from recbole.evaluator.metrics import AveragePopularity, GiniIndex, ItemCoverage

found = []
for met, lists, depths in json.load(sys.stdin):
    data = {
        "rec.items": torch.tensor(lists),
        "data.num_items": len(met),
        "data.count_items": dict(enumerate(met)),
    }
    config = {"topk": depths, "metric_decimal_place": 15}
    found.append({})
    for kind in (ItemCoverage, AveragePopularity, GiniIndex):
        found[-1] |= {name: float(value) for name, value in kind(config).calculate_metric(data).items()}
print(json.dumps(found))
"""
"""In a process of its own, because importing RecBole warns, and changes settings of torch, pandas and yaml."""


@pytest.mark.slow
def test_the_numbers_are_those_of_recbole() -> None:
    """Full lists, as RecBole's models always give; the catalogue has as many items as RecBole is told."""
    if find_spec("recbole") is None:
        pytest.skip("recbole is not installed")
    rng = np.random.default_rng(0)
    worlds = []
    for size, users, depth in ((12, 3, 5), (60, 40, 20), (500, 200, 20), (3, 1, 3)):
        taste = rng.dirichlet(np.full(size, 0.3)) + 1e-9
        lists = [rng.choice(size, depth, replace=False, p=taste / taste.sum()).tolist() for _ in range(users)]
        asked = [k for k in (1, 3, 5, 10, 20) if k <= depth]
        worlds.append((rng.integers(0, 99, size).tolist(), lists, asked))
    done = subprocess.run([sys.executable, "-c", THEIRS], input=json.dumps(worlds), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs: list[Mapping[str, float]] = json.loads(done.stdout.splitlines()[-1])
    for (met, lists, depths), found in zip(worlds, theirs, strict=True):
        ours = {}
        for k in depths:
            ours[f"itemcoverage@{k}"] = value(Coverage(k), met, lists)
            ours[f"averagepopularity@{k}"] = value(ARP(k), met, lists)
            ours[f"giniindex@{k}"] = value(Gini(k), met, lists)
        assert found == pytest.approx(ours, abs=1e-12)
