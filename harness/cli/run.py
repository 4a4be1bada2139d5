"""`harness run`: evaluate a model on a task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from harness.cli.options import (
    from_fields,
    json_option,
    make_task,
    runs_option,
    set_option,
    split_option,
    task_option,
    tell,
)
from harness.executors import Spread
from harness.model import DType, EngineOptions, Model, ModelSettings, Trust

if TYPE_CHECKING:
    from harness.choice import Choosing
    from harness.signature import Sample
    from harness.task import Task


@click.command()
@task_option
@set_option
@click.option(
    "--model",
    "model_name",
    required=True,
    metavar="MODEL",
    help="A hub id or folder, vllm:… or hf:… to choose the engine, remote:NAME behind a server, or a baseline as in "
    "simple:random.",
)
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A LoRA folder; several share the one loaded model, one run each.",
)
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a hub model.")
@click.option("--dtype", type=click.Choice(get_args(DType)), default="auto", show_default=True)
@click.option("--template", metavar="raw|chat|FILE", help="How prompts are handed over.  [default: the task's]")
@click.option(
    "--model-set",
    "model_settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of a trained baseline, such as learning_rate=0.01; may be repeated.",
)
@click.option(
    "--model-config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The same from a TOML file.",
)
@split_option
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Ask only N instances, drawn by --sample-seed.")
@click.option("--sample-seed", type=int, default=0, show_default=True)
@click.option(
    "--choose",
    multiple=True,
    metavar="NAME[=V1,V2,...]",
    help="Choose this option of the task on validation, of these values.  [default: the task's alternatives]",
)
@click.option(
    "--choose-sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="Choose on at most N validation instances.  [default: as --sample]",
)
@runs_option
@click.option("--run-dir", type=click.Path(path_type=Path), help="This very directory for the run.")
@click.option("--no-cache", is_flag=True, help="Neither read nor write the response cache.")
@json_option
@from_fields(Trust, into="trust")
@from_fields(EngineOptions, into="options")
@from_fields(Spread, into="spread")
def run(
    task_name: str,
    settings: tuple[str, ...],
    model_name: str,
    adapters: tuple[Path, ...],
    revision: str | None,
    dtype: DType,
    template: str | None,
    model_settings: tuple[str, ...],
    model_config: Path | None,
    split: Any,
    sample: int | None,
    sample_seed: int,
    choose: tuple[str, ...],
    choose_sample: int | None,
    runs: Path,
    run_dir: Path | None,
    no_cache: bool,
    as_json: bool,
    trust: Trust,
    options: EngineOptions,
    spread: Spread,
) -> None:
    """Evaluate a model on a task; what is done already is not asked again."""
    from harness import registry
    from harness.evaluation import perform
    from harness.executors.opening import executor
    from harness.job import Job
    from harness.signature import Sample

    task = make_task(task_name, settings, runs)
    job = Job(
        task=task,
        model=Model.parse(model_name, revision, dtype, trust),
        adapters=adapters,
        split=split,
        sample=Sample(sample, sample_seed) if sample is not None else None,
        template=template,
        options=options,
        settings=ModelSettings(registry.pairs(model_settings), model_config),
        runs=runs,
        run_dir=run_dir,
        cache=spread.one_machine and not no_cache,
        choosing=_choosing(task, settings, runs, choose, Sample(choose_sample, sample_seed) if choose_sample else None),
    )
    with executor(spread, options, _say) as working:
        paths = perform(job, _say, working)
    _print(paths, as_json)


def _print(paths: Sequence[Path], as_json: bool) -> None:
    from harness import choice
    from harness.report import run_table
    from harness.store import read_scores

    if as_json:
        found = [{"run": str(path), "scores": read_scores(path), "chosen": choice.as_json(path)} for path in paths]
        click.echo(json.dumps(found, indent=2))
        return
    tell("\n".join(run_table(path) for path in paths))


def _say(line: str) -> None:
    click.echo(line, err=True)


def _choosing(
    task: Task, settings: tuple[str, ...], runs: Path, choose: tuple[str, ...], sample: Sample | None
) -> Choosing | None:
    """What `--choose` means; None without it."""
    from harness import registry
    from harness.choice import choosing

    if not choose:
        if sample is not None:
            raise click.UsageError("--choose-sample goes with --choose, which names the option to choose")
        return None
    if len(choose) > 1:
        raise click.UsageError("--choose is for one option; give the others with --set")
    option, named, values = choose[0].partition("=")
    given = {**registry.told_runs(type(task), runs), **registry.pairs(settings)}
    return choosing(task, given, option, values.split(",") if named else None, "--choose", sample)
