"""From rows and a base to a saved model with its proof: the part of `harness tune` that needs torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.checkpoint import resolve, resolve_adapter
from harness.engines.encode import Encoder
from harness.engines.transformers import free_memory
from harness.errors import BadModel, HarnessError
from harness.knobs import settings
from harness.model import Adapter, Model
from harness.store import write_json
from harness.task import Task
from harness.tuning import proof
from harness.tuning.base import Trainable, precision_of, prepare, reload
from harness.tuning.rows import Drawn, Encoded, draw, encode, validating
from harness.tuning.selection import Validation, measure_of
from harness.tuning.spec import Base, Tuning
from harness.tuning.training import train
from harness.tuning.workshop import quiet_transformers
from harness.types import Example, Instance


@dataclass(frozen=True)
class Texts:
    """What goes into a training, before any model is loaded."""

    drawn: Sequence[Drawn]
    validating: Sequence[tuple[Task, Sequence[Instance], Sequence[Example]]]


@dataclass(frozen=True)
class Material:
    """The same in the tokens of a model."""

    rows: Sequence[Encoded]
    dropped: int
    validations: Sequence[Validation]


def train_and_save(
    tuning: Tuning, base: Base, work: Path, threads: int | None, say: Callable[[str], None], leads: bool = True
) -> dict[str, Any]:
    """Train, save the selected weights to `work/made`, and return what the manifest tells of it. A second call after
    a kill takes up what is there; every process of a training trains, the leading one saves."""
    done = work / "trained.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text())
        return found
    if threads is not None:
        torch.set_num_threads(threads)
    quiet_transformers()
    recipe, seed = tuning.recipe, tuning.training_seed
    texts = _texts(tuning)
    trainable = prepare(base.checkpoint, recipe, base.adapter, seed)
    material = _material(tuning, texts, trainable)
    counts = _counts(trainable.model)
    kept = f"{len(material.rows)} texts" + (f" ({material.dropped} too long)" if material.dropped else "")
    say(f"tuning {counts['trainable']:,} of {counts['parameters']:,} weights on {kept}, {trainable.precision}")
    measure = None
    if recipe.selection in ("correct", "paper"):
        measure = measure_of(material.validations, recipe, trainable, tuning.reads)
    metric = "loss" if measure is None else tuning.tasks[0].selector.name
    valid = [text for one in material.validations for text in one.texts]
    trained = train(trainable, material.rows, valid, measure, recipe, seed, work, metric)
    if not leads:
        return {}
    told = {
        "rows": [_told(task, drawn) for task, drawn in zip(tuning.tasks, texts.drawn, strict=True)],
        "dropped": material.dropped,
        **counts,
        "precision": trainable.precision,
        "loss": trained.loss,
        "validation": trained.validation,
        "selected": trained.selected,
        "seconds": trained.seconds,
        "answers": proof.answers(trainable.view(), None, tuning.reads, _probes(tuning)),
    }
    _save(trainable, work / "made")
    write_json(done, told)
    return told


def prove(tuning: Tuning, base: Base, made: Path, told: dict[str, Any]) -> dict[str, float]:
    """Read the saved model back, and compare what it answers with what the trained one and the base answered."""
    free_memory()  # of the model that was trained
    probes = _probes(tuning)
    precision = precision_of(tuning.recipe)
    if tuning.recipe.method == "full":
        saved = reload(resolve(Model("hf", str(made), trust=tuning.model.trust)), tuning.recipe, [])
        ours = proof.answers(saved, None, tuning.reads, probes)
        saved.close()
        plain = reload(base.checkpoint, tuning.recipe, [])
    else:
        adapter = _saved(made, base)
        plain = reload(base.checkpoint, tuning.recipe, [adapter])
        ours = proof.answers(plain, adapter, tuning.reads, probes)
    once, again = (proof.answers(plain, None, tuning.reads, probes) for _ in range(2))
    plain.close()
    return proof.compare(told["answers"], once, again, ours, precision)


def _saved(made: Path, base: Base) -> Adapter:
    try:
        return resolve_adapter(made, base.checkpoint)
    except BadModel as error:
        reason = str(error).replace(f"adapter {made}", "the tuned adapter")
        raise HarnessError(f"{reason}; it was not kept: raise the learning rate or the epochs") from None


def _texts(tuning: Tuning) -> Texts:
    recipe = tuning.recipe
    drawn = [draw(task, tuning.draw) for task in tuning.tasks]
    tasks = tuning.tasks if recipe.selection != "last" else ()
    return Texts(drawn, [(task, *validating(task, tuning.draw, recipe.valid_rows)) for task in tasks])


def _material(tuning: Tuning, texts: Texts, trainable: Trainable) -> Material:
    recipe, checkpoint = tuning.recipe, trainable.checkpoint
    encoder = Encoder(trainable.tokenizer, tuning.reads, checkpoint.name, checkpoint.encoder_decoder)
    end = trainable.tokenizer.eos_token_id

    def encoded(examples: Sequence[Example]) -> tuple[list[Encoded], int]:
        return encode(examples, encoder, recipe, end, checkpoint.encoder_decoder)

    rows, dropped = encoded([example for one in texts.drawn for example in one.examples])
    by_loss = recipe.selection != "correct"
    validations = [
        Validation(task, instances, encoded(examples)[0] if by_loss else [])
        for task, instances, examples in texts.validating
    ]
    return Material(rows, dropped, validations)


def _told(task: Task, drawn: Drawn) -> dict[str, Any]:
    """The record of which rows were drawn; all of them need no list."""
    everything = len(drawn.rows) == drawn.pool
    return {"settings": dict(settings(task)), "pool": drawn.pool, "drawn": "all" if everything else list(drawn.rows)}


def _probes(tuning: Tuning) -> Sequence[Example]:
    """Texts that a proof asks for: the first of the pool."""
    examples = tuning.tasks[0].examples(tuning.draw.pool)
    return [one for one, _ in zip(examples, range(proof.PROBES), strict=False)]


def _counts(model: Any) -> dict[str, int]:
    weights = list(model.parameters())
    trainable = sum(w.numel() for w in weights if w.requires_grad)
    return {"trainable": trainable, "parameters": sum(w.numel() for w in weights)}


def _save(trainable: Trainable, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    trainable.model.save_pretrained(folder)
    config = folder / "adapter_config.json"
    if config.exists():
        told = json.loads(config.read_text())
        told["target_modules"] = sorted(told["target_modules"])  # a set to peft: of another order in every process
        write_json(config, told)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty form of a model card
    else:
        trainable.tokenizer.save_pretrained(folder)
