"""Scores made anew from the rows on record: when how a metric is aggregated, or how intervals are made, has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness import registry
from harness.errors import StaleRun
from harness.scoring import score
from harness.store import Run, read_manifest, read_scores
from harness.task import Task

SAME = 6
"""Digits in which two numbers are shown, unless they differ later."""


class Rescored(NamedTuple):
    """What came of it."""

    changed: tuple[str, ...]
    """As in `metrics.AUC.low: 0.62 to 0.63`; empty if the file is the same, byte for byte."""
    lacking: tuple[str, ...]
    """Metrics that the task has now, and the records have no rows of."""
    kept: tuple[str, ...]
    """Metrics that the task has no more; their entries stay as they were."""


def rescorable(path: Path) -> Task:
    """The task of a run whose scores can be made anew, built without its data.

    StaleRun: it is partial, has no answers, is of another version of the task, or has rows of none of its metrics.
    UnknownName, BadSetting: the task, or an option of it, is not there any more.
    """
    manifest, scores = read_manifest(path), read_scores(path)
    if scores is None:
        raise StaleRun(f"{path} is not complete, so it has no scores yet; give the command that made it again")
    if "not_applicable" in scores:
        raise StaleRun(f"{path} has no rows to score: {scores['not_applicable']}")
    kind = registry.task_kind(manifest["task"])
    if kind.version != manifest["version"]:
        raise StaleRun(
            f"{path} is of version {manifest['version']} of task {kind.name!r}, which has version {kind.version} now, "
            "so its rows may mean something else; run it again"
        )
    task = registry.build(kind, _as_text(manifest["settings"]), f"{path}: task {kind.name!r}")
    if not {metric.name for metric in task.metrics} & set(manifest["metrics"]):
        raise StaleRun(f"{path} has rows of none of the metrics of task {kind.name!r}; run it again")
    return task


def rescore(path: Path) -> Rescored:
    """Write `scores.json` anew, whole or not at all, if anything in it changes; what only the instances say stays.

    StaleRun: as `rescorable`, records were lost since, or another process has the run.
    """
    task, manifest, old = rescorable(path), read_manifest(path), read_scores(path) or {}
    known = [metric for metric in task.metrics if metric.name in manifest["metrics"]]
    lacking = [metric.name for metric in task.metrics if metric not in known]
    if task.metrics[0] not in known:
        known.sort(key=lambda metric: metric.name != old["headline"])
    chance = {name: found["chance"] for name, found in old["metrics"].items() if found and found["chance"] is not None}
    candidates = old.get("candidates")
    new = score(path, known, chance, task.strata, tuple(candidates) if candidates else None)
    if new["instances"] != old["instances"]:
        raise StaleRun(
            f"{path} has {new['instances']} records, and its scores are of {old['instances']}; give the command of the "
            "run again, and what is lost is asked again"
        )
    kept = {name: found for name, found in old["metrics"].items() if name not in {m.name for m in task.metrics}}
    new["metrics"] |= kept
    changed = tuple(_changes(old, new))
    if changed:
        with Run.open(path, manifest) as run:
            run.finish(new)
    return Rescored(changed, tuple(lacking), tuple(kept))


def _as_text(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings of a manifest as a command line gives them."""
    return {
        name: "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in settings.items()
    }


def _changes(old: Any, new: Any, where: str = "") -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            inside = f"{where}.{name}" if where else name
            if name not in new:
                yield f"{inside}: left out"
            elif name not in old:
                yield f"{inside}: new"
            else:
                yield from _changes(old[name], new[name], inside)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _changes(left, right, f"{where}[{place}]")
    elif old != new:
        yield f"{where}: {_said(old, new)}"


def _said(old: Any, new: Any) -> str:
    if isinstance(old, list | Mapping) or isinstance(new, list | Mapping):
        return "other parts" if old and new else "new" if new else "does not apply any more"
    if not isinstance(old, float) or not isinstance(new, float):
        return f"{_word(old)} to {_word(new)}"
    short = f"{old:.{SAME}g}", f"{new:.{SAME}g}"
    return " to ".join(short if short[0] != short[1] else (repr(old), repr(new)))


def _word(value: Any) -> str:
    return "none" if value is None else f"{value:.{SAME}g}" if isinstance(value, float) else str(value)
