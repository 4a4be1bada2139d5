"""RecBole's models on our instances: `--model recbole:SASRec`, and `--model checkpoint:DIR` for one that is trained.

    job, material, settings       plain data: what is asked, what is learned from, what is set
    trained, child, engine        the harness's side: made once, a process of its own, questions and answers
    worker, compat, fitting,      the side of that process: the only modules that import RecBole
    forms, rows, scoring, weights

Histories, cuts, masks, negatives and metrics are the task's, the same for every model. RecBole gives models, losses,
loaders, optimizers, and the validation that a training is selected by. Deviations from RecBole 1.2 as it ships are in
`compat` and, by name, in the settings: `form`, `loss`, `likes`, `cold`.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from baselines.recbole.job import VERSION
from baselines.recbole.settings import Kind, Own, check_options, model_names, require, resolve
from harness.errors import BadModel, BadSetting, NotApplicable
from harness.model import EngineOptions, ModelSettings
from harness.registry import Baseline, build
from harness.signature import describe
from harness.task import Task
from harness.types import Split

if TYPE_CHECKING:
    from baselines.recbole.engine import RecBoleEngine
    from baselines.recbole.material import Material

SAID: Mapping[str, str] = {
    "SASRec": "self-attention over the history",
    "GRU4Rec": "a recurrent network over the history",
    "BERT4Rec": "bidirectional self-attention, trained on masked items",
    "Caser": "convolutions over the last items",
    "NARM": "a recurrent network with attention",
    "FPMC": "factorised Markov chains",
    "CORE": "a weighted sum of the history's items in one space with the candidates",
    "LightSANs": "self-attention of low rank",
    "BPR": "matrix factorisation with a pairwise loss",
    "LightGCN": "embeddings propagated on the graph of users and items",
    "NeuMF": "matrix factorisation and a network together",
    "ItemKNN": "items that the same users met",
    "EASE": "a linear item-to-item model in closed form",
    "Pop": "how often an item was met",
    "DIN": "attention of the candidate on the history; learns from labels",
    "DIEN": "the same with evolving interests",
}
USERLESS = ("Pop", "Random")
"""General models whose answers are the same for a user that they have never seen."""


class RecBole:
    """The group `recbole:`."""

    names: Mapping[str, str] = {**SAID, "NAME": "any other model of RecBole's, with its defaults"}

    def find(self, name: str, task: Task, split: Split, settings: ModelSettings) -> Baseline:
        if name not in model_names():
            require(name)
        found = resolve(name, task, settings)
        who = {"baseline": name, "version": VERSION, "settings": found.identity}

        def make(options: EngineOptions) -> RecBoleEngine:
            from baselines.recbole.trained import plan, trained

            kind = require(name)
            wanted = plan(name, kind, task, found)
            _check_users(name, kind, wanted.material, task, split)
            return _engine(trained(wanted, options.threads), kind, task, found.own.cold, options)

        shown = [f"{key}={value}" for key, value in settings.given.items()]
        shown += [settings.file.name] if settings.file else []
        return Baseline(f"recbole:{name}" + (f" ({', '.join(shown)})" if shown else ""), who, make, trains=True)


class Checkpoint:
    """The group `checkpoint:`, whose names are folders."""

    names: Mapping[str, str] = {"DIR": "a trained baseline, such as one below the home's baselines/"}

    def find(self, name: str, task: Task, split: Split, settings: ModelSettings) -> Baseline:
        from baselines.recbole.trained import read

        folder = Path(name).expanduser().absolute()
        if not folder.is_dir():
            raise BadModel(f"no folder {name}; checkpoint: takes one that a training made")
        told = read(folder)
        strange = sorted({*settings.given} - {"cold"})
        if strange or settings.file:
            raise BadSetting(
                f"a checkpoint is trained already and takes cold=last alone; leave {strange or '--model-config'} out"
            )
        cold = build(Own, settings.given, f"model checkpoint:{name}").cold
        parts = [_hash(folder / part) for part in ("model.safetensors", "material.safetensors", "vocabulary.json")]

        def make(options: EngineOptions) -> RecBoleEngine:
            from baselines.recbole.stored import load_material

            kind = require(told["model"])
            try:
                check_options(told["model"], told["options"])
            except BadSetting as error:
                raise BadModel(f"checkpoint:{name} was not trained by this harness: {error}") from None
            learned = load_material(folder)
            _check_origin(name, told, learned, task)
            _check_users(told["model"], kind, learned, task, split)
            return _engine(folder, kind, task, cold, options)

        who = {
            "baseline": told["model"],
            "version": VERSION,
            "content": parts,
            "options": told["options"],
            "cold": cold,
        }
        return Baseline(f"checkpoint:{folder.name}", who, make)


recbole = RecBole()
checkpoint = Checkpoint()


def _check_users(name: str, kind: Kind, learned: Material, task: Task, split: Split) -> None:
    if kind == "sequential" or name in USERLESS:
        return
    users = {instance.user for instance in task.instances(split)}
    strange = len(users - learned.trained_users)
    if strange:
        raise NotApplicable(f"{name} needs users that it has met; {strange} of {len(users)} are in no training row")


def _check_origin(name: str, told: Mapping[str, Any], learned: Material, task: Task) -> None:
    """What it was trained on must be what this task trains on: other rows may hold this task's answers, and equal ids
    mean other things in other data."""
    if learned.labelled is not None:
        same = told["task"].partition("(")[0] == task.name and told["data"] == dict(task.data_digests())
    else:
        from baselines.recbole.material import material

        same = learned.interactions == material(task, False, False, None, 0).interactions
    if not same:
        raise BadModel(
            f"checkpoint:{name} was trained on {told['task']}, which has other training rows than {describe(task)}; "
            "the answers may be among them"
        )


def _engine(
    folder: Path, kind: Kind, task: Task, cold: Literal["model", "last"], options: EngineOptions
) -> RecBoleEngine:
    from baselines.recbole.engine import RecBoleEngine

    return RecBoleEngine(folder, cold, task.masks(kind == "sequential"), options.threads)


def _hash(path: Path) -> str:
    with path.open("rb") as content:
        return file_digest(content, "sha256").hexdigest()[:16]
