"""Answers by content: the same question to the same model is asked once, in any run.

The key covers weights, adapter, precision, template, engine and its version, prompt and parameters; the name or
place of a model has no part in it. A sampled generation is kept under its seed. Failures are never kept. The store
is one SQLite file in write-ahead mode, which several processes may use at once; every entry carries a checksum and
one that does not match is asked again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.engines import Answered, Asked, Engine
from harness.errors import HarnessError, RequestFailed
from harness.types import Choose, Generate, Key, Ranked, Reply, Request, Scores, Text, Usage

_TABLE = (
    "create table if not exists answers (key blob primary key, body text not null, sum blob not null) without rowid"
)


class ResponseCache:
    """A file of answers."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=60, isolation_level=None)
            # One at a time: SQLite's own waiting does not cover the change to write-ahead mode.
            with FileLock(path.with_name(path.name + ".lock"), timeout=60):
                self._file.execute("pragma journal_mode=wal")
                self._file.execute("pragma synchronous=normal")
                self._file.execute(_TABLE)
        except (OSError, Timeout, sqlite3.Error) as error:
            raise HarnessError(
                f"cannot use the response cache {path} ({error}); delete it, or say --no-cache"
            ) from error

    def get(self, key: bytes) -> Reply | None:
        """The kept answer; None where there is none, or where what is kept is spoilt."""
        try:
            row = self._file.execute("select body, sum from answers where key = ?", (key,)).fetchone()
            return None if row is None or _sum(key, row[0]) != row[1] else _read(row[0])
        except (sqlite3.DatabaseError, AttributeError, KeyError, TypeError, ValueError):
            return None

    def put(self, answers: Mapping[bytes, Reply]) -> None:
        """Keep answers, all or none."""
        rows = [(key, body, _sum(key, body)) for key, body in ((k, _write(a)) for k, a in answers.items())]
        try:
            self._file.execute("begin immediate")
            self._file.executemany("insert or replace into answers values (?, ?, ?)", rows)
            self._file.execute("commit")
        except sqlite3.Error as error:
            raise HarnessError(
                f"cannot write the response cache ({error}); free some space, or say --no-cache"
            ) from error

    def close(self) -> None:
        self._file.close()


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
        fresh = {
            self._asked.pop(key): reply
            for key, reply in done
            if key in self._asked and not isinstance(reply, RequestFailed)
        }
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


def _digest(texts: tuple[str, ...]) -> str:
    return sha256(json.dumps(texts).encode()).hexdigest()


def _write(reply: Reply) -> str:
    return json.dumps({"kind": type(reply).__name__, **asdict(reply)}, sort_keys=True)


def _read(body: str) -> Reply:
    kept = json.loads(body)
    kind, usage = kept.pop("kind"), Usage(*kept.pop("usage"))
    if kind == "Text":
        return Text(kept["text"], kept["finish"], usage)
    if kind == "Scores":
        return Scores(tuple(kept["values"]), usage, tokens=tuple(kept["tokens"]))
    return Ranked(tuple(kept["items"]), usage)


def _sum(key: bytes, body: str) -> bytes:
    return sha256(key + body.encode()).digest()[:8]
