"""How a model is fine-tuned, as data: a TOML file beside the task, one table for each budget.

    [paper]                 # the first table is the default, `budget=paper`
    learning_rate = 1e-4
    [ci]                    # `budget=ci`: the first table with these changes
    epochs = 5

Every field can be set on the command line, too: `--set learning_rate=3e-4`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness import registry
from harness.errors import BadSetting, NotApplicable
from harness.knobs import knob, knobs, settings
from harness.task import Task

Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Draw:
    """Which rows of the pool a model is tuned on."""

    shots: int | None = knob(None, "how many training rows, drawn by the seed; default: all", low=1)
    seed: int = knob(0, "draws the rows, and seeds the training unless training_seed is set", low=0)
    pool: Literal["train", "valid"] = knob(
        "train", "where rows come from; valid: every second user of that split, while the others validate"
    )


@dataclass(frozen=True)
class Recipe:
    """Every choice of a fine-tuning but the rows. The defaults are those of alpaca-lora, as far as it makes them."""

    method: Literal["lora", "full"] = knob("lora", "train an adapter, or every weight")
    rank: int = knob(8, "of the LoRA matrices", low=1)
    alpha: float = knob(16.0, "what the LoRA's output is multiplied by, over its rank", low=0)
    dropout: float = knob(0.05, "on the LoRA's input", low=0, high=0.99)
    targets: str = knob("auto", "modules that get a LoRA, with commas between; auto: peft's choice; all: every linear")

    learning_rate: float = knob(3e-4, "the highest", low=0)
    schedule: Literal["linear", "cosine", "constant"] = knob("linear", "of the learning rate, after the warm-up")
    warmup: float = knob(0.0, "steps until the highest learning rate; below 1, a share of all steps", low=0)
    weight_decay: float = knob(0.0, "of AdamW", low=0)
    max_grad_norm: float = knob(1.0, "longer gradients are cut to this norm", low=0)
    epochs: float = knob(3.0, "passes over the rows", low=0)
    max_steps: int | None = knob(None, "at most so many optimiser steps, however many epochs; default: no limit", low=1)
    batch: int = knob(128, "rows in one optimiser step, on all devices together", low=1)
    micro_batch: int = knob(32, "rows in one forward pass of one device", low=1)
    grouped: bool = knob(False, "rows of like length into one batch")
    training_seed: int | None = knob(None, "seeds initialisation, order and dropout; default: the seed of the draw")

    loss: Literal["text", "answer"] = knob("answer", "over prompt and answer, or the answer alone")
    context: int = knob(512, "longest text in tokens", low=2)
    overlong: Literal["drop", "cut"] = knob("drop", "leave longer texts out, or cut their end, which is the answer")

    selection: Literal["correct", "paper", "loss", "last"] = knob(
        "correct", "which checkpoint is kept: best by the task's headline metric, by the paper's own rule, by the loss "
        "on validation texts, or the last"
    )  # fmt: skip
    evaluate_steps: int = knob(10, "validate every so many steps, or", low=1)
    evaluate_epochs: float = knob(0.0, "every so many epochs, if that is more", low=0)
    patience: int | None = knob(None, "stop after so many validations without a better one; default: never", low=1)
    valid_rows: int | None = knob(None, "validate on so many rows, spread evenly; default: all", low=2)

    precision: Precision = knob("auto", "of the computation; auto: float32 on a CPU, bfloat16 or float16 on a GPU")
    quantize: Literal["none", "8bit", "4bit"] = knob("none", "how the frozen base is held (needs bitsandbytes)")


def find_recipe(task: Task, given: Mapping[str, str], file: Path | None = None) -> Recipe:
    """The recipe of a task, or of a file like it; `given` are fields as text, and `budget`, which names a table.

    Raises BadSetting for an unknown field, budget or value, and NotApplicable where the task has no recipe.
    """
    where = f"the recipe of task {task.name!r}" if file is None else str(file)
    tables = task.recipes if file is None else read_recipes(_read(file), where)
    if not tables and file is not None:
        raise BadSetting(f"{file} holds no recipe; give it a table of settings for each budget")
    if not tables:
        raise NotApplicable(f"task {task.name!r} brings no recipe; give a file with --recipe")
    chosen = dict(given)
    first = next(iter(tables))
    budget = chosen.pop("budget", first)
    if budget not in tables:
        raise BadSetting(registry.unknown(f"budget in {where}", budget, list(tables)))
    declared = {name: _text(value) for name, value in {**tables[first], **tables[budget]}.items()}
    return registry.build(Recipe, {**declared, **chosen}, where)


def read_recipes(text: str, where: str) -> Mapping[str, Mapping[str, Any]]:
    """Tables of a recipe file by name, in its order."""
    found = registry.read_toml(text, where)
    for name, table in found.items():
        if not isinstance(table, dict):
            raise BadSetting(f"{where}: {name} stands outside a table; write [paper], or another name, above it")
    return found


def split_settings(task: type[Task], given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Settings of the task and settings of the recipe. BadSetting: one that neither has."""
    of_task, of_recipe = {k.name for k in knobs(task)}, {"budget", *(k.name for k in knobs(Recipe))}
    for name in given:
        if name not in of_task | of_recipe:
            raise BadSetting(registry.unknown("setting of the task or its recipe", name, sorted(of_task | of_recipe)))
    return (
        {name: value for name, value in given.items() if name in of_task},
        {name: value for name, value in given.items() if name not in of_task},
    )


def recipe_toml(recipe: Recipe) -> str:
    """The recipe as a file that `--recipe` takes; fields that are none are left out."""
    lines = [f"{name} = {_toml(value)}" for name, value in settings(recipe).items() if value is not None]
    return "\n".join(["[recipe]", *lines]) + "\n"


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"--recipe {file} cannot be read: {error}") from None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
