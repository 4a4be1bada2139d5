"""Two models in one paper are two tasks, and a stage's run is the next stage's input, named by its digest.

So a stage resumes, is cached and shows where it came from like any run, and one model is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import BadData, MissingData, StaleRun
from harness.names import is_file_name
from harness.store import Record, read_manifest, read_scores, records
from harness.types import ItemId

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """A complete run of an earlier stage."""

    path: Path
    manifest: Mapping[str, Any]
    instances: int
    """How many it has answers to."""

    @property
    def name(self) -> str:
        """Digest and model, for people."""
        return f"{self.path.name} ({self.manifest['model']['name']})"

    @cached_property
    def lists(self) -> Mapping[str, tuple[ItemId, ...]]:
        """By id of the instance, the items that it put first, best first; none where the instance failed."""
        return self._read(lambda record: record.top)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """By id of the instance, what it wrote; nothing where the instance failed."""
        return self._read(lambda record: record.text or "")

    @cached_property
    def content(self) -> str:
        """Twelve hexadecimal digits over all that is read of it: two machines may make one experiment differently."""
        digest = sha256()
        for name in sorted(self.lists):
            digest.update(repr((name, self.lists[name], self.texts[name])).encode())
        return digest.hexdigest()[:12]

    def _read(self, part: Callable[[Record], T]) -> Mapping[str, T]:
        found = {record.id: part(record) for record in records(self.path)}
        if len(found) != self.instances:
            raise StaleRun(
                f"{self.path} has {len(found)} records, and its scores are of {self.instances}; give the command that "
                "made it again"
            )
        return found


def find_stage(runs: Path, task: str, digest: str, make: str) -> Stage:
    """The run of a task whose directory below `runs` has this name.

    `make` is a command that makes such a run. MissingData: there is none; the message lists those that there are.
    StaleRun: it is not complete, of another task, or its model was not applicable.
    """
    path = runs / task / digest
    if not is_file_name(digest) or not (path / "run.json").is_file():
        there = [f"{card.parent.name} ({_model(card.parent)})" for card in sorted((runs / task).glob("*/run.json"))]
        wanted = (
            f"there is no run {digest!r} of task {task!r} below {runs}" if digest else f"no run of {task!r} is named"
        )
        has = f"; there is {', '.join(there)}" if there else ""
        raise MissingData(f"{wanted}{has}; make one with `{make}` and name it by the digits that end its path")
    return stage(path, task)


def stage(path: Path, task: str) -> Stage:
    """A run directory as a stage. StaleRun: as `find_stage`."""
    manifest, scores = read_manifest(path), read_scores(path)
    if manifest["task"] != task:
        raise StaleRun(f"{path} is a run of task {manifest['task']!r}, and a run of {task!r} is needed")
    if scores is None:
        raise StaleRun(f"{path} is not complete; give the command that made it again, and it goes on")
    if "not_applicable" in scores:
        raise StaleRun(f"{path} holds no answers: {scores['not_applicable']}")
    return Stage(path, manifest, scores["instances"])


def agree(stage: Stage, wanted: Mapping[str, Any], make: str) -> None:
    """Nothing, if an earlier stage was asked what a later one needs: settings, data or split of these values.

    `make` is a command that makes such a run. StaleRun: it was asked something else.
    """
    theirs = {**stage.manifest["settings"], **stage.manifest["data"], "split": stage.manifest["split"]}
    for name, value in wanted.items():
        if theirs.get(name) != value:
            raise StaleRun(
                f"run {stage.name} has {name}={theirs.get(name)}, and {name}={value} is needed; make one with `{make}`"
            )


def as_options(values: Mapping[str, Any]) -> str:
    """` --set n=50 --set repeats=false`, to go into a command."""
    said = {name: str(value).lower() if isinstance(value, bool) else value for name, value in values.items()}
    return "".join(f" --set {name}={value}" for name, value in said.items())


def _model(path: Path) -> str:
    try:
        name: str = read_manifest(path)["model"]["name"]
    except (StaleRun, BadData):
        return "unreadable"
    return name
