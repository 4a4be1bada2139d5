"""RecBole 1.2 as it can be run beside today's numpy, scipy and torch. To be imported in a process of its own only.

RecBole patches numpy, parses the command line, turns on autograd's anomaly mode and writes logs where it stands. All
that ends with the process; here is what has to be done besides, each with its reason:

- numpy 2 has no `np.float_` and others that `Config.compatibility_settings` copies: they are given back.
- scipy has no `dok_matrix._update` any more, which LightGCN and other graph models build their graph with.
- `sine.py` turns on anomaly mode at import, for every model: it costs SASRec two fifths of its time, and is off.
- `Pop` counts an item once per batch (RecBole issues 1844 and 2198): it counts each interaction.
- `FeedForward.gelu` is five operations; torch has the same function in one.
- Settings that are texts go through `eval` in RecBole, so a setting of a stranger's could be a program: they are read
  as literals, and what is none stays the text that it is.
- The command line is not RecBole's to read, and nobody asked for tensorboard files.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import logging
import sys
import types
import warnings
from typing import Any

import numpy as np
import scipy.sparse
import torch

REMOVED = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_, "object0": np.object_}
"""Names that numpy 2 dropped and RecBole reads."""


def import_recbole() -> None:
    """Import RecBole and mend it. May be called again; the second time does nothing."""
    if "recbole.config" in sys.modules:
        return
    sys.argv = sys.argv[:1]
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    for name, kind in REMOVED.items():
        if not hasattr(np, name):
            setattr(np, name, kind)
    # RecBole 1.2.0 wants it for one model, at the import of every model.
    stub = None
    if importlib.util.find_spec("kmeans_pytorch") is None:
        stub = sys.modules["kmeans_pytorch"] = types.ModuleType("kmeans_pytorch")
        stub.kmeans = None  # type: ignore[attr-defined]  # all that is looked for in it
    # All models, so that none of them turns anything on later.
    for name in ("config", "model.general_recommender", "model.sequential_recommender", "trainer.trainer"):
        importlib.import_module(f"recbole.{name}")
    if stub is not None:
        del sys.modules["kmeans_pytorch"]
    torch.autograd.set_detect_anomaly(False)
    _mend()


def _mend() -> None:
    from recbole.config import Config
    from recbole.model.general_recommender import Pop
    from recbole.model.layers import FeedForward
    from recbole.trainer import trainer

    if not hasattr(scipy.sparse.dok_matrix, "_update"):
        scipy.sparse.dok_matrix._update = lambda self, data: self._dict.update(data)
    Config._convert_config_dict = lambda self, given: {name: _literal(value) for name, value in given.items()}
    Pop.calculate_loss = _count_each
    FeedForward.gelu = lambda self, x: torch.nn.functional.gelu(x)
    trainer.get_tensorboard = lambda logger: _Nowhere()


def _literal(value: Any) -> Any:
    """`5`, `[64, 32]` or `true` from a text; what is no literal as it is."""
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _count_each(self: Any, interaction: Any) -> Any:
    self.item_cnt[:, 0] += torch.bincount(interaction[self.ITEM_ID], minlength=self.n_items)
    self.max_cnt = self.item_cnt.max(dim=0)[0]
    return torch.nn.Parameter(torch.zeros(1, device=self.item_cnt.device))


class _Nowhere:
    """Takes the place of a tensorboard writer."""

    def add_scalar(self, *said: Any) -> None:
        pass

    def add_hparams(self, *said: Any) -> None:
        pass
