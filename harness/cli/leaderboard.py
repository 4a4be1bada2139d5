"""`harness leaderboard`: tables and pictures from run directories."""

from __future__ import annotations

import re
from pathlib import Path

import click

from harness.cli.options import runs_option


@click.command()
@runs_option
@click.option("--task", metavar="NAME", help="Only this task.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write the files here, too.")
def leaderboard(runs: Path, task: str | None, out: Path | None) -> None:
    """Compare all runs of the same questions; write markdown, CSV and plots with --out."""
    from harness.errors import MissingData
    from leaderboard.collect import collect
    from leaderboard.tables import frame, markdown

    standings = collect(runs, task)
    if not standings:
        raise MissingData(f"no runs below {runs}; make one with `harness run`, or name their folder with --runs")
    text = markdown(standings)
    click.echo(text, nl=False)
    if out is None:
        return
    from harness.store import plain_disk_errors
    from leaderboard.plots import plot

    with plain_disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / "leaderboard.md").write_text(text, "utf-8")
        frame(standings).to_csv(out / "leaderboard.csv", index=False)
        for standing in standings:
            words = re.findall(r"\w+", standing.title)
            plot(standing, out / "-".join([*words, standing.key]))
    click.echo(f"written to {out}: leaderboard.md, leaderboard.csv and a plot for each table", err=True)
