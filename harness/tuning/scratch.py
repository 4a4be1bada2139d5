"""A language model made from nothing: for tests, documentation and machines that reach no hub.

`harness tune --task T --from-scratch tiny` trains a tokenizer and a small Llama on a task's own training texts and
saves an ordinary Hugging Face folder. The recipe says how much prompt, answer and the answer's first token weigh in
the loss, and whether every entry of a list is one token (`entries`), so that a model too small to spell can still list:
its answers are spelt right or not at all, and say nothing of spelling. With `unlabelled` the texts are those that hold
no preference label and no user of any split: a base for few-shot tuning that cannot know the answers.
A kill loses at most the steps since the last checkpoint; the same command goes on.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from harness import __version__
from harness.errors import BadSetting
from harness.knobs import settings
from harness.progress import progress_bar
from harness.task import Task
from harness.tuning.workshop import Clock, last_whole_checkpoint, made_once, quiet_transformers, steps_to
from harness.types import Example

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
ENTRY = re.compile(r' "[^"]+"')


@dataclass(frozen=True)
class Recipe:
    """A preset of `harness/recipes/`."""

    vocabulary: int
    """Tokens of the byte-level BPE."""
    entries: bool
    """Whether what stands in double quotes, with the blank before it and the comma behind, is a token besides."""
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    context: int
    epochs: int
    batch: int
    learning_rate: float
    warmup: float
    weight_decay: float
    initializer_range: float
    prompt_weight: float
    """Of a token of the prompt in the loss, against 1 for the answer's."""
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


def train_from_scratch(
    task: Task, recipe_name: str, out: Path, *, unlabelled: bool = False, seed: int = 0, threads: int | None = None
) -> dict[str, Any]:
    """Make the model and return its manifest. Does nothing if `out` holds the same model already."""
    recipe = Recipe.load(recipe_name)
    asked = {
        "made_by": f"harness tune --from-scratch {recipe_name}",
        "task": task.name,
        "version": task.version,
        "settings": dict(settings(task)),
        "data": dict(task.data_digests()),
        "texts": "unlabelled" if unlabelled else "train",
        "recipe": asdict(recipe),
        "seed": seed,
    }

    def make(work: Path) -> dict[str, Any]:
        texts = [Example(text, "") for text in task.unlabelled()] if unlabelled else list(task.examples("train"))
        clock = Clock(work)
        curve = _train(texts, recipe, work, seed, threads)
        return {"rows": len(texts), "loss": curve, "seconds": clock.seconds, "harness": __version__}

    return made_once(out, asked, make)


def _train(
    texts: Sequence[Example], recipe: Recipe, work: Path, seed: int, threads: int | None
) -> list[dict[str, float]]:
    import torch
    from datasets import Dataset
    from transformers import LlamaForCausalLM, PrinterCallback, Trainer, TrainingArguments, set_seed

    quiet_transformers()
    if threads is not None:
        torch.set_num_threads(threads)
    tokenizer = _tokenizer([text.prompt + text.answer for text in texts], recipe)
    set_seed(seed)
    model = LlamaForCausalLM(_config(recipe, tokenizer))
    rows = Dataset.from_list(_weighted(texts, tokenizer, recipe))
    arguments = TrainingArguments(
        output_dir=str(work / "checkpoints"),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        seed=seed,
        logging_steps=10,
        save_steps=50,
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
    )

    class WeightedTrainer(Trainer):  # type: ignore[misc]  # its library is untyped
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
            target, weight = inputs["input_ids"][:, 1:], inputs["weight"][:, 1:]
            losses = torch.nn.functional.cross_entropy(outputs.logits[:, :-1].transpose(1, 2), target, reduction="none")
            loss = (losses * weight).sum() / weight.sum()
            return (loss, outputs) if return_outputs else loss

    trainer = WeightedTrainer(model=model, args=arguments, train_dataset=rows, data_collator=_padded(tokenizer))
    with progress_bar("training from scratch, steps", -(-len(rows) // recipe.batch) * recipe.epochs) as bar:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(steps_to(bar))
        trainer.train(resume_from_checkpoint=last_whole_checkpoint(work / "checkpoints"))
    model.save_pretrained(work / "made")
    tokenizer.save_pretrained(work / "made")
    return [{"step": entry["step"], "loss": entry["loss"]} for entry in trainer.state.log_history if "loss" in entry]


def _weighted(texts: Sequence[Example], tokenizer: Any, recipe: Recipe) -> list[dict[str, list[float]]]:
    """Token ids of each text and their weights in the loss."""
    rows = []
    for text in texts:
        ids = tokenizer(text.prompt + text.answer + EOS).input_ids
        if len(ids) > recipe.context:
            raise BadSetting(f"a training text has {len(ids)} tokens, and the recipe's context is {recipe.context}")
        weight = [1.0] * len(ids)
        first = len(tokenizer(text.prompt).input_ids)
        if text.answer and first < len(ids):
            weight[:first] = [recipe.prompt_weight] * first
            weight[first] = recipe.answer_weight
        rows.append({"input_ids": ids, "weight": weight})
    return rows


def _padded(tokenizer: Any) -> Any:
    """Rows to one batch: padding carries no weight."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def collate(rows: Sequence[dict[str, list[float]]]) -> dict[str, Any]:
        ids = [torch.tensor(row["input_ids"], dtype=torch.long) for row in rows]
        weights = [torch.tensor(row["weight"]) for row in rows]
        weight = pad_sequence(weights, batch_first=True)
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id),
            "attention_mask": (weight > 0).long(),
            "weight": weight,
        }

    return collate


def _tokenizer(texts: Sequence[str], recipe: Recipe) -> Any:
    """Byte-level BPE: any text can be written with it, whatever it was trained on."""
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
    made.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, made.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=BOS, eos_token=EOS, pad_token=PAD, model_max_length=recipe.context
    )


def _config(recipe: Recipe, tokenizer: Any) -> Any:
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
