"""How papers fine-tune: data, with the source named in each file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from harness.tuning.recipe import read_recipes


def load_recipes(name: str) -> Mapping[str, Mapping[str, Any]]:
    """The budgets of `NAME.toml`, the default first."""
    return read_recipes(files(__name__).joinpath(f"{name}.toml").read_text("utf-8"), f"{name}.toml")
