"""Tasks, a model of text and a baseline that say in files who was asked what, installed like anybody's.

Files of the model's folder say how it behaves: `pause` how many seconds an answer takes, `fatal` the id of an instance
whose question ends the process, `refuse` why it cannot be loaded, `mute` why it answers nothing.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from safetensors.numpy import save_file

from harness.engines import Engine, FunctionEngine
from harness.errors import BadModel, RequestFailed
from harness.knobs import knob
from harness.metrics import HitRate, Metric
from harness.model import Adapter, Checkpoint, EngineOptions, ModelSettings
from harness.registry import Baseline
from harness.store import write_json
from harness.task import Task
from harness.tuning.spec import Tuning
from harness.types import (
    Choose,
    Generate,
    Instance,
    Item,
    Key,
    Prediction,
    Program,
    Rank,
    Reply,
    Request,
    Scores,
    Split,
    Text,
    ask,
)

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Lots(Task):
    """Which lot is drawn? Asked with a temperature, so that answers depend on the seeds of the runner."""

    name: ClassVar[str] = "lots"
    paper: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (HitRate(1), HitRate(3))

    count: int = knob(200, "how many", instances=True)
    style: str = knob("plain", "how it is asked")

    def data_digests(self) -> Mapping[str, str]:
        return {"lots": "1"}

    def size(self, split: Split = "test") -> int:
        return self.count

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for n in range(self.count):
            lots = tuple(Item(str(k), f"lot {k}") for k in range(5))
            yield Instance(f"{split}-{n}", f"user {n % 50}", (), lots, {str(n % 5): 1.0})

    def solve(self, instance: Instance) -> Program[Prediction]:
        first = yield from ask(Generate(f"{self.style} {instance.user}", 4, temperature=1.0))
        second = yield from ask(Generate(f"{first.text}, and then?", 4, temperature=1.0))
        return Prediction.ranked([first.text, second.text])


@dataclass(frozen=True)
class Elsewhere(Lots):
    """The same with other data in every process."""

    name: ClassVar[str] = "elsewhere"

    def data_digests(self) -> Mapping[str, str]:
        return {"lots": str(os.getpid())}


class Watched:
    kind = "watched"
    version = "1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (folder / "refuse").exists():
            raise BadModel((folder / "refuse").read_text())
        add(folder / "loads", str(os.getpid()))

    def engine(self, adapter: Adapter | None = None, template: str = "raw") -> Engine:
        return FunctionEngine(self._answer, Choose, Generate, capacity=16)

    def close(self) -> None:
        pass

    def _answer(self, key: Key, request: Request) -> Reply | RequestFailed:
        assert isinstance(request, Generate)
        add(self.folder / "asked", f"{os.getpid()} {key.instance} {key.step}")
        if said(self.folder / "fatal") == key.instance:
            os.kill(os.getpid(), signal.SIGKILL)
        if mute := said(self.folder / "mute"):
            return RequestFailed(mute)
        time.sleep(float(said(self.folder / "pause") or 0))
        return Text(str(random.Random(f"{request.prompt} {request.seed}").randrange(5)))


def load(checkpoint: Checkpoint, adapters: Sequence[Adapter], options: EngineOptions) -> Watched:
    return Watched(checkpoint.folder)


class Learners:
    """A baseline that trains itself: what it answers is decided by who trained it."""

    names: Mapping[str, str] = {"LEARNER": "a folder in which it says who trained it"}

    def find(self, name: str, task: Task, split: Split, settings: ModelSettings) -> Baseline:
        def make(options: EngineOptions) -> Engine:
            add(Path(name) / "loads", str(os.getpid()))
            own = float(os.getpid())
            return FunctionEngine(lambda key, request: Scores((own, *[0.0] * 4)), Rank)

        return Baseline("learner", {"baseline": "learner"}, make, trains=True)


learners = Learners()


def copy_adapter(tuning: Tuning, out: Path, say: Any, threads: int | None) -> Mapping[str, Any]:
    """Tunes by copying a LoRA beside the base model: one for even seeds, another for odd ones."""
    beside = Path(tuning.model.name).parent
    add(beside / "tuned", f"{os.getpid()} {out.name}")
    shutil.copytree(beside / f"lora-{tuning.draw.seed % 2}", out, dirs_exist_ok=True)
    write_json(out / "harness.json", {"task": tuning.tasks[0].name})
    return {}


def add(file: Path, line: str) -> None:
    with file.open("a") as out:
        out.write(line + "\n")


def said(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


def lines(file: Path) -> list[list[str]]:
    return [line.split() for line in said(file).splitlines()]


def install(site: Path) -> str:
    """Register all of it for processes that have this on their path; returns that path."""
    info = site / "watched-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: watched\nVersion: 1\n")
    groups = {
        "harness.tasks": "lots = tests.watched:Lots\nelsewhere = tests.watched:Elsewhere",
        "harness.engines": "watched = tests.watched:load",
        "harness.baselines": "learner = tests.watched:learners",
    }
    (info / "entry_points.txt").write_text("".join(f"[{name}]\n{entries}\n" for name, entries in groups.items()))
    return os.pathsep.join([str(site), str(ROOT)])


def folder(path: Path, **ways: str) -> Path:
    """A model's folder; `ways` are the files that say how it behaves."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"architectures": ["WatchedForCausalLM"], "dtype": "float32"}))
    (path / "tokenizer.json").write_text("{}")
    save_file({"weight": np.ones(1, dtype=np.float32)}, path / "model.safetensors")
    for name, text in ways.items():
        (path / name).write_text(text)
    return path
