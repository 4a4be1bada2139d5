"""The k-core and the rating filter: by hand, against a slow way of saying the same, and against published counts."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.catalog import Dataset
from harness.data.filters import k_core, rated
from harness.data.readers import amazon_beauty
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


def test_the_published_five_core_of_movielens_1m(tmp_path: Path) -> None:
    """3,416 films and 999,611 interactions: SASRec, BERT4Rec, PALR and others. The sequences have S3-Rec's form."""
    content = gzip.decompress(real("ml-1m/sequences.txt.gz").read_bytes())
    (tmp_path / "Beauty.txt").write_bytes(content)
    numbers = k_core(amazon_beauty.read(tmp_path), 5).statistics()
    assert (numbers.users, numbers.items, numbers.items_met, numbers.interactions) == (6040, 3416, 3416, 999_611)
