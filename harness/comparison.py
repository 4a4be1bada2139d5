"""Two runs of the same instances, row by row: paired differences, and how far apart single answers are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from harness.errors import StaleRun
from harness.metrics import Metric
from harness.scoring import Columns
from harness.stats import Interval, difference
from harness.store import read_manifest, read_scores, records

MetricRows = Mapping[str, tuple[float, ...] | None]


@dataclass(frozen=True)
class Difference:
    """Ours minus theirs on one metric, with a 95 % interval over the same instances."""

    metric: str
    ours: float
    theirs: float
    interval: Interval


@dataclass(frozen=True)
class Comparison:
    instances: int
    differences: tuple[Difference, ...]
    gaps: Mapping[str, float]
    """The largest absolute difference of each fact, such as a log-probability, over all instances."""


@dataclass
class _Pair:
    ours: Columns = field(default_factory=Columns)
    theirs: Columns = field(default_factory=Columns)


def compare(ours: Path, theirs: Path, metrics: Mapping[str, Metric]) -> Comparison:
    """Compare two complete runs. StaleRun if one is partial, or if they did not answer the same instances."""
    ours_manifest, theirs_manifest = _complete(ours), _complete(theirs)
    if ours_manifest["identity"]["instances"] != theirs_manifest["identity"]["instances"]:
        raise StaleRun(f"{ours} and {theirs} do not pair: they differ in task, data, split or sample")
    known = {record.id: (record.rows, record.facts) for record in records(theirs)}
    pairs: dict[str, _Pair] = {}
    gaps: dict[str, float] = {}
    codes: dict[str, int] = {}
    count = 0
    for record in records(ours):
        rows, facts = known[record.id]
        count += 1
        _add(pairs, record.rows, rows, codes.setdefault(record.user, len(codes)))
        for fact in record.facts.keys() & facts.keys():
            gaps[fact] = max(gaps.get(fact, 0.0), abs(record.facts[fact] - facts[fact]))
    found = (_difference(metric, pairs[name]) for name, metric in metrics.items() if name in pairs)
    return Comparison(count, tuple(one for one in found if isfinite(one.ours - one.theirs)), gaps)


def _complete(path: Path) -> dict[str, Any]:
    manifest = read_manifest(path)
    scores = read_scores(path)
    if scores is None:
        raise StaleRun(f"{path} is not complete; run its command again first")
    if "not_applicable" in scores:
        raise StaleRun(f"{path} has no answers to compare: {scores['not_applicable']}")
    return manifest


def _add(pairs: dict[str, _Pair], ours: MetricRows, theirs: MetricRows, user: int) -> None:
    for name, row in ours.items():
        other = theirs.get(name)
        if row is not None and other is not None:
            pair = pairs.setdefault(name, _Pair())
            pair.ours.add(row, user)
            pair.theirs.add(other, user)


def _difference(metric: Metric, pair: _Pair) -> Difference:
    (ours, users), (theirs, _) = pair.ours.table(), pair.theirs.table()
    spread = difference(metric, ours, theirs, users)
    return Difference(metric.name, metric.aggregate(ours, users), metric.aggregate(theirs, users), spread)
