"""Runs of the same instances, side by side: paired differences, the instances that changed most, what does not pair.

A side is one run, or several that differ in the seed; its score is their mean. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness import registry
from harness.errors import NotApplicable, StaleRun, UnknownName
from harness.knobs import knobs
from harness.metrics import MeanMetric, Metric, Rows, Users
from harness.paired import Contrast, contrast, holm
from harness.points import AUC, UserAUC
from harness.scoring import aligned
from harness.store import Record, read_manifest, read_scores, records

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Two sides that answered the same instances, ours first."""

    sides: tuple[tuple[Path, ...], tuple[Path, ...]]
    instances: int
    differences: Mapping[str, Contrast]
    """Ours minus theirs, by metric; one that has no value on a side is left out."""
    diagnostics: frozenset[str]
    """Those that describe answers and say not which side is better: left out of the correction."""
    gaps: Mapping[str, float]
    """The largest absolute difference of each fact, such as a log-probability, where each side is one run."""


class Flip(NamedTuple):
    """What one instance adds to the score of each side, from 0 to 1 for most metrics."""

    instance: str
    user: str
    ours: float
    theirs: float
    """Means over the runs of a side."""
    failed: str
    """Why a run of either side has no answer; empty if all have."""

    @property
    def change(self) -> float:
        return self.ours - self.theirs


def compare(ours: Path, theirs: Path, metrics: Mapping[str, Metric]) -> Comparison:
    """Compare two complete runs. StaleRun: as `compare_sides`."""
    return compare_sides([ours], [theirs], metrics)


def compare_sides(ours: Sequence[Path], theirs: Sequence[Path], metrics: Mapping[str, Metric]) -> Comparison:
    """Compare the mean of some complete runs with that of others.

    StaleRun: one is partial or has no answers, or they did not answer the same instances, and in what they differ.
    """
    check_pairing([*ours, *theirs])
    tables = aligned([*ours, *theirs], list(metrics.values()))
    made = {
        name: contrast(metrics[name], rows[: len(ours)], rows[len(ours) :], users)
        for name, (rows, users) in tables.items()
    }
    return Comparison(
        sides=(tuple(ours), tuple(theirs)),
        instances=sum(1 for _ in records(ours[0])),
        differences={name: one for name, one in made.items() if isfinite(one.value)},
        diagnostics=frozenset(name for name in made if metrics[name].diagnostic),
        gaps=_gaps(ours[0], theirs[0]) if len(ours) == len(theirs) == 1 else {},
    )


def corrected(comparisons: Sequence[Comparison]) -> list[dict[str, float]]:
    """For each, its p-values by metric after Holm's correction for all of them together, without the diagnostics."""
    tested = [
        (place, name, one.p)
        for place, each in enumerate(comparisons)
        for name, one in each.differences.items()
        if name not in each.diagnostics
    ]
    found: list[dict[str, float]] = [{} for _ in comparisons]
    for (place, name, _), adjusted in zip(tested, holm([p for _, _, p in tested]), strict=True):
        found[place][name] = adjusted
    return found


def check_pairing(paths: Sequence[Path], *, protocol: bool = False) -> list[Manifest]:
    """The manifests of complete runs of the same instances, and of the same `protocol` if that is asked for.

    StaleRun: one of them is not, and why.
    """
    manifests: list[Manifest] = [_complete(path) for path in paths]
    for path, manifest in zip(paths, manifests, strict=True):
        if found := differences(manifests[0], manifest, protocol=protocol):
            raise StaleRun(f"{paths[0]} and {path} do not pair, since they differ in {'; '.join(found)}")
    return manifests


def differences(ours: Manifest, theirs: Manifest, *, protocol: bool = False) -> list[str]:
    """In what two manifests' questions differ, as in `split: test and valid`; empty if they are the same questions.

    With `protocol` also in how these are put and judged: a prompt's wording, an earlier stage. Never in who answers.
    """
    same = ("instances", "protocol") if protocol else ("instances",)
    if all(ours["identity"][what] == theirs["identity"][what] for what in same):
        return []
    if ours["task"] != theirs["task"]:
        return [f"task: {ours['task']} and {theirs['task']}"]
    found = list(_differing(_questions(ours, protocol), _questions(theirs, protocol)))
    return found or [f"what their {'prompts or metrics' if protocol else 'questions'} were made from"]


def flips(ours: Sequence[Path], theirs: Sequence[Path], metric: Metric, count: int) -> list[Flip]:
    """The `count` instances that changed most between two sides, the largest change first; equal ones by their ids.

    StaleRun: as `compare_sides`. NotApplicable: no single instance has a part in this metric.
    """
    check_pairing([*ours, *theirs])
    runs = [{record.id: record for record in records(path)} for path in (*ours, *theirs)]
    common = [name for name in sorted(runs[0]) if all(run[name].rows.get(metric.name) is not None for run in runs)]
    codes: dict[str, int] = {}
    users = np.array([codes.setdefault(runs[0][name].user, len(codes)) for name in common], dtype=np.int64)
    parts = [parts_of(metric, np.array([run[name].rows[metric.name] for name in common]), users) for run in runs]
    if not common or all(np.isnan(part).all() for part in parts):
        raise NotApplicable(f"{metric.name} is no sum over instances, so none of them can be said to have changed it")
    left, right = (np.mean(side, axis=0) for side in (parts[: len(ours)], parts[len(ours) :]))
    changes = np.abs(left - right)
    changed = np.flatnonzero(changes > 0)
    chosen = changed[np.lexsort((changed, -changes[changed]))][:count]
    return [
        Flip(common[place], runs[0][common[place]].user, float(left[place]), float(right[place]), _failed(found))
        for place in chosen
        for found in [[run[common[place]] for run in runs]]
    ]


def parts_of(metric: Metric, rows: Rows, users: Users) -> NDArray[np.float64]:
    """What each instance adds to a score, (instances,); nan where it has no part in it.

    For an AUC that is the share of the instances with the other label that it is ordered right with, ties half.
    """
    if isinstance(metric, MeanMetric):
        return rows[:, 0]
    found = np.full(len(rows), nan)
    if isinstance(metric, AUC | UserAUC):
        groups = users if isinstance(metric, UserAUC) else np.zeros_like(users)
        for group in np.unique(groups):
            inside = groups == group
            found[inside] = _placements(rows[inside])
    elif metric.resampled:
        for place in range(len(rows)):
            found[place] = metric.aggregate(rows[place : place + 1], users[place : place + 1])
    return found


def _placements(rows: Rows) -> NDArray[np.float64]:
    """Rows as of a `PointMetric`; an instance without an answer is ordered wrong with all."""
    liked, answered = rows[:, 0] > 0, rows[:, 2] > 0
    score = np.where(answered, rows[:, 1], np.where(liked, -np.inf, np.inf))
    found = np.full(len(rows), nan)
    for own, sign in ((liked, 1.0), (~liked, -1.0)):
        others = np.sort(sign * score[~own])
        if len(others):
            below, up_to = (np.searchsorted(others, sign * score[own], side) for side in ("left", "right"))
            found[own] = (below + up_to) / (2 * len(others))
    return found


def _failed(found: Sequence[Record]) -> str:
    return "; ".join(dict.fromkeys(f"{one.failure}: {one.reason}" for one in found if one.failure is not None))


def _gaps(ours: Path, theirs: Path) -> dict[str, float]:
    known = {record.id: record.facts for record in records(theirs) if record.facts}
    gaps: dict[str, float] = {}
    for record in records(ours):
        facts = known.get(record.id, {})
        for fact in record.facts.keys() & facts.keys():
            gaps[fact] = max(gaps.get(fact, 0.0), abs(record.facts[fact] - facts[fact]))
    return gaps


def _complete(path: Path) -> dict[str, Any]:
    manifest = read_manifest(path)
    scores = read_scores(path)
    if scores is None:
        raise StaleRun(f"{path} is not complete; run its command again first")
    if "not_applicable" in scores:
        raise StaleRun(f"{path} has no answers to compare: {scores['not_applicable']}")
    return manifest


def _questions(manifest: Manifest, protocol: bool) -> dict[str, Any]:
    """What decides which questions a run was asked, and by which `protocol`, by names that people read."""
    settings = manifest["settings"]
    try:
        known = knobs(registry.task_kind(manifest["task"]))
        deciding = {knob.name for knob in known if knob.hashed and (knob.instances or protocol)}
    except UnknownName:
        deciding = set(settings)
    stages = manifest.get("inputs", {}) if protocol else {}
    sample = manifest["sample"]
    return {
        "version": manifest["version"],
        **{name: value for name, value in settings.items() if name in deciding},
        **{f"data {name}": digest for name, digest in manifest.get("data", {}).items()},
        **{f"answers of the stage {name}": digest for name, digest in stages.items()},
        "split": manifest["split"],
        "sample": f"{sample['size']} of seed {sample['seed']}" if sample else "all",
    }


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*ours, *theirs)):
        left, right = ours.get(name, "none"), theirs.get(name, "none")
        if left != right:
            yield f"{name}: {left} and {right}"
