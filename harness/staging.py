"""Files that belong together, such as the tables of a report: none is put in place before all are made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

from harness.store import plain_disk_errors


@contextmanager
def put_in_place(out: Path) -> Iterator[Path]:
    """An empty folder on the disk of `out`; what it holds at the end goes there, each file in one step.

    Where anything fails, such as a full disk, `out` keeps what it had. Another process of this machine that writes
    there is waited for. Raises HarnessError if it cannot be written.
    """
    stage = out / ".partial"
    with plain_disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with _alone(out):
            shutil.rmtree(stage, ignore_errors=True)  # of a process that was killed
            stage.mkdir()
            try:
                yield stage
                for file in sorted(stage.iterdir()):
                    file.replace(out / file.name)
            finally:
                shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """A lock on the folder itself, so that no file of a lock is left among the tables; it ends with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        flock(handle, LOCK_EX)
        yield
    finally:
        os.close(handle)
