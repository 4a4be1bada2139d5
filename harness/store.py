"""A run is a directory: a manifest that says what it is, and one line per instance.

    run.json        the manifest: task, settings, model, the three identities
    records.jsonl   one `Record` a line, appended and flushed as answers come
    sessions.jsonl  one line per process that worked on it: time, cost, versions, options
    scores.json     written when nothing is owed: the run is complete

A line is written whole or it never happened, so a killed run resumes where it stopped. Each of these carries a
checksum (`harness.seal`), so that what a disk or an editor changed is an error and never a number in a table. Memory
holds the ids of what is done, never the records.
"""

from __future__ import annotations

import json
import os
import platform
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from errno import ENOSPC
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from harness.errors import BadData, HarnessError, StaleRun
from harness.seal import seal, unsealed

SCHEMA = 1
RECORDS = "records.jsonl"
HOLDER = ".holder"
"""Names the process that has the lock; looked at only while somebody has it."""
_BLOCK = 1 << 20
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of one instance; finite numbers only."""

    id: str
    user: str
    rows: Mapping[str, tuple[float, ...] | None]
    """Metric name to the row that `measure` gave."""
    ranks: Mapping[str, int]
    """Place, from 1, of every relevant item that was ranked."""
    top: tuple[str, ...]
    """The first places."""
    tied: bool
    """Whether candidates shared a score, so that the hash decided between them."""
    strata: Mapping[str, float]
    """What tables may group by: length of the history."""
    tokens: tuple[int, int]
    """Read and written by the model."""
    facts: Mapping[str, float] = field(default_factory=dict)
    text: str | None = None
    failure: str | None = None
    """Class of the failure, if there is no answer."""
    reason: str | None = None

    def line(self) -> bytes:
        # Not `asdict`: it copies all that a record holds, and takes most of the time that a record costs.
        kept = {name: getattr(self, name) for name in self.__slots__}
        return seal(_ENCODER.encode(kept)) + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Record:
        """ValueError, KeyError or TypeError: this is not a record's line, or not as it was written."""
        try:
            kept = json.loads(unsealed(line))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(kept, dict) or not isinstance(kept.get("id"), str) or not isinstance(kept["rows"], dict):
            raise ValueError("not a record")
        rows = {name: None if row is None else tuple(row) for name, row in kept.pop("rows").items()}
        return cls(rows=rows, top=tuple(kept.pop("top")), tokens=tuple(kept.pop("tokens")), **kept)


class Run:
    """A run directory that this process holds; nobody else can write to it meanwhile."""

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.done: set[str] = set()
        self._lock = FileLock(path / ".lock")
        self._lines: FileIO | None = None
        self._created = False

    @classmethod
    def open(cls, path: Path, manifest: Mapping[str, Any]) -> Run:
        """Start a run, or continue it if it is the same experiment; `manifest["identity"]["run"]` says which."""
        with plain_disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, manifest)
            try:
                run._lock.acquire(blocking=False)
            except Timeout:
                raise StaleRun(f"{path} is being written by {_holder(path)}; wait for it, or end it") from None
            try:
                write_json(path / HOLDER, _me())
                run._claim()
                run._recover()
            except BaseException:
                run.close()
                raise
        return run

    def append(self, record: Record) -> None:
        """Add an instance; when this returns, a kill of the process cannot lose it."""
        with plain_disk_errors(self.path):
            if self._lines is None:
                # Unbuffered: after a full disk there is nothing left over that closing would try to write again.
                self._lines = (self.path / RECORDS).open("ab", buffering=0)
            line = record.line()
            while line:
                line = line[self._lines.write(line) :]
        self.done.add(record.id)

    def reopen(self) -> None:
        """What was complete is not any more: its scores are not those of its records."""
        with plain_disk_errors(self.path):
            (self.path / "scores.json").unlink(missing_ok=True)

    def note_session(self, session: Mapping[str, Any]) -> None:
        with plain_disk_errors(self.path):
            sessions = self.path / "sessions.jsonl"
            if sessions.exists():
                _cut_torn_tail(sessions)
            with sessions.open("ab") as lines:
                lines.write(seal(json.dumps(session)) + b"\n")

    def finish(self, scores: Mapping[str, Any]) -> None:
        """Declare the run complete."""
        with plain_disk_errors(self.path):
            if self._lines is not None:
                os.fsync(self._lines.fileno())
            write_json(self.path / "scores.json", scores, sealed=True)

    def close(self) -> None:
        """Let others have it. A run that nothing was answered in leaves no directory behind."""
        try:
            if self._lines is not None:
                with plain_disk_errors(self.path):
                    self._lines.close()
        finally:
            self._lines = None
            try:
                if self._lock.is_locked:
                    self._tidy()
            finally:
                self._lock.release()

    def _tidy(self) -> None:
        """Remove what is of this process alone: all that it made, if nothing came of it. The lock is still held."""
        with suppress(OSError):  # a folder that cannot be written now, or into which somebody has just come
            (self.path / HOLDER).unlink(missing_ok=True)
            if not self._created or any((self.path / name).exists() for name in (RECORDS, "scores.json")):
                return
            for name in ("run.json", "sessions.jsonl", ".lock"):
                (self.path / name).unlink(missing_ok=True)
            if not any(self.path.iterdir()):
                self.path.rmdir()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _claim(self) -> None:
        card = self.path / "run.json"
        if not card.exists():
            if any((self.path / name).exists() for name in (RECORDS, "scores.json")):
                why = "holds answers, and no run.json that says to what; delete the directory, or choose another"
                raise StaleRun(f"{self.path} {why}")
            write_json(card, self.manifest, sealed=True)
            self._created = True
            return
        found = read_manifest(self.path)
        if found["identity"] != self.manifest["identity"]:
            what = ", ".join(_differences(found, self.manifest)) or "what it was made from"
            raise StaleRun(f"{self.path} holds another experiment (it differs in {what}); choose another directory")

    def _recover(self) -> None:
        """Cut a torn tail and learn what is done."""
        lines = self.path / RECORDS
        if not lines.exists():
            return
        _cut_torn_tail(lines)
        for record in records(self.path):
            self.done.add(record.id)


def records(path: Path) -> Iterator[Record]:
    """The records of a run directory, in the order in which they were answered.

    BadData: a line is no record, was altered, or is a second one of its instance; the last comes at the end.
    """
    lines = path / RECORDS
    if not lines.exists():
        return
    seen = array("q")  # eight bytes an instance
    with lines.open("rb") as whole:
        for number, line in enumerate(whole, 1):
            if not line.endswith(b"\n"):
                break
            try:
                record = Record.parse(line)
            except (ValueError, KeyError, TypeError):
                raise BadData(
                    f"{lines}, line {number}: not a record as this harness wrote it; delete the line and give the "
                    "command of the run again, to have it asked again"
                ) from None
            seen.append(hash(record.id))
            yield record
    if len(np.unique(seen)) < len(seen):
        _refuse_twice(lines)


def read_sessions(path: Path) -> list[dict[str, Any]]:
    """What each process that worked on a run noted when it ended; a killed one noted nothing.

    BadData: a line cannot be read, or was altered.
    """
    sessions = path / "sessions.jsonl"
    if not sessions.exists():
        return []
    whole = [line for line in sessions.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    return [_read_object(line, f"{sessions}, line {number}", "delete it") for number, line in enumerate(whole, 1)]


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run directory. StaleRun: there is none of this version; BadData: it was altered."""
    card = path / "run.json"
    try:
        found = _read_object(card.read_bytes(), str(card), f"delete {path}")
    except (FileNotFoundError, NotADirectoryError):
        raise StaleRun(f"{path} is not a run directory: it has no run.json") from None
    identity = found.get("identity")
    if found.get("schema") != SCHEMA or not isinstance(identity, dict) or not identity.get("run"):
        raise StaleRun(f"{card} was not written by this version of the harness")
    return found


def read_scores(path: Path) -> dict[str, Any] | None:
    """The scores of a complete run; None if anything is still owed. BadData: they cannot be read."""
    scores = path / "scores.json"
    try:
        return _read_object(scores.read_bytes(), str(scores), "delete it")
    except FileNotFoundError:
        return None


def write_json(path: Path, content: Mapping[str, Any], sealed: bool = False) -> None:
    """Write a file whole or not at all; `sealed` adds a checksum."""
    partial = path.with_name(path.name + ".partial")
    text = json.dumps(content, indent=2, allow_nan=False)
    with partial.open("wb") as out:
        out.write((seal(text) if sealed else text.encode()) + b"\n")
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)


@contextmanager
def plain_disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or unwritable disk into one line; what was written before stays and can be resumed."""
    try:
        yield
    except OSError as error:
        if error.errno == ENOSPC:
            raise HarnessError(f"no space left for {path}; free some and run the same command again") from error
        raise HarnessError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def as_written(path: Path) -> Iterator[None]:
    """For what is read off the JSON of a run: BadData where an editor, or damage that hit its checksum as well, put
    something of another kind in the place of a member."""
    try:
        yield
    except (TypeError, AttributeError, ValueError, OverflowError) as error:
        said = f"{path}: its run.json, scores.json or sessions.jsonl is not as this harness wrote it"
        raise BadData(f"{said} ({type(error).__name__}: {error})") from error


class _Members(dict[str, Any]):
    """An object of a run's JSON. One that an editor took a member from says so where the member is wanted."""

    def __init__(self, members: Iterable[tuple[str, Any]], where: str, remedy: str) -> None:
        super().__init__(members)
        self._where, self._remedy = where, remedy

    def __missing__(self, name: str) -> Any:
        raise _spoilt(self._where, self._remedy, f" ({name!r} is missing)")


def _read_object(content: bytes, where: str, remedy: str) -> dict[str, Any]:
    """A JSON object, with its checksum looked at. BadData: it is none, or was altered."""
    try:
        found = json.loads(unsealed(content), object_pairs_hook=lambda members: _Members(members, where, remedy))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _spoilt(where, remedy)
    return found


def _spoilt(where: str, remedy: str, how: str = "") -> BadData:
    return BadData(f"{where}: not as this harness wrote it{how}; {remedy} and give the command of the run again")


def _refuse_twice(lines: Path) -> None:
    """BadData for the first second record of an instance, if there is one."""
    seen: set[str] = set()
    for number, line in enumerate(lines.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            return
        found = Record.parse(line).id
        if found in seen:
            raise BadData(f"{lines}, line {number}: a second record of instance {found!r}; delete one of the two")
        seen.add(found)


def _me() -> dict[str, Any]:
    """Who holds a run: what somebody else is told."""
    return {"process": os.getpid(), "host": platform.node(), "since": datetime.now(UTC).isoformat(timespec="seconds")}


def _holder(path: Path) -> str:
    try:
        found = json.loads((path / HOLDER).read_text())
        return f"process {found['process']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _cut_torn_tail(lines: Path) -> None:
    """Drop what follows the last line end: the line that a kill or a full disk left half-written."""
    with lines.open("r+b") as whole:
        end = whole.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:
            start = max(0, keep - _BLOCK)
            whole.seek(start)
            last = whole.read(keep - start).rfind(b"\n")
            if last >= 0:
                keep = start + last + 1
                break
            keep = start
        if keep < end:
            whole.truncate(keep)


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted(set(found) | set(wanted)):
        if not prefix and key not in {"task", "version", "settings", "split", "sample", "model", "data"}:
            continue
        ours, theirs = found.get(key), wanted.get(key)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            yield from _differences(ours, theirs, f"{prefix}{key}.")
        elif ours != theirs:
            yield f"{prefix}{key}: {ours} there, {theirs} here"
