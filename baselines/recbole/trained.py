"""Trainings that are made once: under the harness's home, named by everything that decides their weights."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from baselines.recbole.child import Child
from baselines.recbole.job import EVERY_POSITION, JUDGES, MASKED, STATE, VERSION, Fit, Form, Recipe
from baselines.recbole.material import Material, material
from baselines.recbole.settings import LENGTH, Kind, Settings, property_defaults
from harness.data.home import home
from harness.errors import BadModel, BadSetting, NotApplicable
from harness.progress import late_bar
from harness.signature import describe, digest
from harness.task import Task
from harness.tuning.workshop import made_once
from harness.versions import versions

UNLABELLED = ("Pop", "Random", "ItemKNN", "AsymKNN", "EASE", "SLIMElastic", "ADMMSLIM", "NCEPLRec")
"""Models that count or solve what was met, and have no use for what was disliked."""


@dataclass(frozen=True)
class Plan:
    """A training, before it is made."""

    task: Task
    recipe: Recipe
    material: Material
    likes: bool


def plan(model: str, kind: Kind, task: Task, found: Settings) -> Plan:
    """What would be trained. NotApplicable where the task has not what the model learns from."""
    recipe = _recipe(model, kind, task, found)
    likes = found.own.likes == "tokens" and recipe.form == "labelled"
    learned = material(task, recipe.form == "labelled", likes, found.own.shots, recipe.options["seed"])
    return Plan(task, recipe, learned, likes)


def trained(wanted: Plan, threads: int | None) -> Path:
    """The folder of the trained model; trains it now if that has not been done."""
    asked = {**asdict(wanted.recipe), "likes": wanted.likes, "material": wanted.material.digest}
    asked |= {"kind": "recbole", "version": VERSION}
    out = home() / "baselines" / f"{wanted.recipe.model}-{digest(asked)}"

    def make(work: Path) -> dict[str, Any]:
        task = {"task": describe(wanted.task), "data": dict(wanted.task.data_digests())}
        return {**task, **_train(wanted, work, threads), "versions": versions()}

    made_once(out, asked, make)
    return out


def _recipe(model: str, kind: Kind, task: Task, found: Settings) -> Recipe:
    form = _form(model, kind, task) if found.own.form == "auto" else found.own.form
    if kind == "general" and form in ("prefixes", "windows"):
        raise BadSetting(f"form={form} is for sequential models, and {model} reads no history; leave it out")
    if kind == "sequential" and form == "pairs":
        raise BadSetting(f"form=pairs is for models that read no history, and {model} reads one; leave it out")
    limit = task.longest_history
    if limit is not None and found.options.get(LENGTH, 0) > limit:
        raise BadSetting(
            f"{LENGTH}={found.options[LENGTH]}, but the histories of this task have {limit} events at most"
        )
    if form == "labelled" and model in UNLABELLED:
        raise NotApplicable(f"{model} learns from what was met, and task {task.name!r} has labelled rows")
    if form == "windows" and model not in (*EVERY_POSITION, *MASKED):
        raise BadSetting(f"form=windows is for {', '.join((*EVERY_POSITION, *MASKED))}, not for {model}; leave it out")
    defaults = property_defaults(model)
    if form == "windows" and model in EVERY_POSITION and found.options.get("loss_type", "CE") != "CE":
        raise BadSetting(
            "form=windows is a cross-entropy over the catalogue; leave loss_type out, or say form=prefixes"
        )
    options = {"seed": defaults["seed"], **found.options}
    return Recipe(model, form, found.own.loss if form == "labelled" else "bce", options)


def _form(model: str, kind: Kind, task: Task) -> Form:
    first = next(iter(task.instances("train")), None)
    if first is not None and first.candidates is not None:
        return "labelled"
    if model in JUDGES:
        raise NotApplicable(
            f"{model} learns from labelled rows, and task {task.name!r} has none; form=prefixes samples some"
        )
    return "prefixes" if kind == "sequential" else "pairs"


def _train(wanted: Plan, work: Path, threads: int | None) -> dict[str, Any]:
    name = f"training {wanted.recipe.model}"
    if (work / STATE).exists():
        print(f"{name}: going on where it was stopped", file=sys.stderr)
    with late_bar(name) as step, Child(threads) as child:
        told: dict[str, Any] = child.ask(Fit(wanted.recipe, wanted.material, work), step)
    best = next((at for at in told["curve"] if at["epoch"] == told["best_epoch"]), None)
    said = f", the best with {told['valid_metric']} {best['score']:.4f} after {best['epoch'] + 1}" if best else ""
    print(f"{name}: {told['epochs']} epochs in {told['seconds']:.0f} s{said}", file=sys.stderr)
    return told


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a trained baseline. BadModel in one line where there is none."""
    try:
        found: dict[str, Any] = json.loads((folder / "harness.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BadModel(f"checkpoint:{folder} is no trained baseline: it has no harness.json that can be read") from None
    if not isinstance(found, dict) or found.get("kind") != "recbole":
        raise BadModel(f"checkpoint:{folder} is no trained baseline; a language model is given as --model {folder}")
    missing = [name for name in ("model.safetensors", "material.safetensors", "vocabulary.json")
               if not (folder / name).is_file()]  # fmt: skip
    if missing:
        raise BadModel(f"checkpoint:{folder} is not whole: {', '.join(missing)} is missing")
    if not isinstance(found.get("model"), str) or not isinstance(found.get("options"), dict):
        raise BadModel(f"checkpoint:{folder} is no trained baseline: its harness.json names no model and options")
    return found
