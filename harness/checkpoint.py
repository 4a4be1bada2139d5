"""Folders with models and adapters in them, looked at without loading anything.

Files are read as what they are, JSON and the headers of safetensors, so that a wrong path or a broken download
is one clear line within a moment, and `import torch` is not needed to say it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from harness import tensors
from harness.errors import BadModel
from harness.foreign import code_of, read_object
from harness.model import Adapter, Checkpoint, Model
from harness.names import at_home

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
WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "MTModel")
"""How architectures that continue texts are called."""


def resolve(model: Model) -> Checkpoint:
    """Find a model's folder, downloading a hub id if needed, and read what it says of itself.

    Raises `BadModel`, in one line, where there is no such model, weights, tokenizer or configuration are missing or
    broken, or it is more than data and `model.trust` does not say that it may be.
    """
    if model.engine == "remote":
        raise BadModel(f"remote:{model.name} lies behind a server; its files are needed, so give a folder or hub id")
    folder = _folder(model)
    config = _config(folder)
    code = code_of(folder, model.name, model.trust)
    files = tensors.weights(folder, model.name, model.trust)
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
        digest=_digest([*files, *_described(folder), *code], folder),
        dtype=_dtype(model, config),
        architecture=str(architectures[0]),
        encoder_decoder=encoder_decoder,
        context=_context(config),
        manifest=_tuned(folder),
        parameters=tensors.parameters(files),
        pickled=tensors.are_pickles(files),
        trust=model.trust,
    )


def resolve_adapter(folder: str | Path, checkpoint: Checkpoint) -> Adapter:
    """Read a LoRA folder, and prove without loading it that it can change this base model.

    Raises `BadModel`, in one line, where it is no LoRA, holds no weights or only zeros, or was made for a model of
    another shape or with another digest, or where its weights are pickles and the base's trust does not allow them.
    Pickles are not looked into.
    """
    path = at_home(folder)
    if not path.is_dir():
        raise BadModel(f"no adapter folder {folder}")
    if not (path / "adapter_config.json").is_file():
        raise BadModel(f"{folder} is no adapter: it has no adapter_config.json")
    config = read_object(path / "adapter_config.json")
    if config.get("peft_type") != "LORA":
        raise BadModel(f"adapter {folder} is of type {config.get('peft_type')}; only LORA is supported")
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise BadModel(f"adapter {folder} has rank {rank!r}; r in its adapter_config.json must be at least 1")
    weights = path / "adapter_model.safetensors"
    if weights.is_file():
        tensors.prove(str(folder), tensors.header(weights), checkpoint)
    elif (path / "adapter_model.bin").is_file():
        weights = path / "adapter_model.bin"
        if not checkpoint.trust.allow_pickle:
            raise BadModel(f"the weights of adapter {folder} are pickles ({weights.name}), {tensors.PICKLES}")
    else:
        raise BadModel(f"adapter {folder} holds no weights: adapter_model.safetensors is missing")
    manifest = _tuned(path)
    made_on = (manifest or {}).get("base_digest")
    if made_on is not None and made_on != checkpoint.digest:
        raise BadModel(
            f"adapter {folder} is for another base model: it was tuned on {made_on}, {checkpoint.name} is "
            f"{checkpoint.digest}"
        )
    digest = _digest([weights, path / "adapter_config.json"], path)
    return Adapter(path, str(folder), digest, _highest_rank(config, rank, folder), manifest)


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
    return {key: value for key, value in read_object(folder / "harness.json").items() if key not in LISTS}


def _folder(model: Model) -> Path:
    local = at_home(model.name)
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
    """The snapshot of a hub id; weights as safetensors where there are any, for the others cost as much again, and
    nothing that would not be read."""
    from huggingface_hub import constants, errors, snapshot_download

    offline = bool(constants.HF_HUB_OFFLINE)
    kinds = ("*.safetensors", "*.bin") if model.trust.allow_pickle else ("*.safetensors",)
    wanted = [*WANTED, "*.py"] if model.trust.trust_remote_code else WANTED
    try:
        for weights in kinds:
            folder = Path(
                snapshot_download(
                    model.name,
                    revision=model.revision,
                    allow_patterns=[*wanted, weights],
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
    if not any(folder.glob("*.safetensors")) and not model.trust.allow_pickle:
        raise BadModel(
            f"{model.name} has no safetensors on the hub; if its weights are pickles, which may run code when they are "
            "read, say --allow-pickle"
        )
    return folder


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise BadModel(f"{folder} is an adapter, not a model; give its base with --model and it with --adapter")
        raise BadModel(f"{folder} is no model: it has no config.json")
    return read_object(folder / "config.json")


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


def _described(folder: Path) -> list[Path]:
    """Everything beside the weights that decides what a model answers."""
    named = [folder / name for name in (*SETTINGS, *TOKENIZERS, *BESIDE_TOKENIZERS)]
    return [path for path in (*named, *sorted(folder.glob("*.tiktoken"))) if path.is_file()]


def _digest(files: Sequence[Path], folder: Path) -> str:
    """Sixteen hexadecimal digits over names and bytes. Shards are hashed side by side: hashing leaves Python's lock."""

    def one(path: Path) -> str:
        found = path.stat()
        return _hexed(path.absolute(), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    names = [path.relative_to(folder).as_posix() for path in files]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        lines = [f"{name}\0{hexed}" for name, hexed in zip(names, pool.map(one, files), strict=True)]
    return sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


@lru_cache(maxsize=1024)
def _hexed(path: Path, inode: int, size: int, modified: int, changed: int) -> str:
    """A grid looks at the same gigabytes again and again; what the system notes of a file says that they are the same.
    The time of its last change of any kind (`changed`) is the one that nobody can set back."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _highest_rank(config: dict[str, Any], rank: int, folder: str | Path) -> int:
    pattern = config.get("rank_pattern") or {}
    if not isinstance(pattern, dict) or not all(type(value) is int for value in pattern.values()):
        raise BadModel(f"adapter {folder} has no ranks in rank_pattern; correct its adapter_config.json")
    return max([rank, *map(int, pattern.values())])
