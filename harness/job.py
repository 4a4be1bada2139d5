"""What one `harness run` was asked to do, and who is to answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.choice import Choosing
from harness.loading import Ready
from harness.model import EngineOptions, Model, ModelSettings
from harness.signature import Sample
from harness.task import Task
from harness.types import Split


@dataclass(frozen=True)
class Job:
    """Everything that one `harness run` was asked to do."""

    task: Task
    model: Model
    adapters: tuple[Path, ...] = ()
    split: Split = "test"
    sample: Sample | None = None
    template: str | None = None
    """None is the task's own."""
    options: EngineOptions = field(default_factory=EngineOptions)
    settings: ModelSettings = field(default_factory=ModelSettings)
    """Of a baseline."""
    runs: Path = Path("runs")
    run_dir: Path | None = None
    """This very directory, in place of one named by digest under `runs`."""
    cache: bool = True
    choosing: Choosing | None = None
    """An option that is to be chosen on validation; `task` is without it then."""


@dataclass(frozen=True)
class Contestant:
    """Somebody who answers: a base model, a model with an adapter, or a baseline."""

    who: Mapping[str, Any]
    """What decides the answers; goes into the run's identity."""
    shown: Mapping[str, Any]
    """What people want to know of it besides."""
    prepare: Callable[[], Ready]
    """Makes it ready; called only if something is owed."""
    cacheable: bool = True
    """Whether its answers may be kept for other runs: not those of a baseline, which computes them as quickly, nor of a
    served model, of which nobody here sees the weights."""
