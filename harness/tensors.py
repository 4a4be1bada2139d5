"""Weight files, by what their headers say: which ones a loader would take, whether they are whole, and whether an
adapter can change a base. No number is loaded but those that must not be zero."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.errors import BadModel
from harness.foreign import read_object
from harness.model import Checkpoint, Trust
from harness.names import is_file_name

PLAIN = ("F32", "F16", "BF16", "F64")
"""Numbers in files of safetensors that are what they seem; quantised ones are packed."""
HEADER_LIMIT = 100 << 20
"""The format's own limit on the length of a header, in bytes."""
PICKLES = "which may run code when they are read; save them as safetensors where you trust them, or say --allow-pickle"


class Tensor(NamedTuple):
    """What a safetensors header says of one tensor."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    """Where its bytes begin in the file."""
    end: int


def weights(folder: Path, name: str, trust: Trust) -> list[Path]:
    """The weight files that a loader would take, checked to be whole as far as their headers tell; all pickles or none.

    Raises BadModel, in one line, where there are none, one is missing or broken, or they are pickles and nobody said
    that those may be read.
    """
    if found := _listed(folder, name, ".safetensors", "*.safetensors", "model.safetensors.index.json"):
        for path in found:
            if path.suffix == ".safetensors":
                header(path)
        return found
    pickles = sorted(folder.glob("pytorch_model*.bin*"))
    if not pickles:
        raise BadModel(f"{name} has no weights: neither *.safetensors nor pytorch_model*.bin is in {folder}")
    if not trust.allow_pickle:
        raise BadModel(f"the weights of {name} are pickles ({pickles[0].name}), {PICKLES}")
    return _listed(folder, name, ".bin", "pytorch_model*.bin", "pytorch_model.bin.index.json")


def are_pickles(weights: Sequence[Path]) -> bool:
    """Of files that `weights` returned."""
    return weights[0].suffix == ".bin"


def _listed(folder: Path, name: str, suffix: str, pattern: str, index: str) -> list[Path]:
    """The files of one kind: those that the index names, and itself; without one those of the pattern."""
    if not (folder / index).is_file():
        return sorted(p for p in folder.glob(pattern) if p.is_file() and not p.name.startswith("consolidated"))
    shards = read_object(folder / index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise BadModel(f"{index} of {name} names no file; download it again")
    for shard in shards.values():
        # A loader opens whatever stands here: a file elsewhere, or a pickle among safetensors.
        if not isinstance(shard, str) or not is_file_name(shard) or not shard.endswith(suffix):
            raise BadModel(f"{index} of {name} names {shard!r} as weights, which is no {suffix} file of its own folder")
    if (folder / (whole := index.removesuffix(".index.json"))).is_file() and whole not in shards.values():
        raise BadModel(f"{folder} holds {whole} and {index}, and loaders differ in which they take; delete one of them")
    found = [folder / shard for shard in sorted(set(shards.values()))]
    if missing := [path.name for path in found if not path.is_file()]:
        raise BadModel(f"the weights of {name} are incomplete: {missing[0]} is missing in {folder}")
    return [*found, folder / index]


def parameters(weights: Sequence[Path]) -> int | None:
    """Numbers in the safetensors among these files; None for other files, and where several may be packed into one."""
    tensors = {key: one for p in weights if p.suffix == ".safetensors" for key, one in header(p).items()}
    if not tensors or any(tensor.dtype not in PLAIN for tensor in tensors.values()):
        return None
    return sum(prod(tensor.shape) for tensor in tensors.values())


def header(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name. Raises `BadModel` where the file is truncated or something else."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(HEADER_LIMIT, size - 8):
                raise ValueError("no header")
            said = json.loads(file.read(length))
        tensors = {name: _tensor(path, entry, length + 8) for name, entry in said.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadModel(f"{path} is not a safetensors file; was it downloaded completely?") from error
    end = max((tensor.end for tensor in tensors.values()), default=0)
    if end > size:
        raise BadModel(f"{path} is truncated: {size:,} bytes of {end:,}; download it again")
    return tensors


def _tensor(file: Path, entry: Any, start: int) -> Tensor:
    """An entry of a header whose numbers begin at `start`. ValueError, KeyError, TypeError: it cannot be one."""
    shape, (begins, ends) = tuple(entry["shape"]), entry["data_offsets"]
    if not all(isinstance(n, int) and n >= 0 for n in (*shape, begins, ends)) or begins > ends:
        raise ValueError("no shape and place")
    return Tensor(file, str(entry["dtype"]), shape, start + begins, start + ends)


def prove(name: str, tensors: dict[str, Tensor], checkpoint: Checkpoint) -> None:
    """Static proofs: there are LoRA weights, they are not all zero, and they fit the base model."""
    ups = {key: tensor for key, tensor in tensors.items() if "lora_B" in key or "lora_embedding_B" in key}
    if not ups:
        raise BadModel(f"adapter {name} holds no weights: there is no lora_B in {name}/adapter_model.safetensors")
    if not any(_nonzero(tensor) for tensor in ups.values()):
        raise BadModel(f"adapter {name} changes nothing: every lora_B in it is zero, as before training")
    base = {
        key: tensor
        for path in weights(checkpoint.folder, checkpoint.name, checkpoint.trust)
        if path.suffix == ".safetensors"
        for key, tensor in header(path).items()
    }
    if all(tensor.dtype in PLAIN for tensor in base.values()):
        _prove_shapes(name, tensors, base, checkpoint.name)


def _nonzero(tensor: Tensor) -> bool:
    """Whether any number in it is other than zero; minus zero is zero."""
    count = prod(tensor.shape)
    width = (tensor.end - tensor.start) // count if count else 0
    if width not in (1, 2, 4, 8):
        return count > 0
    with tensor.file.open("rb") as file:
        file.seek(tensor.start)
        numbers = np.frombuffer(file.read(tensor.end - tensor.start), dtype=f"<u{width}")
    return bool((numbers & ((1 << (8 * width - 1)) - 1)).any())


def _lora_shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, int]]:
    """What each adapted module must measure, (out, in), by its name in the base model."""
    shapes = {}
    for key, down in tensors.items():
        module, found, _ = key.partition(".lora_A")
        up = tensors.get(key.replace("lora_A", "lora_B"))
        if found and up is not None and len(down.shape) == len(up.shape) == 2:
            shapes[module.removeprefix("base_model.model.")] = (up.shape[0], down.shape[1])
    return shapes


def _prove_shapes(name: str, tensors: dict[str, Tensor], base: dict[str, Tensor], base_name: str) -> None:
    wanted = _lora_shapes(tensors)
    found = {module: _base_shape(module, base) for module in wanted}
    if not any(found.values()):
        return  # a base whose tensors have other names on disk than in memory: only running it can tell
    for module, (rows, columns) in wanted.items():
        shape = found[module]
        if shape is None and module.split(".")[0] != "lm_head" and ".experts" not in module:
            has = "has no such layer"
        elif shape is not None and tuple(sorted(shape)) != tuple(sorted((rows, columns))):
            has = f"has ({shape[0]}x{shape[1]})"
        else:
            continue
        raise BadModel(
            f"adapter {name} is for another base model: it wants {module} ({rows}x{columns}), {base_name} {has}"
        )


def _base_shape(module: str, base: dict[str, Tensor]) -> tuple[int, int] | None:
    """(out, in) of a module's weight; some checkpoints leave out the leading parts of a name."""
    names: Iterable[str] = (f"{module}.weight".split(".", cut)[-1] for cut in range(module.count(".") + 1))
    shape = next((base[key].shape for key in names if key in base), ())
    return (shape[0], shape[1]) if len(shape) == 2 else None
