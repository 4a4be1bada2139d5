"""`harness data`: which data sets there are, how they get onto this disk, and whether they are the official ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from harness.data.home import FileState
    from harness.data.sources import Source

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")


@click.group("data")
def data() -> None:
    """Data sets: what there is, how to get it, whether it is right."""


@data.command("list")
@as_json
def list_(as_json: bool) -> None:
    """Every data set, its licence, its origin and whether it is on this disk."""
    from harness.data.sources import sources

    rows = [
        {
            "name": declared.name,
            "title": declared.title,
            "status": _status(declared),
            "licence": declared.licence,
            "homepage": declared.homepage,
            "address": declared.address(declared.files[0]),
            "citation": declared.citation,
        }
        for declared in sources().values()
    ]
    _show(as_json, rows, ("name", "status", "licence", "homepage"))


@data.command()
@click.argument("name")
@click.option(
    "--from",
    "folder",
    type=click.Path(path_type=Path),
    help="A folder with the official files (plain, .gz or the official zip), or that zip.",
)
@as_json
def fetch(name: str, folder: Path | None, as_json: bool) -> None:
    """Put the files of data set NAME in place and verify them."""
    from harness.data.fetch import fetch as fetch_files

    done = fetch_files(name, folder)
    if as_json:
        _print_json(
            {
                "name": done.name,
                "folder": str(done.folder),
                "fetched": list(done.fetched),
                "kept": list(done.kept),
                "absent": list(done.absent),
            }
        )
        return
    parts = (("fetched", done.fetched), ("kept", done.kept), ("not available, not required", done.absent))
    click.echo(f"{name}: " + "; ".join(f"{what} {', '.join(files)}" for what, files in parts if files))
    click.echo(f"in {done.folder}")


@data.command()
@click.argument("name", required=False)
@as_json
def verify(name: str | None, as_json: bool) -> None:
    """Compare the files of data set NAME, or of all that are here, with the official sizes and checksums."""
    from harness.data.home import verify as verify_files
    from harness.data.sources import source, sources

    names = [source(name).name] if name else list(sources())
    found = [(each, state) for each in names for state in verify_files(each)]
    rows = [
        {
            "name": each,
            "file": s.file,
            "state": s.state,
            "required": s.required,
            "path": str(s.path),
            "detail": s.detail,
        }
        for each, s in found
    ]
    _show(as_json, rows, ("name", "file", "state", "detail"))
    _raise_faults(found, name)


@data.command()
@click.argument("name")
@as_json
def stats(name: str, as_json: bool) -> None:
    """Users, items, interactions, density, histories, ratings and times of data set NAME."""
    numbers = _prompts() if name == "tallrec-book" else _statistics(name)
    if as_json:
        _print_json({"name": name, **numbers})
        return
    width = max(map(len, numbers))
    for key, value in numbers.items():
        shown = _day(value) if key in ("first_time", "last_time") and value is not None else _plain(value)
        click.echo(f"{key:<{width}}  {shown}")


def _statistics(name: str) -> dict[str, Any]:
    from dataclasses import asdict

    from harness.data import load

    dataset = load(name)
    return {"digest": dataset.digest, **asdict(dataset.statistics())}


def _prompts() -> dict[str, Any]:
    from harness.data.home import where
    from harness.data.readers import tallrec_book
    from harness.errors import MissingData
    from harness.types import SPLITS

    numbers: dict[str, Any] = {}
    for split in SPLITS:
        try:
            where(tallrec_book.NAME, f"{split}.json")
        except MissingData:
            if split != "train":  # the only file that a fetch may leave out
                raise
            continue
        records = tallrec_book.read(split)
        numbers[split] = {"records": len(records), "yes": sum(record.output == "Yes." for record in records)}
    return numbers


def _status(declared: Source) -> str:
    """`present`, `embedded` in an installed package, or `missing`; says nothing of checksums, so it is quick."""
    from harness.data.home import embedded_folder, present

    if present(declared):
        return "present"
    return "embedded" if embedded_folder(declared) else "missing"


def _raise_faults(found: Sequence[tuple[str, FileState]], asked: str | None) -> None:
    """A wrong file is an error always, a missing one only where its data set was asked for."""
    from harness.data.sources import source
    from harness.errors import BadData, MissingData

    wrong = [(name, state) for name, state in found if state.state == "bad"]
    if wrong:
        name, state = wrong[0]
        raise BadData(f"{state.path} is not the official file: {state.detail}; {source(name).remedy}")
    lost = [(name, state) for name, state in found if state.state == "missing" and state.required]
    if asked and lost:
        name, state = lost[0]
        raise MissingData(f"{state.path} is not there; {source(name).remedy}")


def _show(as_json: bool, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    if as_json:
        _print_json(rows)
        return
    widths = [max(len(column), *(len(str(row[column])) for row in rows)) for column in columns]
    for cells in (columns, *([str(row[column]) for column in columns] for row in rows)):
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip())


def _print_json(value: object) -> None:
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _day(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(each)}" for key, each in value.items()) or "none"
    if isinstance(value, tuple):
        return ", ".join(f"{key:g}: {count:,}" for key, count in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
