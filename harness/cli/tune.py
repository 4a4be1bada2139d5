"""`harness tune`: make a model from a task's training texts."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import make_task, set_option, task_option


@click.command()
@task_option
@set_option
@click.option(
    "--from-scratch",
    "recipe",
    required=True,
    metavar="RECIPE",
    help="Train a small model and its tokenizer from nothing; `tiny` takes minutes on two cores.",
)
@click.option("--unlabelled", is_flag=True, help="Only texts without preference labels, of users in no split.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; default: as many as there are cores.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the model.")
def tune(
    task_name: str,
    settings: tuple[str, ...],
    recipe: str,
    unlabelled: bool,
    seed: int,
    threads: int | None,
    out: Path,
) -> None:
    """Train a model on a task's training texts and save an ordinary Hugging Face folder."""
    from harness.scratch import train_from_scratch

    task = make_task(task_name, settings)
    manifest = train_from_scratch(task, recipe, out, unlabelled=unlabelled, seed=seed, threads=threads)
    last = manifest["loss"][-1]["loss"] if manifest["loss"] else float("nan")
    click.echo(f"{out}: {manifest['rows']} texts, last loss {last:.3f}, {manifest['seconds']:.0f} s")
