"""From records to scores: values, intervals, chance, failures and cost. Needs no model and no GPU."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import StaleRun
from harness.metrics import Metric, PointMetric, Rows, Users, tied_pairs
from harness.stats import interval
from harness.store import Record, records
from harness.types import Instance


@dataclass
class Columns:
    """The rows of one metric, one instance after another."""

    numbers: array[float] = field(default_factory=lambda: array("d"))
    users: array[int] = field(default_factory=lambda: array("q"))
    width: int = 1

    def add(self, row: tuple[float, ...], user: int) -> None:
        self.width = len(row)
        self.numbers.extend(row)
        self.users.append(user)

    def table(self) -> tuple[Rows, Users]:
        rows = np.frombuffer(self.numbers, dtype=np.float64) if self.numbers else np.empty(0)
        users = np.frombuffer(self.users, dtype=np.int64) if self.users else np.empty(0, dtype=np.int64)
        return rows.reshape(-1, self.width), users


@dataclass
class Tally:
    """What is gathered in one pass over the records; memory grows by a few numbers an instance."""

    headline: str = ""
    """Whose rows are broken down."""
    traits: dict[str, array[float]] = field(default_factory=dict)
    """By trait that it is broken down by, the number of each instance that has a row of the headline, in their order;
    nan where an instance lacks the trait."""
    columns: dict[str, Columns] = field(default_factory=dict)
    applies: set[str] = field(default_factory=set)
    """Metrics that some answered instance has a row for; failures alone have rows for all."""
    codes: dict[str, int] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    instances: int = 0
    tied: int = 0
    tokens: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, record: Record) -> None:
        user = self.codes.setdefault(record.user, len(self.codes))
        for name, row in record.rows.items():
            if row is not None:
                self.columns.setdefault(name, Columns()).add(row, user)
                if record.failure is None:
                    self.applies.add(name)
        if record.rows.get(self.headline) is not None:
            for trait, numbers in self.traits.items():
                numbers.append(record.strata.get(trait, nan))
        if record.failure is not None:
            self.failures[record.failure] += 1
        self.instances += 1
        self.tied += record.tied
        self.tokens = [total + more for total, more in zip(self.tokens, record.tokens, strict=True)]


def aligned(paths: Sequence[Path], metrics: Sequence[Metric]) -> dict[str, tuple[list[Rows], Users]]:
    """By metric, one table of rows for each run, over the instances that every run has a row for, in one order.

    StaleRun if the runs did not answer the same instances. A metric without a common row is left out.
    """
    runs = [{record.id: record for record in records(path)} for path in paths]
    ids = sorted(runs[0]) if runs else []
    for path, run in zip(paths, runs, strict=True):
        if run.keys() != runs[0].keys():
            raise StaleRun(f"{path} and {paths[0]} did not answer the same instances")
    codes: dict[str, int] = {}
    found: dict[str, tuple[list[Rows], Users]] = {}
    for metric in metrics:
        common = [name for name in ids if all(run[name].rows.get(metric.name) is not None for run in runs)]
        # Failed instances have a row in every metric: they alone do not make it apply.
        if any(run[name].failure is None for run in runs for name in common):
            users = [codes.setdefault(runs[0][name].user, len(codes)) for name in common]
            tables = [np.array([run[name].rows[metric.name] for name in common], dtype=np.float64) for run in runs]
            found[metric.name] = tables, np.array(users, dtype=np.int64)
    return found


def chance_levels(metrics: Sequence[Metric], instances: Iterable[Instance]) -> dict[str, float]:
    """What a uniformly random order is expected to score, for the metrics that know."""
    totals: dict[str, float] = {}
    unknown: set[str] = set()
    count = 0
    for instance in instances:
        count += 1
        for metric in metrics:
            level = metric.chance(instance)
            if level is None:
                unknown.add(metric.name)
            else:
                totals[metric.name] = totals.get(metric.name, 0.0) + level
    return {name: total / count for name, total in totals.items() if name not in unknown}


def score(
    path: Path,
    metrics: Sequence[Metric],
    chance: Mapping[str, float],
    strata: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, Any]:
    """The content of `scores.json`. A metric that no record has a row for is null: it does not apply.

    The tie rate is the share of instances with tied candidates, or of liked and disliked pairs where each instance
    has one candidate only. `strata` maps a trait to where the parts end that the first metric is broken down by, each
    end in the part below it. A part without instances is left out, and an instance without the trait is in none.
    """
    headline = metrics[0]
    tally = Tally(headline.name, {trait: array("d") for trait in strata or {}})
    for record in records(path):
        tally.add(record)
    ties = tally.tied / tally.instances if tally.instances else None
    if isinstance(headline, PointMetric) and headline.name in tally.columns:
        ties = _finite(tied_pairs(tally.columns[headline.name].table()[0]))
    return {
        "headline": headline.name,
        "instances": tally.instances,
        "users": len(tally.codes),
        "failures": dict(sorted(tally.failures.items())),
        "failure_rate": tally.failures.total() / tally.instances if tally.instances else None,
        "tie_rate": ties,
        "tokens": {"prompt": tally.tokens[0], "generated": tally.tokens[1]},
        "metrics": {
            m.name: _one(m, tally.columns[m.name], chance.get(m.name)) if m.name in tally.applies else None
            for m in metrics
        },
        "strata": {
            trait: list(_parts(headline, tally.columns[headline.name], tally.traits[trait], ends))
            for trait, ends in (strata or {}).items()
            if headline.name in tally.applies
        },
    }


def not_applicable(metrics: Sequence[Metric], reason: str) -> dict[str, Any]:
    """The content of `scores.json` for a model that the protocol cannot give what it needs."""
    return {
        "headline": metrics[0].name,
        "not_applicable": reason,
        "instances": 0,
        "failures": {},
        "failure_rate": None,
        "tie_rate": None,
        "tokens": {"prompt": 0, "generated": 0},
        "metrics": {metric.name: None for metric in metrics},
        "strata": {},
    }


def _one(metric: Metric, columns: Columns, chance: float | None) -> dict[str, Any]:
    rows, users = columns.table()
    value = metric.aggregate(rows, users)
    spread = interval(metric, rows, users)
    return {
        "value": _finite(value),
        "low": _finite(spread.low),
        "high": _finite(spread.high),
        "unit": spread.unit,
        "units": spread.units,
        "few": spread.few,
        "method": spread.method,
        "instances": len(rows),
        "chance": chance,
        "higher_is_better": metric.higher_is_better,
    }


def _parts(
    metric: Metric, columns: Columns, trait: array[float], ends: Sequence[float]
) -> Iterator[dict[str, float | int | None]]:
    """The score and its interval in each part of the instances, from the lowest numbers of the trait on."""
    (rows, users), numbers = columns.table(), np.frombuffer(trait, dtype=np.float64)
    for over, up_to in pairwise((-inf, *ends, inf)):
        inside = (numbers > over) & (numbers <= up_to)
        if not inside.any():
            continue
        value, spread = metric.aggregate(rows[inside], users[inside]), interval(metric, rows[inside], users[inside])
        yield {
            "over": _finite(over),
            "up_to": _finite(up_to),
            "instances": int(inside.sum()),
            "value": _finite(value),
            "low": _finite(spread.low),
            "high": _finite(spread.high),
        }


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
