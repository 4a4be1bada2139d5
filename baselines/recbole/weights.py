"""The weights of a trained model on disk, with what a model keeps besides, such as ItemKNN's sparse similarities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"
OTHER = "other."


def save_weights(folder: Path, model: Any) -> None:
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
    packed = {f"{OTHER}{name}": value.clone().contiguous() for name, value in other_parameters(model).items()}
    save_file({**weights, **packed}, folder / WEIGHTS)


def load_weights(folder: Path, model: Any) -> None:
    content = load_file(folder / WEIGHTS)
    others = {name.removeprefix(OTHER): value for name, value in content.items() if name.startswith(OTHER)}
    model.load_state_dict({name: value for name, value in content.items() if not name.startswith(OTHER)})
    restore_other_parameters(model, others)


def other_parameters(model: Any) -> dict[str, torch.Tensor]:
    """What RecBole counts as a model's parameters though torch does not, as tensors.

    A sparse matrix is three tensors and its shape. Modules are among the weights already; what is None was not made.
    """
    packed: dict[str, torch.Tensor] = {}
    for name, value in (model.other_parameter() or {}).items():
        if value is None or isinstance(value, torch.nn.Module):
            continue
        if isinstance(value, torch.Tensor):
            packed[name] = value.detach().cpu()
        elif scipy.sparse.issparse(value):
            kept = value.tocsr()
            for part in ("data", "indices", "indptr"):
                packed[f"{name}.{part}"] = torch.from_numpy(np.ascontiguousarray(getattr(kept, part)))
            packed[f"{name}.shape"] = torch.tensor(kept.shape)
        elif isinstance(value, (np.ndarray, np.matrix)):
            packed[f"{name}.array"] = torch.from_numpy(np.ascontiguousarray(value))
        else:
            raise TypeError(f"{type(model).__name__} keeps {name} as {type(value).__name__}, which cannot be saved")
    return packed


def restore_other_parameters(model: Any, packed: dict[str, torch.Tensor]) -> None:
    """The inverse of `other_parameters`."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    for name in dict.fromkeys(key.partition(".")[0] for key in packed):
        if f"{name}.shape" in packed:
            parts = tuple(packed[f"{name}.{part}"].numpy() for part in ("data", "indices", "indptr"))
            setattr(model, name, scipy.sparse.csr_matrix(parts, shape=tuple(packed[f"{name}.shape"].tolist())))
        elif f"{name}.array" in packed:
            setattr(model, name, packed[f"{name}.array"].numpy())
        else:
            setattr(model, name, packed[name].to(device))
