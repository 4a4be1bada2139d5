"""What two sides answered to the same questions, and the refusal of sides that do not pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Any, ClassVar, NamedTuple

import numpy as np

from harness.comparison import check_pairing
from harness.errors import StaleRun, Unparseable
from harness.metrics import Answer, MeanMetric, Metric, Rows, Users
from harness.store import Record, read_sessions, records


@dataclass(frozen=True)
class FailureRate(MeanMetric):
    """Share of instances without an answer."""

    label: ClassVar[str] = "failure_rate"
    higher_is_better: ClassVar[bool] = False

    def measure(self, answer: Answer) -> tuple[float, ...]:
        return (float(answer.prediction is None),)


@dataclass(frozen=True)
class ParseRate(MeanMetric):
    """Share of the answers that could be read. What failed otherwise, such as a prompt too long, is no answer.

    An answer that was written and names no item was not read, where any answer of the runs names one: texts for a later
    stage never do.
    """

    label: ClassVar[str] = "parse_rate"

    def measure(self, answer: Answer) -> tuple[float, ...] | None:
        return None if answer.prediction is None else (1.0,)


RATES: tuple[MeanMetric, ...] = (FailureRate(), ParseRate())
LATENCY = "latency"


class Answered(NamedTuple):
    """What the gate needs of a record; a run may have a million of them."""

    user: str
    rows: Mapping[str, tuple[float, ...] | None]
    place: int | None
    """Of the first relevant item, from 1."""
    failure: str | None
    listed: tuple[str, ...]
    """The first places."""
    wrote: bool

    def row(self, metric: Metric, lists: bool) -> tuple[float, ...] | None:
        """What it contributes to a metric or a rate; `lists` says whether written answers should name items."""
        if isinstance(metric, FailureRate):
            return (float(self.failure is not None),)
        if not isinstance(metric, ParseRate):
            return self.rows.get(metric.name)
        if self.failure == Unparseable.__name__ or (self.failure is None and lists and self.wrote and not self.listed):
            return (0.0,)
        return (1.0,) if self.failure is None else None


class Table(NamedTuple):
    """The rows of one metric over the instances that every run has one for."""

    new: list[Rows]
    old: list[Rows]
    """One (instances, columns) table for each run."""
    users: Users
    ids: list[str]


class Pace(NamedTuple):
    """How fast a run answered, or why that is unknown."""

    seconds: float | None
    """For each instance."""
    why: str
    machine: str


@dataclass(frozen=True)
class Side:
    """The runs of one side: one checkpoint, or several that differ in the seed."""

    paths: tuple[Path, ...]
    manifests: tuple[Mapping[str, Any], ...]
    runs: tuple[Mapping[str, Answered], ...]
    """By the id of the instance."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(manifest["model"]["name"] for manifest in self.manifests)

    @property
    def paces(self) -> list[Pace]:
        return [_pace(path, len(run)) for path, run in zip(self.paths, self.runs, strict=True)]


@dataclass(frozen=True)
class Evidence:
    """Two sides that answered the same instances in the same protocol."""

    new: Side
    old: Side

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Of the first new run; all others say the same of task, data and protocol."""
        return self.new.manifests[0]

    @property
    def ids(self) -> list[str]:
        return sorted(self.new.runs[0])

    @property
    def identical(self) -> bool:
        """Whether every run gave the same answer to every instance."""
        first, *others = (*self.new.runs, *self.old.runs)
        return all(run == first for run in others)

    def table(self, metric: Metric) -> Table | None:
        """None if no answer has a row for the metric: it does not apply to these runs."""
        runs = (*self.new.runs, *self.old.runs)
        lists = any(answered.listed for run in runs for answered in run.values())
        rows = [{one: run[one].row(metric, lists) for one in self.ids} for run in runs]
        ids = [one for one in self.ids if all(found[one] is not None for found in rows)]
        # Failed instances have a row in every metric: they alone do not make it apply.
        if metric not in RATES and not any(run[one].failure is None for run in runs for one in ids):
            return None
        if not ids:
            return None
        codes: dict[str, int] = {}
        users = [codes.setdefault(runs[0][one].user, len(codes)) for one in ids]
        tables = [np.array([found[one] for one in ids], dtype=np.float64) for found in rows]
        cut = len(self.new.runs)
        return Table(tables[:cut], tables[cut:], np.array(users, dtype=np.int64), ids)


def gather(new: Sequence[Path], old: Sequence[Path]) -> Evidence:
    """Read both sides. StaleRun, naming what differs with both values, if they do not pair or a run has no score."""
    _apart(new, old)
    manifests = check_pairing([*new, *old], protocol=True)
    made = [
        Side(tuple(new), tuple(manifests[: len(new)]), tuple(map(_answers, new))),
        Side(tuple(old), tuple(manifests[len(new) :]), tuple(map(_answers, old))),
    ]
    first = made[0].paths[0]
    for side in made:
        for path, run in zip(side.paths, side.runs, strict=True):
            _same_instances(first, made[0].runs[0], path, run)
    return Evidence(*made)


def _apart(new: Sequence[Path], old: Sequence[Path]) -> None:
    seen: dict[Path, str] = {}
    for word, paths in (("new", new), ("old", old)):
        for path in paths:
            where = path.resolve()
            if where in seen:
                what = "stands on both sides" if seen[where] != word else f"is named twice among the {word} runs"
                raise StaleRun(f"{path} {what}; a run can only be compared with another one")
            seen[where] = word


def _same_instances(first: Path, ours: Mapping[str, Answered], path: Path, theirs: Mapping[str, Answered]) -> None:
    if ours.keys() == theirs.keys():
        return
    odd = sorted(ours.keys() ^ theirs.keys())
    where = first if odd[0] in ours else path
    raise StaleRun(f"{first} and {path} do not pair: {len(odd)} instances are in one only, such as {odd[0]} in {where}")


def _answers(path: Path) -> dict[str, Answered]:
    return {record.id: _answered(record) for record in records(path)}


def _answered(record: Record) -> Answered:
    place = min(record.ranks.values(), default=None)
    # Every line brings its own copies of names that all lines share.
    rows = {intern(name): row for name, row in record.rows.items()}
    listed = tuple(map(intern, record.top))
    return Answered(record.user, rows, place, record.failure, listed, record.tokens[1] > 0)


def _pace(path: Path, instances: int) -> Pace:
    """Over the processes that ended by themselves and took no answer from the cache."""
    sessions = read_sessions(path)
    timed = [one for one in sessions if not one.get("cached") and one.get("answered") and "seconds" in one]
    machine = "; ".join(sorted({", ".join(map(str, one.get("machine", {}).values())) for one in timed}))
    if timed:
        return Pace(sum(one["seconds"] for one in timed) / sum(one["answered"] for one in timed), "", machine)
    if any(one.get("cached") for one in sessions):
        return Pace(None, f"answers of {path} came from the cache", machine)
    return Pace(None, f"no process that ended by itself left its time in {path}", machine)
