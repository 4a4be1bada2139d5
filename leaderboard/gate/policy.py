"""A policy says how much worse a new checkpoint may be: a TOML file of checks, one metric each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from math import inf
from pathlib import Path
from typing import Any, Literal

from harness import registry
from harness.errors import BadSetting

Tier = Literal["must", "should", "watch"]
Direction = Literal["higher", "lower"]
DEFAULT = "default"
HEADLINE = "headline"
"""Stands for the first metric of whatever task it is."""


@dataclass(frozen=True)
class Check:
    """One metric, and how far it may fall behind. A drop is a change for the worse, whichever way the metric points."""

    metric: str
    """Of the task, or `headline`, `failure_rate`, `parse_rate`, `latency`."""
    max_drop: float | None = None
    """In the metric's own unit;"""
    max_relative_drop: float | None = None
    """or as a share of the old score. Exactly one of the two is given."""
    tier: Tier = "must"
    """`must`: in doubt it holds the release up. `should`: only a drop that is shown does. `watch`: never decides."""
    task: str | None = None
    """The only task that it is for; None is every task."""
    confidence: float | None = None
    """None is the policy's."""
    direction: Direction | None = None
    """Which way is better; None is what the metric says. Needed where the metric says nothing."""

    def limit(self, old: float) -> float:
        """The largest allowed drop from this score, in the metric's own unit; nan if it is a share of nan."""
        return (self.max_drop or 0.0) if self.max_relative_drop is None else self.max_relative_drop * abs(old)


@dataclass(frozen=True)
class Policy:
    checks: tuple[Check, ...]
    source: str
    """The file that it was read from."""
    confidence: float = 0.95
    """Of each check, one-sided."""
    power: float = 0.8
    """With which the minimum detectable effect would be detected."""

    def level(self, check: Check) -> float:
        """Of the two-sided interval that decides a check: a one-sided test at 0.95 reads the interval of 0.90."""
        return 2 * self.sure(check) - 1

    def sure(self, check: Check) -> float:
        return self.confidence if check.confidence is None else check.confidence

    def of_task(self, task: str) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.task in (None, task))


def default_text() -> str:
    """The policy where none is named."""
    return (files("leaderboard") / "policies" / f"{DEFAULT}.toml").read_text("utf-8")


def read_policy(file: Path | None) -> Policy:
    """The policy in a TOML file, or the default one; BadSetting in one line for whatever is wrong with it."""
    if file is None:
        return parse_policy(default_text(), DEFAULT)
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError:
        raise BadSetting(f"policy {file} is not text in UTF-8") from None
    except OSError as error:
        raise BadSetting(f"policy {file} cannot be read: {error.strerror or error}") from None
    return parse_policy(text, str(file))


def parse_policy(text: str, where: str) -> Policy:
    """The same from text; `where` names it in errors."""
    found = registry.read_toml(text, f"policy {where}", ["confidence", "power", "check"])
    tables = found.get("check")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise BadSetting(f"policy {where} has no check; write [[check]] above metric and max_drop")
    checks = tuple(_check(table, f"policy {where}, check {n}") for n, table in enumerate(tables, 1))
    numbers = {
        key: _share(found[key], f"policy {where}: {key}", at_least)
        for key, at_least in (("confidence", 0.5), ("power", 0.0))
        if key in found
    }
    _distinct(checks, where)
    return Policy(checks, where, **numbers)


def _check(table: Mapping[str, Any], where: str) -> Check:
    from pydantic import TypeAdapter, ValidationError  # here, because `harness --help` has no need of it

    names = [f.name for f in fields(Check)]
    if isinstance(table.get("metric"), str):
        where += f" ({table['metric']})"
    for key in table:
        if key not in names:
            raise BadSetting(f"{where}: {registry.unknown('field', key, names)}")
    try:
        # By way of JSON, where strict means what TOML means: no text for a number, no true for a 1.
        check: Check = TypeAdapter(Check).validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0])
        said = "is missing" if first["type"] == "missing" else first["msg"].removeprefix("Input ")
        raise BadSetting(f"{where}: {field} {said}") from None
    if (check.max_drop is None) == (check.max_relative_drop is None):
        raise BadSetting(f"{where}: give one of max_drop and max_relative_drop")
    if check.max_drop is not None and not 0 <= check.max_drop < inf:
        raise BadSetting(f"{where}: max_drop should be a number from 0 on")
    if check.max_relative_drop is not None and not 0 <= check.max_relative_drop < inf:
        raise BadSetting(f"{where}: max_relative_drop should be a number from 0 on; 0.02 is 2 %")
    if check.confidence is not None:
        _share(check.confidence, f"{where}: confidence", 0.5)
    return check


def _share(value: Any, what: str, over: float) -> float:
    """A number between `over` and 1, both excluded."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not over < value < 1:
        raise BadSetting(f"{what} should be a number between {over:g} and 1")
    return float(value)


def _distinct(checks: tuple[Check, ...], where: str) -> None:
    """The same metric may be checked at two tiers, but not twice at one."""
    seen: dict[tuple[str, str | None, Tier], int] = {}
    for number, check in enumerate(checks, 1):
        key = check.metric, check.task, check.tier
        if key in seen:
            raise BadSetting(
                f"policy {where}, check {number} ({check.metric}): check {seen[key]} is of the same metric and tier"
            )
        seen[key] = number
