"""`harness cache`: what models answered before, how much of it there is, and an end of it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli.options import json_option

EXIT_CODE = 1
"""Of `verify` where an entry was spoilt."""


@click.group("cache")
def cache() -> None:
    """Answers that are kept, so that no model is asked the same question twice."""


@cache.command()
@json_option
def stats(as_json: bool) -> None:
    """Where the answers are, how many, and how much room they take."""
    from harness.engines.cache_care import state

    path = _path()
    found = state(path)
    if as_json:
        click.echo(json.dumps({"path": str(path), **found._asdict()}, indent=2))
        return
    click.echo(f"{path}: {_answers(found.entries)}, {_room(found.bytes)}")
    for kind, count in found.kinds.items():
        click.echo(f"  {kind}: {count:,}")


@cache.command()
@json_option
def verify(as_json: bool) -> None:
    """Read every answer and remove those that are spoilt; they are asked again.

    The exit code is 1 if any was spoilt.
    """
    from harness.engines.cache_care import verify as read_all

    path = _path()
    found = read_all(path)
    if as_json:
        click.echo(json.dumps({"path": str(path), **found._asdict()}, indent=2))
    else:
        click.echo(f"{path}: {_answers(found.checked)} read, {found.spoilt:,} spoilt and removed")
    if found.spoilt:
        raise click.exceptions.Exit(EXIT_CODE)


@cache.command()
@click.option("--yes", is_flag=True, help="Do not ask first.")
def clear(yes: bool) -> None:
    """Remove every answer. Runs that are under way go on, and keep what they are answered from now on."""
    from harness.engines.cache_care import clear as remove_all

    path = _path()
    if not yes and not click.confirm(f"Remove all answers in {path}?", err=True):
        click.echo("nothing removed", err=True)
        return
    count = remove_all(path)
    click.echo(f"{path} removed" if count is None else f"{path}: {_answers(count)} removed")


def _path() -> Path:
    from harness.data.home import home
    from harness.engines.cache import FILE

    return home() / FILE


def _answers(count: int) -> str:
    return f"{count:,} answer" + "s" * (count != 1)


def _room(size: int) -> str:
    """Bytes as people read them: `12.3 MiB`."""
    return f"{size / 2**20:,.1f} MiB"
