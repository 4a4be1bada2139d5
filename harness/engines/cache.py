"""Answers by content: the same question to the same model is asked once, in any run.

The key covers weights, adapter, precision, template, engine and its version, prompt and parameters; the name or
place of a model has no part in it. A sampled generation is kept under its seed. Failures are never kept, nor are
numbers that are not finite.

The store is one SQLite file in write-ahead mode, which several processes may use at once, on a disk of this machine:
that mode does not work over a network. Every entry carries a checksum over its key and its answer; one that does not
match is asked again. A file that is no database is an error before anything is asked. A run under way is never lost to
its cache: where the file turns out to be damaged, locked, or on a full disk, it says so once and goes on without.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import lru_cache
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.engines import Answered, Asked, Engine
from harness.errors import HarnessError, RequestFailed
from harness.types import Choose, Generate, Key, Ranked, Reply, Request, Scores, Text, Usage

FILE = Path("cache") / "responses.sqlite"
"""Where the answers are, below the harness's home."""
PATIENCE = 60.0
"""Seconds to wait for another process that writes."""
_TABLE = (
    "create table if not exists answers (key blob primary key, body text not null, sum blob not null) without rowid"
)


class ResponseCache:
    """A file of answers."""

    def __init__(self, path: Path, say: Callable[[str], None] | None = None, patience: float = PATIENCE) -> None:
        """`say` is told in one line that the cache is given up; without it, standard error is. HarnessError: the file
        cannot be opened, or is no database."""
        self._path, self._say = path, say or _on_standard_error
        self._given_up = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = connect(path, patience)
        except (OSError, sqlite3.Error) as error:
            damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
            remedy = "run `harness cache clear`, or say --no-cache" if damaged else "say --no-cache to do without it"
            raise HarnessError(f"cannot use the response cache {path} ({plain(error)}); {remedy}") from error

    def get(self, key: bytes) -> Reply | None:
        """The kept answer; None where there is none, or where what is kept is spoilt."""
        if self._given_up:
            return None
        try:
            row = self._file.execute("select body, sum from answers where key = ?", (key,)).fetchone()
        except sqlite3.OperationalError as error:
            self._give_up(error)  # a lock, say, which each of a million questions would wait for
            return None
        except sqlite3.DatabaseError:
            return None  # a damaged page, which costs the answers on it
        return None if row is None else read_entry(key, *row)

    def put(self, answers: Mapping[bytes, Reply]) -> None:
        """Keep answers, all or none. What cannot be kept is not an error: the cache is given up."""
        if self._given_up:
            return
        rows = [(key, body, _sum(key, body.encode())) for key, body in ((k, _write(a)) for k, a in answers.items())]
        try:
            with transaction(self._file):
                self._file.executemany("insert or replace into answers (key, body, sum) values (?, ?, ?)", rows)
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        self._file.close()

    def _give_up(self, error: sqlite3.Error) -> None:
        self._given_up = True
        self._say(
            f"the response cache {self._path} fails ({plain(error)}); going on without it: answers are not kept there"
        )


def connect(path: Path, patience: float) -> sqlite3.Connection:
    """The file, made if need be; texts come out of it as bytes. sqlite3.Error, OSError: it cannot be used; Timeout,
    which is an OSError, after `patience` seconds."""
    file = sqlite3.connect(path, timeout=patience, isolation_level=None)
    file.text_factory = bytes
    try:
        # One at a time: SQLite's own waiting does not cover the change to write-ahead mode.
        with FileLock(path.with_name(path.name + ".lock"), timeout=patience):
            file.execute("pragma journal_mode=wal")
            file.execute("pragma synchronous=normal")
            file.execute(_TABLE)
    except UnicodeDecodeError as error:  # SQLite repeats a damaged name, and Python cannot read what it says
        file.close()
        raise sqlite3.DatabaseError("malformed database schema") from error
    except BaseException:
        file.close()
        raise
    return file


def plain(error: Exception) -> str:
    """What SQLite says, which may repeat what stands in a damaged file, on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())


@contextmanager
def transaction(file: sqlite3.Connection) -> Iterator[None]:
    """All that is written within, or nothing."""
    file.execute("begin immediate")
    try:
        yield
        file.execute("commit")
    finally:
        if file.in_transaction:
            file.execute("rollback")


class Cached:
    """An engine that looks answers up before it asks the one inside."""

    def __init__(self, inner: Engine, cache: ResponseCache, identity: Mapping[str, Any]) -> None:
        self._inner, self._cache = inner, cache
        self._who = json.dumps(dict(identity), sort_keys=True)
        self.answers = inner.answers
        self.capacity = inner.capacity
        self.hits = 0
        self._found: list[Answered] = []
        self._asked: dict[Key, bytes] = {}
        self._digest = lru_cache(maxsize=256)(_digest)  # many requests share one long tuple of options

    def submit(self, asked: Sequence[Asked]) -> None:
        missing: list[Asked] = []
        for key, request in asked:
            address = self._address(request)
            if address is not None and (reply := self._cache.get(address)) is not None:
                self._found.append((key, reply))
                self.hits += 1
                continue
            if address is not None:
                self._asked[key] = address
            missing.append((key, request))
        self._inner.submit(missing)

    def collect(self) -> Sequence[Answered]:
        if self._found:
            found, self._found = self._found, []
            return found
        done = self._inner.collect()
        fresh: dict[bytes, Reply] = {}
        for key, reply in done:
            address = self._asked.pop(key, None)
            if address is not None and not isinstance(reply, RequestFailed) and _final(reply):
                fresh[address] = reply
        if fresh:
            self._cache.put(fresh)
        return done

    def close(self) -> None:
        self._found.clear()
        self._asked.clear()
        self._inner.close()

    def _address(self, request: Request) -> bytes | None:
        """None for what may not be kept: questions to conventional models, and generations without a seed."""
        if isinstance(request, Generate) and (request.temperature == 0 or request.seed is not None):
            asked = asdict(replace(request, options=(), barred=()))
            del asked["options"], asked["barred"]  # what has none is asked under the key that it always had
            if request.options or request.barred:
                asked |= {"options": self._digest(request.options), "barred": sorted(set(request.barred))}
            return sha256(json.dumps([self._who, "generate", asked], sort_keys=True).encode()).digest()
        if isinstance(request, Choose):
            return sha256(json.dumps([self._who, "choose", asdict(request)], sort_keys=True).encode()).digest()
        return None


def read_entry(key: bytes, body: object, checksum: object) -> Reply | None:
    """The answer that an entry holds; None where the entry is spoilt."""
    if not isinstance(body, bytes) or _sum(key, body) != checksum:
        return None
    try:
        return _read(body)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _digest(texts: tuple[str, ...]) -> str:
    return sha256(json.dumps(texts).encode()).hexdigest()


def _final(reply: Reply) -> bool:
    """Whether the answer may be kept. One with a number that is not finite is a failure of the model."""
    return not isinstance(reply, Scores) or all(map(isfinite, (*reply.values, *reply.facts.values())))


def _write(reply: Reply) -> str:
    return json.dumps({"kind": type(reply).__name__, **asdict(reply)})


def _read(body: bytes) -> Reply:
    kept = json.loads(body)
    kind, usage = kept["kind"], Usage(*kept["usage"])
    if kind == "Text":
        return Text(kept["text"], kept["finish"], usage)
    if kind == "Scores":
        return Scores(tuple(kept["values"]), usage, kept["facts"], tuple(kept["tokens"]))
    scores = None if kept["scores"] is None else tuple(kept["scores"])
    return Ranked(tuple(kept["items"]), usage, scores, kept["facts"])


def _sum(key: bytes, body: bytes) -> bytes:
    return sha256(key + body).digest()[:8]


def _on_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
