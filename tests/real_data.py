"""Official files that may not be redistributed: tests use them where a developer has them, and skip elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("HARNESS_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def real(name: str) -> Path:
    """A file or folder of the developer's data, else the test is skipped."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{path} is not there; let HARNESS_TEST_DATA name a folder that has {name}")
    return path
