"""A task whose answers depend on its wording, a model that gives them, and both installed like anybody's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness import choice
from harness.choice import Choice
from harness.cli import main
from harness.engines import Engine, FunctionEngine
from harness.errors import NotApplicable, RequestFailed
from harness.knobs import knob
from harness.metrics import Answer, HitRate, MeanMetric, Metric, Recall, Together
from harness.model import Adapter, Checkpoint, EngineOptions
from harness.points import AUC
from harness.store import read_manifest
from harness.task import Task
from harness.types import Choose, Generate, Instance, Item, Key, Prediction, Program, Reply, Request, Split, Text, ask

COUNT = 20
FIRST = {"A": 5, "B": 9, "C": 9, "D": 2}
"""How many of the validation instances have the right item first, by wording; in the test split it is one more."""
SECOND = {"A": 20, "B": 9, "C": 12, "D": 2}
"""How many have it first or second; in the others it is third."""


@dataclass(frozen=True)
class Wording(Task):
    """Which of three? The model's answers depend on the wording as the tables above say."""

    name: ClassVar[str] = "wording"
    paper: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (HitRate(1), HitRate(2))

    wording: Literal["A", "B", "C", "D", "mute", "off"] = knob("D", "how it is asked")
    polite: bool = knob(False, "changes nothing")
    count: int = knob(COUNT, "how many", instances=True)
    lessons: int = knob(1, "of tuning", tuning=True)
    file: str = knob("", "where", hashed=False)

    @property
    def alternatives(self) -> Mapping[str, tuple[str, ...]]:
        return {"wording": ("A", "B", "C")}

    def data_digests(self) -> Mapping[str, str]:
        return {"numbers": "1"}

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for n in range(self.count):
            items = tuple(Item(str(k), str(k)) for k in range(3))
            yield Instance(f"{split}-{n}", f"user {n}", (), items, {str(n % 3): 1.0})

    def solve(self, instance: Instance) -> Program[Prediction]:
        if self.wording == "off":
            raise NotApplicable("no such wording for this model")
        reply = yield from ask(Generate(f"{self.wording}-{instance.id}", 8))
        return Prediction.ranked(reply.text.split())


@dataclass(frozen=True)
class Summed(Wording):
    """The same, but selected by what is none of its metrics."""

    name: ClassVar[str] = "summed"

    @property
    def selector(self) -> Metric:
        return Together((Recall(1), Recall(2)))


@dataclass(frozen=True)
class Place(MeanMetric):
    """Where the right item is: the lower the better."""

    label: ClassVar[str] = "Place"
    bounds: ClassVar[tuple[float, float]] = (1.0, 4.0)
    higher_is_better: ClassVar[bool] = False

    def measure(self, answer: Answer) -> tuple[float, ...]:
        return (float(min(answer.places.values(), default=4)),)


@dataclass(frozen=True)
class Placed(Wording):
    """The same, scored by the place."""

    name: ClassVar[str] = "placed"
    metrics: ClassVar[tuple[Metric, ...]] = (Place(),)


@dataclass(frozen=True)
class Blind(Wording):
    """The same, selected by what no record keeps, and without alternatives."""

    name: ClassVar[str] = "blind"
    alternatives: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @property
    def selector(self) -> Metric:
        return AUC()


def answer(key: Key, request: Request) -> Reply | RequestFailed:
    assert isinstance(request, Generate)
    wording, split, number = request.prompt.split("-")
    n = int(number)
    if wording == "mute":
        return RequestFailed("nothing to say")
    more = split == "test"
    place = 0 if n < FIRST[wording] + more else 1 if n < SECOND[wording] + more else 2
    others = [str(k) for k in range(3) if k != n % 3]
    return Text(" ".join([*others[:place], str(n % 3), *others[place:]]))


class Loaded:
    """A model of text in a folder, where `loads` and `asked` count, and `stop` says after how many questions it is
    interrupted."""

    kind = "fake"
    version = "1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        add(folder / "loads", "load")

    def engine(self, adapter: Adapter | None = None, template: str = "raw") -> Engine:
        stop = self.folder / "stop"

        def counted(key: Key, request: Request) -> Reply | RequestFailed:
            if stop.exists() and lines(self.folder / "asked") == int(stop.read_text()):
                raise KeyboardInterrupt
            assert isinstance(request, Generate)
            add(self.folder / "asked", request.prompt)
            return answer(key, request)

        return FunctionEngine(counted, Choose, Generate, capacity=1)

    def close(self) -> None:
        pass


def load(checkpoint: Checkpoint, adapters: Sequence[Adapter], options: EngineOptions) -> Loaded:
    return Loaded(checkpoint.folder)


def add(file: Path, line: str) -> None:
    with file.open("a") as out:
        out.write(line + "\n")


def lines(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


def install(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Stand in the folder, with tasks and engine registered, and the fake model in `m`."""
    kinds = "\n".join(f"{kind.name} = tests.choices:{kind.__name__}" for kind in (Wording, Summed, Placed, Blind))
    info = folder / "site" / "choices-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: choices\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[harness.tasks]\n{kinds}\n[harness.engines]\nfake = tests.choices:load\n")
    patch.syspath_prepend(str(folder / "site"))
    patch.chdir(folder)
    (folder / "m").mkdir()
    (folder / "m" / "config.json").write_text(json.dumps({"architectures": ["FakeForCausalLM"], "dtype": "float32"}))
    (folder / "m" / "tokenizer.json").write_text("{}")
    save_file({"weight": np.ones(1, dtype=np.float32)}, folder / "m" / "model.safetensors")
    return folder / "m"


class Harness:
    """`harness COMMAND`; a run is of a task with the fake model, without the cache, so that every question counts."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def __call__(self, *words: str, task: str = "wording", code: int = 0, command: str = "run") -> str:
        """What it prints; with another exit code, what it complains of."""
        self._captured.readouterr()
        given = ["--task", task, "--model", "fake:m", "--no-cache"] if command == "run" else []
        assert main([command, *given, *words]) == code
        said = self._captured.readouterr()
        return said.err if code else said.out


def chosen_of(out: str) -> tuple[Path, Choice]:
    """The run whose table was printed last, and its choice."""
    path = Path(out.splitlines()[-1].strip())
    found = choice.read(path)
    assert found is not None
    return path, found


def runs() -> dict[tuple[str, str], Path]:
    """All runs there are, by wording and split."""
    paths = [card.parent for card in Path("runs").glob("*/*/run.json")]
    manifests = [(path, read_manifest(path)) for path in paths]
    return {(found["settings"]["wording"], found["split"]): path for path, found in manifests}
