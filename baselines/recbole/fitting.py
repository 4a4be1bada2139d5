"""One training with RecBole's own loaders, trainer and evaluator; it survives a kill at any moment.

After a validation, everything that the next epoch depends on is written: weights, optimizer, the three random
generators that RecBole draws from and the one that shuffles. A training that goes on ends with the same weights as one
that was never disturbed.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.recbole.forms import model_class
from baselines.recbole.job import STATE, Fit, Recipe
from baselines.recbole.rows import dataset
from baselines.recbole.settings import property_defaults
from baselines.recbole.stored import save_material
from baselines.recbole.weights import other_parameters, restore_other_parameters, save_weights

Tell = Callable[[int, int], None]
"""Is told steps done, and steps in all if nothing stops it early."""


@dataclass
class Course:
    """Where a training is."""

    epoch: int = -1
    """The last that was validated."""
    best_epoch: int = -1
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    """Before this process took it up."""
    best: dict[str, Any] = field(default_factory=dict)
    """Weights and other parameters of the best epoch."""


def configuration(recipe: Recipe, longest: int, folder: Path) -> Any:
    """RecBole's Config for a recipe; everything about data and evaluation is ours."""
    from recbole.config import Config
    from recbole.utils import ModelType

    kind = model_class(recipe.model, recipe.form, recipe.loss)
    sequential = kind.type == ModelType.SEQUENTIAL
    defaults = property_defaults(recipe.model)
    given = {
        "data_path": "/nowhere",
        "checkpoint_dir": str(folder / "recbole"),
        "show_progress": False,
        # What keeps RecBole on a CPU is this; its use_gpu does not.
        "gpu_id": "0" if torch.cuda.is_available() else "",
        "repeatable": sequential,
        "MAX_ITEM_LIST_LENGTH": longest,
        **ranking_or_labels(recipe),
        **recipe.options,
    }
    loss = given.get("loss_type", defaults.get("loss_type"))
    if recipe.form == "labelled" or recipe.model == "Pop" or (sequential and loss == "CE"):
        given.setdefault("train_neg_sample_args", None)
    return Config(model=kind, dataset="harness", config_dict=given)


def ranking_or_labels(recipe: Recipe) -> dict[str, Any]:
    """What a training is selected by."""
    if recipe.form == "labelled":
        mode = {"valid": "labeled", "test": "labeled"}
        chosen: dict[str, Any] = {"metrics": ["AUC", "LogLoss"], "valid_metric": "AUC"}
    else:
        mode = {"valid": "full", "test": "full"}
        chosen = {"metrics": ["Hit", "NDCG", "MRR"], "topk": [10], "valid_metric": "NDCG@10"}
    return {**chosen, "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": mode}}


def fit(job: Fit, tell: Tell) -> dict[str, Any]:
    """Train, keep the weights of the best validation in `job.folder / "made"`, and return what is worth telling."""
    from recbole.data import data_preparation
    from recbole.utils import get_trainer, init_seed

    config = configuration(job.recipe, job.material.longest, job.folder)
    init_seed(config["seed"], config["reproducibility"])
    train, valid, _ = data_preparation(config, dataset(config, job.material, job.recipe.form))
    init_seed(config["seed"], config["reproducibility"])
    model = model_class(job.recipe.model, job.recipe.form, job.recipe.loss)(config, train._dataset)
    model = model.to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    state = job.folder / STATE
    course = Course()
    if state.exists():
        course = _take_up(torch.load(state, weights_only=True), trainer, train)
    began = time.monotonic()
    _count_steps(model, len(train), course.epoch + 1, trainer.epochs, tell)
    if course.epoch + 1 < trainer.epochs and trainer.cur_step <= trainer.stopping_step:
        trainer.start_epoch = course.epoch + 1
        after = _after_validation(trainer, train, course, job, began)
        trainer.fit(train, valid, saved=False, show_progress=False, callback_fn=after)
    if course.best:
        model.load_state_dict(course.best["weights"])
        restore_other_parameters(model, course.best["others"])
    made = job.folder / "made"
    made.mkdir(exist_ok=True)
    save_weights(made, model)
    save_material(made, job.material)
    return {
        "curve": course.curve,
        "best_epoch": course.best_epoch,
        "epochs": max([course.epoch, *trainer.train_loss_dict]) + 1,
        "valid_metric": config["valid_metric"],
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(course.seconds + time.monotonic() - began, 1),
        "device": str(config["device"]),
        "threads": torch.get_num_threads(),
    }


def _after_validation(trainer: Any, train: Any, course: Course, job: Fit, began: float) -> Callable[[int, float], None]:
    before, written = course.seconds, time.monotonic()

    def after(epoch: int, score: float) -> None:
        nonlocal written
        now = time.monotonic()
        course.epoch = epoch
        loss = trainer.train_loss_dict[epoch] / len(train)
        at = {"epoch": epoch, "loss": float(loss), "score": float(score), "seconds": round(before + now - began, 2)}
        course.curve.append(at)
        if trainer.cur_step == 0:
            course.best_epoch = epoch
            weights = {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}
            course.best = {"weights": weights, "others": other_parameters(trainer.model)}
        if now - written >= job.every:
            written = now
            _write(job.folder / STATE, trainer, train, course, before + now - began)

    return after


def _write(state: Path, trainer: Any, train: Any, course: Course, seconds: float) -> None:
    version, keys, *rest = np.random.get_state()
    content = {
        "course": {**vars(course), "seconds": seconds},
        "stopping": [trainer.cur_step, float(trainer.best_valid_score)],
        "weights": trainer.model.state_dict(),
        "others": other_parameters(trainer.model),
        "optimizer": trainer.optimizer.state_dict(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [version, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": random.getstate(),
        "shuffle": train.generator.get_state(),
    }
    partial = state.with_name(f"{state.name}.{os.getpid()}")
    torch.save(content, partial)
    partial.replace(state)


def _take_up(content: dict[str, Any], trainer: Any, train: Any) -> Course:
    trainer.model.load_state_dict(content["weights"])
    restore_other_parameters(trainer.model, content["others"])
    trainer.optimizer.load_state_dict(content["optimizer"])
    trainer.cur_step, trainer.best_valid_score = content["stopping"]
    torch.set_rng_state(content["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(content["cuda"])
    version, keys, *rest = content["numpy"]
    np.random.set_state((version, keys.numpy().astype(np.uint32), *rest))
    random.setstate(content["python"])
    train.generator.set_state(content["shuffle"])
    return Course(**content["course"])


def _count_steps(model: Any, steps: int, epoch: int, epochs: int, tell: Tell) -> None:
    """Tell of every step, by way of the loss that each of them asks for."""
    done, loss = epoch * steps, model.calculate_loss

    def counted(*given: Any) -> Any:
        nonlocal done
        done += 1
        tell(done, epochs * steps)
        return loss(*given)

    model.calculate_loss = counted
