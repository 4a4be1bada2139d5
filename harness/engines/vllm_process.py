"""Starting vLLM: its environment, its process, and the adapters that it is given."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from harness.engines.encode import one_line
from harness.errors import BadAdapter, BadModel
from harness.model import Adapter, Checkpoint, EngineOptions

LOGPROBS = 128
"""Most tokens that vLLM reports log-probabilities of in one request; wider nodes are asked in parts."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The LoRA ranks that vLLM has kernels for; others run in the next larger one."""
CPU_BLOCK = 32
"""Tokens that the prefix cache takes or leaves as one on a CPU, where vLLM's own 128 miss most of what short prompts
share, and its fast kernels want a multiple of 32."""
ADAPTERS_AT_ONCE = 4
"""Adapters that may share a batch; further ones wait in the host's memory."""


def prepare_environment(options: EngineOptions) -> None:
    """What vLLM reads from the environment; whoever has set it keeps it."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(options.kv_cache_gib))
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # By default vLLM keeps one core free for serving; an offline run on two cores would lose a third of its speed.
    os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    if options.threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of the many libraries that vLLM imports, here and in the processes that it starts meanwhile."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = before or "ignore"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]


def start_engine(checkpoint: Checkpoint, adapters: Sequence[Adapter], options: EngineOptions) -> Any:
    """A running engine for these weights."""
    if find_spec("vllm") is None:
        raise BadModel("vLLM is not installed; install the extra gpu or cpu, or use hf:" + checkpoint.name)
    rank = max((adapter.rank for adapter in adapters), default=RANKS[0])
    for adapter in adapters:
        if adapter.rank > RANKS[-1]:
            why = f"vLLM takes LoRA ranks up to {RANKS[-1]}, not {adapter.rank}; use hf:{checkpoint.name}"
            raise BadAdapter(why, adapter.digest)
    try:
        with quiet():
            from vllm.engine.arg_utils import EngineArgs
            from vllm.platforms import current_platform
            from vllm.v1.engine.llm_engine import LLMEngine

            arguments = EngineArgs(
                model=str(checkpoint.folder),
                dtype=checkpoint.dtype,
                load_format="hf" if checkpoint.pickled else "safetensors",
                trust_remote_code=checkpoint.trust.trust_remote_code,
                max_model_len=options.max_model_len,
                tensor_parallel_size=options.tensor_parallel,
                gpu_memory_utilization=options.gpu_memory,
                enforce_eager=current_platform.is_cpu(),
                # Seeded draws fail on a CPU while a prompt is read in pieces: its generators cannot be set back.
                enable_chunked_prefill=not current_platform.is_cpu(),
                enable_prefix_caching=True,
                block_size=CPU_BLOCK if current_platform.is_cpu() else None,
                max_logprobs=LOGPROBS,
                enable_lora=bool(adapters),
                max_loras=min(max(1, len(adapters)), ADAPTERS_AT_ONCE),
                max_cpu_loras=max(1, len(adapters)),
                max_lora_rank=min(size for size in RANKS if size >= rank),
                disable_log_stats=True,
                use_tqdm_on_load=False,
            )
            return LLMEngine.from_engine_args(arguments)
    except Exception as error:  # whatever vLLM raises over a model or a machine
        why = one_line(error)
        if why.startswith("Engine core initialization failed"):
            why = "its process stopped while starting and says why above (for want of memory, lower max_model_len)"
        raise BadModel(f"vLLM cannot load {checkpoint.name}: {why}; or use hf:{checkpoint.name}") from error


def add_adapters(engine: Any, checkpoint: Checkpoint, adapters: Sequence[Adapter]) -> dict[str, Any]:
    """Load each adapter now: one that vLLM cannot apply must not surface in the middle of a run."""
    from vllm.lora.request import LoRARequest

    loras: dict[str, Any] = {}
    for place, adapter in enumerate(adapters, start=1):
        request = LoRARequest(adapter.digest, place, str(adapter.folder.resolve()))
        try:
            engine.add_lora(request)
        except Exception as error:  # the engine's process passes on whatever went wrong there
            why = f"vLLM cannot apply adapter {adapter.name} to {checkpoint.name}: {one_line(error)}"
            raise BadAdapter(f"{why}; try hf:{checkpoint.name}", adapter.digest) from error
        loras[adapter.digest] = request
    return loras
