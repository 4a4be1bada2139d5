"""What machine answered: recorded with every session, never hashed."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

GPUS = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver lists its devices; looked at instead of asked of a library, which takes seconds to load."""


def machine() -> dict[str, Any]:
    """System, processor, cores that this process may use, memory in GiB, and accelerators; None for what is unknown."""
    return {
        "system": platform.platform(),
        "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory(),
        "accelerators": [name for gpu in sorted(GPUS.glob("*/information")) if (name := _field(gpu, "Model"))],
    }


def _field(file: Path, name: str) -> str | None:
    """The first value of `name : value` in a file of the kernel's."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    found = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in found if key.strip() == name and value.strip()), None)


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None
