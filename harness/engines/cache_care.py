"""Looking after the response cache: what is in it, whether it is whole, and an end of it. Runs may go on meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from harness.engines.cache import PATIENCE, connect, plain, read_entry, transaction
from harness.errors import HarnessError

FILES = ("", "-wal", "-shm")
"""Ends of the names of the file, of SQLite's log of what is not in the file yet, and of the index of that log."""
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_KINDS = """
select case when json_valid(body) then json_extract(body, '$.kind') end as kind, count(*)
from answers group by kind order by kind
"""


class State(NamedTuple):
    """What a response cache holds."""

    entries: int
    bytes: int
    """On disk, SQLite's log included."""
    kinds: Mapping[str, int]
    """Entries by the kind of their answer; `unreadable` are those that are no answer."""


class Verified(NamedTuple):
    """How the entries of a response cache were found."""

    checked: int
    spoilt: int
    """They do not match their checksum, and are removed."""


def state(path: Path) -> State:
    """Counts without reading the answers; a file that is not there holds nothing. HarnessError: it cannot be read."""
    if not path.exists():
        return State(0, 0, {})
    with _plainly(path), closing(connect(path, PATIENCE)) as file:
        kinds = {(kind or b"unreadable").decode(): count for kind, count in file.execute(_KINDS)}
    return State(sum(kinds.values()), _size(path), kinds)


def verify(path: Path) -> Verified:
    """Read every entry and remove those that are spoilt; their questions are asked again. HarnessError: the file
    cannot be read, or is so damaged that entries cannot be told from each other."""
    if not path.exists():
        return Verified(0, 0)
    with _plainly(path), closing(connect(path, PATIENCE)) as file:
        checked, spoilt = _read_all(file)
        with transaction(file):
            for key in spoilt:
                row = file.execute("select body, sum from answers where key = ?", (key,)).fetchone()
                if row is not None and read_entry(key, *row) is None:  # else another process answered it meanwhile
                    file.execute("delete from answers where key = ?", (key,))
        (found,) = file.execute("pragma quick_check(1)").fetchone()
        if found != b"ok":
            raise sqlite3.DatabaseError(found.decode(errors="replace"))
        if spoilt and _read_all(file)[1]:
            raise sqlite3.DatabaseError("entries are out of order")  # a spoilt key is not found where it should be
    return Verified(checked, len(spoilt))


def _read_all(file: sqlite3.Connection) -> tuple[int, list[bytes]]:
    """How many entries there are, and the keys of the spoilt ones."""
    checked, spoilt = 0, []
    for key, body, checksum in file.execute("select key, body, sum from answers"):
        checked += 1
        if read_entry(key, body, checksum) is None:
            spoilt.append(key)
    return checked, spoilt


def clear(path: Path) -> int | None:
    """Remove every answer and say how many there were; None where the file is damaged, or the disk too full to write
    to it, and the file itself is removed. HarnessError: another process does not let go of it, or the disk does not
    allow it."""
    if not path.exists():
        return 0
    try:
        with closing(connect(path, PATIENCE)) as file:
            with transaction(file):
                (count,) = file.execute("select count(*) from answers").fetchone()
                file.execute("delete from answers")
            _shrink(file)
            return int(count)
    except sqlite3.Error as error:
        if _busy(error):
            raise HarnessError(f"{path} is in use ({error}); try again when its writers have ended") from error
    except OSError as error:
        raise HarnessError(f"cannot clear {path}: {error}") from error
    # A process that still has the file open may spoil the new one's log with it. That costs answers, which are asked
    # again, and never gives a wrong one: each has its checksum.
    try:
        with FileLock(path.with_name(path.name + ".lock"), timeout=PATIENCE):
            for end in FILES:
                path.with_name(path.name + end).unlink(missing_ok=True)
    except OSError as error:
        raise HarnessError(f"cannot remove {path}: {error}") from error
    return None


def _shrink(file: sqlite3.Connection) -> None:
    """Give the room back to the disk; where others have the file in hand, it is filled with new answers instead."""
    try:
        file.execute("vacuum")
        file.execute("pragma wal_checkpoint(truncate)")
    except sqlite3.OperationalError as error:
        if not _busy(error):
            raise


def _busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) in BUSY


def _size(path: Path) -> int:
    found = [path.with_name(path.name + end) for end in FILES]
    return sum(one.stat().st_size for one in found if one.exists())


@contextmanager
def _plainly(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise HarnessError(f"cannot read the response cache {path}: {plain(error)}") from error
    except sqlite3.DatabaseError as error:
        raise HarnessError(
            f"the response cache {path} is damaged ({plain(error)}); run `harness cache clear`"
        ) from error
