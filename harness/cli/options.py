"""Options that several commands share, and options made from dataclass fields."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from harness.knobs import Knob, knobs
from harness.names import printable
from harness.types import SPLITS

if TYPE_CHECKING:
    from harness.task import Task

task_option = click.option("--task", "task_name", required=True, metavar="NAME", help="A task of `harness tasks`.")
set_option = click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the task; may be repeated."
)
split_option = click.option("--split", type=click.Choice(SPLITS), default="test", show_default=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
runs_option = click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder of all run directories.",
)


def tell(text: str) -> None:
    """Print what holds texts of strangers. A terminal is shown what would move its cursor, colours or direction of
    reading as it is spelt; a file or another program gets the very text."""
    shown = printable(text, lines=True) if sys.stdout.isatty() else text
    click.echo(shown, color=True)  # else it would take the colours out, and what a program reads would be another text


def from_fields(kind: type, into: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """One `--option` for every field of a dataclass, and the object made of them as the argument `into`.

    Name, type, default and sentence of an option are those of its field.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        fields = knobs(kind)

        @wraps(command)
        def packed(**given: Any) -> Any:
            made = kind(**{knob.name: given.pop(knob.name) for knob in fields})
            return command(**given, **{into: made})

        for knob in reversed(fields):
            option = click.option(
                f"--{knob.name.replace('_', '-')}",
                knob.name,
                is_flag=knob.type is bool,
                type=_click_type(knob),
                default=knob.default,
                show_default=knob.default is not None,
                help=knob.help[0].upper() + knob.help[1:] + ".",
            )
            packed = option(packed)
        return packed

    return decorate


def _click_type(knob: Knob) -> Any:
    """Click's reading of a field's type; `int | None` is an `int` that may be left out."""
    if knob.choices:
        return click.Choice(knob.choices)
    (kind,) = [t for t in get_args(knob.type) or (knob.type,) if t is not type(None)]
    if knob.low is None and knob.high is None:
        return kind
    if kind is int:
        low, high = (None if bound is None else int(bound) for bound in (knob.low, knob.high))
        return click.IntRange(low, high)
    return click.FloatRange(knob.low, knob.high)


def make_task(name: str, settings: tuple[str, ...], runs: Path | None = None) -> Task:
    """The task that is to be evaluated. `runs` is where it finds the runs of earlier stages, unless a setting says so.

    BadSetting: a setting is for tuning.
    """
    from harness import registry
    from harness.errors import BadSetting

    kind, given = registry.task_kind(name), registry.pairs(settings)
    options = {knob.name: knob for knob in knobs(kind)}
    if for_tuning := [option for option in given if option in options and options[option].tuning]:
        raise BadSetting(f"{for_tuning[0]} decides what is tuned on, and no evaluation; give it to `harness tune`")
    return registry.build(kind, {**registry.told_runs(kind, runs), **given}, f"task {name!r}")
