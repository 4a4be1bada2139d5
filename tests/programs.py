"""Programs from outside Python: tests use them where they are installed, and are skipped elsewhere, but never in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def program(*names: str) -> str:
    """The path of the first of these that is installed, else the test is skipped; it fails where `CI` is set."""
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        said = f"none of {', '.join(names)} is installed; `make system` installs what it can"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(said)
    return path
