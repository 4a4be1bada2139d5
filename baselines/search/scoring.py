"""What a trained network answers: scores of the whole catalogue, a batch of questions at a time.

It answers in double precision, and what it answers is rounded, so that the company of a question in its batch can turn
no order around and make no difference between equal items.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from baselines.search.material import Material, Reader, Rows
from baselines.search.network import Network
from baselines.search.settings import Learning
from harness.types import Rank

WEIGHTS = "model.safetensors"
ROWS = 512
"""Questions that are read at once."""


class Judge:
    """A network and all items of the catalogue, as they are now."""

    def __init__(self, network: Network, learned: Material) -> None:
        self._network = network.eval()
        known = np.where(learned.met > 0, np.arange(len(learned.met)), 0)
        self._device = network.pieces.weight.device
        with torch.no_grad():
            self._items = network.items(self._on(learned.titles), self._on(known))

    def vectors(self, user: NDArray[np.int64], history: NDArray[np.int64], query: NDArray[np.int64]) -> Tensor:
        """Of questions in the codes of the material; shape (questions, size)."""
        with torch.no_grad():
            return self._network.questions(self._on(user), self._on(history), self._on(query), self._items)

    def scores(self, user: NDArray[np.int64], history: NDArray[np.int64], query: NDArray[np.int64]) -> Tensor:
        """Of every item of the catalogue, by code; shape (questions, items + 1)."""
        return self.vectors(user, history, query) @ self._items.vectors.T

    def reciprocal_rank(self, rows: Rows) -> float:
        """Mean over rows of one over the place of the right answer among the wrong ones; equal ones share places."""
        ends, starts = rows.others.ends, rows.others.ends - rows.others.lengths
        total = 0.0
        for first in range(0, len(rows.item), ROWS):
            part = slice(first, first + ROWS)
            asked = self.vectors(rows.user[part], rows.history[part], rows.query[part])
            others = rows.others.values[starts[part][0] : ends[part][-1]]
            owner = self._on(np.repeat(np.arange(len(asked)), rows.others.lengths[part]))
            right = (asked * self._items.vectors[self._on(rows.item[part])]).sum(1)
            wrong = (asked[owner] * self._items.vectors[self._on(others)]).sum(1)
            above = (wrong > right[owner]).double() + (wrong == right[owner]).double() / 2
            places = torch.zeros(len(asked), dtype=torch.double, device=self._device).index_add(0, owner, above)
            total += float((1 / (1 + places)).sum())
        return total / len(rows.item)

    def _on(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


class Answers:
    """Scores of requests, for the engine."""

    def __init__(self, network: Network, learned: Material, reader: Reader) -> None:
        self._judge = Judge(network.double().cpu(), learned)
        self._reader = reader

    def __call__(self, asked: Sequence[Rank]) -> NDArray[np.float64]:
        """Of every item of the catalogue, in its order; shape (questions, items)."""
        codes = self._reader.questions(
            (rank.user for rank in asked),
            [self._reader.history(rank.history) for rank in asked],
            [rank.context for rank in asked],
        )
        scores: NDArray[np.float64] = self._judge.scores(*codes)[:, 1:].numpy()
        return scores


def load(folder: Path, model: str, set_to: Learning, learned: Material) -> Network:
    """The network that was trained and lies in this folder."""
    with torch.random.fork_rng([]):  # first weights are drawn, and forgotten
        network = Network(model, set_to, learned)
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network


def use_threads(count: int | None) -> None:
    """Of this process, for training and answering; None leaves them as they are."""
    if count is not None:
        torch.set_num_threads(count)
