"""Files that belong together, such as the tables of a report: none is put in place before all are made."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.store import plain_disk_errors


@contextmanager
def put_in_place(out: Path) -> Iterator[Path]:
    """An empty folder on the disk of `out`; what it holds at the end goes there, each file in one step.

    Where anything fails, such as a full disk, `out` keeps what it had. Raises HarnessError if it cannot be written.
    """
    stage = out / ".partial"
    with plain_disk_errors(out):
        shutil.rmtree(stage, ignore_errors=True)  # of a process that was killed
        stage.mkdir(parents=True)
        try:
            yield stage
            for file in sorted(stage.iterdir()):
                file.replace(out / file.name)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
