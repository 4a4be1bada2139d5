"""`harness grid`: shots, seeds, adapters and models as one table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from harness.cli.options import from_fields, json_option, runs_option, split_option
from harness.executors import Spread
from harness.model import DType, EngineOptions, Trust

if TYPE_CHECKING:
    from harness.grid.cells import Changes
    from harness.grid.declared import Grid, Settings, Shots
    from harness.grid.run import Finished, How
    from leaderboard.grid import Section

FOLDER = click.Path(path_type=Path, file_okay=False)


CHANGES = (
    click.option("--model", multiple=True, metavar="MODEL", help="A base model, or a baseline as in simple:random."),
    click.option("--shots", multiple=True, metavar="K|all", help="Rows to tune on; 0 is the model as it is."),
    click.option("--seed", multiple=True, type=click.IntRange(min=0), help="Draws the rows and seeds the training."),
    click.option("--adapter", multiple=True, metavar="DIR", help="A LoRA to evaluate, or with --shots to go on from."),
    click.option(
        "--train",
        multiple=True,
        metavar="SETTINGS",
        help="What to tune on, if not what is tested: domain=book; domain=movie+domain=book for both together.",
    ),
    click.option("--pool", type=click.Choice(["train", "valid"]), help="Where rows come from."),
    click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Of the task, or of its recipe."),
    click.option("--first-set", "first", multiple=True, metavar="NAME=VALUE", help="The same for the stage before."),
    click.option("--recipe", "recipe_file", metavar="FILE", help="A recipe in place of the task's own."),
)
"""What takes the place of an axis of the grid."""


def _changes(command: Any) -> Any:
    """The options of `CHANGES`, packed as the argument `changes`."""

    @wraps(command)
    def packed(**given: Any) -> Any:
        from harness import registry
        from harness.grid.cells import Changes

        changes = Changes(
            model=given.pop("model"),
            shots=tuple(map(_shots, given.pop("shots"))),
            seed=given.pop("seed"),
            adapter=given.pop("adapter"),
            train=tuple(map(_train, given.pop("train"))),
            pool=given.pop("pool"),
            settings=registry.pairs(given.pop("settings")),
            first=registry.pairs(given.pop("first")),
            recipe_file=given.pop("recipe_file"),
        )
        return command(**given, changes=changes)

    for option in reversed(CHANGES):
        packed = option(packed)
    return packed


@click.command()
@click.argument("which", required=False, metavar="[FILE.toml|SUITE]")
@click.option("--task", "task_name", metavar="NAME", help="A grid of one block, made of the options below.")
@_changes
@click.option("--dtype", type=click.Choice(get_args(DType)), default="auto", show_default=True)
@split_option
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Ask only N instances, drawn by --sample-seed.")
@click.option("--sample-seed", type=int, default=0, show_default=True)
@runs_option
@click.option("--tuned", type=FOLDER, default=Path("tuned"), show_default=True, help="Folder of all tuned adapters.")
@click.option("--out", type=FOLDER, help="Write grid.md, grid.csv and grid.svg here, too.")
@click.option("--plan", "only_plan", is_flag=True, help="Print the cells and what each still needs; do nothing.")
@click.option("--no-cache", is_flag=True, help="Neither read nor write the response cache.")
@json_option
@from_fields(Trust, into="trust")
@from_fields(EngineOptions, into="options")
@from_fields(Spread, into="spread")
def grid(
    which: str | None,
    task_name: str | None,
    changes: Changes,
    dtype: DType,
    split: Any,
    sample: int | None,
    sample_seed: int,
    runs: Path,
    tuned: Path,
    out: Path | None,
    only_plan: bool,
    no_cache: bool,
    as_json: bool,
    trust: Trust,
    options: EngineOptions,
    spread: Spread,
) -> int:
    """Evaluate shots x seeds x adapters x models, each base model loaded once; without arguments, list the suites.

    Options take the place of what the file or suite says. Exit code 1: a cell failed, the others are complete.
    """
    if which is None and task_name is None:
        return _list()
    from harness.executors.opening import executor
    from harness.grid.cells import change, expand
    from harness.grid.run import How, run_grid
    from harness.signature import Sample
    from harness.tuning.job import tune

    declared = change(_declared(which, task_name), changes)
    cells = expand(declared, dtype, runs, trust)
    drawn = Sample(sample, sample_seed) if sample is not None else None
    how = How(
        split=split, sample=drawn, options=options, runs=runs, tuned=tuned, cache=spread.one_machine and not no_cache
    )
    if only_plan:
        return _plan(cells, how)
    with executor(spread, options, _say) as working:
        finished = run_grid(cells, how, _say, tune, working)
    _report(declared.title, finished, how, out, as_json)
    return 1 if finished.failed else 0


def _say(line: str) -> None:
    click.echo(line, err=True)


def _declared(which: str | None, task_name: str | None) -> Grid:
    from harness import registry
    from harness.grid.declared import Block, Grid, read_grid

    if which is None:
        return Grid("", (Block(task_name or ""),))
    if task_name is not None:
        raise click.UsageError(f"--task is for a grid of its own; {which} names its tasks itself")
    if which.endswith(".toml"):
        return read_grid(Path(which))
    suite: Grid = registry.suite(which)
    return suite


def _list() -> int:
    from harness import registry

    for name, suite in registry.suites().items():
        click.echo(f"{name:<26} {suite.title}")
    click.echo("run one with `harness grid SUITE --model BASE`, a file with `harness grid FILE.toml`")
    return 0


def _plan(cells: Sequence[Any], how: How) -> int:
    from harness.grid.run import plan

    found = plan(cells, how)
    width = max(len(state.split(":")[0]) for _, state in found)
    for cell, state in found:
        short, _, why = state.partition(": ")
        click.echo(f"{short:<{width}}  {cell}" + (f": {why}" if why else ""))
    states = [state.split(":")[0] for _, state in found]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    click.echo(f"{len(found)} cells: {counts}", err=True)
    return 0


def _report(title: str, finished: Finished, how: How, out: Path | None, as_json: bool) -> None:
    import json

    from leaderboard.grid import markdown, records, sections

    found = sections(finished.outcomes, how.split, how.sample)
    text = markdown(title or "Grid", found)
    if out is not None:
        _write(out, text, found)
    if as_json:
        cells = [
            {"cell": str(o.cell), "run": str(o.run) if o.run else None, "failure": o.failure} for o in finished.outcomes
        ]
        click.echo(json.dumps({"rows": records(found), "cells": cells, "engine_starts": finished.starts}, indent=2))
    else:
        click.echo(text, nl=False)
    for outcome in finished.failed:
        click.echo(f"failed: {outcome.cell}: {outcome.failure}", err=True)
    done, starts = len(finished.outcomes) - len(finished.failed), finished.starts
    plural = "" if starts == 1 else "s"
    said = f"{len(finished.outcomes)} cells: {done} complete, {len(finished.failed)} failed"
    click.echo(f"{said}; {starts} engine start{plural}", err=True)


def _write(out: Path, text: str, found: Sequence[Section]) -> None:
    from harness.staging import put_in_place
    from leaderboard.grid import frame
    from leaderboard.grid_plot import plot_grid
    from leaderboard.tables import without_formulas

    with put_in_place(out) as stage:
        (stage / "grid.md").write_text(text, "utf-8")
        without_formulas(frame(found)).to_csv(stage / "grid.csv", index=False)
        plot_grid(found, stage / "grid.svg")


def _shots(text: str) -> Shots:
    if text == "all":
        return "all"
    if not text.isdecimal():
        raise click.UsageError(f"--shots {text!r} is neither a number nor all")
    return int(text)


def _train(text: str) -> tuple[Settings, ...]:
    """`domain=movie,readout=paper+domain=book`: settings of a task, and of a second one for joint training."""
    from harness import registry

    return tuple(registry.pairs(each.split(",")) for each in text.split("+"))
