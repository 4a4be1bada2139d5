"""A grid from its cells to run directories: everything is tuned once, every base model loaded once.

A cell that fails is reported and the others go on. Nothing is remembered beside the adapters and the run
directories, so a killed grid goes on when it is started again, and what is complete costs a look.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

from harness.choice import Choice
from harness.engines.encode import one_line
from harness.errors import BrokenEngine, EngineStopped, HarnessError, InstanceFailed
from harness.evaluation import Settled, baseline, complete, is_baseline, is_owed, run_path, settle
from harness.executors import HERE, Executor
from harness.grid.cells import Cell, Step
from harness.job import Job
from harness.loading import Base
from harness.model import Adapter, EngineOptions, Model
from harness.signature import Sample, describe, digest
from harness.store import read_scores
from harness.tuning.spec import Tuning, identity
from harness.types import Split

T = TypeVar("T")
Given = TypeVarTuple("Given")
Say = Callable[[str], None]
Tune = Callable[[Tuning, Path, Say, int | None], Mapping[str, Any]]
"""`harness.tuning.job.tune`: make the model in a folder, or see that it is there."""
COMPLETE, OWED, UNTUNED = "complete", "to evaluate", "to tune and evaluate"


@dataclass(frozen=True)
class How:
    """How the cells of a grid are evaluated, and where results lie."""

    split: Split = "test"
    sample: Sample | None = None
    options: EngineOptions = field(default_factory=EngineOptions)
    runs: Path = Path("runs")
    tuned: Path = Path("tuned")
    cache: bool = True


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: a complete run, or the reason why there is none."""

    cell: Cell
    run: Path | None = None
    failure: str | None = None
    choice: Choice | None = None
    """How the option of the run was chosen, where the grid says that it is."""


@dataclass(frozen=True)
class Finished:
    outcomes: tuple[Outcome, ...]
    """In the order of the cells."""
    starts: int
    """How many engines were started."""

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.failure is not None)


@dataclass(frozen=True)
class Failure:
    reason: str
    engine: bool = False
    """Whether the loaded model cannot be trusted any more."""


class Contender(NamedTuple):
    """Who answers for a cell, once everything is tuned."""

    model: Model
    adapter: Path | None


def run_grid(cells: Sequence[Cell], how: How, say: Say, tune: Tune, executor: Executor = HERE) -> Finished:
    """Tune what is owed, then evaluate, one base model after another; never raises for a single cell's sake.

    Workers, where the executor has any, make tunings at the same time that do not build on each other, and then
    evaluate base models, or parts of the cells of one.
    """
    tunings = Tunings(how, tune, say)
    done: dict[Cell, Settled | Failure] = {}
    groups: dict[Model, list[tuple[Cell, Path | None]]] = {}
    # By the model that is tuned, so that its tunings are neighbours; all of them before anything is loaded to answer,
    # so that an engine knows all its adapters when it starts, and never shares the memory with a training.
    places = {model: place for place, model in enumerate(dict.fromkeys(cell.model for cell in cells))}
    ordered = sorted(cells, key=lambda cell: places[cell.model])
    if executor is not HERE:
        tunings.make_ahead(ordered, executor)
    for cell in ordered:
        found = attempt(say, tunings.make, cell)
        if isinstance(found, Failure):
            say(f"{cell}: failed: {found.reason}")
            done[cell] = found
        else:
            groups.setdefault(found.model, []).append((cell, found.adapter))
    starts, adapted, most = 0, _adapted(cells), -(-executor.workers // max(1, len(groups)))
    parts = [(model, part) for model, group in groups.items() for part in _parts(group, most)]
    given = [(model, part, how, say, model in adapted) for model, part in parts]
    for (_, part), made in zip(parts, executor.each(_evaluate, given), strict=True):
        if isinstance(made, EngineStopped):
            done |= dict.fromkeys((cell for cell, _ in part), Failure(str(made)))
            continue
        done |= made[0]
        starts += made[1]
    return Finished(tuple(_outcome(cell, done[cell]) for cell in cells), starts)


def plan(cells: Sequence[Cell], how: How) -> list[tuple[Cell, str]]:
    """Each cell and what it needs: complete, to evaluate, to tune and evaluate, or the reason why it would fail.
    Changes nothing and loads nothing."""
    bases: dict[Model, Base | Failure] = {}
    adapted = _adapted(cells)

    def state(cell: Cell) -> str:
        found = tuned(cell, how)
        if found is None:
            return UNTUNED
        job = _job(cell, found.model, how)
        if is_baseline(found.model):
            return OWED if read_scores(run_path(job, baseline(job))) is None else COMPLETE
        if found.model not in bases:
            bases[found.model] = attempt(_silent, Base, found.model, how.options, _silent, found.model in adapted)
        base = bases[found.model]
        if isinstance(base, Failure):
            raise HarnessError(base.reason)
        return OWED if is_owed(job, base, base.adapter(found.adapter) if found.adapter else None) else COMPLETE

    def said(cell: Cell) -> str:
        found = attempt(_silent, state, cell)
        return f"fails: {found.reason}" if isinstance(found, Failure) else found

    return [(cell, said(cell)) for cell in cells]


class Tunings:
    """What the steps of cells become. Cells share what they have in common, a failure too."""

    def __init__(self, how: How, tune: Tune, say: Say) -> None:
        self._how = how
        self._make = tune
        self._say = say
        self._known: dict[tuple[Contender, Step], Contender | Failure] = {}

    def make_ahead(self, cells: Sequence[Cell], executor: Executor) -> None:
        """Tune at the same time what does not build on each other: the first steps of all cells, then the second."""
        for depth in range(max((len(cell.steps) for cell in cells), default=0)):
            owed: dict[Path, tuple[Contender, Step]] = {}
            for cell in cells:
                start = self._after(cell, depth)
                if start is not None and len(cell.steps) > depth:
                    out = attempt(_silent, _folder_of, start, cell.steps[depth], self._how)
                    if isinstance(out, Path):
                        owed.setdefault(out, (start, cell.steps[depth]))
            given = [(*wanted, self._how, self._make, self._say) for wanted in owed.values()]
            for wanted, found in zip(owed.values(), executor.each(_tune, given), strict=True):
                self._known[wanted] = Failure(str(found)) if isinstance(found, EngineStopped) else found

    def make(self, cell: Cell) -> Contender:
        """Tune what is owed for the cell. Raises HarnessError if that failed, now or for another cell."""
        start = Contender(cell.model, cell.adapter)
        for step in cell.steps:
            if (start, step) not in self._known:
                self._known[start, step] = _tune(start, step, self._how, self._make, self._say)
            found = self._known[start, step]
            if isinstance(found, Failure):
                raise HarnessError(found.reason)
            start = found
        return start

    def _after(self, cell: Cell, depth: int) -> Contender | None:
        """What the first steps of a cell became; None if one of them is not made."""
        start = Contender(cell.model, cell.adapter)
        for step in cell.steps[:depth]:
            found = self._known.get((start, step))
            if not isinstance(found, Contender):
                return None
            start = found
        return start


def _tune(start: Contender, step: Step, how: How, make: Tune, say: Say) -> Contender | Failure:
    return attempt(say, _tune_now, start, step, how, make, say)


def _tune_now(start: Contender, step: Step, how: How, make: Tune, say: Say) -> Contender:
    out = _folder_of(start, step, how)
    if not _is_made(out):
        rows = "all rows" if step.draw.shots is None else f"{step.draw.shots} rows"
        on = " + ".join(describe(task) for task in step.tasks)
        say(f"{out}: tuning {start.model.name} on {rows} of {on}, seed {step.draw.seed}")
    make(_tuning(start, step), out, say, how.options.threads)
    return _became(start, step, out)


def tuned(cell: Cell, how: How) -> Contender | None:
    """What the cell's steps became; None if anything is still to tune."""
    start = Contender(cell.model, cell.adapter)
    for step in cell.steps:
        out = _folder_of(start, step, how)
        if not _is_made(out):
            return None
        start = _became(start, step, out)
    return start


def _tuning(start: Contender, step: Step) -> Tuning:
    return Tuning(step.tasks, start.model, step.recipe, step.draw, start.adapter)


def _folder_of(start: Contender, step: Step, how: How) -> Path:
    """Where the model lies that a step makes, or will lie."""
    tuning = _tuning(start, step)
    return how.tuned / tuning.tasks[0].name / digest(identity(tuning))


def _adapted(cells: Sequence[Cell]) -> set[Model]:
    """Models that are to answer with a LoRA: by what the grid says, so that a failed tuning changes no engine."""
    return {cell.model for cell in cells if cell.adapter or any(step.recipe.method == "lora" for step in cell.steps)}


def attempt(say: Say, work: Callable[[*Given], T], *given: *Given) -> T | Failure:
    """Do something for one cell. Whatever goes wrong is that cell's failure; an interrupt goes through."""
    try:
        return work(*given)
    except (HarnessError, InstanceFailed) as error:
        return Failure(str(error), isinstance(error, EngineStopped | BrokenEngine))
    except Exception as error:  # a library's or a task's own: this cell's, and not the end of all others
        say(traceback.format_exc())
        return Failure(f"{type(error).__name__}: {one_line(error)}", True)


def _parts(group: Sequence[tuple[Cell, Path | None]], most: int) -> list[list[tuple[Cell, Path | None]]]:
    """The cells of one model dealt out to at most so many workers, in their order. Cells that may come to one run stay
    together: those with equal adapters, or baselines with the same seed."""
    same: dict[object, list[tuple[Cell, Path | None]]] = {}
    for cell, folder in group:
        same.setdefault(_weights(folder) if folder else cell.seed, []).append((cell, folder))
    dealt = list(same.values())
    return [list(chain.from_iterable(dealt[first::most])) for first in range(min(most, len(dealt)))]


def _weights(folder: Path) -> str:
    file = folder / "adapter_model.safetensors"
    return sha256(file.read_bytes()).hexdigest() if file.is_file() else str(folder)


def _evaluate(
    model: Model, group: Sequence[tuple[Cell, Path | None]], how: How, say: Say, adapted: bool
) -> tuple[Mapping[Cell, Settled | Failure], int]:
    """All cells of one model, and how many engine starts they cost."""
    if is_baseline(model):
        return {cell: attempt(say, _ask_baseline, _job(cell, model, how), say) for cell, _ in group}, 0
    base = attempt(say, Base, model, how.options, say, adapted)
    if isinstance(base, Failure):
        return dict.fromkeys((cell for cell, _ in group), base), 0
    with base:
        # All adapters first: one that does not belong costs its own cells, and the others are loaded together.
        folders = dict.fromkeys(folder for _, folder in group if folder)
        adapters = {folder: attempt(say, base.adapter, folder) for folder in folders}
        done: dict[Cell, Settled | Failure] = {}
        for cell, folder in group:
            say(str(cell))
            adapter = adapters[folder] if folder else None
            job = _job(cell, model, how)
            done[cell] = found = attempt(say, _ask, job, base, adapter, say)
            if isinstance(found, Failure):
                say(f"failed: {found.reason}")
                if found.engine:
                    base.close()  # the next cell gets a fresh one
        return done, base.starts


def _ask(job: Job, base: Base, adapter: Adapter | Failure | None, say: Say) -> Settled:
    if isinstance(adapter, Failure):
        raise HarnessError(adapter.reason)
    return settle(job, base, adapter, say)


def _ask_baseline(job: Job, say: Say) -> Settled:
    return Settled(complete(job, baseline(job), say))


def _is_made(out: Path) -> bool:
    """Whether a tuning is finished: its folder appears whole or not at all."""
    return (out / "harness.json").is_file()


def _became(start: Contender, step: Step, out: Path) -> Contender:
    """What a step makes: an adapter for the same model, or another model."""
    if step.recipe.method == "full":
        return Contender(replace(start.model, name=str(out), revision=None), None)
    return Contender(start.model, out)


def _job(cell: Cell, model: Model, how: How) -> Job:
    choosing = cell.choosing
    if choosing is not None and choosing.sample is not None and how.sample is not None:
        choosing = replace(choosing, sample=choosing.sample._replace(seed=how.sample.seed))
    return Job(
        task=cell.task,
        model=model,
        split=how.split,
        sample=how.sample,
        options=how.options,
        settings=cell.given,
        runs=how.runs,
        cache=how.cache,
        choosing=choosing,
    )


def _outcome(cell: Cell, found: Settled | Failure) -> Outcome:
    if isinstance(found, Failure):
        return Outcome(cell, failure=found.reason)
    return Outcome(cell, run=found.run, choice=found.choice)


def _silent(_: str) -> None:
    """For looking only."""
