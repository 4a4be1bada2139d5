"""Who answers: the syntax of `--model`, and what is known of a model before it is loaded.

Qwen/Qwen2.5-0.5B-Instruct     a hub id or a folder; vLLM where it knows the architecture, else transformers
vllm:PATH  hf:PATH             the same, with the engine said
simple:popularity              a baseline, by the group that registers it
recbole:SASRec                 likewise, trained first if that has not been done
checkpoint:DIR                 a trained baseline, as the folder that a training made
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.errors import BadModel, BadSetting
from harness.knobs import knob

DType = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Model:
    """What was asked for on the command line; nothing has been looked at yet."""

    engine: str
    """`auto`, the name of an engine, or the name of a group of baselines."""
    name: str
    """A hub id, a folder, or a baseline's name within its group."""
    revision: str | None = None
    dtype: DType = "auto"

    @classmethod
    def parse(cls, text: str, revision: str | None = None, dtype: DType = "auto") -> Model:
        kind, colon, name = text.partition(":")
        if not colon or Path(text).exists():
            kind, name = "auto", text
        if not name or not kind:
            raise BadModel(f"--model {text!r} names nothing; give a folder, a hub id, or KIND:NAME as in simple:random")
        return cls(kind, name, revision, dtype)


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
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
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
    gpu_memory: float = knob(0.9, "share of the GPU's memory that vLLM takes", low=0.05, high=1)
    kv_cache_gib: int = knob(2, "memory for vLLM's key-value cache on a CPU, in GiB", low=1)
    structured: int = knob(
        0,
        "most texts that vLLM's structured outputs hold a generation to; above, and on transformers, a prefix tree",
        low=0,
    )
    threads: int | None = knob(None, "CPU threads; default: as many as there are cores", low=1)


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model in it, looked at but not loaded."""

    folder: Path
    name: str
    """As it was asked for: what tables show."""
    digest: str
    """Over the bytes of weights, configuration and tokenizer."""
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


@dataclass(frozen=True)
class Adapter:
    """A LoRA folder, looked at but not loaded."""

    folder: Path
    name: str
    digest: str
    rank: int
    manifest: dict[str, Any] | None = None
    """What `harness tune` wrote beside it, if it did."""
