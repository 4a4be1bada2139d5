"""`harness tune`: make a model from a task's training texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import from_fields, task_option
from harness.errors import BadSetting
from harness.model import Model, Trust
from harness.tuning.recipe import Draw, Recipe, find_recipe, recipe_toml, split_settings

if TYPE_CHECKING:
    from harness.task import Task


@click.command()
@task_option
@click.option(
    "--set",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the task or a field of its recipe, as in epochs=5 or budget=ci; may be repeated.",
)
@click.option("--model", "model_name", metavar="BASE", help="The base: a hub id or folder.")
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a hub model.")
@click.option("--adapter", type=click.Path(path_type=Path), help="A LoRA to go on from: the second of two stages.")
@click.option("--recipe", type=click.Path(path_type=Path), metavar="FILE", help="A TOML file like the task's own.")
@from_fields(Draw, into="draw")
@click.option(
    "--also",
    multiple=True,
    metavar="NAME=VALUE",
    help="Joint training: as many rows again of the task with this option changed; may be repeated.",
)
@click.option("--template", metavar="raw|chat|FILE", help="How prompts are handed over.  [default: the task's]")
@click.option("--show-recipe", is_flag=True, help="Print the recipe that would be used, and do nothing.")
@click.option(
    "--from-scratch",
    metavar="PRESET",
    help="In place of all this, make a small model and its tokenizer from nothing: `tiny` or `tiny-t5`, in minutes.",
)
@click.option("--unlabelled", is_flag=True, help="From scratch, only texts without labels, of users in no split.")
@from_fields(Trust, into="trust")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; default: as many as there are cores.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the adapter or model.")
def tune(
    task_name: str,
    given: tuple[str, ...],
    model_name: str | None,
    revision: str | None,
    adapter: Path | None,
    recipe: Path | None,
    draw: Draw,
    also: tuple[str, ...],
    template: str | None,
    show_recipe: bool,
    from_scratch: str | None,
    unlabelled: bool,
    trust: Trust,
    threads: int | None,
    out: Path | None,
) -> None:
    """Fine-tune a model by the recipe of a task's paper and save an ordinary adapter or model folder.

    A kill loses at most the steps since the last validation; the same command goes on.
    """
    if from_scratch is not None:
        others = {
            "--model": model_name,
            "--adapter": adapter,
            "--recipe": recipe,
            "--also": also,
            "--shots": draw.shots,
        }
        if said := [option for option, value in others.items() if value]:
            raise BadSetting(f"{said[0]} does not go with --from-scratch, which starts from nothing")
        _from_scratch(task_name, given, from_scratch, out, unlabelled, draw.seed, threads)
        return
    if unlabelled:
        raise BadSetting("--unlabelled goes with --from-scratch only")
    tasks, chosen = _recipe(task_name, given, also, recipe)
    if show_recipe:
        click.echo(recipe_toml(chosen), nl=False)
        return
    if model_name is None:
        raise BadSetting("--model is missing: the base to tune, a hub id or folder")
    base = Model.parse(model_name, revision, trust=trust)
    _fine_tune(tasks, chosen, base, adapter, draw, template, out, threads)


def _recipe(
    task_name: str, given: tuple[str, ...], also: tuple[str, ...], file: Path | None
) -> tuple[tuple[Task, ...], Recipe]:
    from harness import registry
    from harness.tuning.spec import joint_tasks

    of_task, of_recipe = split_settings(registry.task_kind(task_name), registry.pairs(given))
    tasks = joint_tasks(task_name, of_task, [registry.pairs([changed]) for changed in also])
    return tasks, find_recipe(tasks[0], of_recipe, file)


def _fine_tune(
    tasks: tuple[Task, ...],
    recipe: Recipe,
    base: Model,
    adapter: Path | None,
    draw: Draw,
    template: str | None,
    out: Path | None,
    threads: int | None,
) -> None:
    from harness.tuning import job
    from harness.tuning.spec import Tuning

    if out is None:
        raise BadSetting("--out is missing: the folder for what is made")
    tuning = Tuning(tasks, base, recipe, draw, adapter, template)
    manifest = job.tune(tuning, out, lambda line: click.echo(line, err=True), threads)
    if manifest:  # only the first of several devices has one
        click.echo(_summary(out, manifest))


def _from_scratch(
    task: str, given: tuple[str, ...], preset: str, out: Path | None, unlabelled: bool, seed: int, threads: int | None
) -> None:
    from harness import registry
    from harness.tuning.scratch import train_from_scratch

    if out is None:
        raise BadSetting("--out is missing: the folder for the model")
    made = registry.task(task, given)
    manifest = train_from_scratch(made, preset, out, unlabelled=unlabelled, seed=seed, threads=threads)
    last = manifest["loss"][-1]["loss"] if manifest["loss"] else float("nan")
    kept = f"{manifest['rows']} texts" + (f" ({manifest['dropped']} too long)" if manifest["dropped"] else "")
    click.echo(f"{out}: {kept}, last loss {last:.3f}, {manifest['seconds']:.0f} s")


def _summary(out: Path, manifest: dict[str, Any]) -> str:
    rows = sum(one["pool"] if one["drawn"] == "all" else len(one["drawn"]) for one in manifest["rows"])
    selected = manifest["selected"]
    by = f", validation {selected['metric']} {selected['value']:.4f}" if "value" in selected else ""
    return f"{out}: {rows} texts, step {selected['step']}{by}, {manifest['seconds']:.0f} s"
