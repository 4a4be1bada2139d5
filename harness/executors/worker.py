"""A worker: a process that holds an engine, answers shares of runs with it, and writes no run directory for them.

It makes task, data, base model and engine itself from what the job names, and answers only if all of it amounts to the
very run that was asked for. Nothing here knows who started it.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.answering import Counts, Desk, desk
from harness.errors import HarnessError, StaleRun
from harness.evaluation import baseline, is_baseline, language_model
from harness.job import Contestant, Job
from harness.loading import Base
from harness.machine import machine
from harness.model import Adapter
from harness.runner import Share, answers
from harness.signature import identify
from harness.store import Record

T = TypeVar("T")
BATCH, SECONDS = 256, 1.0
"""Records are sent when there are this many of them, or the oldest has waited for about so long."""
INHERITED = ("HARNESS_HOME", "HF_HOME", "HF_HUB_OFFLINE")
"""What a worker takes over from the environment of the process that it works for, besides the working directory."""


@dataclass(frozen=True)
class Order:
    """A share of a run's instances that is to be answered."""

    job: Job
    manifest: Mapping[str, Any]
    """Of the run."""
    share: Share


@dataclass(frozen=True)
class Batch:
    """What a worker sends in the course of an order: the records since the last batch, and what all of it has cost."""

    records: tuple[Record, ...]
    counts: Counts
    software: str
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class Refusal:
    """A HarnessError of a worker's, on its way to the person at the keyboard."""

    kind: type[HarnessError]
    reason: str


class Worker:
    def __init__(self, folder: str, environment: Mapping[str, str]) -> None:
        """`folder` is what relative paths are relative to, if there is such a folder here."""
        os.environ.update(environment)
        if Path(folder).is_dir():
            os.chdir(folder)
        self._base: Base | None = None
        self._held: object = None
        """What the base was made of."""

    def answer(self, order: Order, done: Container[str]) -> Iterator[Batch | Refusal]:
        """Answer a share, but for the instances whose ids are done. The last batch may be empty; a refusal is the
        end."""
        try:
            contestant = self._contestant(order)
            with desk(order.job, contestant) as asked:
                yield from _batches(order, done, asked)
        except HarnessError as error:
            yield Refusal(type(error), str(error))

    def do(self, work: Callable[..., T], *given: Any) -> T:
        """A piece of work of any kind; what was held for answers is given back before."""
        self.rest()
        return work(*given)

    def rest(self) -> None:
        """Give back what is held for answers."""
        base, self._base, self._held = self._base, None, None
        if base is not None:
            base.close()

    def _contestant(self, order: Order) -> Contestant:
        """Whoever answers the run, made of this machine's files. Raises StaleRun where they make it another run."""
        job, wanted = order.job, order.manifest["identity"]["run"]
        if is_baseline(job.model):
            found = [baseline(job)]
        else:
            base = self._loadable(job)
            adapters: list[Adapter | None] = [base.adapter(folder) for folder in job.adapters]
            found = [language_model(job, base, adapter) for adapter in adapters or [None]]
        for one in found:
            if identify(job.task, job.split, job.sample, one.who).run == wanted:
                return one
        differs = ", ".join(_differences(order, found[0])) or "the options or texts of its task, or an adapter"
        raise StaleRun(
            f"the worker on {platform.node()} has other files than the process that it works for: {differs} differ; "
            "give all machines the same data, models and version of the harness"
        )

    def _loadable(self, job: Job) -> Base:
        """The base model of the order before, if it is this one."""
        made_of = (job.model, job.adapters, job.options)
        if self._base is None or self._held != made_of:
            self.rest()
            self._base, self._held = Base(job.model, job.options, _say, bool(job.adapters)), made_of
        return self._base


def _batches(order: Order, done: Container[str], asked: Desk) -> Iterator[Batch]:
    job, here, since = order.job, machine(), time.monotonic()
    records: list[Record] = []
    identity = order.manifest["identity"]["run"]
    for record in answers(job.task, asked.engine, identity, job.split, job.sample, done, order.share):
        records.append(record)
        if len(records) == BATCH or time.monotonic() - since > SECONDS:
            yield Batch(tuple(records), asked.counts(), asked.software, here)
            since = time.monotonic()
            records.clear()
    yield Batch(tuple(records), asked.counts(), asked.software, here)


def _differences(order: Order, found: Contestant) -> Iterator[str]:
    """What of a run's data and model is not what it is here."""
    ours = {"data": dict(order.job.task.data_digests()), "model": found.who}
    for part, here in ours.items():
        there = order.manifest[part]
        yield from (f"{part} {name}" for name, value in here.items() if there.get(name) != value)


def _say(line: str) -> None:
    print(line, file=sys.stderr)
