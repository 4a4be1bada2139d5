"""The model that is tuned: a base in the precision of the recipe, with a new LoRA, one to go on from, or none."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import peft
import torch
from transformers import BitsAndBytesConfig, set_seed

from harness.engines.encode import load_tokenizer, one_line
from harness.engines.transformers import TransformersModel
from harness.engines.weights import load_adapters, load_weights
from harness.errors import BadModel, BadSetting
from harness.model import Adapter, Checkpoint, EngineOptions
from harness.tuning.recipe import Precision, Recipe


@dataclass(frozen=True)
class Trainable:
    """A model in memory that a Trainer can train."""

    checkpoint: Checkpoint
    """Its dtype is the one that the weights are held in."""
    tokenizer: Any
    model: Any
    precision: Precision
    """Of the computation; never `auto`."""

    def view(self) -> TransformersModel:
        """The same weights as an engine's: what the model would answer as it is now."""
        # Not peft's wrapper, whose forward has neither positions nor the choice of logits, and which accelerate makes
        # compute in mixed precision.
        model = self.model.get_base_model() if isinstance(self.model, peft.PeftModel) else self.model
        return TransformersModel(self.checkpoint, EngineOptions(), self.tokenizer, model)


def precision_of(recipe: Recipe) -> Precision:
    """The precision that this machine computes in. BadSetting: it cannot."""
    on_gpu = torch.cuda.is_available()
    if recipe.precision == "float16" and not on_gpu:
        raise BadSetting("precision=float16 needs a GPU, since its gradients need scaling; use bfloat16 or float32")
    if recipe.precision != "auto":
        return recipe.precision
    if not on_gpu:
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def prepare(checkpoint: Checkpoint, recipe: Recipe, adapter: Adapter | None, seed: int) -> Trainable:
    """Load the base and put on it what is trained. The same seed gives the same new LoRA."""
    precision = precision_of(recipe)
    held = _held(checkpoint, recipe, precision)
    tokenizer = load_tokenizer(held)
    model = load_weights(held, tokenizer, _quantization(recipe, precision))
    if recipe.method == "full":
        if adapter is not None:
            raise BadSetting("method=full trains every weight and cannot go on from an adapter; use method=lora")
        return Trainable(held, tokenizer, model, precision)
    if recipe.quantize != "none":
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    set_seed(seed)
    made = _new_lora(model, checkpoint, recipe) if adapter is None else _go_on(model, adapter, recipe)
    return Trainable(held, tokenizer, made, precision)


def reload(checkpoint: Checkpoint, recipe: Recipe, adapters: Sequence[Adapter]) -> TransformersModel:
    """What was saved, from disk, held as it was in training."""
    precision = precision_of(recipe)
    held = _held(checkpoint, recipe, precision)
    tokenizer = load_tokenizer(held)
    model = load_weights(held, tokenizer, _quantization(recipe, precision))
    names = {adapter.digest: f"adapter{place}" for place, adapter in enumerate(adapters)}
    wrapped = load_adapters(model, held, adapters, names)
    return TransformersModel(held, EngineOptions(), tokenizer, model, wrapped, names)


def _held(checkpoint: Checkpoint, recipe: Recipe, precision: Precision) -> Checkpoint:
    """A frozen base is held in the precision of the computation; weights that are trained themselves in float32."""
    return replace(checkpoint, dtype="float32" if recipe.method == "full" else precision)


def _quantization(recipe: Recipe, precision: Precision) -> Any:
    if recipe.quantize == "none":
        return None
    if recipe.method == "full":
        raise BadSetting("quantized weights cannot be trained; use method=lora, or quantize=none")
    if find_spec("bitsandbytes") is None:
        raise BadSetting(f"quantize={recipe.quantize} needs bitsandbytes; install it, or use quantize=none")
    if recipe.quantize == "4bit" and not torch.cuda.is_available():
        # bitsandbytes 0.50 repacks its 4-bit weights on a CPU at the first answer, and then answers by up to 2.6
        # nats differently: no proof that the saved model is the trained one could hold.
        raise BadSetting("quantize=4bit needs a GPU; on a CPU its answers are not reproducible: use 8bit or none")
    if recipe.quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, precision)
    )


def _new_lora(model: Any, checkpoint: Checkpoint, recipe: Recipe) -> Any:
    targets: Any = {"auto": None, "all": "all-linear"}.get(recipe.targets, _names(recipe))
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=targets,
        task_type="SEQ_2_SEQ_LM" if checkpoint.encoder_decoder else "CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="fan_in_fan_out"
            )  # peft corrects it by itself, for GPT-2's layers
            made = peft.get_peft_model(model, config)
    except ValueError as error:  # no module is called so, or peft knows no default
        raise BadSetting(
            f"targets={recipe.targets} does not suit {checkpoint.architecture} ({one_line(error)}); use targets=auto, "
            "targets=all, or name its modules"
        ) from None
    made.peft_config["default"].base_model_name_or_path = checkpoint.name
    return made


def _go_on(model: Any, adapter: Adapter, recipe: Recipe) -> Any:
    """An adapter's own weights and shape, trained on."""
    config = peft.PeftConfig.from_pretrained(adapter.folder)
    for name, theirs, ours in (("rank", config.r, recipe.rank), ("alpha", config.lora_alpha, recipe.alpha)):
        if theirs != ours:
            raise BadSetting(
                f"adapter {adapter.name} has {name} {theirs}, the recipe {ours}; say --set {name}={theirs}"
            )
    targets = config.target_modules if isinstance(config.target_modules, set) else {config.target_modules}
    wanted = {"auto": targets, "all": _linear(model)}.get(recipe.targets, set(_names(recipe)))
    if targets != wanted:
        has = ",".join(sorted(targets))
        raise BadSetting(
            f"adapter {adapter.name} has targets {has}, the recipe {recipe.targets}; say --set targets={has}"
        )
    config.lora_dropout = recipe.dropout
    config.inference_mode = False
    try:
        return peft.PeftModel.from_pretrained(model, adapter.folder, is_trainable=True, config=config)
    except Exception as error:  # whatever peft raises over a bad adapter
        raise BadModel(f"adapter {adapter.name} cannot be trained on: {one_line(error)}") from error


def _names(recipe: Recipe) -> list[str]:
    return [name.strip() for name in recipe.targets.split(",")]


def _linear(model: Any) -> set[str]:
    """What peft's `all-linear` means for a model: the names of its linear layers but the output layer."""
    head = model.get_output_embeddings()
    layers = ((name, layer) for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear))
    return {name.rpartition(".")[2] for name, layer in layers if layer is not head}
