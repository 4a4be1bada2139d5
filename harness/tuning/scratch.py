"""A language model made from nothing: for tests, documentation and machines that reach no hub.

`harness tune --task T --from-scratch tiny` trains a tokenizer and a small Llama on a task's own training texts, and
with `tiny-t5` a small encoder-decoder; it saves an ordinary Hugging Face folder. The recipe says how much prompt,
answer and the answer's first token weigh in the loss, and whether every entry of a list is one token (`entries`), so
that a model too small to spell can still list: its answers are spelt right or not at all, and say nothing of spelling.
With `unlabelled` the texts are those that hold no preference label and no user of any split: a base for few-shot tuning
that cannot know the answers. A kill loses at most the steps since the last checkpoint; the same command goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import Any

from harness import __version__
from harness.errors import BadSetting
from harness.knobs import settings
from harness.progress import progress_bar
from harness.task import Task
from harness.tuning.rows import IGNORED
from harness.tuning.tiny import EOS, Recipe, make_model, make_tokenizer
from harness.tuning.workshop import Clock, last_whole_checkpoint, made_once, quiet_transformers, steps_to
from harness.types import Example

Row = dict[str, list[int] | list[float]]


def train_from_scratch(
    task: Task, recipe_name: str, out: Path, *, unlabelled: bool = False, seed: int = 0, threads: int | None = None
) -> dict[str, Any]:
    """Make the model and return its manifest. Does nothing if `out` holds the same model already."""
    recipe = Recipe.load(recipe_name)
    if unlabelled and recipe.family == "t5":
        raise BadSetting(f"{recipe_name} is an encoder-decoder, which learns answers; leave --unlabelled out")
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
        rows, curve = _train(texts, recipe, work, seed, threads)
        told = {"rows": rows, "dropped": len(texts) - rows, "loss": curve}
        return {**told, "seconds": clock.seconds, "harness": __version__}

    return made_once(out, asked, make)


def _train(
    texts: Sequence[Example], recipe: Recipe, work: Path, seed: int, threads: int | None
) -> tuple[int, list[dict[str, float]]]:
    """How many texts were short enough, and the loss over steps."""
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback, TrainingArguments, set_seed

    quiet_transformers()
    if threads is not None:
        torch.set_num_threads(threads)
    tokenizer = make_tokenizer([text.prompt + text.answer for text in texts], recipe)
    set_seed(seed)
    model = make_model(recipe, tokenizer)
    rows = Dataset.from_list(_rows(texts, tokenizer, recipe))
    arguments = TrainingArguments(
        output_dir=str(work / "checkpoints"),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        train_sampling_strategy="group_by_length" if recipe.grouped else "random",
        seed=seed,
        logging_steps=10,
        save_steps=50,
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = _trainer()(model=model, args=arguments, train_dataset=rows, data_collator=_padded(tokenizer))
    with progress_bar("training from scratch, steps", -(-len(rows) // recipe.batch) * recipe.epochs) as bar:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(steps_to(bar))
        trainer.train(resume_from_checkpoint=last_whole_checkpoint(work / "checkpoints"))
    model.save_pretrained(work / "made")
    tokenizer.save_pretrained(work / "made")
    history = trainer.state.log_history
    return len(rows), [{"step": entry["step"], "loss": entry["loss"]} for entry in history if "loss" in entry]


def _trainer() -> Any:
    """A Trainer whose loss weighs the tokens of a text, where rows say how; else it is the model's own."""
    import torch
    from transformers import Trainer

    class WeightedTrainer(Trainer):  # type: ignore[misc]  # its library is untyped
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            if "weight" not in inputs:
                outputs = model(**inputs)
                return (outputs.loss, outputs) if return_outputs else outputs.loss
            outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
            target, weight = inputs["input_ids"][:, 1:], inputs["weight"][:, 1:]
            losses = torch.nn.functional.cross_entropy(outputs.logits[:, :-1].transpose(1, 2), target, reduction="none")
            loss = (losses * weight).sum() / weight.sum()
            return (loss, outputs) if return_outputs else loss

    return WeightedTrainer


def _rows(texts: Sequence[Example], tokenizer: Any, recipe: Recipe) -> list[Row]:
    """The texts in tokens, without those that are longer than the context. BadSetting: nothing is left."""
    made = map(_pair if recipe.family == "t5" else _weighted, texts, repeat(tokenizer), repeat(recipe))
    kept = [row for row in made if all(len(ids) <= recipe.context for ids in row.values())]
    if not kept:
        raise BadSetting(f"all {len(texts)} training texts have more than the {recipe.context} tokens of the recipe")
    return kept


def _weighted(text: Example, tokenizer: Any, recipe: Recipe) -> Row:
    """Token ids of a text and their weights in the loss."""
    ids = tokenizer(text.prompt + text.answer + EOS).input_ids
    weight = [1.0] * len(ids)
    first = len(tokenizer(text.prompt).input_ids)
    if text.answer and first < len(ids):
        weight[:first] = [recipe.prompt_weight] * first
        weight[first] = recipe.answer_weight
    return {"input_ids": ids, "weight": weight}


def _pair(text: Example, tokenizer: Any, recipe: Recipe) -> Row:
    """What an encoder reads of a text, and what the decoder writes."""
    return {"input_ids": tokenizer(text.prompt).input_ids, "labels": tokenizer(text.answer).input_ids}


def _padded(tokenizer: Any) -> Any:
    """Rows to one batch: padding carries no weight, is no label, and is not looked at."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    filler = {"input_ids": tokenizer.pad_token_id, "weight": 0.0, "labels": IGNORED}

    def collate(rows: Sequence[Row]) -> dict[str, Any]:
        columns = {name: [torch.tensor(row[name]) for row in rows] for name in rows[0]}
        padded = {
            name: pad_sequence(column, batch_first=True, padding_value=filler[name]) for name, column in columns.items()
        }
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        mask = torch.arange(padded["input_ids"].shape[1]) < lengths[:, None]
        return {**padded, "attention_mask": mask.long()}

    return collate
