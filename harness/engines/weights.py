"""Weights and adapters from disk into a transformers model, with nothing made up and nothing left over."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers

from harness.engines.encode import one_line
from harness.errors import BadAdapter, BadModel
from harness.model import Adapter, Checkpoint


def _ends(*found: int | list[int] | None) -> list[int]:
    """The tokens that end a text: the model's and the tokenizer's, as in vLLM."""
    ends = {end for one in found if one is not None for end in (one if isinstance(one, list) else [one])}
    return sorted(ends)


def load_weights(checkpoint: Checkpoint, tokenizer: Any, quantization: Any = None) -> Any:
    """The model in evaluation mode; every weight must come from the checkpoint, none from a random generator.

    `quantization` is a configuration of transformers, None for weights as they are.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    kind = transformers.AutoModelForSeq2SeqLM if checkpoint.encoder_decoder else transformers.AutoModelForCausalLM
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model, report = kind.from_pretrained(
            checkpoint.folder,
            dtype=getattr(torch, checkpoint.dtype),
            local_files_only=True,
            # Both said, so that no folder decides it: which files are opened, and that none of its code runs.
            use_safetensors=not checkpoint.pickled,
            weights_only=True,
            trust_remote_code=checkpoint.trust.trust_remote_code,
            output_loading_info=True,
            quantization_config=quantization,
            device_map={"": device} if quantization is not None else None,
        )
        model = model.eval() if quantization is not None else model.to(device).eval()
    except Exception as error:  # whatever a library raises over bad weights
        raise BadModel(f"{checkpoint.name} cannot be loaded by transformers: {one_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise BadModel(f"the weights of {checkpoint.name} lack {missing[0]} and {len(missing) - 1} more tensors")
    if model._is_stateful:
        # Their states see padding, and cannot be branched as a key-value cache can.
        raise BadModel(f"{checkpoint.architecture} keeps a recurrent state, which this engine cannot score; use vllm:")
    ends = _ends(model.generation_config.eos_token_id, tokenizer.eos_token_id)
    start = model.generation_config.decoder_start_token_id
    # A checkpoint's own sampling habits (repetition penalties, top-k) would leak into every request.
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=ends,
        decoder_start_token_id=start if start is not None else getattr(model.config, "decoder_start_token_id", None),
    )
    return model


def load_adapters(
    model: Any, checkpoint: Checkpoint, adapters: Sequence[Adapter], names: Mapping[str, str]
) -> Any | None:
    """Put LoRA layers into the model, in place; returns their switchboard, None without adapters."""
    if not adapters:
        return None
    import peft

    wrapped: Any = None
    for adapter in adapters:
        name = names[adapter.digest]
        if wrapped is not None and name in wrapped.peft_config:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # peft only warns where weights are missing or left over; that must stop the run.
                warnings.filterwarnings("error", message=".*(missing|unexpected).*key")
                if wrapped is None:
                    wrapped = peft.PeftModel.from_pretrained(model, adapter.folder, adapter_name=name)
                else:
                    wrapped.load_adapter(adapter.folder, adapter_name=name)
        except Exception as error:  # whatever peft raises over a bad adapter
            why = f"adapter {adapter.name} cannot be put on {checkpoint.name}: {one_line(error)}"
            raise BadAdapter(why, adapter.digest) from error
    wrapped.eval()
    return wrapped
