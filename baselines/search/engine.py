"""Scores of a catalogue as an engine: given candidates, or the best of all items that are not excluded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from heapq import nsmallest

import numpy as np
from numpy.typing import NDArray

from harness.engines import Answered, Asked
from harness.errors import RequestFailed
from harness.types import Catalogue, Key, Rank, Ranked, Reply, Request, Scores, Usage, tie_break

CELLS = 1 << 22
"""Scores in one batch: 32 MiB."""
DIGITS = 9
"""Decimals of a score. What differs by less differs by the order of a sum, and is equal."""
Scorer = Callable[[Sequence[Rank]], NDArray[np.float64]]
"""Scores of all items in the catalogue's order, shape (questions, items); those of a question depend on it alone."""


class SearchEngine:
    """Answers `Rank`. A candidate that is not in the catalogue is put last and counted as `unknown`; `cold` is the
    share of items, among the candidates or those named, that no training question has."""

    def __init__(
        self, name: str, catalogue: Catalogue, score: Scorer, cold: NDArray[np.bool_] | None, asks: bool, bound: bool
    ) -> None:
        """`cold`: shape (items,), or None for a model that learns nothing; `asks` says whether it needs a query, and
        `bound` whether excluded items may not be named."""
        self.answers: frozenset[type[Request]] = frozenset({Rank})
        self._name, self._score, self._cold, self._asks, self._bound = name, score, cold, asks, bound
        self._items = [item.id for item in catalogue.items]
        self._places = catalogue.places
        self._rows = min(1024, max(1, CELLS // max(1, len(self._items))))
        self.capacity = 2 * self._rows
        self._in_hand: deque[Asked] = deque()

    def submit(self, asked: Sequence[Asked]) -> None:
        self._in_hand.extend(asked)

    def collect(self) -> Sequence[Answered]:
        taken = [self._in_hand.popleft() for _ in range(min(self._rows, len(self._in_hand)))]
        ranks: list[tuple[Key, Rank]] = []
        done: list[Answered] = []
        for key, request in taken:
            if not isinstance(request, Rank):
                done.append((key, RequestFailed(f"{self._name} reads no text")))
            elif self._asks and request.context is None:
                done.append((key, RequestFailed(f"{self._name} needs a query, and this question has none")))
            else:
                ranks.append((key, request))
        if ranks:
            found = self._score([rank for _, rank in ranks])
            done += [(key, self._reply(key, rank, row)) for (key, rank), row in zip(ranks, found, strict=True)]
        return done

    def close(self) -> None:
        self._in_hand.clear()

    def _reply(self, key: Key, rank: Rank, scores: NDArray[np.float64]) -> Reply:
        if rank.candidates is not None:
            places = np.array([self._places.get(item.id, -1) for item in rank.candidates], dtype=np.int64)
            values = np.round(scores[places], DIGITS)
            values[places < 0] = (values[places >= 0].min() if (places >= 0).any() else 0.0) - 1
            return Scores(tuple(values.tolist()), Usage(), self._facts(places))
        places, values = self._best(key, rank, np.round(scores, DIGITS))
        names = tuple(self._items[place] for place in places.tolist())
        return Ranked(names, Usage(), tuple(values.tolist()), self._facts(places))

    def _best(self, key: Key, rank: Rank, scores: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        if self._bound:
            scores[[self._places[item] for item in rank.excluded if item in self._places]] = -np.inf
        free = np.flatnonzero(np.isfinite(scores))
        top = min(rank.top, len(free))
        if top == 0:
            return free, scores[free]
        last = np.partition(scores[free], -top)[-top]
        above = [(-scores[place], tie_break(key.instance, self._items[place]), place)
                 for place in free[scores[free] > last].tolist()]  # fmt: skip
        level = ((tie_break(key.instance, self._items[place]), place)
                 for place in free[scores[free] == last].tolist())  # fmt: skip
        chosen = [place for _, _, place in sorted(above)]
        chosen += [place for _, place in nsmallest(top - len(above), level)]
        places = np.array(chosen, dtype=np.int64)
        return places, scores[places]

    def _facts(self, places: NDArray[np.int64]) -> dict[str, float]:
        facts = {"unknown": float((places < 0).mean()) if len(places) else 0.0}
        if self._cold is not None:
            facts["cold"] = float((self._cold[places] & (places >= 0)).mean()) if len(places) else 0.0
        return facts
