"""The small models that are trained from nothing: what a preset of `harness/recipes/` says, tokenizer and weights."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from harness.errors import BadSetting

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
ENTRY = re.compile(r' "[^"]+"')


@dataclass(frozen=True)
class Recipe:
    """A preset."""

    family: Literal["llama", "t5"]
    """A decoder that goes on from its prompt, or an encoder-decoder like Flan-T5."""
    vocabulary: int
    """Tokens of the byte-level BPE."""
    entries: bool
    """Whether what stands in double quotes, with the blank before it and the comma behind, is a token besides."""
    hidden_size: int
    intermediate_size: int
    layers: int
    """Of an encoder-decoder, in each of the two."""
    heads: int
    context: int
    epochs: int
    batch: int
    grouped: bool
    """Whether rows of like length share a batch."""
    learning_rate: float
    warmup: float
    weight_decay: float
    initializer_range: float
    """For a t5, the factor of its own scheme."""
    prompt_weight: float
    """Of a token of the prompt in the loss, against 1 for the answer's; an encoder-decoder predicts no prompt."""
    answer_weight: float
    """Of the answer's first token."""

    @classmethod
    def load(cls, name: str) -> Recipe:
        folder = files("harness") / "recipes"
        known = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
        if name not in known:
            raise BadSetting(f"no recipe {name!r} to train from scratch; there is {', '.join(known)}")
        sections = tomllib.loads((folder / f"{name}.toml").read_text("utf-8"))
        return cls(**{key: value for section in sections.values() for key, value in section.items()})


def make_tokenizer(texts: Sequence[str], recipe: Recipe) -> Any:
    """Byte-level BPE: any text can be written with it, whatever it was trained on. A decoder's texts begin with BOS,
    those of an encoder-decoder end with EOS."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    entries = dict.fromkeys(entry for text in texts for entry in ENTRY.findall(text)) if recipe.entries else {}
    made.train_from_iterator((ENTRY.sub("", text) for text in texts) if recipe.entries else texts, trainer)
    both = (AddedToken(one, normalized=False, special=False) for entry in entries for one in (entry, entry + ","))
    made.add_tokens(list(both))
    around, special = ("$A </s>", EOS) if recipe.family == "t5" else (f"{BOS} $A", BOS)
    made.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=[(special, made.token_to_id(special))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=BOS, eos_token=EOS, pad_token=PAD, model_max_length=recipe.context
    )


def make_model(recipe: Recipe, tokenizer: Any) -> Any:
    """With random weights, by the seed that is set."""
    from transformers import LlamaForCausalLM, T5ForConditionalGeneration

    if recipe.family == "t5":
        return T5ForConditionalGeneration(_t5(recipe, tokenizer))
    return LlamaForCausalLM(_llama(recipe, tokenizer))


def _llama(recipe: Recipe, tokenizer: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        initializer_range=recipe.initializer_range,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _t5(recipe: Recipe, tokenizer: Any) -> Any:
    """Of the form of Flan-T5, whose feed-forward layers are gated; without its dropout, for a single pass."""
    from transformers import T5Config

    return T5Config(
        vocab_size=len(tokenizer),
        d_model=recipe.hidden_size,
        d_kv=recipe.hidden_size // recipe.heads,
        d_ff=recipe.intermediate_size,
        num_layers=recipe.layers,
        num_heads=recipe.heads,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        initializer_factor=recipe.initializer_range,
        tie_word_embeddings=True,
        decoder_start_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
