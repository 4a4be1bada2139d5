"""The benchmarks' models: random weights with a 32,000-piece tokenizer, a Llama and an encoder-decoder."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

VOCABULARY = 32_000


def llama_58m(folder: Path, *, can_end: bool) -> Path:
    """Write 58 million parameters in bfloat16 to a folder, if they are not there.

    Random weights do not end a text. With `can_end` the row of the end-of-sequence token in the output layer is made
    large, so that most generations end at the first steps, as a tuned model's do.
    """
    if (folder / "model.safetensors").exists():
        return folder
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    if can_end:
        _lean_towards_the_end(model)
    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer(folder)
    model.save_pretrained(folder)
    return folder


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


def parameters(folder: Path) -> int:
    """How many weights the folder's model has."""
    from safetensors.torch import load_file

    return sum(int(weights.numel()) for weights in load_file(folder / "model.safetensors").values())


def _lean_towards_the_end(model: Any) -> None:
    """Make the final norm's output always have a common part, and the end token's row point along it."""
    import torch

    with torch.no_grad():
        hidden = model.config.hidden_size
        direction = torch.ones(hidden) / hidden**0.5
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.mul_(0.1)
            layer.self_attn.o_proj.weight.mul_(0.1)
        model.model.embed_tokens.weight.add_((0.05 * direction).to(torch.bfloat16))
        model.lm_head.weight[2] = (4 * direction).to(torch.bfloat16)


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
