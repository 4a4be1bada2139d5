"""What every training needs around it: one maker at a time, nothing half-made in sight, and a way to go on."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.errors import BadSetting, HarnessError, StaleRun
from harness.names import is_file_name, printable
from harness.progress import Bar
from harness.signature import digest
from harness.store import plain_disk_errors, write_json

MANIFEST = "harness.json"
SPARE = 1 << 20
"""Bytes below which a disk counts as full when something failed on it."""


def made_once(out: Path, asked: Mapping[str, Any], make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The manifest of what lies in `out`, made now if it does not lie there yet.

    `make` is given a working folder that survives a kill, leaves the result in its sub-folder `made`, and returns
    what the manifest should hold besides `asked`. The result appears in `out` whole or not at all. Raises StaleRun
    where `out` holds something else, or another process is making it.
    """
    if not is_file_name(out.name):
        raise BadSetting(f"{printable(str(out))!r} cannot be the name of a new folder; choose another --out")
    with plain_disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        if (finished := _finished(out, digest(asked))) is not None:
            return finished
        work = out.with_name(out.name + ".partial") / digest(asked)
        with plain_disk_errors(out), _full_disk_as_such(out.parent):
            work.mkdir(parents=True, exist_ok=True)
            manifest = {**asked, "digest": digest(asked), **make(work)}
            write_json(work / "made" / MANIFEST, manifest)
            (work / "made").rename(out)
            shutil.rmtree(work.parent)
        return manifest


@contextmanager
def _full_disk_as_such(folder: Path) -> Iterator[None]:
    """What writes weights has its own errors for a disk without space, and some do not even say so."""
    try:
        yield
    except (HarnessError, OSError):
        raise
    except Exception as error:
        if os.strerror(ENOSPC) in str(error) or shutil.disk_usage(folder).free < SPARE:
            raise OSError(ENOSPC, os.strerror(ENOSPC)) from error
        raise


def last_whole_checkpoint(folder: Path, say: bool = True) -> str | None:
    """The newest checkpoint that was written to its end; the Trainer writes its state file last."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]), reverse=True)
    for checkpoint in found:
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
        else:
            if say:
                print(f"going on after step {checkpoint.name.partition('-')[2]}", file=sys.stderr)
            return str(checkpoint)
    return None


def quiet_transformers() -> None:
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    set_verbosity_error()
    disable_progress_bar()


def steps_to(bar: Bar) -> Any:
    """A Trainer's callback that moves the bar."""
    from transformers import TrainerCallback

    class Report(TrainerCallback):  # type: ignore[misc]  # its library is untyped
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            bar.advance(by=state.global_step - bar.done)

    return Report()


class Clock:
    """Seconds of work, over all processes that did some of it; a killed one counts up to its last checkpoint."""

    def __init__(self, work: Path) -> None:
        self._file = work / "seconds.json"
        self._before: float = json.loads(self._file.read_text())["seconds"] if self._file.exists() else 0.0
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return round(self._before + time.monotonic() - self._began, 1)

    def note(self) -> None:
        write_json(self._file, {"seconds": self.seconds})


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Nobody else makes this meanwhile; who comes second finds it finished."""
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise StaleRun(f"{out} is being made by another process; wait for it, or end it") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _finished(out: Path, wanted: str) -> dict[str, Any] | None:
    if not out.exists():
        return None
    try:
        found: dict[str, Any] = json.loads((out / MANIFEST).read_text())
        if found["digest"] == wanted:
            shutil.rmtree(out.with_name(out.name + ".partial"), ignore_errors=True)
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise StaleRun(f"{out} exists and holds something else; choose another --out, or delete it")
