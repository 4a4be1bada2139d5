"""Names to things, through entry points only: a built-in task has no door that a stranger's lacks.

harness.tasks       a `Task` subclass
harness.engines     a `load(checkpoint, adapters, options)` that returns a `LoadedModel`
harness.baselines   a `Baselines` group; `--model GROUP:NAME` names one of it
harness.suites      a `harness.grid.declared.Grid`; `harness grid NAME` runs it
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_args

from harness.engines import Engine
from harness.errors import BadSetting, HarnessError, UnknownName
from harness.knobs import Knob, knobs
from harness.model import EngineOptions, ModelSettings
from harness.task import Task
from harness.types import Split

T = TypeVar("T")
DEEPEST = 20
"""Tables and lists within each other in a TOML file; what reads them goes down one by one."""


@dataclass(frozen=True)
class Baseline:
    """A model that needs no prompt, looked up but not made."""

    name: str
    """As tables show it, with its group in front."""
    who: Mapping[str, Any]
    """What decides its answers, besides the task: part of a run's identity."""
    make: Callable[[EngineOptions], Engine]
    """Trains or loads it, so that it is ready to answer; NotApplicable if the protocol cannot give what it needs."""
    trains: bool = False
    """Whether it learns from the task's training split, so that a seed changes its answers."""


class Baselines(Protocol):
    """A family of models that need no prompt."""

    @property
    def names(self) -> Mapping[str, str]:
        """Name to one sentence, for people; `find` may know more names."""
        ...

    def find(self, name: str, task: Task, split: Split, settings: ModelSettings) -> Baseline:
        """One of the family. BadModel or BadSetting, in one line, for a name or setting that there is not."""
        ...


def _entries(group: str) -> EntryPoints:
    return _looked_up(group, tuple(sys.path))


@cache
def _looked_up(group: str, path: tuple[str, ...]) -> EntryPoints:
    """Looking through all that is installed on this path takes milliseconds, and a grid asks for every cell."""
    return entry_points(group=group)


def task_kinds() -> dict[str, type[Task]]:
    """Every registered task, by name."""
    return {entry.name: entry.load() for entry in sorted(_entries("harness.tasks"), key=lambda e: e.name)}


def task_kind(name: str) -> type[Task]:
    found: type[Task] = _load("harness.tasks", "task", name)
    return found


def task(name: str, settings: Sequence[str] = ()) -> Task:
    """`task("tallrec", ["domain=book"])`: the registered class with typed settings."""
    return build(task_kind(name), pairs(settings), f"task {name!r}")


def told_runs(kind: type[Task], runs: Path | None) -> dict[str, str]:
    """The setting that tells a task where runs of earlier stages lie, if it has any and this is said."""
    return {"runs": str(runs)} if runs is not None and any(k.name == "runs" for k in knobs(kind)) else {}


def engine_names() -> list[str]:
    return sorted(entry.name for entry in _entries("harness.engines"))


def engine_loader(name: str) -> Any:
    return _load("harness.engines", "engine", name)


def suites() -> dict[str, Any]:
    """Every registered grid, by name."""
    return {entry.name: entry.load() for entry in sorted(_entries("harness.suites"), key=lambda e: e.name)}


def suite(name: str) -> Any:
    return _load("harness.suites", "suite", name)


def baseline_groups() -> dict[str, Baselines]:
    """Every registered group of baselines, by name."""
    entries = sorted(_entries("harness.baselines"), key=lambda e: e.name)
    return {entry.name: entry.load() for entry in entries}


def pairs(settings: Sequence[str]) -> dict[str, str]:
    """`["a=1"]` to `{"a": "1"}`."""
    found: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise BadSetting(f"setting {setting!r} is not of the form NAME=VALUE")
        if key in found:
            raise BadSetting(f"setting {key!r} is given twice")
        found[key] = value
    return found


def build(kind: type[T], given: Mapping[str, str], what: str) -> T:
    """A dataclass from text values, each checked against its field's type and range; `none` is None where allowed."""
    from pydantic import TypeAdapter, ValidationError  # here, because `harness --help` has no need of it

    known = {k.name: k for k in knobs(kind)}
    for key in given:
        if key not in known:
            raise BadSetting(unknown(f"setting of {what}", key, sorted(known)))
    values: dict[str, Any] = {}
    for name, text in given.items():
        field = known[name]
        if (choice := next((c for c in field.choices if str(c) == text), None)) is not None:
            values[name] = choice
            continue
        if text == "none" and type(None) in get_args(field.type):
            values[name] = None
            continue
        try:
            values[name] = TypeAdapter(field.type).validate_strings(text)
            _check_range(field, values[name])
        except ValidationError as error:
            should = error.errors(include_url=False)[0]["msg"].removeprefix("Input ")
            if field.choices:
                should = f"should be one of {', '.join(map(str, field.choices))}"
            raise BadSetting(f"{what}: {name}={text!r} {should}") from None
        except ValueError as error:
            raise BadSetting(f"{what}: {name}={text!r} {error}") from None
    return kind(**values)


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """`no task 'talrec'; did you mean 'tallrec'?`"""
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(known) or 'none'}"
    return f"no {what} {name!r}; {hint}"


def read_toml(
    text: str, where: str, keys: Sequence[str] = (), error: type[HarnessError] = BadSetting
) -> dict[str, Any]:
    """The content of a TOML file with no other `keys` at its top than these; without any, all are well. Raises `error`
    in one line, which begins with `where`."""
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise error(f"{where} is nested too deeply") from None
    except ValueError as wrong:  # not TOML, or a number of thousands of digits
        raise error(f"{where} is not TOML: {wrong}") from None
    if _is_deeper(found, DEEPEST):
        raise error(f"{where} is nested too deeply")
    for key in found if keys else ():
        if key not in keys:
            raise error(f"{where}: {unknown('key', key, keys)}")
    return found


def _is_deeper(value: object, most: int) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return most < 0 or any(_is_deeper(part, most - 1) for part in parts)


def _check_range(field: Knob, value: Any) -> None:
    if field.low is not None and value < field.low:
        raise ValueError(f"should be at least {field.low}")
    if field.high is not None and value > field.high:
        raise ValueError(f"should be at most {field.high}")


def _load(group: str, what: str, name: str) -> Any:
    found = _entries(group)
    matches = [entry for entry in found if entry.name == name]
    if len(matches) > 1:
        raise UnknownName(f"{what} {name!r} is claimed by {' and '.join(entry.value for entry in matches)}")
    if not matches:
        raise UnknownName(unknown(what, name, sorted(found.names)))
    return matches[0].load()
