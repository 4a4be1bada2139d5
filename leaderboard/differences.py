"""In what a run differs from the setting of a published number, as far as manifests say.

What a manifest does not say counts as a difference: a model of unknown size is not known to be the paper's. Each
difference begins with what differs, in one or two words, and ends with both values in brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from harness import registry
from harness.errors import StaleRun
from harness.store import read_manifest
from harness.task import Task
from harness.tuning.recipe import find_recipe
from leaderboard.collect import Entry
from leaderboard.published import DATA, SHOTS, Published, said

NEAR = 0.01
"""Of the parameters: an adapter that was merged, or a token that was added, leaves a model its size."""
OF_MACHINES = ("micro_batch", "precision", "quantize")
"""Fields of a recipe that say how a machine got through it, and not what was learned."""
SHORTENED = re.compile(r"\b((?:epochs|max_steps|train_steps)=\d+)")
"""A length of training that was given by hand, in the name of a baseline."""


def is_of_family(number: Published, entry: Entry) -> bool:
    """Whether a run is of the kind of model that a number is of, whatever its size."""
    model = entry.manifest["model"]
    if "baseline" not in model:
        return number.system.architecture is not None and model.get("architecture") == number.system.architecture
    group, name = model["engine"], str(model["baseline"]).rpartition(":")[2]
    kinds = {f"{group}:{name}", f"recbole:{name}" if group == "checkpoint" else ""}
    return not kinds.isdisjoint(number.family)


def differences(number: Published, entry: Entry) -> list[str]:
    """Everything in which a run of the family differs from what the number needs; empty if nothing does."""
    manifest = entry.manifest
    found = list(number.apart)
    found += [_differ("task", manifest["task"], number.task)] if manifest["task"] != number.task else []
    found += [_differ("split", manifest["split"], number.split)] if manifest["split"] != number.split else []
    found += _data(number, manifest)
    found += _options(number.needs, manifest["settings"])
    for option, wanted in number.stages.items():
        found += _stage(option, wanted, entry)
    found += _of_baseline(number, manifest["model"]) if "baseline" in manifest["model"] else _of_model(number, entry)
    return found


def _differ(what: str, ours: Any, theirs: Any) -> str:
    return f"{what} ({said(ours)}, the paper's {said(theirs)})"


def _data(number: Published, manifest: Mapping[str, Any]) -> Iterator[str]:
    ours = next((manifest["settings"][name] for name in DATA if name in manifest["settings"]), "not said")
    if ours not in number.data_sets:
        yield _differ("data", ours, " or ".join(number.data_sets))
        return
    for name, digest in number.digests.items():
        if manifest["data"].get(name) != digest:
            yield _differ(f"data: digest of {name}", manifest["data"].get(name, "not said"), digest)


def _options(wanted: Mapping[str, Sequence[str]], settings: Mapping[str, Any], of: str = "") -> Iterator[str]:
    for name, values in wanted.items():
        ours = said(settings[name]) if name in settings else "not said"
        if ours not in values:
            yield _differ(of + name, ours or "none", " or ".join(value or "none" for value in values))


def _shots(number: Published, ours: int | None) -> Iterator[str]:
    if ours != number.shots:
        yield _differ(SHOTS, "all" if ours is None else ours, "all" if number.shots is None else number.shots)


def _of_baseline(number: Published, model: Mapping[str, Any]) -> Iterator[str]:
    yield from _shots(number, model.get("settings", {}).get("shots"))
    yield from _budget(model)


def _budget(model: Mapping[str, Any]) -> Iterator[str]:
    """Whether a baseline was trained for as long as its makers do."""
    if model["engine"] == "checkpoint":
        yield "training budget (not said of a checkpoint, the paper's full)"
    budget = model.get("settings", {}).get("budget", "full")
    if budget != "full":
        yield _differ("training budget", budget, "full")
    elif given := SHORTENED.findall(model["name"]):
        yield _differ("training budget", ", ".join(given), "full")


def _of_model(number: Published, entry: Entry) -> Iterator[str]:
    model, system = entry.manifest["model"], number.system
    ours, theirs = model.get("parameters"), system.size
    if theirs is not None and (ours is None or abs(ours - theirs) > NEAR * theirs):
        yield _differ("size", "not said" if ours is None else f"{ours:,} parameters", f"{theirs:,}")
    tuned = model.get("tuned") or {}
    names = " ".join(str(name) for name in (model["name"], tuned.get("base", ""))).lower()
    if system.named and not any(name in names for name in system.named):
        yield _differ("weights", "not said to be of that name", " or ".join(system.named))
    if system.chosen and (entry.chosen is None or entry.chosen.option != system.chosen):
        yield f"choice ({system.chosen} was given, the paper's was chosen on validation)"
    yield from _tuning(number, model, tuned)


def _tuning(number: Published, model: Mapping[str, Any], tuned: Mapping[str, Any]) -> Iterator[str]:
    system = number.system
    if system.tuned is None:
        if tuned or model.get("adapter"):
            yield _differ("tuning", tuned.get("task", "an adapter"), "none")
        return
    if tuned.get("task") != system.tuned:
        yield _differ("tuning", tuned.get("task", "none that is known"), system.tuned)
        if not tuned and number.shots is not None:
            yield _differ(SHOTS, 0, number.shots)
        return
    yield from _shots(number, tuned.get("shots"))
    if tuned.get("pool", "train") != "train":
        yield _differ("training rows", f"of the {tuned['pool']} split", "of the train split")
    settings = tuned["settings"] if isinstance(tuned["settings"], list) else [tuned["settings"]]
    if len(settings) > 1:
        yield _differ("tuning", f"on {len(settings)} at once", "on one")
    data = {name: number.data_sets for name in DATA if name in settings[0]}
    yield from _options({**data, **system.tuned_with}, settings[0], "tuning: ")
    if system.after and not tuned.get("started_from"):
        yield f"tuning (not after another, the paper's after {system.after})"
    yield from _recipe(system.tuned, tuned.get("recipe", {}))


def _recipe(task: str, ours: Mapping[str, Any]) -> Iterator[str]:
    theirs = _declared(task)
    apart = [name for name, value in theirs.items() if name not in ours or ours[name] != value]
    if apart:
        yield f"recipe ({', '.join(apart)})"


@cache
def _declared(task: str) -> Mapping[str, Any]:
    """What the first recipe of a task, which is the paper's as far as it tells one, says of learning."""
    made: Task = registry.build(registry.task_kind(task), {}, f"task {task!r}")
    return {
        name: value
        for name, value in asdict(find_recipe(made, {})).items()
        if name in next(iter(made.recipes.values())) and name not in OF_MACHINES
    }


def _stage(option: str, wanted: Mapping[str, str], entry: Entry) -> Iterator[str]:
    """The runs that a setting names by their digests lie beside this one, task by task."""
    ours = said(entry.manifest["settings"].get(option))
    found = [_beside(entry.path, digest.strip()) for digest in ours.split(",")]
    if any(manifest is None for manifest in found):
        yield _differ(option, ours or "none", f"a run of {wanted['model']}")
        return
    for manifest in (one for one in found if one is not None):
        model = manifest["model"]
        if wanted["model"].lower() not in model["name"].lower():
            yield _differ(option, f"by {model['name']}", f"by {wanted['model']}")
        yield from _options(
            {name: (value,) for name, value in wanted.items() if name != "model"}, manifest["settings"], f"{option}: "
        )
        if "baseline" in model:
            yield from (f"{option}: {one}" for one in _budget(model))


def _beside(run: Path, digest: str) -> Mapping[str, Any] | None:
    """The manifest of the run of this digest in the same folder of runs; None if it is not there to be read."""
    if not re.fullmatch(r"[0-9a-f]+", digest):
        return None
    for card in sorted(run.parent.parent.glob(f"*/{digest}/run.json")):
        try:
            return read_manifest(card.parent)
        except StaleRun:
            return None
    return None
