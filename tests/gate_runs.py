"""Run directories whose every row is known, written by the real store, for the tests of the gate."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.metrics import NDCG, HitRate, Metric
from harness.store import SCHEMA, Record, Run

LISTS: tuple[Metric, ...] = (HitRate(10), HitRate(20), HitRate(50), NDCG(10))
"""Of the task `retrieval`, which is registered, so that the command line knows it."""
SESSION = {"seconds": 10.0, "answered": 100, "cached": 0, "machine": {"processor": "p"}}


def manifest(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    said = {
        "task": "retrieval",
        "version": 1,
        "described": "retrieval",
        "settings": {"n": 50, "runs": name},
        "data": {"ml-100k": "d1"},
        "split": "test",
        "sample": None,
        "metrics": [metric.name for metric in LISTS],
        "model": {"name": name},
        **changes,
    }
    questions = str([said[key] for key in ("task", "version", "split", "sample", "data")])
    protocol = str([said["task"], said["version"], said["settings"]["n"]])
    identity = {"instances": questions, "protocol": protocol, "run": f"{questions} {protocol} {name}"}
    return {"schema": SCHEMA, **said, "identity": identity}


def make_run(
    path: Path,
    values: Sequence[float],
    *,
    users: int | None = None,
    failed: Collection[int] = (),
    unreadable: Collection[int] = (),
    empty: Collection[int] = (),
    sessions: Sequence[Mapping[str, Any]] = (SESSION,),
    changes: Mapping[str, Any] | None = None,
    complete: bool = True,
) -> Path:
    """A run whose instance n has `values[n]` in every metric; several share a user where there are fewer `users`.

    `failed` had no answer, `unreadable` one that could not be read, and `empty` one that names nothing.
    """
    lost = {**dict.fromkeys(failed, "TooLong"), **dict.fromkeys(unreadable, "Unparseable")}
    rows = [(0.0 if n in lost or n in empty else float(value),) for n, value in enumerate(values)]
    made = [
        Record(
            id=f"i{n}",
            user=f"u{n % (users or len(values))}",
            rows={metric.name: row for metric in LISTS},
            ranks={"right": 1} if row[0] > 0 else {},
            top=() if n in lost or n in empty else ("right",),
            tied=False,
            strata={},
            tokens=(1, 1),
            failure=lost.get(n),
            reason="lost" if n in lost else None,
        )
        for n, row in enumerate(rows)
    ]
    return write(path, made, sessions, manifest(path.name, changes or {}), complete)


def make_points(path: Path, labels: Iterable[int], scores: Iterable[float | None], users: Iterable[int]) -> Path:
    """A run of one labelled candidate per instance; a score of None is a failure."""
    made = [
        Record(
            id=f"i{n}",
            user=f"u{user}",
            rows={"AUC": (float(label), value or 0.0, float(value is not None))},
            ranks={},
            top=(),
            tied=False,
            strata={},
            tokens=(1, 0),
            failure="TooLong" if value is None else None,
        )
        for n, (label, value, user) in enumerate(zip(labels, scores, users, strict=True))
    ]
    said = manifest(path.name, {"task": "points", "metrics": ["AUC"]})
    return write(path, made, (SESSION,), said, True)


def write(
    path: Path,
    made: Sequence[Record],
    sessions: Sequence[Mapping[str, Any]],
    said: Mapping[str, Any],
    complete: bool,
) -> Path:
    with Run.open(path, said) as run:
        for record in made:
            run.append(record)
        for session in sessions:
            run.note_session(session)
        if complete:
            run.finish({"headline": said["metrics"][0], "metrics": {}})
    return path
