"""Prompt texts that papers fix: data, with the source named in each file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files


def load_texts(name: str) -> Mapping[str, str]:
    """The texts of `NAME.toml`, by name."""
    return dict(tomllib.loads(files(__name__).joinpath(f"{name}.toml").read_text("utf-8")))
