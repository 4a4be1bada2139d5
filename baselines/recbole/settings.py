"""What is set of a RecBole model: our own few words, and every option that RecBole knows.

Options come, the later before the earlier, from RecBole's own defaults, from our presets for the task, from the file of
`--model-config` and from `--model-set`. A settings file is a list; what stands above it is for every model:

    [[settings]]
    models = ["SASRec"]             # all, if left out
    when = {dataset = "ml-100k"}    # of a task with these settings
    budget = "ci"                   # only if `--model-set budget=ci` is said, or `budget = "ci"` above the list
    source = "..."                  # where the numbers come from
    learning_rate = 0.001
    form = "windows"
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from harness.errors import BadModel, BadSetting, NotApplicable
from harness.knobs import knob, knobs, settings
from harness.model import ModelSettings
from harness.registry import build, task_kinds, unknown
from harness.task import Task

Kind = Literal["sequential", "general"]
LENGTH = "MAX_ITEM_LIST_LENGTH"
SELECTORS = ("models", "when", "budget", "source")
OURS = frozenset(
    (
        *("data_path", "checkpoint_dir", "show_progress", "save_dataset", "save_dataloaders", "dataset_save_path"),
        *("dataloaders_save_path", "gpu_id", "use_gpu", "worker", "eval_args", "repeatable", "benchmark_filename"),
        *("load_col", "unload_col", "log_wandb", "wandb_project", "state", "dataset", "field_separator"),
        *("seq_separator", "USER_ID_FIELD", "ITEM_ID_FIELD", "LABEL_FIELD", "RATING_FIELD", "TIME_FIELD"),
        *("LIST_SUFFIX", "ITEM_LIST_LENGTH_FIELD", "NEG_PREFIX"),
    )
)
"""Options about data, files, devices and evaluation: the task and the harness decide them."""
FEATURED = ("FDSA", "GRU4RecF", "GRU4RecKG", "KSR", "S3Rec", "SASRecF")
"""Sequential models that read features of items."""


@dataclass(frozen=True)
class Own:
    """What the harness decides about a training, in place of RecBole."""

    budget: Literal["full", "ci"] = knob("full", "how long to train: as RecBole does, or a share that a CPU can bear")
    form: Literal["auto", "prefixes", "windows", "pairs", "labelled"] = knob(
        "auto", "rows: prefixes (RecBole's), windows (SASRec, GRU4Rec: a loss everywhere; BERT4Rec), pairs, labelled"
    )
    loss: Literal["bce", "mse"] = knob("bce", "of labelled rows, on the sigmoid of the candidate's score")
    likes: Literal["ignored", "tokens"] = knob(
        "ignored", "in labelled rows: disliked items of a history read as others"
    )
    shots: int | None = knob(None, "labelled rows to draw, by the seed, as pandas' DataFrame.sample does", low=1)
    cold: Literal["model", "last"] = knob("model", "items that no training row has: as first weights say, or last")


@dataclass(frozen=True)
class Settings:
    own: Own
    options: Mapping[str, Any]
    """RecBole's, where they are not its defaults."""

    @property
    def identity(self) -> dict[str, Any]:
        return {**settings(self.own), **self.options}


def model_names() -> dict[str, Literal["sequential", "general", "other"]]:
    """Every model of the installed RecBole and its kind; empty where there is none. RecBole is not imported."""
    root = _root()
    if root is None:
        return {}
    kinds: dict[str, Literal["sequential", "general", "other"]] = {}
    for path in sorted((root / "properties" / "model").glob("*.yaml")):
        for kind in ("sequential", "general"):
            if (root / "model" / f"{kind}_recommender" / f"{path.stem.lower()}.py").exists():
                kinds[path.stem] = kind
        kinds.setdefault(path.stem, "other")
    return kinds


def property_defaults(model: str) -> dict[str, Any]:
    """RecBole's own defaults for a model: its property files, without importing it."""
    root = _root()
    assert root is not None
    found: dict[str, Any] = {}
    for path in (root / "properties" / "overall.yaml", root / "properties" / "model" / f"{model}.yaml",
                 root / "properties" / "dataset" / "sample.yaml"):  # fmt: skip
        if path.exists():
            found |= deepcopy(_property_file(path))
    return found


def _dataset_options() -> set[str]:
    """How RecBole reads and filters files, which none of is done here; the length of a history is another matter."""
    root = _root()
    assert root is not None
    return {*_property_file(root / "properties" / "dataset" / "sample.yaml")} - {LENGTH}


@cache
def _property_file(path: Path) -> dict[str, Any]:
    """One of RecBole's, which take longer to parse than all else here, and a grid asks for every cell."""
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def resolve(model: str, task: Task, given: ModelSettings) -> Settings:
    """All settings of a model on a task. BadSetting in one line for a name or value that there is not."""
    words = {name: _value(text) for name, text in given.given.items()}
    general, own_tables = given.tables()
    for table in own_tables:
        _check_selectors(table, f"--model-config {given.file}")
    budget = str(words.get("budget", general.get("budget", "full")))
    presets = [table for table in _built_in(task) if _applies(table, model, task, budget)]
    chosen = [*presets, general, *(table for table in own_tables if _applies(table, model, task, budget))]
    if budget != "full" and not any(table.get("budget") == budget for table in chosen):
        raise BadSetting(
            f"model recbole:{model}: no budget {budget!r} is declared for it on {task.name!r}; say epochs=N"
        )
    merged: dict[str, Any] = {}
    for table in chosen:
        merged |= {name: value for name, value in table.items() if name not in SELECTORS}
        if table in presets and LENGTH in merged and task.longest_history is not None:
            merged[LENGTH] = min(merged[LENGTH], task.longest_history)
    merged |= {**words, "budget": budget}
    known = {k.name for k in knobs(Own)}
    own = build(Own, {k: _text(v) for k, v in merged.items() if k in known}, f"model recbole:{model}")
    options = {name: value for name, value in merged.items() if name not in known}
    check_options(model, options, known)
    return Settings(own, dict(sorted(options.items())))


def check_options(model: str, options: Mapping[str, Any], own: Collection[str] = ()) -> None:
    """Nothing, if these are settings of RecBole's that may be said of a model; BadSetting in one line for the first
    that is not. `own` are the harness's, which may be meant by a misspelt name."""
    defaults, refused = property_defaults(model), OURS | _dataset_options()
    for name, value in options.items():
        if name in refused:
            raise BadSetting(f"model recbole:{model}: {name} is the task's or the harness's to decide; leave it out")
        if name not in defaults:
            raise BadSetting(
                unknown(
                    f"setting of model recbole:{model}",
                    name,
                    sorted({*defaults, *own} - refused),
                )
            )
        wanted = defaults[name]
        if not _plain(value):
            raise BadSetting(f"model recbole:{model}: {name}={value} should be a number, a word, a list or a table")
        number = isinstance(wanted, (int, float)) and not isinstance(wanted, bool)
        if number and (not isinstance(value, (int, float)) or isinstance(value, bool)):
            raise BadSetting(f"model recbole:{model}: {name}={value!r} should be a number, as in {name}={wanted}")
        if isinstance(wanted, int) and not isinstance(wanted, bool) and not isinstance(value, int):
            raise BadSetting(f"model recbole:{model}: {name}={value!r} should be a whole number, as in {name}={wanted}")
        if (name == "seed" and not 0 <= value < 2**32) or (name == LENGTH and value < 1):
            raise BadSetting(f"model recbole:{model}: {name}={value} is out of range")
        if isinstance(wanted, bool) and not isinstance(value, bool):
            raise BadSetting(f"model recbole:{model}: {name}={value!r} should be true or false")


def _built_in(task: Task) -> Iterator[dict[str, Any]]:
    for file in (files("baselines.recbole") / "presets").iterdir():
        content = tomllib.loads(file.read_text("utf-8"))
        if task.name in content["tasks"]:
            yield from content["settings"]


def _check_selectors(table: Mapping[str, Any], where: str) -> None:
    models, when, known = table.get("models", []), table.get("when", {}), sorted(model_names())
    if not isinstance(models, list) or not isinstance(when, dict):
        raise BadSetting(f'{where}: models should be a list, as in ["SASRec"], and when a table, as in {{k_core = 5}}')
    for model in models:
        if model not in known:
            raise BadSetting(f"{where}: " + unknown("model", str(model), known))
    options = sorted({knob.name for kind in task_kinds().values() for knob in knobs(kind)})
    for name in when:
        if name not in options:
            raise BadSetting(f"{where}: " + unknown("option of any task", name, options))


def _applies(table: Mapping[str, Any], model: str, task: Task, budget: str) -> bool:
    ours = settings(task)
    return (
        model in table.get("models", [model])
        and all(ours.get(name) == value for name, value in table.get("when", {}).items())
        and table.get("budget", budget) == budget
    )


def _value(text: str) -> Any:
    """`0.001`, `true`, `none`, `[64, 32]`, or a word."""
    try:
        return json.loads(text)
    except ValueError:
        return None if text.lower() in ("none", "null", "~") else text


def _plain(value: Any) -> bool:
    """Whether JSON has a word for it, as digests need."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def _root() -> Path | None:
    found = find_spec("recbole")
    return Path(next(iter(found.submodule_search_locations))) if found and found.submodule_search_locations else None


def require(model: str) -> Kind:
    """The kind of a model. BadModel: there is none of this name. NotApplicable: it needs more than users and items."""
    names = model_names()
    if not names:
        raise BadModel("recbole is not installed; pip install 'llmrec-harness[baselines]'")
    if model not in names:
        raise BadModel(unknown("model", f"recbole:{model}", [f"recbole:{name}" for name in names]))
    kind = names[model]
    if kind == "other" or model in FEATURED:
        raise NotApplicable(f"{model} needs features or a knowledge graph, and no task gives it any")
    return kind
