"""Tiny random models in folders, for the tests of engines: real files, real tokenizers, no hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

CHAT = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
TITLES = ("Toy Story (1995)", "Toy Story 2 (1999)", "Heat (1995)", "The Matrix (1999)", "Alien (1979)", "Aliens (1986)")
CORPUS = [
    f"A user liked {one} and disliked {other}. Will the user enjoy it? Answer Yes or No.\nYes\nNo\n"
    for one in TITLES
    for other in TITLES
]
PROMPTS = tuple(
    f"The user liked {', '.join(TITLES[:n])}.\nWill the user enjoy {TITLES[n]}?\nAnswer:" for n in range(1, len(TITLES))
)


def bpe_tokenizer(folder: Path, *, chat: bool = False, end: bool = False, size: int = 512) -> Any:
    """A byte-level BPE of `size` tokens; it begins texts with <s>, or ends them with </s> as T5's do."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<pad>", "</s>", "<s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet)
    core.train_from_iterator(CORPUS, trainer)
    around = {"single": "$A </s>", "special_tokens": [("</s>", 1)]}
    if not end:
        around = {"single": "<s> $A", "special_tokens": [("<s>", 2)]}
    core.post_processor = processors.TemplateProcessing(**around)
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    if chat:
        wrapped.chat_template = CHAT
    wrapped.save_pretrained(folder)
    return wrapped


def llama(
    folder: Path, *, chat: bool = False, width: int = 128, layers: int = 2, vocabulary: int = 512, context: int = 512
) -> Path:
    """A Llama with random weights large enough that its probabilities differ, and a small BPE."""
    bpe_tokenizer(folder, chat=chat)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.08,
        bos_token_id=2,
        eos_token_id=1,
        pad_token_id=0,
        dtype="float32",
    )
    return _save(transformers.LlamaForCausalLM, config, folder)


def sentencepiece_llama(folder: Path) -> Path:
    """The same kind of Llama with a real tokenizer: 32,000 pieces, where `Yes` and `No` are one each."""
    import mistral_common

    folder.mkdir(parents=True, exist_ok=True)
    pieces = Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1"
    (folder / "tokenizer.model").write_bytes(pieces.read_bytes())
    transformers.LlamaTokenizer.from_pretrained(folder, add_bos_token=True).save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=32_000,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        dtype="float32",
    )
    return _save(transformers.LlamaForCausalLM, config, folder)


def t5(folder: Path) -> Path:
    """An encoder-decoder."""
    bpe_tokenizer(folder, end=True)
    config = transformers.T5Config(
        vocab_size=512,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
        dtype="float32",
    )
    return _save(transformers.T5ForConditionalGeneration, config, folder)


def lora(folder: Path, base: Path, *, seed: int = 0, zero: bool = False, rank: int = 8) -> Path:
    """A LoRA for `base`, with random second matrices, or with the zeros that training starts from."""
    torch.manual_seed(seed)
    auto = transformers.AutoModelForCausalLM
    if json.loads((base / "config.json").read_text()).get("is_encoder_decoder"):
        auto = transformers.AutoModelForSeq2SeqLM
    model = auto.from_pretrained(base, dtype=torch.float32)
    targets = ["q", "v"] if model.config.model_type == "t5" else ["q_proj", "v_proj", "down_proj"]
    made = peft.get_peft_model(model, peft.LoraConfig(r=rank, lora_alpha=16, target_modules=targets))
    if not zero:
        for name, weights in made.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weights, std=0.1)
    made.save_pretrained(folder)
    return folder


def _save(kind: Any, config: Any, folder: Path) -> Path:
    torch.manual_seed(1)
    model = kind(config)
    model.save_pretrained(folder)
    return folder
