"""`harness export`: what others read of runs; so far the evaluation block of a Hugging Face model card."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("export")
@click.argument("paths", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["model-index"]), default="model-index", show_default=True)
@click.option("--name", help="The model's name on the card.  [default: the card's, or the one that the runs have]")
@click.option("--url", help="Where the results can be looked up: becomes their source.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="README.md",
    help="A model card whose front matter is brought up to date.  [default: print the block]",
)
def export_runs(paths: tuple[Path, ...], form: str, name: str | None, url: str | None, out: Path | None) -> None:
    """Write the scores of one model's complete runs as the front matter of its model card (model-index)."""
    from harness.model_index import front_matter, index, write

    if name is not None and not name.strip():
        raise click.UsageError("--name is empty; leave it out for the name that the runs have")
    found = index(paths, name, url)
    for line in found.left_out:
        click.echo(line, err=True)
    if out is None:
        click.echo(front_matter(found), nl=False)
        return
    write(out, found, renamed=name is not None)
    click.echo(f"{out}: {len(found.results)} results of {found.name}", err=True)
