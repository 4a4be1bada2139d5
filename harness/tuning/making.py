"""From rows and a base to a saved model with its proof: the part of `harness tune` that needs torch."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.checkpoint import resolve, resolve_adapter
from harness.engines.encode import Encoder
from harness.errors import HarnessError
from harness.knobs import settings
from harness.model import Model
from harness.store import write_json
from harness.task import Task
from harness.tuning import proof
from harness.tuning.base import Trainable, precision_of, prepare, reload
from harness.tuning.rows import Drawn, Encoded, draw, encode, validating
from harness.tuning.selection import Measure, Validation, measure_of
from harness.tuning.spec import Base, Tuning
from harness.tuning.training import Trained, train
from harness.tuning.workshop import quiet_transformers
from harness.types import Example

SAME = {"float32": 1e-4, "bfloat16": 5e-3, "float16": 5e-3}
"""How far the selected checkpoint's metric may lie from what was measured when it was written."""


@dataclass(frozen=True)
class Material:
    """What goes into a training."""

    drawn: Sequence[Drawn]
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
    trainable = prepare(base.checkpoint, recipe, base.adapter, seed)
    material = _material(tuning, trainable)
    counts = _counts(trainable.model)
    kept = f"{len(material.rows)} texts" + (f" ({material.dropped} too long)" if material.dropped else "")
    say(f"tuning {counts['trainable']:,} of {counts['parameters']:,} weights on {kept}, {trainable.precision}")
    measure = None
    if recipe.selection in ("correct", "paper"):
        measure = measure_of(material.validations, recipe, trainable, tuning.reads)
    metric = "loss" if measure is None else tuning.tasks[0].metrics[0].name
    valid = [text for one in material.validations for text in one.texts]
    trained = train(trainable, material.rows, valid, measure, recipe, seed, work, metric)
    if not leads:
        return {}
    trainable.model.eval()
    _check_selected(trained, measure, SAME["float16" if recipe.quantize != "none" else trainable.precision])
    told = {
        "rows": [_told(task, drawn) for task, drawn in zip(tuning.tasks, material.drawn, strict=True)],
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
    gc.collect()
    probes = _probes(tuning)
    precision = precision_of(tuning.recipe)
    if tuning.recipe.method == "full":
        saved = reload(resolve(Model("hf", str(made))), tuning.recipe, [])
        plain = reload(base.checkpoint, tuning.recipe, [])
        ours = proof.answers(saved, None, tuning.reads, probes)
    else:
        adapter = resolve_adapter(made, base.checkpoint)
        plain = reload(base.checkpoint, tuning.recipe, [adapter])
        ours = proof.answers(plain, adapter, tuning.reads, probes)
    once, again = (proof.answers(plain, None, tuning.reads, probes) for _ in range(2))
    return proof.compare(told["answers"], once, again, ours, precision)


def _material(tuning: Tuning, trainable: Trainable) -> Material:
    recipe, checkpoint = tuning.recipe, trainable.checkpoint
    encoder = Encoder(trainable.tokenizer, tuning.reads, checkpoint.name, checkpoint.encoder_decoder)
    end = trainable.tokenizer.eos_token_id

    def encoded(examples: Sequence[Example]) -> tuple[list[Encoded], int]:
        return encode(examples, encoder, recipe, end, checkpoint.encoder_decoder)

    drawn = [draw(task, tuning.draw) for task in tuning.tasks]
    rows, dropped = encoded([example for one in drawn for example in one.examples])
    validations = []
    for task in tuning.tasks if recipe.selection != "last" else ():
        instances, examples = validating(task, tuning.draw, recipe.valid_rows)
        validations.append(Validation(task, instances, encoded(examples)[0] if recipe.selection != "correct" else []))
    return Material(drawn, rows, dropped, validations)


def _check_selected(trained: Trained, measure: Measure | None, tolerance: float) -> None:
    """The weights in memory must be the selected ones: where they are not loaded, libraries only warn."""
    if measure is None:
        return
    value, wanted = measure(), trained.selected["value"]
    if abs(value - wanted) > tolerance:
        raise HarnessError(
            f"the best checkpoint was not loaded: it scored {wanted:.4f} when it was written, and {value:.4f} now"
        )


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
    if (folder / "adapter_config.json").exists():
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty form of a model card
    else:
        trainable.tokenizer.save_pretrained(folder)
