"""`harness rescore`: scores made anew from what is on record."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli.options import json_option


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@json_option
def rescore(paths: tuple[Path, ...], as_json: bool) -> None:
    """Make the scores of runs anew from their records, and say what changed; no model is asked and no data read.

    A RUN may be a folder of runs. Nothing is written unless all of them can be scored.
    """
    from harness.report import runs_below
    from harness.rescoring import rescorable
    from harness.rescoring import rescore as rescore_run

    runs = [run for path in paths for run in runs_below(path)]
    for run in runs:
        rescorable(run)
    found = {run: rescore_run(run) for run in runs}
    if as_json:
        click.echo(json.dumps([{"run": str(run), **made._asdict()} for run, made in found.items()], indent=2))
        return
    for run, made in found.items():
        click.echo(f"{run}: {'scores.json written' if made.changed else 'nothing changed'}")
        for line in made.changed:
            click.echo(f"  {line}")
        for name in made.lacking:
            click.echo(f"  {name} is not on record: it needs the data, so give the command of the run again")
        for name in made.kept:
            click.echo(f"  {name} is no metric of the task any more; kept as it was")
