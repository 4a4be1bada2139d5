"""Candidates of a user, drawn by weight from what he never met."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from harness.errors import BadSetting

ROUNDS = 8
"""How often drawing with rejection is tried before every item that is left is looked at."""


class Urn:
    """Items by place, each with a weight; what has weight 0 is never drawn."""

    def __init__(self, weights: NDArray[np.int64]) -> None:
        """`weights`: shape (items,), none below 0."""
        self._weights = weights
        self._ends = np.cumsum(weights)
        self._drawable = int(np.count_nonzero(weights))

    def line_up(self, name: str, seed: int, target: int, met: Collection[int], count: int) -> list[int]:
        """The places of a target and of `count` others, in an order that says nothing of which is which.

        The others are drawn one after another without replacement, each in proportion to its weight among what is
        left; none is in `met`, which must hold the target. All depends on weights, name and seed alone.
        BadSetting: there are not so many others.
        """
        taken = set(met)
        free = self._drawable - int(np.count_nonzero(self._weights[list(taken)]))
        if free < count:
            raise BadSetting(f"negatives={count}, but {free} is all that can be drawn for {name}; lower it")
        start = int.from_bytes(sha256(f"{seed}\0{name}".encode()).digest()[:16], "big")
        # Nothing but plain doubles is drawn: numpy may change how it makes other numbers of them, and candidates must
        # stay what they were.
        random = np.random.Generator(np.random.PCG64(start)).random
        others: dict[int, None] = {}
        for _ in range(ROUNDS):
            marks = (random(count + count // 4 + 8) * self._ends[-1]).astype(np.int64)
            drawn = np.searchsorted(self._ends, marks, side="right").tolist()
            others |= dict.fromkeys(place for place in drawn if place not in taken)
            if len(others) >= count:
                break
        else:
            others |= dict.fromkeys(self._rest(random(len(self._weights)), taken | others.keys()))
        line = [target, *list(others)[:count]]
        return [line[place] for place in np.argsort(random(len(line)), kind="stable").tolist()]

    def _rest(self, uniform: NDArray[np.float64], gone: Collection[int]) -> list[int]:
        """All that can still be drawn, in the order in which drawing by weight would bring it: the smallest of
        exponential times whose rates are the weights."""
        rates = self._weights.astype(np.float64)
        rates[list(gone)] = 0.0
        left = np.flatnonzero(rates)
        times = -np.log1p(-uniform[left]) / rates[left]
        ordered: list[int] = left[np.argsort(times, kind="stable")].tolist()
        return ordered
