"""In what a run differs from the setting of a published number, as far as manifests say.

What a manifest does not say counts as a difference: a model of unknown size is not known to be the paper's. Each
difference begins with what differs, in one or two words, and ends with both values in brackets.

Papers tell next to nothing of how they trained their baselines, so ours stand beside them as their makers would train
them, and whatever was given by hand is a difference. What that is, is seen from the settings that a run recorded: those
that its group of baselines does not set by itself, for the same model, task and budget. A setting that was given and is
the library's own default is counted, too. Only where the group is not installed is the name of the model read instead,
which has what was given, but of a file of settings no more than its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, cast

from harness import registry
from harness.errors import BadData, HarnessError, StaleRun
from harness.model import ModelSettings
from harness.store import read_manifest
from harness.task import Task
from harness.tuning.recipe import find_recipe
from harness.types import Split
from leaderboard.collect import Entry
from leaderboard.published import DATA, SHOTS, Published, said

NEAR = 0.01
"""Of the parameters: an adapter that was merged, or a token that was added, leaves a model its size."""
OF_MACHINES = ("micro_batch", "precision", "quantize")
"""Fields of a recipe that say how a machine got through it, and not what was learned."""
OF_RUNS = ("shots", "seed", "budget")
"""Settings of a baseline that are no hyperparameters: K, a draw, and a share that is said by itself."""
OF_LENGTH = ("epochs", "max_steps", "train_steps", "stopping_step", "patience", "eval_step")
"""Those that say how long it is trained."""
OUTSIDE_BRACKETS = re.compile(r",\s+(?![^\[{]*[\]}])")


def is_of_family(number: Published, entry: Entry) -> bool:
    """Whether a run is of the kind of model that a number is of, whatever its size."""
    model = _table(entry.manifest.get("model"))
    if "baseline" not in model:
        return number.system.architecture is not None and model.get("architecture") == number.system.architecture
    group, name = model.get("engine"), _name(model)
    kinds = {f"{group}:{name}", f"recbole:{name}" if group == "checkpoint" else ""}
    return not kinds.isdisjoint(number.family)


def differences(number: Published, entry: Entry) -> list[str]:
    """Everything in which a run of the family differs from what the number needs; empty if nothing does."""
    manifest = entry.manifest
    found = list(number.apart)
    for what, theirs in (("task", number.task), ("split", number.split)):
        if (ours := manifest.get(what, "not said")) != theirs:
            found.append(_differ(what, ours, theirs))
    found += _data(number, manifest)
    found += _options(number.needs, _table(manifest.get("settings")), assumed=number.assumed)
    for option, wanted in number.stages.items():
        found += _stage(option, wanted, entry)
    ours = _table(manifest.get("model"))
    found += _of_baseline(number, manifest) if "baseline" in ours else _of_model(number, entry, ours)
    return found


def _table(value: Any) -> Mapping[str, Any]:
    """A table of a manifest; nothing is said where it is none."""
    return value if isinstance(value, Mapping) else {}


def _differ(what: str, ours: Any, theirs: Any) -> str:
    return f"{what} ({said(ours)}, the paper's {said(theirs)})"


def _data(number: Published, manifest: Mapping[str, Any]) -> Iterator[str]:
    settings, digests = _table(manifest.get("settings")), _table(manifest.get("data"))
    ours = next((settings[name] for name in DATA if name in settings), "not said")
    if ours not in number.data_sets:
        yield _differ("data", ours, " or ".join(number.data_sets))
        return
    for name, digest in number.digests.items():
        if digests.get(name) != digest:
            yield _differ(f"data: digest of {name}", digests.get(name, "not said"), digest)


def _options(
    wanted: Mapping[str, Sequence[str]], settings: Mapping[str, Any], of: str = "", assumed: Collection[str] = ()
) -> Iterator[str]:
    for name, values in wanted.items():
        ours = said(settings[name]) if name in settings else "not said"
        theirs = " or ".join(value or "none" for value in values)
        if ours not in values:
            in_words = f"{name} ({ours or 'none'}; the paper does not say, and {theirs} is asked)"
            yield in_words if name in assumed else _differ(of + name, ours or "none", theirs)


def _shots(number: Published, ours: int | None) -> Iterator[str]:
    if ours != number.shots:
        yield _differ(SHOTS, "all" if ours is None else ours, "all" if number.shots is None else number.shots)


def _of_baseline(number: Published, manifest: Mapping[str, Any]) -> Iterator[str]:
    settings = _table(manifest["model"].get("settings"))
    yield from _shots(number, settings.get("shots"))
    yield from _options(number.trained_with, settings, "hyperparameters: ")
    yield from _training(manifest, number.trained_with)


def _training(manifest: Mapping[str, Any], told: Collection[str] = ()) -> Iterator[str]:
    """Whether a baseline was trained as its makers do, apart from what its source has `told`."""
    model = manifest["model"]
    if model.get("engine") == "checkpoint":
        yield "training budget (not said of a checkpoint, the paper's full)"
        return
    budget = str(_table(model.get("settings")).get("budget", "full"))
    given = {name: text for name, text in _by_hand(manifest, budget).items() if name not in (*OF_RUNS, *told)}
    length = [budget] if budget != "full" else []
    length += [text for name, text in given.items() if name in OF_LENGTH]
    if length:
        yield _differ("training budget", ", ".join(length), "full")
    if others := [text for name, text in given.items() if name not in OF_LENGTH]:
        yield f"hyperparameters ({', '.join(others)})"


def _by_hand(manifest: Mapping[str, Any], budget: str) -> Mapping[str, str]:
    """Settings of a baseline that it does not have by itself, as `name=value`."""
    model, asked = manifest["model"], json.dumps(_table(manifest.get("settings")), sort_keys=True, default=str)
    split = str(manifest.get("split", "test"))
    usual = _usual(str(model.get("engine")), _name(model), str(manifest.get("task")), asked, split, budget)
    if usual is None:
        _, _, inside = str(model.get("name", "")).removesuffix(")").partition(" (")
        given = [part for part in OUTSIDE_BRACKETS.split(inside) if part]
        return {part.partition("=")[0]: part for part in given}
    ours = {name: said(value) for name, value in _table(model.get("settings")).items()}
    return {name: f"{name}={value}" for name, value in ours.items() if usual.get(name) != value}


@cache
def _usual(group: str, name: str, task: str, settings: str, split: str, budget: str) -> Mapping[str, str] | None:
    """The settings of a baseline where nothing is given but a budget; None where they cannot be had here."""
    try:
        given = {option: said(value) for option, value in json.loads(settings).items()}
        made: Task = registry.build(registry.task_kind(task), given, f"task {task!r}")
        if (known := registry.baseline_groups().get(group)) is None:
            return None
        words = ModelSettings({} if budget == "full" else {"budget": budget})
        found = known.find(name, made, cast(Split, split), words).who.get("settings")
    except HarnessError:
        return None
    return None if found is None else {option: said(value) for option, value in found.items()}


def _name(model: Mapping[str, Any]) -> str:
    """Of a baseline, within its group."""
    return str(model["baseline"]).rpartition(":")[2]


def _of_model(number: Published, entry: Entry, model: Mapping[str, Any]) -> Iterator[str]:
    system = number.system
    ours, theirs = model.get("parameters"), system.size
    if theirs is not None and (ours is None or abs(ours - theirs) > NEAR * theirs):
        yield _differ("size", "not said" if ours is None else f"{ours:,} parameters", f"{theirs:,}")
    tuned = _table(model.get("tuned"))
    names = " ".join(str(name) for name in (model.get("name", ""), tuned.get("base", ""))).lower()
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
    settings = tuned.get("settings")
    listed = [_table(one) for one in (settings if isinstance(settings, list) else [settings])] or [{}]
    if len(listed) > 1:
        yield _differ("tuning", f"on {len(listed)} at once", "on one")
    data = {name: number.data_sets for name in DATA if name in listed[0]}
    if not {*data, *system.tuned_with}.intersection(DATA):
        yield _differ("tuning: data", "not said", " or ".join(number.data_sets))
    yield from _options({**data, **system.tuned_with}, listed[0], "tuning: ")
    if system.after and not tuned.get("started_from"):
        yield f"tuning (not after another, the paper's after {system.after})"
    yield from _recipe(system.tuned, _table(tuned.get("recipe")))


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
    ours = said(_table(entry.manifest.get("settings")).get(option))
    found = [_beside(entry.path, digest.strip()) for digest in ours.split(",")]
    if any(manifest is None for manifest in found):
        yield _differ(option, ours or "none", f"a run of {wanted['model']}")
        return
    asked = {name: (value,) for name, value in wanted.items() if name != "model"}
    for manifest in (one for one in found if one is not None):
        model = _table(manifest.get("model"))
        if wanted["model"].lower() not in (name := str(model.get("name", "a model without a name"))).lower():
            yield _differ(option, f"by {name}", f"by {wanted['model']}")
        yield from _options(asked, _table(manifest.get("settings")), f"{option}: ")
        if "baseline" in model:
            yield from (f"{option}: {one}" for one in _training(manifest))


def _beside(run: Path, digest: str) -> Mapping[str, Any] | None:
    """The manifest of the run of this digest in the same folder of runs; None if it is not there to be read."""
    if not re.fullmatch(r"[0-9a-f]+", digest):
        return None
    for card in sorted(run.parent.parent.glob(f"*/{digest}/run.json")):
        try:
            return read_manifest(card.parent)
        except (StaleRun, BadData):
            return None
    return None
