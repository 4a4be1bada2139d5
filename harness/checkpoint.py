"""Folders with models and adapters in them, looked at without loading anything.

Files are read as what they are, JSON and the headers of safetensors, so that a wrong path or a broken download
is one clear line within a moment, and `import torch` is not needed to say it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from hashlib import file_digest, sha256
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.errors import BadModel
from harness.model import Adapter, Checkpoint, Model

SETTINGS = ("config.json", "generation_config.json")
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
)
"""Any one of these makes a tokenizer."""
BESIDE_TOKENIZERS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
)
WANTED = ("*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")
LISTS = ("rows", "loss", "validation")
"""What a manifest of `harness tune` has one entry for each row or step of."""
DTYPES = ("float32", "bfloat16", "float16")
PLAIN = ("F32", "F16", "BF16", "F64")
"""Numbers in files of safetensors that are what they seem; quantised ones are packed."""
WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "MTModel")
"""How architectures that continue texts are called."""
HEADER_LIMIT = 100 << 20
"""The format's own limit on the length of a header, in bytes."""


class Tensor(NamedTuple):
    """What a safetensors header says of one tensor."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    """Where its bytes begin in the file."""
    end: int


def resolve(model: Model) -> Checkpoint:
    """Find a model's folder, downloading a hub id if needed, and read what it says of itself.

    Raises `BadModel`, in one line, where there is no such model, or weights, tokenizer or configuration are missing
    or broken.
    """
    folder = _folder(model)
    config = _config(folder)
    weights = _weights(folder, model.name)
    if not any((folder / name).is_file() for name in TOKENIZERS) and not any(folder.glob("*.tiktoken")):
        raise BadModel(f"{model.name} has no tokenizer: none of {', '.join(TOKENIZERS[:3])} ... is in {folder}")
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise BadModel(f"config.json of {model.name} names no architecture; it is not a model that can be loaded")
    if not str(architectures[0]).endswith(WRITERS):
        raise BadModel(f"{model.name} is a {architectures[0]}, which does not continue texts; give a language model")
    encoder_decoder = config.get("is_encoder_decoder") is True
    return Checkpoint(
        folder=folder,
        name=model.name,
        digest=_digest([*weights, *_described(folder)]),
        dtype=_dtype(model, config),
        architecture=str(architectures[0]),
        encoder_decoder=encoder_decoder,
        context=_context(config),
        manifest=_tuned(folder),
        parameters=_parameters(weights),
    )


def resolve_adapter(folder: str | Path, checkpoint: Checkpoint) -> Adapter:
    """Read a LoRA folder, and prove without loading it that it can change this base model.

    Raises `BadModel`, in one line, where it is no LoRA, holds no weights or only zeros, or was made for a model of
    another shape or with another digest. Adapters without safetensors are not looked into.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise BadModel(f"no adapter folder {folder}")
    if not (path / "adapter_config.json").is_file():
        raise BadModel(f"{folder} is no adapter: it has no adapter_config.json")
    config = _json(path / "adapter_config.json")
    if config.get("peft_type") != "LORA":
        raise BadModel(f"adapter {folder} is of type {config.get('peft_type')}; only LORA is supported")
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise BadModel(f"adapter {folder} has rank {rank!r}; r in its adapter_config.json must be at least 1")
    weights = path / "adapter_model.safetensors"
    if weights.is_file():
        _prove(str(folder), _header(weights), checkpoint)
    elif (path / "adapter_model.bin").is_file():
        weights = path / "adapter_model.bin"
    else:
        raise BadModel(f"adapter {folder} holds no weights: adapter_model.safetensors is missing")
    manifest = _tuned(path)
    made_on = (manifest or {}).get("base_digest")
    if made_on is not None and made_on != checkpoint.digest:
        raise BadModel(
            f"adapter {folder} is for another base model: it was tuned on {made_on}, {checkpoint.name} is "
            f"{checkpoint.digest}"
        )
    digest = _digest([weights, path / "adapter_config.json"])
    return Adapter(path, str(folder), digest, _highest_rank(config, rank), manifest)


def template_identity(template: str) -> str:
    """`raw`, `chat`, or the content of a file. Raises BadModel where it is none of them."""
    path = Path(template)
    if template in ("raw", "chat"):
        return template
    if not path.is_file():
        raise BadModel(f"--template {template!r} is neither raw, chat nor a file")
    return f"file:{sha256(path.read_bytes()).hexdigest()[:12]}"


def _tuned(folder: Path) -> dict[str, Any] | None:
    """What `harness tune` wrote beside the weights, without its long lists."""
    if not (folder / "harness.json").is_file():
        return None
    return {key: value for key, value in _json(folder / "harness.json").items() if key not in LISTS}


def _folder(model: Model) -> Path:
    local = Path(model.name).expanduser()
    if local.is_dir():
        if model.revision is not None:
            raise BadModel(f"--revision {model.revision} is for hub ids; {model.name} is a folder")
        return local
    if local.exists():
        raise BadModel(f"{model.name} is a file; give the folder that holds config.json and the weights")
    parts = Path(model.name).parts
    path_like = model.name[:1] in ("/", ".", "~") or model.name.count("/") > 1
    if path_like or (len(parts) > 1 and Path(parts[0]).is_dir()):
        raise BadModel(f"no model folder {model.name}")
    return _download(model)


def _download(model: Model) -> Path:
    """The snapshot of a hub id; weights as safetensors where there are any, for the others cost as much again."""
    from huggingface_hub import constants, errors, snapshot_download

    offline = bool(constants.HF_HUB_OFFLINE)
    try:
        for weights in ("*.safetensors", "*.bin"):
            folder = Path(
                snapshot_download(
                    model.name,
                    revision=model.revision,
                    allow_patterns=[*WANTED, weights],
                    ignore_patterns=["*/*", "consolidated*", "training_args.bin"],
                    local_files_only=offline,
                )
            )
            if any(folder.glob(weights)):
                break
    except errors.HFValidationError as error:
        raise BadModel(f"no model folder {model.name}, and it cannot be a hub id") from error
    except errors.GatedRepoError as error:
        raise BadModel(f"{model.name} is gated; accept its terms on the hub and log in with `hf auth login`") from error
    except errors.RevisionNotFoundError as error:
        raise BadModel(f"{model.name} has no revision {model.revision}") from error
    except errors.RepositoryNotFoundError as error:
        raise BadModel(f"no model folder and no public hub model {model.name}; check the name, or log in") from error
    except errors.LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        raise BadModel(f"{model.name} is not in the local cache and {why}; give a folder, or download it") from error
    except Exception as error:  # network and disk have many ways to fail
        raise BadModel(f"{model.name} cannot be downloaded: {' '.join(str(error).split())[:200]}") from error
    return folder


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadModel(f"{path} is not readable JSON: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadModel(f"{path} is not a JSON object")
    return content


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise BadModel(f"{folder} is an adapter, not a model; give its base with --model and it with --adapter")
        raise BadModel(f"{folder} is no model: it has no config.json")
    return _json(folder / "config.json")


def _inner(config: dict[str, Any]) -> dict[str, Any]:
    """Configurations of models that also see keep those of the language model in a table of their own."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _dtype(model: Model, config: dict[str, Any]) -> str:
    if model.dtype != "auto":
        return model.dtype
    found = [c.get(key) for c in (config, _inner(config)) for key in ("dtype", "torch_dtype")]
    dtype = str(next((value for value in found if value is not None), "float32")).removeprefix("torch.")
    if dtype not in DTYPES:
        raise BadModel(f"config.json of {model.name} says dtype {dtype}; choose one with --dtype: {', '.join(DTYPES)}")
    return dtype


def _context(config: dict[str, Any]) -> int | None:
    """Positions that the model has. T5 only names the length that it was trained at: its positions are relative."""
    keys = ("max_position_embeddings",) if "relative_attention_num_buckets" in config else (
        "max_position_embeddings", "n_positions",
    )  # fmt: skip
    found = [c.get(key) for c in (config, _inner(config)) for key in keys]
    return next((int(value) for value in found if isinstance(value, int) and value > 0), None)


def _weights(folder: Path, name: str) -> list[Path]:
    """The weight files that a loader would take, checked to be whole as far as their headers tell."""
    for pattern, index in (
        ("*.safetensors", "model.safetensors.index.json"),
        ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
    ):
        found = sorted(p for p in folder.glob(pattern) if p.is_file() and not p.name.startswith("consolidated"))
        if (folder / index).is_file():
            found = [folder / shard for shard in sorted(set(_json(folder / index).get("weight_map", {}).values()))]
            if missing := [path.name for path in found if not path.is_file()]:
                raise BadModel(f"the weights of {name} are incomplete: {missing[0]} is missing in {folder}")
            found.append(folder / index)
        if found:
            for path in found:
                if path.suffix == ".safetensors":
                    _header(path)
            return found
    raise BadModel(f"{name} has no weights: neither *.safetensors nor pytorch_model*.bin is in {folder}")


def _parameters(weights: Sequence[Path]) -> int | None:
    """Numbers in the safetensors among these files; None for other files, and where several may be packed into one."""
    tensors = {key: one for p in weights if p.suffix == ".safetensors" for key, one in _header(p).items()}
    if not tensors or any(tensor.dtype not in PLAIN for tensor in tensors.values()):
        return None
    return sum(prod(tensor.shape) for tensor in tensors.values())


def _header(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name. Raises `BadModel` where the file is truncated or something else."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(HEADER_LIMIT, size - 8):
                raise ValueError("no header")
            header = json.loads(file.read(length))
        tensors = {
            name: Tensor(
                path, entry["dtype"], tuple(entry["shape"]), *(length + 8 + at for at in entry["data_offsets"])
            )
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadModel(f"{path} is not a safetensors file; was it downloaded completely?") from error
    end = max((tensor.end for tensor in tensors.values()), default=0)
    if end > size:
        raise BadModel(f"{path} is truncated: {size:,} bytes of {end:,}; download it again")
    return tensors


def _described(folder: Path) -> list[Path]:
    """Everything beside the weights that decides what a model answers."""
    named = [folder / name for name in (*SETTINGS, *TOKENIZERS, *BESIDE_TOKENIZERS)]
    return [path for path in (*named, *sorted(folder.glob("*.tiktoken"))) if path.is_file()]


def _digest(files: Sequence[Path]) -> str:
    """Sixteen hexadecimal digits over names and bytes. Shards are hashed side by side: hashing leaves Python's lock."""

    def one(path: Path) -> str:
        found = path.stat()
        return _hexed(path.absolute(), found.st_size, found.st_mtime_ns)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        lines = [f"{path.name}\0{hexed}" for path, hexed in zip(files, pool.map(one, files), strict=True)]
    return sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


@lru_cache(maxsize=1024)
def _hexed(path: Path, size: int, modified: int) -> str:
    """A grid looks at the same gigabytes again and again; size and time of change say that they are the same."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _highest_rank(config: dict[str, Any], rank: int) -> int:
    pattern = config.get("rank_pattern")
    return max([rank, *(int(value) for value in pattern.values())]) if isinstance(pattern, dict) else rank


def _prove(name: str, tensors: dict[str, Tensor], checkpoint: Checkpoint) -> None:
    """Static proofs: there are LoRA weights, they are not all zero, and they fit the base model."""
    ups = {key: tensor for key, tensor in tensors.items() if "lora_B" in key or "lora_embedding_B" in key}
    if not ups:
        raise BadModel(f"adapter {name} holds no weights: there is no lora_B in {name}/adapter_model.safetensors")
    if not any(_nonzero(tensor) for tensor in ups.values()):
        raise BadModel(f"adapter {name} changes nothing: every lora_B in it is zero, as before training")
    base = {
        key: tensor
        for path in _weights(checkpoint.folder, checkpoint.name)
        if path.suffix == ".safetensors"
        for key, tensor in _header(path).items()
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
