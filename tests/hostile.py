"""A task whose titles, and models whose names and answers, were made to be taken for something else than words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness.engines import Engine, FunctionEngine
from harness.errors import RequestFailed
from harness.metrics import HitRate, Metric
from harness.model import Adapter, Checkpoint, EngineOptions
from harness.task import Task
from harness.types import Choose, Event, Generate, Instance, Item, Key, Prediction, Program, Reply, Request, Split, Text
from harness.types import ask as ask_

OWNED = "owned"
"""What everything here would write if it were taken for more than words: a title, a file, a line of a terminal."""
TEXTS = (
    f"<script>document.title='{OWNED}'</script>",
    f"</script><script>document.title='{OWNED}'</script>",
    f'x" onmouseover="document.title=\'{OWNED}\'" y="',
    f"<img src=x onerror=\"document.title='{OWNED}'\">",
    f"[click](javascript:document.title='{OWNED}') ![p](http:||127.0.0.1:9|x.png)",
    r"\input{/etc/passwd} \write18{touch owned} \csname end\endcsname \end{tabular}",
    r"100 % of $x^2$ & a_b # {c} ~ \\ ^^5cinput{/etc/passwd}",
    "a | b || c",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "+1+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    f"\x1b[2J\x1b]0;{OWNED}\x07 \u202etxt.exe \x9b31m",
    "one\n# two\n| three | four |\n\r\x0b\x0c\x85\u2028five",
    "{{ 7 * 7 }} ${7*7} #{7*7} <%= 7*7 %>",
)


@dataclass(frozen=True)
class Hostile(Task):
    """Which of the texts is next?"""

    name: ClassVar[str] = "hostile"
    paper: ClassVar[str] = TEXTS[0]
    metrics: ClassVar[tuple[Metric, ...]] = (HitRate(1), HitRate(3))

    def data_digests(self) -> Mapping[str, str]:
        return {"texts": "1"}

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        items = tuple(Item(text, text) for text in TEXTS)
        for n, right in enumerate(items):
            yield Instance(f"{right.text} {n}", f"{right.text} {n}", (Event(right),), items, {right.id: 1.0})

    def solve(self, instance: Instance) -> Program[Prediction]:
        reply = yield from ask_(Generate(f"{instance.user}\n{instance.history[0].item.text}", 8))
        return Prediction(dict.fromkeys(TEXTS[:1], 1.0), text=reply.text)


def answer(key: Key, request: Request) -> Reply | RequestFailed:
    """Every text as an answer, and every fourth as the reason why there is none."""
    place = int(key.instance.rpartition(" ")[2])
    return RequestFailed(TEXTS[place]) if place % 4 == 3 else Text(TEXTS[place])


class Loaded:
    kind = "hostile"
    version = TEXTS[0]

    def engine(self, adapter: Adapter | None = None, template: str = "raw") -> Engine:
        return FunctionEngine(answer, Choose, Generate)

    def close(self) -> None:
        pass


def load(checkpoint: Checkpoint, adapters: Sequence[Adapter], options: EngineOptions) -> Loaded:
    return Loaded()


def install(folder: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """Stand in the folder, with task and engine registered; a model's folder for each of the texts, by its name."""
    info = folder / "site" / "hostile-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1\n")
    registered = [
        "[harness.tasks]",
        "hostile = tests.hostile:Hostile",
        "[harness.engines]",
        "hostile = tests.hostile:load",
    ]
    (info / "entry_points.txt").write_text("\n".join(registered) + "\n")
    patch.syspath_prepend(str(folder / "site"))
    patch.chdir(folder)
    for place, text in enumerate(TEXTS):
        model = folder / text
        model.mkdir(parents=True)
        (model / "config.json").write_text(json.dumps({"architectures": ["FakeForCausalLM"], "place": place}))
        (model / "tokenizer.json").write_text("{}")
        save_file({"weight": np.ones(1, dtype=np.float32)}, model / "model.safetensors")
    return list(TEXTS)
