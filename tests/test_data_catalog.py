"""A data set as a value: its digest, its statistics, its timelines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.catalog import Dataset, codes_of, first_appearance
from harness.types import Item


def small(**changes: Any) -> Dataset:
    """Two users, three films of which one is never seen, four events."""
    settings: Mapping[str, Any] = {
        "name": "small",
        "items": (Item("7", "Heat (1995)"), Item("9", "Ran (1985)"), Item("4", "M (1931)")),
        "users": ("u", "v"),
        "user": np.array([0, 1, 0, 0]),
        "item": np.array([1, 1, 0, 1]),
        "rating": np.array([5, 3, 5, 1]),
        "time": np.array([20, 10, 10, 10]),
        "attributes": {"genres": (("Crime",), ("Drama", "War"), ())},
    }
    return Dataset(**{**settings, **changes})


def test_statistics_by_hand() -> None:
    numbers = small(skipped={"odd lines": 2}).statistics()
    assert (numbers.users, numbers.items, numbers.items_met, numbers.interactions) == (2, 3, 2, 4)
    assert numbers.density == 1.0  # 4 events in 2 users x 2 items that were met; one film was seen twice
    assert (numbers.history_mean, numbers.history_median) == (2.0, 2.0)
    assert numbers.ratings == ((1.0, 1), (3.0, 1), (5.0, 2))
    assert (numbers.first_time, numbers.last_time) == (10, 20)
    assert numbers.skipped == {"odd lines": 2}


def test_statistics_of_a_data_set_without_times_and_of_an_empty_one() -> None:
    assert small(time=np.zeros(4)).statistics().first_time is None
    nothing = small(users=(), user=np.array([]), item=np.array([]), rating=np.array([]), time=np.array([]))
    numbers = nothing.statistics()
    assert (numbers.interactions, numbers.density, numbers.history_mean, numbers.ratings) == (0, 0.0, 0.0, ())
    assert len(nothing.digest) == 16


def test_timelines_are_in_time_and_ties_keep_the_order_of_the_file() -> None:
    order, starts = small().timelines
    assert order.tolist() == [2, 3, 0, 1]
    assert starts.tolist() == [0, 3, 4]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), max_size=30))
def test_timelines_are_what_sorting_each_user_gives(events: list[tuple[int, int]]) -> None:
    user, time = [u for u, _ in events], [t for _, t in events]
    zeros = np.zeros(len(events))
    dataset = small(users=tuple("abcde"), user=np.array(user), item=zeros, rating=zeros, time=np.array(time))
    order, starts = dataset.timelines
    for code in range(5):
        mine = [place for place in range(len(events)) if user[place] == code]
        assert order[starts[code] : starts[code + 1]].tolist() == sorted(mine, key=lambda place: time[place])


def test_columns_cannot_be_written_and_do_not_follow_the_arrays_they_were_made_from() -> None:
    given_times = np.array([20, 10, 10, 10])
    dataset = small(time=given_times)
    given_times[0] = 99
    assert dataset.time[0] == 20
    for column in (dataset.user, dataset.item, dataset.rating, dataset.time, *dataset.timelines):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1
    assert [c.dtype.str[1:] for c in (dataset.user, dataset.item, dataset.rating, dataset.time)] == [
        "i4",
        "i4",
        "f4",
        "i8",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rating": np.array([1, 2])}, "column 'rating' has shape"),
        ({"user": np.array([0, 2, 0, 0])}, "codes run from 0 to 2, expected 0 to 1"),
        ({"item": np.array([0, -1, 0, 0])}, "codes run from -1"),
        ({"attributes": {"author": (("A",),)}}, "attribute 'author' has 1 values for 3 items"),
    ],
)
def test_columns_that_do_not_fit_together_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_the_digest_is_pinned() -> None:
    """It names runs on disk: a version or a machine that computes another one would orphan them."""
    assert small().digest == "012b7c78bb16c100"


CHANGES: list[dict[str, Any]] = [
    {"name": "other"},
    {"items": (Item("7", "Heat (1995)"), Item("9", "Ran (1985)"), Item("4", "M (1932)"))},
    {"items": (Item("7", "Heat (1995)"), Item("94", "Ran (1985)"), Item("", "M (1931)"))},
    {"users": ("v", "u")},
    {"user": np.array([0, 1, 1, 0])},
    {"item": np.array([1, 1, 0, 2])},
    {"rating": np.array([5, 3, 5, 2])},
    {"time": np.array([20, 10, 10, 11])},
    {"attributes": {}},
    {"attributes": {"genre": (("Crime",), ("Drama", "War"), ())}},
    {"attributes": {"genres": (("Crime",), ("DramaWar",), ())}},
    {"attributes": {"genres": (("Crime", "Drama"), ("War",), ())}},
]


def test_any_change_changes_the_digest() -> None:
    digests = {small(**changes).digest for changes in CHANGES}
    assert len(digests | {small().digest}) == len(CHANGES) + 1


def test_what_was_skipped_does_not_change_the_digest() -> None:
    assert replace(small(), skipped={"odd lines": 1}).digest == small().digest


@given(st.lists(st.integers(-5, 5)))
def test_first_appearance_is_what_a_dict_does(ids: list[int]) -> None:
    distinct, codes = first_appearance(np.array(ids, dtype=np.int64))
    assert distinct.tolist() == list(dict.fromkeys(ids))
    assert [int(distinct[code]) for code in codes] == ids


@given(st.lists(st.integers(0, 20)), st.lists(st.integers(0, 20), unique=True))
def test_codes_of_is_what_a_dict_does(ids: list[int], listed: list[int]) -> None:
    known = {number: place for place, number in enumerate(listed)}
    assert codes_of(np.array(ids, dtype=np.int64), listed).tolist() == [known.get(number, -1) for number in ids]
