"""`harness data export`: a task's splits in the format of its paper."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import make_task, set_option, task_option
from harness.types import SPLITS, Split


@click.command()
@task_option
@set_option
@click.option("--format", "form", type=click.Choice(["paper"]), default="paper", show_default=True)
@click.option("--split", "splits", type=click.Choice(SPLITS), multiple=True, help="May be repeated.  [default: all]")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
def export(task_name: str, settings: tuple[str, ...], form: str, splits: tuple[Split, ...], out: Path) -> None:
    """Write a task's splits as its paper has them, with their git blob hashes, and what the paper counts of them."""
    from hashlib import sha1

    from harness.store import plain_disk_errors

    task = make_task(task_name, settings)
    for split in splits or task.exported:
        name, content = task.export(split)
        with plain_disk_errors(out):
            out.mkdir(parents=True, exist_ok=True)
            partial = out / f"{name}.partial"
            partial.write_bytes(content)
            partial.replace(out / name)
        blob = sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        click.echo(f"{out / name}  {len(content):,} bytes  git blob {blob}")
        for what, count in task.counts(split).items():
            click.echo(f"{what:24}{count:>12,}")
