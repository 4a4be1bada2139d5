"""The filters: by hand, against a slow way of saying the same, and against published counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import load
from harness.data.catalog import Dataset
from harness.data.fetch import fetch
from harness.data.filters import k_core, rated, without_repeats
from harness.types import Item
from tests.real_data import real

Rows = list[tuple[str, str, float]]
"""User, item, rating."""


def dataset(rows: Rows, catalogue: str = "pqrst") -> Dataset:
    """Users in order of first appearance; times fall, so that an order by time would show."""
    users = list(dict.fromkeys(user for user, _, _ in rows))
    return Dataset(
        name="toy",
        items=tuple(Item(letter, f"title of {letter}") for letter in catalogue),
        users=tuple(users),
        user=np.array([users.index(user) for user, _, _ in rows]),
        item=np.array([catalogue.index(item) for _, item, _ in rows]),
        rating=np.array([rating for _, _, rating in rows]),
        time=-np.arange(len(rows)),
        attributes={"letters": tuple((letter, letter.upper()) for letter in catalogue)},
        skipped={"odd lines": 3},
    )


def rows_of(found: Dataset) -> Rows:
    columns = zip(found.user, found.item, found.rating, strict=True)
    return [(found.users[user], found.items[item].id, float(rating)) for user, item, rating in columns]


CHAIN: Rows = [("c", "q", 5), ("b", "q", 1), ("a", "p", 4), ("a", "r", 3), ("b", "p", 2), ("b", "r", 4), ("d", "s", 3)]
"""In a 2-core d and s go, then c, which has q alone; q stays with b alone and goes, too."""
CHAIN_SET = dataset(CHAIN)


def test_what_goes_takes_others_with_it() -> None:
    found = k_core(CHAIN_SET, 2)
    assert rows_of(found) == [("a", "p", 4), ("a", "r", 3), ("b", "p", 2), ("b", "r", 4)]
    assert found.users == ("a", "b")  # b came first, by an event that is gone
    assert [item.id for item in found.items] == ["p", "r"]
    assert found.attributes == {"letters": (("p", "P"), ("r", "R"))}
    assert found.time.tolist() == [-2, -3, -4, -5]
    assert (found.name, found.skipped) == ("toy", {"odd lines": 3})


@pytest.mark.parametrize("k", [0, 1])
def test_a_small_k_drops_only_what_nobody_met(k: int) -> None:
    found = k_core(CHAIN_SET, k)
    assert rows_of(found) == CHAIN
    assert [item.id for item in found.items] == ["p", "q", "r", "s"]


def test_nothing_may_be_left() -> None:
    found = k_core(CHAIN_SET, 3)
    assert (len(found), found.users, found.items) == (0, (), ())
    assert len(k_core(found, 2)) == 0


def test_a_repeated_item_counts_twice() -> None:
    twice: Rows = [("a", "p", 1), ("a", "p", 1)]
    assert rows_of(k_core(dataset(twice), 2)) == twice


def test_low_ratings_go_and_the_catalogue_stays() -> None:
    found = rated(CHAIN_SET, 3)
    assert rows_of(found) == [("c", "q", 5), ("a", "p", 4), ("a", "r", 3), ("b", "r", 4), ("d", "s", 3)]
    assert found.users == ("c", "a", "b", "d")
    assert found.items == CHAIN_SET.items
    assert rated(CHAIN_SET, 4).users == ("c", "a", "b")
    assert len(rated(CHAIN_SET, 6)) == 0


def slowly(rows: Rows, k: int) -> Rows:
    """One offender at a time, users first."""
    while True:
        for place in (0, 1):
            names = [row[place] for row in rows]
            few = [name for name in names if names.count(name) < k]
            if few:
                rows = [row for row in rows if row[place] != few[0]]
                break
        else:
            return rows


EVENTS = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("pqrst"), st.sampled_from([1.0, 3.0, 5.0])))


@pytest.mark.slow
@given(EVENTS, st.integers(0, 4))
def test_k_core_is_what_taking_one_after_another_away_leaves(rows: Rows, k: int) -> None:
    found = k_core(dataset(rows), k)
    left = slowly(rows, k)
    assert rows_of(found) == left
    assert found.users == tuple(dict.fromkeys(user for user, _, _ in left))
    assert {item.id for item in found.items} == {item for _, item, _ in left}
    assert k_core(found, k).digest == found.digest


@given(EVENTS, st.sampled_from([0.0, 1.0, 2.0, 3.0, 5.5]))
def test_rated_is_what_a_filter_leaves(rows: Rows, least: float) -> None:
    found = rated(dataset(rows), least)
    assert rows_of(found) == [row for row in rows if row[2] >= least]
    assert found.users == tuple(dict.fromkeys(user for user, _, rating in rows if rating >= least))


Meetings = list[tuple[str, str, int]]
"""User, item, time."""


def meetings(rows: Meetings) -> Dataset:
    """Each event's rating is its place, so that it can be told from its repeats."""
    made = dataset([(user, item, float(place)) for place, (user, item, _) in enumerate(rows)])
    return replace(made, time=np.array([time for _, _, time in rows]))


def test_the_first_meeting_in_time_stays() -> None:
    rows = [("b", "q", 9), ("a", "p", 5), ("b", "q", 3), ("b", "p", 5), ("a", "p", 5), ("b", "q", 3), ("a", "q", 1)]
    found = without_repeats(meetings(rows))
    assert rows_of(found) == [("a", "p", 1), ("b", "q", 2), ("b", "p", 3), ("a", "q", 6)]
    assert found.time.tolist() == [5, 3, 5, 1]
    assert found.users == ("a", "b")  # b came first, by an event that is gone
    assert [item.id for item in found.items] == list("pqrst")
    assert found.attributes == CHAIN_SET.attributes
    assert (found.name, found.skipped) == ("toy", {"odd lines": 3})


@pytest.mark.parametrize("rows", [CHAIN, CHAIN[:1], []])
def test_without_repeats_nothing_changes(rows: Rows) -> None:
    given = dataset(rows)
    assert without_repeats(given) is given


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("pqr"), st.integers(-2, 2))))
def test_without_repeats_is_what_a_loop_over_the_sorted_events_keeps(rows: Meetings) -> None:
    seen: set[tuple[str, str]] = set()
    kept = []
    for place, (user, item, _) in sorted(enumerate(rows), key=lambda numbered: numbered[1][2]):
        if (user, item) not in seen:
            seen.add((user, item))
            kept.append((user, item, place))
    kept.sort(key=lambda event: event[2])
    found = without_repeats(meetings(rows))
    assert rows_of(found) == kept
    assert found.users == tuple(dict.fromkeys(user for user, _, _ in kept))
    assert found.time.tolist() == [rows[place][2] for _, _, place in kept]
    assert without_repeats(found) is found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder", "counts"),
    [
        ("ml-100k", None, (943, 1349, 99_287)),
        ("ml-1m-sequences", "ml-1m", (6040, 3416, 999_611)),  # published: SASRec, BERT4Rec, PALR and others
        ("amazon-beauty", "amazon-beauty-2014", (22_363, 12_101, 198_502)),  # published: S3-Rec, PALR and others
        ("amazon-instruments", "amazon-reviews-2014", (1429, 900, 10_261)),  # published: the data's own page
    ],
)
def test_the_five_cores_of_the_papers(
    name: str, folder: str | None, counts: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    if folder:
        fetch(name, real(folder))
    numbers = k_core(without_repeats(load(name)), 5).statistics()
    assert (numbers.users, numbers.items, numbers.interactions) == counts
    assert numbers.items_met == numbers.items
