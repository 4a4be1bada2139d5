"""Scores as the block of a Hugging Face model card that lists evaluations: `model-index`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness import __version__, registry
from harness.data.sources import source
from harness.errors import BadData, BadSetting, StaleRun, UnknownName
from harness.knobs import knobs
from harness.report import sample_badge
from harness.stats import LEVEL
from harness.store import plain_disk_errors, read_manifest, read_scores
from harness.task import Task

KEY = "model-index"
TYPES: Mapping[str, str] = {"AUC": "roc_auc"}
"""The hub's names of metrics, where they are not ours in small letters."""
WIDTH = 10_000
"""No line of YAML is broken."""
Result = dict[str, Any]


class Index(NamedTuple):
    """The evaluations of one model."""

    name: str
    results: list[Result]
    left_out: list[str]
    """What is n/a, and why."""


def index(paths: Sequence[Path], name: str | None = None, url: str | None = None) -> Index:
    """The evaluations of one model, one result for each run.

    `name` is the model's on the hub, by default the one that the runs have. The format has room for the name of a
    source only beside an address, so there is a source only with `url`. StaleRun: a run is partial or has no answers,
    or runs are of several models. BadSetting: two runs are of the same questions in the same protocol.
    """
    manifests = {path: read_manifest(path) for path in paths}
    _check_one_model(manifests)
    results, left_out = [], []
    for path, manifest in manifests.items():
        scores = read_scores(path)
        if scores is None:
            raise StaleRun(f"{path} is not complete; give the command that made it again, and export it then")
        if "not_applicable" in scores:
            left_out.append(f"{path} is left out, n/a: {scores['not_applicable']}")
            continue
        result, missing = _result(manifest, scores, url)
        results.append(result)
        left_out += [f"{path}: {metric} is left out: n/a" for metric in missing]
    if not results:
        raise StaleRun("none of the runs has answers, so there is nothing to export")
    return Index(name or _plain_name(next(iter(manifests.values()))), results, left_out)


def front_matter(found: Index) -> str:
    """The block as YAML between dashes, as it stands at the top of a model card."""
    from yaml import safe_dump

    block = safe_dump({KEY: [_entry(found.name, found.results)]}, sort_keys=False, allow_unicode=True, width=WIDTH)
    return f"---\n{block}---\n"


def write(card: Path, found: Index, renamed: bool) -> None:
    """Put it into the front matter of a model card, whole or not at all; a file that is not there is made.

    Results of the same questions in the same protocol are replaced, others stay, and so does everything below the
    front matter. `renamed` says that the name was asked for, and replaces that of the card. BadData: the card's front
    matter cannot be read.
    """
    from huggingface_hub import metadata_load, metadata_save
    from yaml import YAMLError

    try:
        data = (metadata_load(card) if card.exists() else None) or {}
    except (ValueError, YAMLError) as error:
        raise BadData(f"the front matter of {card} is no YAML mapping: {str(error).splitlines()[0]}") from None
    data[KEY] = _merged(data.get(KEY) or [], found, renamed, card)
    partial = card.with_name(card.name + ".partial")
    with plain_disk_errors(card):
        partial.write_bytes(card.read_bytes() if card.exists() else b"")
        metadata_save(partial, data)
        partial.replace(card)


def _merged(old: Any, found: Index, renamed: bool, card: Path) -> list[dict[str, Any]]:
    """The entries of a card, with ours in the one of our name, or in the only one."""
    try:
        entries = [_entry(one["name"], [*one["results"]]) for one in old]
        known = [[_about(result) for result in entry["results"]] for entry in entries]
    except (KeyError, TypeError, AttributeError):
        raise BadData(f"{KEY} in {card} is not a list of names and results; correct or delete it") from None
    place = next((n for n, one in enumerate(entries) if one["name"] == found.name), 0 if len(entries) == 1 else None)
    if place is None:
        return [*entries, _entry(found.name, found.results)]
    ours = {_about(result): result for result in found.results}
    kept = [ours.pop(about, was) for about, was in zip(known[place], entries[place]["results"], strict=True)]
    entries[place] = _entry(found.name if renamed else entries[place]["name"], [*kept, *ours.values()])
    return entries


def _entry(name: str, results: list[Result]) -> dict[str, Any]:
    return {"name": name, "results": results}


def _about(result: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the hub and we tell results apart by; not the content of the data, so that new numbers replace old ones."""
    data = result["dataset"]
    return result["task"]["type"], data["type"], data.get("config"), data.get("split")


def _check_one_model(manifests: Mapping[Path, Mapping[str, Any]]) -> None:
    first, *others = manifests
    asked: dict[tuple[str, str], Path] = {}
    for path, manifest in manifests.items():
        identity = manifest["identity"]
        before = asked.setdefault((identity["instances"], identity["protocol"]), path)
        if before != path:
            raise BadSetting(f"{before} and {path} asked the same questions in the same protocol; export one of them")
    for path in others:
        if _who(manifests[path]) != _who(manifests[first]):
            names = " and ".join(manifests[one]["model"]["name"] for one in (first, path))
            raise StaleRun(f"{first} and {path} are of two models, {names}; a model card is about one")


def _who(manifest: Mapping[str, Any]) -> tuple[Any, ...]:
    """Engine and precision may differ: the card is about the weights."""
    model = manifest["model"]
    return (model["weights"], model.get("adapter")) if "weights" in model else (model["name"],)


def _plain_name(manifest: Mapping[str, Any]) -> str:
    """Without engine and precision, and without the folders of this machine."""
    model = manifest["model"]
    if "weights" not in model:
        return str(model["name"])
    parts = re.sub(r" \([^()]*\)$", "", str(model["name"])).split(" + ")
    return " + ".join(Path(part).name if Path(part).is_absolute() or part.startswith(".") else part for part in parts)


def _result(manifest: Mapping[str, Any], scores: Mapping[str, Any], url: str | None) -> tuple[Result, list[str]]:
    """A run as a result, and its metrics that do not apply. Diagnostics are no scores, and left out without a word."""
    kind = _kind(manifest["task"])
    unasked = {metric.name for metric in kind.metrics if metric.diagnostic} if kind else set()
    named = {name: found for name, found in scores["metrics"].items() if name not in unasked}
    described = _described(manifest, kind)
    config = f"{described}, version {manifest['version']}{sample_badge(manifest)}"
    data = manifest.get("data", {})
    result: Result = {
        "task": {"type": "recommendation", "name": described},
        "dataset": {
            "name": " and ".join(map(_title, data)) or manifest["task"],
            "type": "+".join(data) or manifest["task"],
            "config": config,
            "split": manifest["split"],
            **({"revision": "+".join(map(str, data.values()))} if data else {}),
        },
        "metrics": [_metric(name, found) for name, found in named.items() if found and found["value"] is not None],
    }
    if url is not None:
        result["source"] = {"name": f"llmrec-harness {__version__}", "url": url}
    return result, [name for name, found in named.items() if not found or found["value"] is None]


def _metric(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    shown = {
        "low": found["low"],
        "high": found["high"],
        "level": LEVEL if found["low"] is not None else None,
        "method": found["method"],
        "units": f"{found['units']} {found['unit']}s",
        "instances": found["instances"],
        "chance": found["chance"],
    }
    return {
        "type": TYPES.get(name) or re.sub(r"\W+", "_", name.lower().replace("@", "_at_")).strip("_"),
        "value": found["value"],
        "name": name,
        "args": {what: value for what, value in shown.items() if value is not None},
        "verified": False,
    }


def _kind(task: str) -> type[Task] | None:
    try:
        return registry.task_kind(task)
    except UnknownName:
        return None


def _described(manifest: Mapping[str, Any], kind: type[Task] | None) -> str:
    """The task and the options that are not as usual; paths, which mean nothing elsewhere, are left out."""
    if kind is None:
        return str(manifest["described"])
    given = manifest["settings"]
    said = [
        f"{one.name}={given[one.name]}"
        for one in knobs(kind)
        if one.hashed and one.name in given and given[one.name] != one.default
    ]
    return str(manifest["task"]) + (f"({','.join(said)})" if said else "")


def _title(data: str) -> str:
    try:
        return source(data).title
    except UnknownName:
        return data
