"""`harness leaderboard`: tables, a page and pictures from run directories."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import json_option, runs_option, tell

if TYPE_CHECKING:
    from leaderboard.sheet import Card, Sheet


@click.command()
@runs_option
@click.option("--task", metavar="NAME", help="Only this task.")
@click.option("--title", default="Leaderboard", show_default=True, help="What the page and the tables are called.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write the files here, too.")
@json_option
def leaderboard(runs: Path, task: str | None, title: str, out: Path | None, as_json: bool) -> None:
    """Compare all runs of the same questions, and stand them beside the papers' numbers.

    With --out: leaderboard.md, .csv, .tex, .json and .html, cards.md with what stands behind each number, and plots.
    """
    from harness.card import card
    from harness.errors import MissingData
    from harness.progress import progress_bar
    from leaderboard.build import sheet
    from leaderboard.collect import collect
    from leaderboard.sheet import Card
    from leaderboard.tables import as_json as tables_json
    from leaderboard.tables import markdown

    standings = collect(runs, task)
    if not standings:
        raise MissingData(f"no runs below {runs}; make one with `harness run`, or name their folder with --runs")
    sheets = []
    with progress_bar("comparing, tables", len(standings)) as bar:
        for standing in standings:
            sheets.append(sheet(standing))
            bar.advance()
    cards = [Card(str(entry.path), card(entry.path)) for standing in standings for entry in standing.entries]
    text = markdown(sheets, title)
    if as_json:
        click.echo(json.dumps(tables_json(sheets, cards), indent=2))
    else:
        tell(text.removesuffix("\n"))
    if out is not None:
        _write(out, sheets, cards, title, text)
        click.echo(f"written to {out}: leaderboard.md, .csv, .tex, .json, .html, cards.md and plots", err=True)


def _write(out: Path, sheets: Sequence[Sheet], cards: Sequence[Card], title: str, text: str) -> None:
    from harness.staging import put_in_place
    from harness.store import write_json
    from leaderboard.html import page
    from leaderboard.latex import latex
    from leaderboard.plots import pictures
    from leaderboard.tables import as_json, cards_markdown, frame, without_formulas

    with put_in_place(out) as stage:
        (stage / "leaderboard.md").write_text(text, "utf-8")
        (stage / "leaderboard.tex").write_text(latex(sheets), "utf-8")
        (stage / "leaderboard.html").write_text(page(sheets, cards, title), "utf-8")
        (stage / "cards.md").write_text(cards_markdown(cards), "utf-8")
        without_formulas(frame(sheets)).to_csv(stage / "leaderboard.csv", index=False)
        write_json(stage / "leaderboard.json", as_json(sheets, cards))
        for sheet in sheets:
            pictures(sheet, stage / f"{sheet.task}-{sheet.key}")
