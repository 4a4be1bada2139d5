"""What a trained RecBole model answers, in batches: the best of the catalogue, or exact scores of given candidates.

Memory is that of a batch: questions times items, never users times items. Items that count as no answer are left out
before the best are taken. Equal scores at the last place are decided by the same hash that orders them later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from baselines.recbole.fitting import configuration
from baselines.recbole.forms import TRIMMED, model_class
from baselines.recbole.job import Answers, Questions, Recipe
from baselines.recbole.material import Lists
from baselines.recbole.rows import dataset, negative_histories, padded
from baselines.recbole.stored import load_material
from baselines.recbole.weights import load_weights
from harness.types import tie_break

CELLS = 1 << 23
"""Scores in one batch: 32 MiB."""
PAIRS = 1 << 17
"""Items read at once, the histories' too, by a model that scores pairs one by one."""
LAST = -1e9
"""The score of a candidate that has no code; every real score is above it."""


class Scorer:
    def __init__(self, recipe: Recipe, folder: Path, cold: Literal["model", "last"]) -> None:
        from recbole.utils import ModelType

        self.material = load_material(folder)
        self._recipe = recipe
        self._cold = torch.from_numpy(self.material.met == 0) if cold == "last" else None
        self._config = configuration(recipe, self.material.longest, folder)
        self._sequential = self._config["MODEL_TYPE"] == ModelType.SEQUENTIAL
        self._length = self._config["MAX_ITEM_LIST_LENGTH"]
        # A sequential model needs no rows to be built; those of windows are the fewest.
        form = "windows" if self._sequential and recipe.form != "labelled" else recipe.form
        self._data = dataset(self._config, self.material, form)
        self._model = model_class(recipe.model, recipe.form, recipe.loss)(self._config, self._data.build()[0])
        self._model = self._model.to(self._config["device"])
        load_weights(folder, self._model)
        if self._sequential:
            _give_strangers_the_mean(self._model, len(self.material.users) + 1)
        self._model.eval()
        self._popularity = torch.from_numpy(self.material.met.astype(np.float32))
        self._pairwise = False
        """Whether the model cannot score the whole catalogue at once; learned when it is asked to."""

    def answer(self, asked: Questions) -> Answers:
        with torch.no_grad():
            return self._answer(asked)

    def _answer(self, asked: Questions) -> Answers:
        width = len(self.material.items) + 1
        known = asked.history.lengths > 0
        popular = ~known if self._sequential else np.zeros(len(asked.ids), dtype=bool)
        # Histories of a length side by side: less padding, for the models that let it be cut off.
        order = np.argsort(asked.history.lengths, kind="stable")
        step = max(1, min(CELLS // width, 512))
        pieces = [order[start : start + step] for start in range(0, len(order), step)]
        items: list[Any] = [None] * len(asked.ids)
        scores: list[Any] = [None] * len(asked.ids)
        candidates = None if asked.candidates is None else list(asked.candidates)
        excluded = list(asked.excluded)
        for piece in pieces:
            if candidates is None:
                found = self._best(asked, piece, popular, [excluded[row] for row in piece])
            else:
                found = self._candidates(asked, piece, popular, [candidates[row] for row in piece])
            for row, (codes, values) in zip(piece, found, strict=True):
                items[row], scores[row] = codes, values
        return Answers(Lists.of(items), np.concatenate(scores).astype(np.float32), popular)

    def _best(
        self, asked: Questions, rows: NDArray[np.int64], popular: NDArray[np.bool_], excluded: list[NDArray[np.int64]]
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        scores = self._catalogue(asked, rows, popular)
        scores[:, 0] = -torch.inf
        places = np.repeat(np.arange(len(rows)), [len(codes) for codes in excluded])
        scores[torch.from_numpy(places), torch.from_numpy(np.concatenate(excluded))] = -torch.inf
        top = min(asked.top, scores.shape[1] - 1)
        values, codes = torch.topk(scores, min(top + 1, scores.shape[1]), dim=1)
        tied = (values[:, 1:] == values[:, :-1]).any(dim=1) & values.isfinite().all(dim=1)
        found = []
        for place, row in enumerate(rows):
            chosen, value = codes[place, :top].numpy(), values[place, :top].numpy()
            if tied[place]:
                chosen, value = self._fair(scores[place].numpy(), top, asked.ids[row])
            real = np.isfinite(value) | np.isnan(value)
            found.append((chosen[real], value[real]))
        return found

    def _fair(self, scores: NDArray[np.float32], top: int, salt: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The best where some are equal: the hash orders them, and says which of those at the last place are in."""
        last = np.partition(scores, -top)[-top]

        def place(code: np.int64) -> tuple[float, str]:
            return -scores[code], tie_break(salt, self.material.items[code - 1])

        chosen = np.array(sorted(np.flatnonzero(scores >= last), key=place)[:top], dtype=np.int64)
        return chosen, scores[chosen]

    def _candidates(
        self, asked: Questions, rows: NDArray[np.int64], popular: NDArray[np.bool_], candidates: list[NDArray[np.int64]]
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        counts = np.array([len(codes) for codes in candidates])
        owner = torch.from_numpy(np.repeat(np.arange(len(rows)), counts))
        wanted = torch.from_numpy(np.concatenate(candidates))
        if self._recipe.form == "labelled" or self._pairwise:
            scores = self._pairs(asked, rows, owner, wanted)
            scores = torch.where(torch.from_numpy(popular[rows])[owner], self._popularity[wanted], scores)
        else:
            scores = self._catalogue(asked, rows, popular)[owner, wanted]
        if self._cold is not None:
            scores = torch.where(self._cold[wanted], LAST / 2, scores)
        scores = torch.where(wanted == 0, LAST, scores).numpy()
        return list(zip(candidates, np.split(scores, np.cumsum(counts)[:-1]), strict=True))

    def _catalogue(self, asked: Questions, rows: NDArray[np.int64], popular: NDArray[np.bool_]) -> torch.Tensor:
        """Scores of all codes, shape (rows, items + 1)."""
        width = len(self.material.items) + 1
        if not self._pairwise:
            try:
                scores = self._model.full_sort_predict(self._interaction(asked, rows)).view(len(rows), -1)[:, :width]
                scores = scores.float().cpu().clone()
            except NotImplementedError:  # how a model of RecBole's says that it scores pairs only
                self._pairwise = True
        if self._pairwise:
            owner = torch.arange(len(rows)).repeat_interleave(width)
            scores = self._pairs(asked, rows, owner, torch.arange(width).repeat(len(rows))).view(len(rows), width)
        if self._cold is not None:
            scores[:, self._cold] = LAST / 2
        scores[torch.from_numpy(popular[rows])] = self._popularity
        return scores

    def _pairs(
        self, asked: Questions, rows: NDArray[np.int64], owner: torch.Tensor, wanted: torch.Tensor
    ) -> torch.Tensor:
        """Scores of single candidates, some at a time; `owner` says whose, as a place in `rows`."""
        made = self._interaction(asked, rows)
        found = []
        step = max(1, PAIRS // (self._length if self._sequential else 1))
        for start in range(0, len(owner), step):
            part = slice(start, start + step)
            one = made[owner[part].to(self._config["device"])]
            one.update(type(one)({self._data.iid_field: wanted[part]}).to(self._config["device"]))
            found.append(self._model.predict(one).view(-1).float().cpu())
        return torch.cat(found)

    def _interaction(self, asked: Questions, rows: NDArray[np.int64]) -> Any:
        from recbole.data.interaction import Interaction

        columns = {self._data.uid_field: torch.from_numpy(asked.users[rows])}
        if self._sequential:
            ends, lengths = asked.history.ends[rows], asked.history.lengths[rows]
            whole = np.concatenate([asked.history.values[end - n : end] for end, n in zip(ends, lengths, strict=True)])
            history, size = padded(Lists(whole, np.cumsum(lengths)), self._length)
            # An empty history stands for itself with one padding item; its scores are not used.
            size = np.maximum(size, 1)
            if self._recipe.model in TRIMMED:
                history = history[:, : int(size.max())]
            columns[self._data.item_id_list_field] = torch.from_numpy(history)
            columns[self._data.item_list_length_field] = torch.from_numpy(size)
            if self._recipe.model == "DIEN":
                seen = columns[self._data.item_id_list_field]
                unseen = negative_histories(seen, self._data.item_num, self._config["seed"])
                columns[self._config["NEG_PREFIX"] + self._data.item_id_list_field] = unseen
        return Interaction(columns).to(self._config["device"])


def _give_strangers_the_mean(model: Any, users: int) -> None:
    """Code 0, which stands for every user without a training row, gets the mean of the others' weights.

    What RecBole leaves there is padding or first weights, by model. The user is in the tables of this name and size.
    """
    for name, weights in model.state_dict().items():
        if name.lower().startswith(("user", "ui_")) and len(weights) == users > 1:
            weights[0] = weights[1:].mean(dim=0)
