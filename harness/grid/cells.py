"""From a declared grid to its cells, with every name looked up and every setting checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from harness import registry
from harness.choice import Choosing, choosing
from harness.errors import BadSetting
from harness.evaluation import is_baseline
from harness.grid.declared import Block, Grid, Pool, Settings, Shots, Stage
from harness.model import DType, Model, ModelSettings, Trust
from harness.signature import Sample
from harness.task import Task
from harness.tuning.recipe import Draw, Recipe, find_recipe, split_settings

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """One fine-tuning: what a cell's model goes through before it is evaluated."""

    tasks: tuple[Task, ...]
    recipe: Recipe
    draw: Draw


@dataclass(frozen=True)
class Cell:
    """One evaluation. Cells that differ in the seed alone make one row of the table."""

    name: str
    """Of the block."""
    task: Task
    """Evaluated."""
    model: Model
    adapter: Path | None
    """A ready LoRA to start from."""
    steps: tuple[Step, ...]
    """Tuned in turn; none for a model or an adapter as it is."""
    shots: Shots
    seed: int | None
    """None where nothing is drawn for this cell."""
    tested: str = field(compare=False)
    """The settings of the task, as the grid says them."""
    trained: str = field(compare=False)
    """Likewise what it is tuned on; empty for nothing."""
    settings: tuple[tuple[str, str], ...] = ()
    """Of a baseline, the shots and the seed among them: it trains itself when it is evaluated."""
    choosing: Choosing | None = None
    """What is chosen on validation once the model is tuned; `task` is without it."""

    @property
    def who(self) -> str:
        """The model that it starts from, as people name it."""
        name = self.model.name if self.model.engine == "auto" else f"{self.model.engine}:{self.model.name}"
        more = ", ".join(f"{key}={value}" for key, value in self.settings if key not in ("shots", "seed"))
        name += f" ({more})" if more else ""
        return f"{name} + {self.adapter}" if self.adapter else name

    @property
    def given(self) -> ModelSettings:
        """The settings of a baseline."""
        return ModelSettings(dict(self.settings))

    def __str__(self) -> str:
        said = [self.name, self.who, f"tuned on {self.trained}" if self.trained else ""]
        said += [f"{self.shots} shots, seed {self.seed}" if self.seed is not None else "", f"tested on {self.tested}"]
        said += [f"{self.choosing.option} chosen"] if self.choosing else []
        return ", ".join(part for part in said if part)


@dataclass(frozen=True)
class Changes:
    """What the command line puts in the place of a grid's own words, in every block; empty is no change."""

    model: tuple[str, ...] = ()
    shots: tuple[Shots, ...] = ()
    seed: tuple[int, ...] = ()
    adapter: tuple[str, ...] = ()
    train: tuple[tuple[Settings, ...], ...] = ()
    pool: Pool | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """Options of the task and of the recipe."""
    first: Mapping[str, str] = field(default_factory=dict)
    """The same for the stage before."""
    recipe_file: str | None = None


def change(grid: Grid, changes: Changes) -> Grid:
    """The grid with these changes.

    Models go to the blocks that name none, where there are such, and else to all. Shots go to the blocks that tune. An
    adapter stands in for the stage before where blocks have one or an adapter of their own, and goes to all blocks
    otherwise. Settings hold for what is tested, and for what is tuned on as far as that does not say them itself.
    """
    staged = any(block.first or block.adapter for block in grid.blocks)
    if changes.first and not any(block.first for block in grid.blocks):
        raise BadSetting("--first-set is for grids with an earlier stage, and this one has none")
    tunes = any(block.tunes for block in grid.blocks)
    named = all(block.model for block in grid.blocks)
    blocks = []
    for block in grid.blocks:
        if changes.adapter and (not staged or block.first or block.adapter):
            block = replace(block, adapter=changes.adapter, first=None)
        if changes.shots and (block.tunes or not tunes):
            block = replace(block, shots=changes.shots)
        block = replace(
            block,
            model=(changes.model or block.model) if named else (block.model or changes.model),
            seed=changes.seed or block.seed,
            train=changes.train or block.train,
            pool=changes.pool or block.pool,
            recipe_file=changes.recipe_file or block.recipe_file,
        )
        if block.first and changes.first:
            block = replace(block, first=_change_stage(block.first, changes.first))
        blocks.append(_change_settings(block, changes.settings))
    return replace(grid, blocks=tuple(blocks))


def expand(grid: Grid, dtype: DType = "auto", runs: Path | None = None, trust: Trust | None = None) -> list[Cell]:
    """All cells, each once for its block, in the order of the lists. `runs` is where tasks find runs of earlier stages,
    `trust` holds for all models.

    Raises BadSetting, UnknownName or NotApplicable, in one line, for anything that can be known to be wrong without
    data and models.
    """
    cells = [cell for block in grid.blocks for cell in _cells(block, dtype, runs, trust)]
    return list(dict.fromkeys(cells))


def said(settings: Settings) -> str:
    """`domain=book, readout=paper`."""
    return ", ".join(f"{name}={_text(value)}" for name, value in settings.items())


def _cells(block: Block, dtype: DType, runs: Path | None, trust: Trust | None) -> Iterator[Cell]:
    where = f"block {block.name!r} of the grid" if block.name else f"the block of the grid on {block.task!r}"
    kind = registry.task_kind(block.task)
    if not block.model:
        raise BadSetting(f"{where} has no model; name one with --model")
    if block.first and block.adapter:
        raise BadSetting(f"{where} has both adapter and first; an adapter is what an earlier stage would make")
    start = () if block.first is None else (_stage(block.first, where),)
    adapters: list[Path | None] = [Path(folder) for folder in _once(block.adapter)]
    models = [Model.parse(name, dtype=dtype, trust=trust) for name in _once(block.model)]
    _check_choice(block, models, where)
    for model in models:
        if is_baseline(model):
            if adapters or start:
                what = f"{model.engine}:{model.name} is no language model"
                raise BadSetting(f"{where}: {what}; give it a block of its own, without adapters and earlier stages")
            yield from _conventional(block, replace(model, dtype="auto"), where, runs)
            continue
        for test in block.test:
            task = _tested(kind, test, where, runs)
            plain = Cell(block.name, task, model, None, start, 0, None, _named(block.task, [test]), "")
            plain = replace(plain, choosing=_chosen(block, task, test, where, runs))
            if block.first is not None:
                plain = replace(plain, trained=_named(block.first.task, [block.first.set]))
            for adapter in adapters or [None]:
                for shots in _once(block.shots):
                    cell = replace(plain, adapter=adapter)
                    if shots == 0:
                        yield cell
                        continue
                    yield from _tuned(block, cell, shots, block.train or ((test,),), where)


def _conventional(block: Block, model: Model, where: str, runs: Path | None) -> Iterator[Cell]:
    """The cells of a baseline. The recipe of the block are its settings; it is trained on what it is tested on, without
    shots on all of it."""
    kind, group = registry.task_kind(block.task), registry.baseline_groups()[model.engine]
    who = f"{model.engine}:{model.name}"
    if block.recipe_file:
        raise BadSetting(f"{where}: a recipe file is for language models; write the settings of {who} as recipe")
    if block.train or block.pool != "train":
        raise BadSetting(
            f"{where}: {who} learns from the training split of what it is tested on; leave train and pool out"
        )
    recipe = _texts(block.recipe)
    for test in block.test:
        task = _tested(kind, test, where, runs)
        tested = _named(block.task, [test])
        for shots in _once(block.shots):
            for seed in _once(block.seed) if shots != 0 else [None]:
                drawn = {} if shots in (0, "all") else {"shots": str(shots)}
                settings = {**recipe, **drawn, **({} if seed is None else {"seed": str(seed)})}
                # Looked up now, so that a name or setting that there is not stops the grid before it starts.
                trains = group.find(model.name, task, "test", ModelSettings(settings)).trains
                yield Cell(
                    *(block.name, task, model, None, ()),
                    shots="all" if trains and shots == 0 else shots,
                    seed=seed,
                    tested=tested,
                    trained=tested if trains else "",
                    settings=tuple(settings.items()),
                )


def _tested(kind: type[Task], test: Settings, where: str, runs: Path | None) -> Task:
    return registry.build(kind, {**registry.told_runs(kind, runs), **_texts(test)}, f"test of {where}")


def _check_choice(block: Block, models: Sequence[Model], where: str) -> None:
    names, sample = " and ".join(block.choose), block.choose_sample
    wrong = {
        f"choose names {names}; it is for one option, others are set": len(block.choose) > 1,
        "choose_sample goes with choose, which names the option to choose": sample is not None and not names,
        "choose_sample should be at least 1": sample is not None and sample < 1,
        "it tunes on rows of the validation split (pool=valid), and cannot choose on it": (
            bool(names) and block.tunes and block.pool == "valid"
        ),
        "choose is for language models, and it has none; baselines answer any wording alike": (
            bool(names) and all(map(is_baseline, models))
        ),
    }
    for said, true in wrong.items():
        if true:
            raise BadSetting(f"{where}: {said}")


def _chosen(block: Block, task: Task, test: Settings, where: str, runs: Path | None) -> Choosing | None:
    given = {**registry.told_runs(type(task), runs), **_texts(test)}
    sample = Sample(block.choose_sample) if block.choose_sample is not None else None
    for option, named in block.choose.items():
        values = tuple(map(_text, named)) or None
        return choosing(task, given, option, values, f"choose of {where}", sample)
    return None


def _tuned(
    block: Block, plain: Cell, shots: Shots, trains: Sequence[tuple[Settings, ...]], where: str
) -> Iterator[Cell]:
    """The cells of one number of shots: what is tuned on, by seed."""
    kind = registry.task_kind(block.task)
    for train in trains:
        tasks = tuple(registry.build(kind, _texts(each), f"train of {where}") for each in train)
        file = Path(block.recipe_file) if block.recipe_file else None
        recipe = find_recipe(tasks[0], _texts(block.recipe), file)
        trained = ", then ".join(part for part in (plain.trained, _named(block.task, train)) if part)
        for seed in _once(block.seed):
            step = Step(tasks, recipe, _draw(shots, seed, block.pool, where))
            yield replace(plain, steps=(*plain.steps, step), shots=shots, seed=seed, trained=trained)


def _stage(stage: Stage, where: str) -> Step:
    what = f"the first stage of {where}"
    task = registry.build(registry.task_kind(stage.task), _texts(stage.set), what)
    file = Path(stage.recipe_file) if stage.recipe_file else None
    recipe = find_recipe(task, _texts(stage.recipe), file)
    if stage.shots == 0:
        raise BadSetting(f"{what} has 0 shots; leave the stage out")
    return Step((task,), recipe, _draw(stage.shots, stage.seed, stage.pool, what))


def _draw(shots: Shots, seed: int, pool: Pool, where: str) -> Draw:
    given = {"shots": "none" if shots == "all" else str(shots), "seed": str(seed), "pool": pool}
    return registry.build(Draw, given, where)


def _change_stage(stage: Stage, given: Mapping[str, str]) -> Stage:
    of_task, of_recipe = split_settings(registry.task_kind(stage.task), given)
    return replace(stage, set={**stage.set, **of_task}, recipe={**stage.recipe, **of_recipe})


def _change_settings(block: Block, given: Mapping[str, str]) -> Block:
    if not given:
        return block
    of_task, of_recipe = split_settings(registry.task_kind(block.task), given)
    return replace(
        block,
        test=tuple({**test, **of_task} for test in block.test),
        train=tuple(tuple({**of_task, **each} for each in choice) for choice in block.train),
        recipe={**block.recipe, **of_recipe},
    )


def _named(task: str, settings: Iterable[Settings]) -> str:
    """`domain=movie + domain=book`, or the task's name where no setting is said."""
    return " + ".join(said(each) or task for each in settings)


def _texts(settings: Settings) -> dict[str, str]:
    return {name: _text(value) for name, value in settings.items()}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _once(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
