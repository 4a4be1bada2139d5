"""Who exactly scored what: a short line for people, digests for machines.

A run has three identities. Two runs can be compared row by row when they share the first, belong in one table
when they share the second as well, and are the same experiment when all three agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from harness.knobs import knobs, settings
from harness.task import Task
from harness.types import Split


def inputs(task: Task) -> dict[str, str]:
    """What was read of each earlier stage, by option: a hash of its answers, as a digest names an experiment only."""
    return {name: stage.content for name, stage in task.stages.items()}


class Sample(NamedTuple):
    """A random part of a split: the `size` instances whose salted hashes are smallest."""

    size: int
    seed: int = 0


class Identity(NamedTuple):
    instances: str
    """Data, split, sample, and the options that decide which questions are asked."""
    protocol: str
    """Task version, prompt texts, metrics and every option, but those that the protocol chooses for each model."""
    run: str
    """Both, these options, and who answered."""


def describe(thing: Any) -> str:
    """`tallrec(domain=book)`: the name, and every option that differs from its default, paths apart."""
    options = (k for k in knobs(type(thing)) if k.hashed)
    said = [f"{k.name}={getattr(thing, k.name)}" for k in options if getattr(thing, k.name) != k.default]
    name: str = thing.name
    return name + (f"({','.join(said)})" if said else "")


def digest(facts: Any) -> str:
    """Twelve hexadecimal digits over the canonical JSON of plain data."""
    return sha256(json.dumps(facts, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:12]


def identify(task: Task, split: Split, sample: Sample | None, model: Mapping[str, Any]) -> Identity:
    """The three identities. `model` is plain data: weights, adapter, precision, template and kind of engine."""
    which = {
        "task": task.name,
        "version": task.version,
        "settings": dict(settings(task, instances_only=True, hashed_only=True, tuning=False)),
        "data": dict(task.data_digests()),
        "split": split,
        "sample": list(sample) if sample else None,
    }
    options = settings(task, hashed_only=True, tuning=False)
    chosen = {name: value for name, value in options.items() if name in task.alternatives}
    how = {
        "task": task.name,
        "version": task.version,
        "settings": {name: value for name, value in options.items() if name not in chosen},
        "texts": dict(task.texts),
        "metrics": [repr(metric) for metric in task.metrics],
        **({"inputs": inputs(task)} if task.stages else {}),
    }
    instances, protocol = digest(which), digest(how)
    return Identity(instances, protocol, digest([instances, protocol, dict(model), *([chosen] if chosen else [])]))
