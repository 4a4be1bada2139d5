"""Who answers: the syntax of `--model`, and what is known of a model before it is loaded.

Qwen/Qwen2.5-0.5B-Instruct     a hub id or a folder; vLLM where it knows the architecture, else transformers
vllm:PATH  hf:PATH             the same, with the engine said
remote:NAME                    what a server serves under this name; its address is --base-url
simple:popularity              a baseline, by the group that registers it
recbole:SASRec                 likewise, trained first if that has not been done
checkpoint:DIR                 a trained baseline, as the folder that a training made
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.errors import BadModel, BadSetting
from harness.knobs import knob

DType = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Trust:
    """What a person lets the folder of a model or an adapter be besides tensors and texts: nothing, unless it is said.

    Pickled weights are a small program that the reader runs. With `allow_pickle` they go through torch's restricted
    reader alone (`weights_only`), which makes tensors and refuses everything else; it has had holes, so it is not the
    default. Code of a model (`auto_map`) runs with all that the user may do, and no reader stands in between.
    """

    trust_remote_code: bool = knob(False, "run the Python code that comes in the model's folder")
    allow_pickle: bool = knob(False, "read weights that are pickles, as pytorch_model.bin; such files may run code")


@dataclass(frozen=True)
class Model:
    """What was asked for on the command line; nothing has been looked at yet."""

    engine: str
    """`auto`, the name of an engine, or the name of a group of baselines."""
    name: str
    """A hub id, a folder, or a baseline's name within its group."""
    revision: str | None = None
    dtype: DType = "auto"
    trust: Trust = field(default_factory=Trust)

    @classmethod
    def parse(cls, text: str, revision: str | None = None, dtype: DType = "auto", trust: Trust | None = None) -> Model:
        """The syntax of `--model`. BadModel: it names nothing."""
        kind, colon, name = text.partition(":")
        if not colon or os.path.exists(text):  # noqa: PTH110  # pathlib raises where a name is too long
            kind, name = "auto", text
        if not name or not kind:
            raise BadModel(f"--model {text!r} names nothing; give a folder, a hub id, or KIND:NAME as in simple:random")
        return cls(kind, name, revision, dtype, trust or Trust())


@dataclass(frozen=True)
class ModelSettings:
    """What was said of a baseline besides its name, not looked at yet."""

    given: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    """TOML; what is given goes before it."""

    def tables(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """What the file says of every model, and its list `[[settings]]`. BadSetting: it cannot be read so."""
        if self.file is None:
            return {}, []
        where = f"--model-config {self.file}"
        try:
            content = tomllib.loads(self.file.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BadSetting(f"{where} cannot be read as TOML: {error}") from None
        listed = content.pop("settings", [])
        if not isinstance(listed, list) or not all(isinstance(table, dict) for table in listed):
            raise BadSetting(f"{where}: settings should be a list; write [[settings]] above its options")
        return content, listed


@dataclass(frozen=True)
class EngineOptions:
    """How an engine runs. Recorded with a run, but not part of its identity, since no score depends on it; the
    exceptions are the longest prompt, which decides what fails, and how generations are held to texts: they are."""

    max_model_len: int | None = knob(None, "longest prompt and answer in tokens; default: what the model allows", low=1)
    batch_tokens: int = knob(8192, "tokens that transformers puts into one forward pass", low=1)
    tensor_parallel: int = knob(1, "devices that share one copy of the model (vLLM)", low=1)
    data_parallel: int = knob(
        1, "copies of the model: workers on a Ray of this machine, with devices of their own", low=1
    )
    gpu_memory: float = knob(0.9, "share of the GPU's memory that vLLM takes", low=0.05, high=1)
    kv_cache_gib: int = knob(2, "memory for vLLM's key-value cache on a CPU, in GiB", low=1)
    structured: int = knob(
        0,
        "most texts that vLLM's structured outputs hold a generation to; above, and on transformers, a prefix tree",
        low=0,
    )
    threads: int | None = knob(None, "CPU threads; default: as many as there are cores", low=1)
    base_url: str | None = knob(None, "address of the server, such as http://localhost:8000/v1 (remote)")
    tokenizer: str | None = knob(None, "folder or hub id of the served model's tokenizer (remote)")
    concurrency: int = knob(32, "most requests that a server has in hand at once (remote)", low=1)
    patience: float = knob(600.0, "seconds to wait for a server that answers nobody (remote)", low=0)


@dataclass(frozen=True)
class Served:
    """What a server says of a model; nobody on this side sees its weights."""

    url: str
    root: str | None
    """What the server was started with."""
    parent: str | None
    """The served base model, where this is a LoRA."""
    software: str | None
    """`vllm`, or whoever else the server says owns the model."""
    context: int | None
    """Longest prompt and answer in tokens."""
    tokenizer: str | None
    """Digest of the tokenizer on this side, if one was given."""
    label: str | None
    """What a person calls the weights behind the name: `--revision`."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model in it, looked at but not loaded; or one that is `served`, with a tokenizer here at most."""

    folder: Path
    name: str
    """As it was asked for: what tables show."""
    digest: str
    """Over the bytes of weights, configuration and tokenizer; of a served model, over what is known of it."""
    dtype: str
    """`float32`, `bfloat16` or `float16`; never `auto`."""
    architecture: str
    """As in its configuration: `LlamaForCausalLM`."""
    encoder_decoder: bool
    context: int | None
    """Longest sequence in tokens that its configuration allows, if it says."""
    manifest: dict[str, Any] | None = None
    """What `harness tune` wrote beside it, if it made this model."""
    parameters: int | None = None
    """How many weights it has; None where its files do not tell."""
    served: Served | None = None
    pickled: bool = False
    """Whether its weights are pickles, which somebody allowed."""
    trust: Trust = field(default_factory=Trust)


@dataclass(frozen=True)
class Adapter:
    """A LoRA folder, looked at but not loaded."""

    folder: Path
    name: str
    digest: str
    rank: int
    manifest: dict[str, Any] | None = None
    """What `harness tune` wrote beside it, if it did."""
