"""How a RecBole model is trained: as it is, on every position of a window, or on labelled rows.

A subclass keeps the name of its model, because RecBole finds settings and trainer by it.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from baselines.recbole.job import EVERY_POSITION, JUDGES, Form

TRIMMED = EVERY_POSITION
"""They count places from the left, so columns that are padding in the whole batch change nothing."""


def model_class(name: str, form: Form, loss: Literal["bce", "mse"]) -> Any:
    """The class to build and train."""
    from recbole.utils import get_model

    base = get_model(name)
    if form == "labelled":
        return base if name in JUDGES else _labelled(base, loss)
    if form == "windows" and name in EVERY_POSITION:
        return _every_position(base)
    return _trimmed(base) if name in TRIMMED else base


def _trimmed(base: Any) -> Any:
    class Trimmed(base):  # type: ignore[misc]  # its library is untyped
        def calculate_loss(self, interaction: Any) -> Any:
            longest = int(interaction[self.ITEM_SEQ_LEN].max())
            interaction.update(type(interaction)({self.ITEM_SEQ: interaction[self.ITEM_SEQ][:, :longest]}))
            return super().calculate_loss(interaction)

    return _named(Trimmed, base)


def _every_position(base: Any) -> Any:
    """The cross-entropy of the papers of SASRec and GRU4Rec: each place of a window predicts the item after it."""

    class EveryPosition(base):  # type: ignore[misc]  # its library is untyped
        whole = False

        def gather_indexes(self, output: Any, places: Any) -> Any:
            return output if self.whole else super().gather_indexes(output, places)

        def calculate_loss(self, interaction: Any) -> Any:
            size = interaction[self.ITEM_SEQ_LEN]
            seen = interaction[self.ITEM_SEQ][:, : int(size.max())]
            wanted = torch.cat((seen[:, 1:], torch.zeros_like(seen[:, :1])), dim=1)
            wanted.scatter_(1, (size - 1)[:, None], interaction[self.POS_ITEM_ID][:, None])
            self.whole = True
            try:
                states = self.forward(seen, size)
            finally:
                self.whole = False
            real = wanted > 0
            return cross_entropy(states[real] @ self.item_embedding.weight.T, wanted[real])

    return _named(EveryPosition, base)


def _labelled(base: Any, loss: Literal["bce", "mse"]) -> Any:
    """A model's own score of the candidate as the logit of a like."""
    from recbole.utils import InputType

    class Labelled(base):  # type: ignore[misc]  # its library is untyped
        input_type = InputType.POINTWISE

        def calculate_loss(self, interaction: Any) -> Any:
            logits, label = self.predict(interaction), interaction["label"]
            if loss == "mse":
                return mse_loss(torch.sigmoid(logits), label)
            return binary_cross_entropy_with_logits(logits, label)

    return _named(Labelled, base)


def _named(made: Any, base: Any) -> Any:
    made.__name__ = made.__qualname__ = base.__name__
    return made
