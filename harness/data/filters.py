"""Parts of a data set that protocols ask for: its k-core, the events rated high enough, those that repeat no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.data.catalog import Codes, Dataset, first_appearance


def k_core(dataset: Dataset, k: int) -> Dataset:
    """The largest part in which every user and every item has at least k events; it may be empty.

    Users and items with fewer are removed in turns until none is left, which ends at the same part in whatever order
    they go. Its items are those that still have an event, so with k up to 1 only what nobody met goes. The order of
    events and items stays, and so does the name. An item that a user met twice counts twice.
    """
    kept = np.ones(len(dataset), dtype=np.bool_)
    while True:
        users = np.bincount(dataset.user[kept], minlength=len(dataset.users))
        items = np.bincount(dataset.item[kept], minlength=len(dataset.items))
        still = kept & (users[dataset.user] >= k) & (items[dataset.item] >= k)
        if np.array_equal(still, kept):
            return _only_items(_only_events(dataset, kept), np.flatnonzero(items))
        kept = still


def rated(dataset: Dataset, at_least: float) -> Dataset:
    """The events whose rating is at least this; users without one are gone, the catalogue stays whole."""
    return _only_events(dataset, dataset.rating >= at_least)


def without_repeats(dataset: Dataset) -> Dataset:
    """Of a user's events with one item only the first in time, and of those at one moment the first in the file.

    The catalogue stays whole, and the order of the events that are left. Where nobody met an item twice, this is the
    same object. An event keeps its own rating, whatever the user gave the item later.
    """
    order = np.lexsort((dataset.time, dataset.item, dataset.user))
    user, item = dataset.user[order], dataset.item[order]
    repeats = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
    if not repeats.any():
        return dataset
    kept = np.ones(len(dataset), dtype=np.bool_)
    kept[order[1:][repeats]] = False
    return _only_events(dataset, kept)


def titled(dataset: Dataset) -> Dataset:
    """The events of items that have a text besides their id; the same object where all have one, or none has.

    The catalogue stays whole. Where no item has a text, what would be left is nothing.
    """
    known = np.array([item.text != item.id for item in dataset.items], dtype=np.bool_)
    if not known.any() or known[dataset.item].all():
        return dataset
    return _only_events(dataset, known[dataset.item])


def _only_events(dataset: Dataset, kept: NDArray[np.bool_]) -> Dataset:
    """Users are again in the order in which they first appear, as every data set has them."""
    known, user = first_appearance(dataset.user[kept].astype(np.int64))
    return replace(
        dataset,
        users=tuple(dataset.users[place] for place in known),
        user=user,
        item=dataset.item[kept],
        rating=dataset.rating[kept],
        time=dataset.time[kept],
    )


def _only_items(dataset: Dataset, places: NDArray[np.int64]) -> Dataset:
    """The items at these places, in increasing order; no event may be of another."""
    code: Codes = np.full(len(dataset.items), -1, dtype=np.int32)
    code[places] = np.arange(len(places), dtype=np.int32)
    return replace(
        dataset,
        items=tuple(dataset.items[place] for place in places),
        item=code[dataset.item],
        attributes={name: tuple(values[place] for place in places) for name, values in dataset.attributes.items()},
    )
