"""From records to scores: values, intervals, chance, failures and cost. Needs no model and no GPU."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import StaleRun
from harness.metrics import Mask, Metric, Rows, Users
from harness.points import PointMetric, tied_pairs
from harness.stats import interval
from harness.store import Record, records
from harness.types import Instance


@dataclass
class Columns:
    """The rows of one metric, in an order that the instances decide, and not how fast they were answered: the same
    answers are the same score to the last bit, and the same interval."""

    numbers: array[float] = field(default_factory=lambda: array("d"))
    users: array[int] = field(default_factory=lambda: array("q"))
    places: array[int] = field(default_factory=lambda: array("q"))
    width: int = 1

    def add(self, row: tuple[float, ...], user: int, place: int) -> None:
        self.width = len(row)
        self.numbers.extend(row)
        self.users.append(user)
        self.places.append(place)

    @property
    def order(self) -> NDArray[np.int64]:
        return np.argsort(_numbers(self.places), kind="stable")

    def table(self) -> tuple[Rows, Users]:
        order = self.order
        rows = np.frombuffer(self.numbers, dtype=np.float64).reshape(-1, self.width)
        return rows[order], _numbers(self.users)[order]

    def at(self, places: NDArray[np.int64]) -> tuple[Rows, Users]:
        """The rows of these places, each of which has one; places are numbers from 0."""
        row = np.empty(int(_numbers(self.places).max()) + 1, dtype=np.int64)
        row[_numbers(self.places)] = np.arange(len(self.places))
        rows = np.frombuffer(self.numbers, dtype=np.float64).reshape(-1, self.width)
        return rows[row[places]], _numbers(self.users)[row[places]]


def _numbers(found: array[int]) -> NDArray[np.int64]:
    """Without a copy, so nothing can be added to the array while this is in use."""
    return np.frombuffer(found, dtype=np.int64)


def _code(name: str) -> int:
    """A number for a name, the same whenever and wherever it is met."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)


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
    users: array[int] = field(default_factory=lambda: array("q"))
    """Of every record."""
    failures: Counter[str] = field(default_factory=Counter)
    instances: int = 0
    tied: int = 0
    wrote: int = 0
    """Answers that a model wrote, and of them those that name an item."""
    named: int = 0
    tokens: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, record: Record) -> None:
        user, place = _code(record.user), _code(record.id)
        self.users.append(user)
        for name, row in record.rows.items():
            if row is not None:
                self.columns.setdefault(name, Columns()).add(row, user, place)
                if record.failure is None:
                    self.applies.add(name)
        if record.rows.get(self.headline) is not None:
            for trait, numbers in self.traits.items():
                numbers.append(record.strata.get(trait, nan))
        if record.failure is not None:
            self.failures[record.failure] += 1
        self.instances += 1
        self.tied += record.tied
        self.wrote += record.tokens[1] > 0
        self.named += record.tokens[1] > 0 and bool(record.top)
        self.tokens = [total + more for total, more in zip(self.tokens, record.tokens, strict=True)]


def aligned(paths: Sequence[Path], metrics: Sequence[Metric]) -> dict[str, tuple[list[Rows], Users]]:
    """By metric, one table of rows for each run, over the instances that every run has a row for, in one order.

    StaleRun if the runs did not answer the same instances. A metric without a common row is left out.
    """
    instances: dict[str, int] = {}
    people: dict[str, int] = {}
    runs: list[_Kept] = []
    for path in paths:
        kept = _Kept({metric.name for metric in metrics})
        for record in records(path):
            place = instances.get(record.id) if runs else instances.setdefault(record.id, len(instances))
            if place is None:
                raise StaleRun(f"{path} and {paths[0]} did not answer the same instances")
            kept.add(record, people.setdefault(record.user, len(people)), place)
        if not _mask(kept.places, len(instances)).all():
            raise StaleRun(f"{path} and {paths[0]} did not answer the same instances")
        runs.append(kept)
    order = np.array([instances[name] for name in sorted(instances)], dtype=np.int64)
    codes = np.full(len(people), -1)
    found: dict[str, tuple[list[Rows], Users]] = {}
    for name in [metric.name for metric in metrics if runs and all(metric.name in run.columns for run in runs)]:
        common = order[np.logical_and.reduce([_mask(run.columns[name].places, len(order)) for run in runs])[order]]
        # Failed instances have a row in every metric: they alone do not make it apply.
        if len(common) and all(_mask(run.answered, len(order))[common].any() for run in runs):
            tables = [run.columns[name].at(common) for run in runs]
            found[name] = [rows for rows, _ in tables], _coded(tables[0][1], codes)
    return found


@dataclass
class _Kept:
    """What pairing needs of a run's records, in numbers: several runs of a million are in memory at once."""

    names: Set[str]
    columns: dict[str, Columns] = field(default_factory=dict)
    places: array[int] = field(default_factory=lambda: array("q"))
    answered: array[int] = field(default_factory=lambda: array("q"))
    """The places that have not failed."""

    def add(self, record: Record, user: int, place: int) -> None:
        self.places.append(place)
        if record.failure is None:
            self.answered.append(place)
        for name, row in record.rows.items():
            if row is not None and name in self.names:
                self.columns.setdefault(name, Columns()).add(row, user, place)


def _mask(places: array[int], size: int) -> Mask:
    found = np.zeros(size, dtype=bool)
    found[_numbers(places)] = True
    return found


def _coded(users: Users, codes: NDArray[np.int64]) -> Users:
    """Numbers for users in the order in which they are first met, in this table or one before; `codes` keeps them."""
    new, at = np.unique(users[codes[users] < 0], return_index=True)
    codes[new[np.argsort(at)]] = np.arange(len(new)) + codes.max() + 1
    return codes[users]


@dataclass(frozen=True)
class Asked:
    """What scores must be held against, and no record says."""

    chance: Mapping[str, float]
    """What a uniformly random order is expected to score, for the metrics that know."""
    candidates: tuple[int, int] | None
    """The fewest and the most candidates of an instance; None where some instance asks for the whole catalogue."""

    @classmethod
    def of(cls, metrics: Sequence[Metric], instances: Iterable[Instance]) -> Asked:
        totals: dict[str, float] = {}
        unknown: set[str] = set()
        sizes: set[int | None] = set()
        count = 0
        for instance in instances:
            count += 1
            sizes.add(None if instance.candidates is None else len(instance.candidates))
            for metric in metrics:
                level = metric.chance(instance)
                if level is None:
                    unknown.add(metric.name)
                else:
                    totals[metric.name] = totals.get(metric.name, 0.0) + level
        chance = {name: total / count for name, total in totals.items() if name not in unknown}
        known = [size for size in sizes if size is not None]
        return cls(chance, (min(known), max(known)) if known and None not in sizes else None)


def score(
    path: Path,
    metrics: Sequence[Metric],
    chance: Mapping[str, float],
    strata: Mapping[str, Sequence[float]] | None = None,
    candidates: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The content of `scores.json`. A metric that no record has a row for is null: it does not apply.

    The tie rate is the share of instances with tied candidates, or of liked and disliked pairs where each instance
    has one candidate only; the parse rate that of written answers that name an item. `strata` maps a trait to where
    the parts end that the first metric is broken down by, each end in the part below it. A part without instances is
    left out, and an instance without the trait is in none.
    `chance` and `candidates` are what `Asked` says of the instances.
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
        "users": len(np.unique(_numbers(tally.users))),
        "failures": dict(sorted(tally.failures.items())),
        "failure_rate": tally.failures.total() / tally.instances if tally.instances else None,
        "tie_rate": ties,
        # Texts for a later stage need name nothing, and a diagnosis is all that such a task has for a headline.
        "parse_rate": tally.named / tally.wrote if tally.wrote and not headline.diagnostic else None,
        "tokens": {"prompt": tally.tokens[0], "generated": tally.tokens[1]},
        "candidates": list(candidates) if candidates else None,
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
        "parse_rate": None,
        "tokens": {"prompt": 0, "generated": 0},
        "candidates": None,
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
        "diagnostic": metric.diagnostic,
    }


def _parts(
    metric: Metric, columns: Columns, trait: array[float], ends: Sequence[float]
) -> Iterator[dict[str, float | int | None]]:
    """The score and its interval in each part of the instances, from the lowest numbers of the trait on."""
    (rows, users), numbers = columns.table(), np.array(trait, dtype=np.float64)[columns.order]
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
