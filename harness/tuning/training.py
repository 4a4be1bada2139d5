"""The training itself, by the Trainer of transformers: steps, validations, checkpoints, and the best one at the end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME

from harness.errors import HarnessError
from harness.progress import progress_bar
from harness.tuning.base import Trainable
from harness.tuning.plan import Plan
from harness.tuning.recipe import Recipe
from harness.tuning.rows import Encoded
from harness.tuning.selection import Measure
from harness.tuning.workshop import Clock, last_whole_checkpoint, steps_to

SAME = {"float32": 1e-4, "bfloat16": 5e-3, "float16": 5e-3}
"""How far the selected checkpoint's metric may lie from what was measured when it was written."""


@dataclass(frozen=True)
class Trained:
    """What a training leaves behind, besides the weights."""

    loss: Sequence[dict[str, float]]
    validation: Sequence[dict[str, float]]
    selected: dict[str, Any]
    seconds: float


def train(
    trainable: Trainable,
    rows: Sequence[Encoded],
    valid: Sequence[Encoded],
    measure: Measure | None,
    recipe: Recipe,
    seed: int,
    work: Path,
    metric: str,
) -> Trained:
    """Train in place, from the last checkpoint in `work` if there is one, and load the selected weights.

    `measure` is the selection metric; None where the Trainer's own loss over `valid` is it, or nothing is selected.
    """
    together = torch.distributed.is_initialized()
    first = not together or torch.distributed.get_rank() == 0
    # Without a launcher the Trainer takes every device that it sees.
    devices = torch.distributed.get_world_size() if together else max(1, torch.cuda.device_count())
    plan = Plan.of(recipe, len(rows), devices)
    clock = Clock(work)
    trainer = _trainer(measure, metric)(
        model=trainable.model,
        args=_arguments(recipe, plan, seed, work, metric, trainable),
        train_dataset=_dataset(rows),
        eval_dataset=_dataset(valid),
        data_collator=_collator(trainable),
        callbacks=[_LastStep(recipe.selection != "last"), _Note(clock if first else None)],
    )
    if recipe.selection != "last" and recipe.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(recipe.patience))
    trainer.remove_callback(PrinterCallback)
    with PartialState().main_process_first():  # it removes what was half written
        checkpoint = last_whole_checkpoint(work / "checkpoints", say=first)
    bar = progress_bar("tuning, steps", plan.steps) if first else nullcontext()
    with bar as shown:
        if shown is not None:
            trainer.add_callback(steps_to(shown))
        _go_on(trainer, checkpoint)
    _check_selected(trainer, recipe, metric, trainable)
    # Of accelerate's mixed precision: from now on the model computes as it will when it is read from disk.
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    trainable.model.eval()
    return _outcome(trainer, recipe, metric, clock)


def _go_on(trainer: Any, checkpoint: str | None) -> None:
    """Train from the checkpoint, or just load the selected weights if it is the end of the training.

    Given a training that has ended, the Trainer would forget that it had, and take one step more.
    """
    if checkpoint is not None:
        state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        if state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]:
            trainer.state = state
            trainer._load_from_checkpoint(state.best_model_checkpoint or checkpoint)
            trainer.accelerator.prepare_model(trainer.model, evaluation_mode=True)  # its precision, for the check
            return
    trainer.train(resume_from_checkpoint=checkpoint)


def _check_selected(trainer: Any, recipe: Recipe, metric: str, trainable: Trainable) -> None:
    """The weights in memory must be the selected ones: where they are not loaded, libraries only warn."""
    if recipe.selection == "last":
        return
    history, wanted = list(trainer.state.log_history), trainer.state.best_metric
    value = trainer.evaluate()[f"eval_{metric}"]
    trainer.state.log_history = history  # this was no validation of the training's
    if abs(value - wanted) > SAME["float16" if recipe.quantize != "none" else trainable.precision]:
        raise HarnessError(
            f"the best checkpoint was not loaded: it scored {wanted:.4f} when it was written, and {value:.4f} now"
        )


def _outcome(trainer: Any, recipe: Recipe, metric: str, clock: Clock) -> Trained:
    history = trainer.state.log_history
    validation = [{"step": e["step"], metric: e[f"eval_{metric}"]} for e in history if f"eval_{metric}" in e]
    selected: dict[str, Any] = {"by": recipe.selection, "step": trainer.state.global_step}
    if recipe.selection != "last":
        value = trainer.state.best_metric
        selected |= {"metric": metric, "value": value, "step": trainer.state.best_global_step}
    loss = [{"step": e["step"], "loss": e["loss"], "learning_rate": e["learning_rate"]} for e in history if "loss" in e]
    return Trained(loss, validation, selected, clock.seconds)


def _arguments(recipe: Recipe, plan: Plan, seed: int, work: Path, metric: str, trainable: Trainable) -> Any:
    selecting = recipe.selection != "last"
    return TrainingArguments(
        output_dir=str(work / "checkpoints"),
        num_train_epochs=recipe.epochs,
        max_steps=plan.steps,
        per_device_train_batch_size=plan.micro,
        gradient_accumulation_steps=plan.accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(recipe.schedule, recipe.schedule),
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        optim="adamw_torch",
        bf16=trainable.precision == "bfloat16",
        fp16=trainable.precision == "float16",
        seed=seed,
        train_sampling_strategy="group_by_length" if recipe.grouped else "random",
        eval_strategy="steps" if selecting else "no",
        eval_steps=plan.every,
        save_strategy="steps",
        save_steps=plan.every,
        save_total_limit=1,
        load_best_model_at_end=selecting,
        metric_for_best_model=metric if selecting else None,
        greater_is_better=recipe.selection != "loss" if selecting else None,
        restore_callback_states_from_checkpoint=True,
        logging_steps=max(1, plan.steps // 200),
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
    )


def _trainer(measure: Measure | None, metric: str) -> Any:
    """A Trainer that validates by our measure, on the first device; the others wait for what it says."""
    if measure is None:
        return Trainer
    ask: Measure = measure

    class Measured(Trainer):  # type: ignore[misc]  # its library is untyped
        control: Any

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            value = [0.0]
            if self.is_world_process_zero():
                self.model.eval()
                # What validation draws must not change what training draws next.
                with torch.random.fork_rng():
                    value = [ask()]
            metrics = {f"eval_{metric}": broadcast_object_list(value)[0]}
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    return Measured


class _LastStep(TrainerCallback):  # type: ignore[misc]  # its library is untyped
    """The last step is validated and saved whatever the interval is."""

    def __init__(self, selecting: bool) -> None:
        self.selecting = selecting

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_save = True
            control.should_evaluate = self.selecting


class _Note(TrainerCallback):  # type: ignore[misc]  # its library is untyped
    """Keeps the time spent beside each checkpoint."""

    def __init__(self, clock: Clock | None) -> None:
        self.clock = clock

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.clock is not None:
            self.clock.note()


def _dataset(rows: Sequence[Encoded]) -> Any:
    return Dataset.from_list([{"input_ids": row.ids, "labels": row.labels} for row in rows])


def _collator(trainable: Trainable) -> Any:
    """Pads ids and labels on the right; labels of padding are left out of the loss."""
    tokenizer = trainable.tokenizer
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = trainable.model if trainable.checkpoint.encoder_decoder else None
    return DataCollatorForSeq2Seq(tokenizer, model=model, padding=True)
