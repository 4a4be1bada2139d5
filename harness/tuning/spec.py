"""What a fine-tuning is made of, and the digest of all that decides its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from harness import registry
from harness.checkpoint import resolve, resolve_adapter, template_identity
from harness.errors import BadSetting
from harness.knobs import settings
from harness.model import Adapter, Checkpoint, Model
from harness.signature import describe, digest
from harness.task import Task
from harness.tuning.recipe import Draw, Recipe


@dataclass(frozen=True)
class Tuning:
    """Everything that decides what a tuned model becomes."""

    tasks: tuple[Task, ...]
    """One, or several for joint training."""
    model: Model
    recipe: Recipe
    draw: Draw = field(default_factory=Draw)
    adapter: Path | None = None
    """A LoRA to go on from: the stage before this one."""
    template: str | None = None
    """None is the first task's own."""

    @property
    def training_seed(self) -> int:
        return self.draw.seed if self.recipe.training_seed is None else self.recipe.training_seed

    @property
    def reads(self) -> str:
        """The template that is used."""
        return self.template or self.tasks[0].template


class Base(NamedTuple):
    """What a tuning starts from, looked at but not loaded."""

    checkpoint: Checkpoint
    adapter: Adapter | None


def joint_tasks(name: str, given: Mapping[str, str], also: Sequence[Mapping[str, str]]) -> tuple[Task, ...]:
    """A task, and the same once more with other options for each member of `also`. BadSetting: two are the same."""
    kind, what = registry.task_kind(name), f"task {name!r}"
    tasks = tuple(registry.build(kind, {**given, **changed}, what) for changed in ({}, *also))
    if len(set(tasks)) < len(tasks):
        raise BadSetting(f"joint training names {describe(tasks[-1])} twice")
    return tasks


def identity(tuning: Tuning) -> dict[str, Any]:
    """Plain data that decides the result; its `signature.digest` names it. Loads no weights."""
    return identity_on(tuning, base_of(tuning))


def base_of(tuning: Tuning) -> Base:
    """Find base and adapter; raises BadModel in one line where they are none, or do not go together."""
    checkpoint = resolve(tuning.model)
    return Base(checkpoint, resolve_adapter(tuning.adapter, checkpoint) if tuning.adapter else None)


def identity_on(tuning: Tuning, base: Base) -> dict[str, Any]:
    """The same, where the base has been looked at already."""
    first = tuning.tasks[0]
    if any(task.name != first.name for task in tuning.tasks):
        raise BadSetting("joint training is of one task with different settings, not of different tasks")
    return {
        "made_by": "harness tune",
        "base_digest": base.checkpoint.digest,
        "started_from": base.adapter.digest if base.adapter else None,
        "task": first.name,
        "version": first.version,
        "settings": [dict(settings(task, hashed_only=True)) for task in tuning.tasks],
        "texts": digest(dict(first.texts)),
        "data": {name: content for task in tuning.tasks for name, content in task.data_digests().items()},
        **asdict(tuning.draw),
        "recipe": asdict(tuning.recipe),
        "template": template_identity(tuning.reads),
    }
