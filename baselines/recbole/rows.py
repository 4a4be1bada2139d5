"""Our rows as a RecBole data set, in memory: no file, no pandas, no sorting, and our codes for its ids.

RecBole's own way is not open to us: it keeps times as 32-bit floats, which changes the order of events 64 seconds
apart, and so the test item of 149 of MovieLens-100K's 943 users.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from baselines.recbole.job import MASKED, Form
from baselines.recbole.material import Ints, Lists, Material, Rows

PADDING = "[PAD]"


class Table(NamedTuple):
    """Rows as RecBole takes them; histories are cut and padded."""

    user: Ints
    item: Ints
    history: NDArray[np.int64] | None
    """Shape (rows, length), the oldest first, zeros behind."""
    length: Ints | None
    label: NDArray[np.float32] | None


def dataset(config: Any, material: Material, form: Form, test: Rows | None = None) -> Any:
    """A RecBole `Dataset` or `SequentialDataset` whose parts are our training, validation and test rows.

    Without test rows, the validation rows stand in their place, since RecBole wants three parts.
    """
    from recbole.data.dataset import Dataset, SequentialDataset
    from recbole.utils import ModelType

    sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    length = config["MAX_ITEM_LIST_LENGTH"] if sequential else None
    train = training_rows(material, form, length, whole=config["model"] in MASKED)
    assert material.valid is not None
    held = [_table(rows, length) for rows in (material.valid, material.valid if test is None else test)]
    parts = [train, *held]

    class Ours(SequentialDataset if sequential else Dataset):  # type: ignore[misc]  # its library is untyped
        def __init__(self) -> None:
            torch.utils.data.Dataset.__init__(self)
            self.config, self.dataset_name, self.logger = config, config["dataset"], logging.getLogger("recbole")
            self._get_preset()
            self._get_field_from_config()
            self.user_feat = self.item_feat = None
            self.feat_name_list = ["inter_feat"]
            _name(self, self.uid_field, material.users)
            _name(self, self.iid_field, material.items)
            self.inter_feat = _interactions(self, parts, length)

        def build(self) -> list[Any]:
            cuts = np.cumsum([len(part.user) for part in parts]).tolist()
            return [self.copy(self.inter_feat[a:b]) for a, b in zip([0, *cuts], cuts, strict=False)]

    return Ours()


def training_rows(material: Material, form: Form, length: int | None, whole: bool = False) -> Table:
    """What a training goes through once an epoch.

    pairs     every interaction
    prefixes  every interaction but a user's first, after those before it: RecBole's augmentation
    windows   a user's timeline in pieces: `length` items and the one that follows; each interaction but the first is
              predicted once, at its own place in a piece. With `whole`, for models that mask, nothing follows, and a
              piece of one item is left out: RecBole gives the first place no weight
    labelled  the task's labelled rows
    """
    if form == "labelled":
        assert material.labelled is not None
        return _table(material.labelled, length)
    owner = np.repeat(np.arange(1, len(material.users) + 1), material.timelines.lengths)
    if form == "pairs":
        return Table(owner, material.timelines.values, None, None, None)
    assert length is not None
    starts = np.repeat(material.timelines.ends - material.timelines.lengths, material.timelines.lengths)
    place = np.arange(len(owner)) - starts
    left = np.repeat(material.timelines.lengths, material.timelines.lengths) - place
    """How many events a user has from here on, this one included."""
    if form == "prefixes":
        target = np.flatnonzero(place > 0)
        size = np.minimum(place[target], length)
        first = target - size
    elif whole:
        first = np.flatnonzero((place % length == 0) & (left > 1))
        size = np.minimum(left[first], length)
        target = first + size - 1
    else:
        first = np.flatnonzero((place % length == 0) & (left > 1))
        size = np.minimum(left[first] - 1, length)
        target = first + size
    history = _padded(material.timelines.values, first, size, length)
    return Table(owner[target], material.timelines.values[target], history, size, None)


def padded(lists: Lists, length: int) -> tuple[NDArray[np.int64], Ints]:
    """The last `length` codes of each list and how many they are; shapes (lists, length) and (lists,)."""
    size = np.minimum(lists.lengths, length)
    return _padded(lists.values, lists.ends - size, size, length), size


def _padded(values: Ints, first: Ints, size: Ints, length: int) -> NDArray[np.int64]:
    column = np.arange(length)
    places = np.minimum(first[:, None] + column, max(len(values) - 1, 0))
    return np.where(column < size[:, None], values[places], 0)


def _table(rows: Rows, length: int | None) -> Table:
    history, size = padded(rows.history, length) if length is not None else (None, None)
    return Table(rows.user, rows.item, history, size, rows.label)


def _name(data: Any, field: str, words: tuple[str, ...]) -> None:
    from recbole.utils import FeatureSource, FeatureType

    data.field2id_token[field] = np.array([PADDING, *words])
    data.field2token_id[field] = {word: code for code, word in enumerate([PADDING, *words])}
    source = FeatureSource.USER_ID if field == data.uid_field else FeatureSource.ITEM_ID
    data.set_field_property(field, FeatureType.TOKEN, source, 1)


def _interactions(data: Any, parts: list[Table], length: int | None) -> Any:
    from recbole.data.interaction import Interaction
    from recbole.utils import FeatureSource, FeatureType

    columns = {data.uid_field: _joined([p.user for p in parts]), data.iid_field: _joined([p.item for p in parts])}
    if parts[0].label is not None:
        columns[data.label_field] = _joined([part.label for part in parts])
        data.set_field_property(data.label_field, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)
    if length is not None:
        data.max_item_list_len = length
        data.item_list_length_field = data.config["ITEM_LIST_LENGTH_FIELD"]
        data.item_id_list_field = data.iid_field + data.config["LIST_SUFFIX"]
        columns[data.item_id_list_field] = _joined([part.history for part in parts])
        columns[data.item_list_length_field] = _joined([part.length for part in parts])
        data.set_field_property(data.item_id_list_field, FeatureType.TOKEN_SEQ, FeatureSource.INTERACTION, length)
        data.set_field_property(data.item_list_length_field, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        if data.config["model"] == "DIEN":
            unseen = negative_histories(columns[data.item_id_list_field], data.item_num, data.config["seed"])
            columns[data.config["NEG_PREFIX"] + data.item_id_list_field] = unseen
    return Interaction(columns)


def negative_histories(history: torch.Tensor, items: int, seed: int) -> torch.Tensor:
    """For DIEN: at each place of a history, an item drawn uniformly that is not the one at that place."""
    drawn = np.random.default_rng(seed).integers(1, max(items - 1, 2), size=tuple(history.shape))
    real = history.numpy()
    return torch.from_numpy(np.where(real > 0, drawn + (drawn >= real), 0))


def _joined(columns: list[Any]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(columns))
