"""The benchmarks' models: random weights with a 32,000-piece tokenizer, a Llama and an encoder-decoder."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

VOCABULARY = 32_000
CONTEXT = 2048
"""Tokens: as long as the prompts of LLM-TRSR are padded to."""
SHARD = "4GB"


class Shape(NamedTuple):
    """Of a Llama: what decides how much it computes."""

    layers: int
    width: int
    inner: int
    """Width between the two halves of a feed-forward layer."""
    heads: int


SHAPES = MappingProxyType(
    {"tiny": Shape(2, 64, 176, 2), "58m": Shape(8, 512, 1408, 8), "7b": Shape(32, 4096, 11_008, 32)}
)
"""By name; `7b` is LLaMA-7B's."""


def llama(folder: Path, shape: Shape, device: str = "cpu") -> Path:
    """Write a Llama of random weights in bfloat16, made on the device, to a folder, if none is there.

    Random weights do not end a text.
    """
    if folder.exists():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=CONTEXT,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    _tokenizer(partial)
    model.save_pretrained(partial, max_shard_size=SHARD)
    return partial.rename(folder)


def llama_58m(folder: Path) -> Path:
    """The model of most benchmarks: 58 million parameters."""
    return llama(folder, SHAPES["58m"])


def t5_77m(folder: Path) -> Path:
    """The shape of Flan-T5-small: eight layers each for reading and writing, 512 wide."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=512,
        d_kv=64,
        d_ff=1024,
        num_layers=8,
        num_heads=6,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
    )
    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer(folder)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def _tokenizer(folder: Path) -> None:
    """The Llama tokenizer that mistral_common ships."""
    (folder / "tokenizer.model").write_bytes((files("mistral_common") / "data" / "tokenizer.model.v1").read_bytes())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>",
                    "unk_token": "<unk>", "pad_token": "<unk>", "legacy": True})
    )  # fmt: skip


def random_lora(folder: Path, base: Path, seed: int) -> Path:
    """A LoRA of rank 8 on the attention's q and v, with random weights on both sides."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    made = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"]))
    for name, weights in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.02)
    made.save_pretrained(folder)
    return folder
