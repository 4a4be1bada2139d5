"""General instruction tuning, the stage that TALLRec and others put before the recommendation stage.

Not a recommendation task: it has training and validation texts and no test. The file is one in the format of
Stanford Alpaca's `alpaca_data.json`, a list of objects with instruction, input (may be empty) and output; the
harness brings none. Prompts are those of SAI990323/TALLRec at c1db29c (finetune_rec.py, generate_prompt), which has
them from alpaca-lora. The recipe and the held-out rows (`train_test_split(test_size=2000, shuffle=True, seed=42)`
of `datasets`) are those of tloen/alpaca-lora at 0003a00 (finetune.py).

Deviation: the base is not loaded in 8 bit unless `quantize=8bit` is said; the authors' trainer shuffles without a
seed, here the seed of the draw decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from harness.errors import BadData, BadSetting, MissingData, NotApplicable
from harness.knobs import knob
from harness.metrics import MeanOf, Metric
from harness.task import Task
from harness.types import Choose, Example, Instance, Prediction, Program, Split, ask
from tasks.prompts import load_texts
from tasks.recipes import load_recipes

SPLIT_SEED = 42


class Row(NamedTuple):
    """One instruction of the file."""

    instruction: str
    input: str
    output: str


@dataclass(frozen=True)
class Instructions(Task):
    name: ClassVar[str] = "instructions"
    paper: ClassVar[str] = "Taori et al. 2023 (Stanford Alpaca), by alpaca-lora's recipe; a stage before others"
    metrics: ClassVar[tuple[Metric, ...]] = (MeanOf("log_likelihood"),)

    file: str = knob("alpaca_data.json", "JSON list of instruction, input and output", hashed=False)
    held_out: int = knob(2000, "rows that validate", instances=True, low=1)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        return load_texts("instructions")

    @cached_property
    def recipes(self) -> Mapping[str, Mapping[str, Any]]:
        return load_recipes("instructions")

    @cached_property
    def _content(self) -> bytes:
        try:
            return Path(self.file).expanduser().read_bytes()
        except OSError as error:
            raise MissingData(
                f"file={self.file} cannot be read ({error.strerror}); name one like alpaca_data.json with --set file="
            ) from None

    @cached_property
    def _rows(self) -> Sequence[Row]:
        try:
            rows = [Row(row["instruction"], row.get("input", ""), row["output"]) for row in json.loads(self._content)]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BadData(f"{self.file} is not a JSON list of objects with instruction, input and output") from None
        if not all(isinstance(text, str) for row in rows for text in row) or not all(row.output for row in rows):
            raise BadData(f"{self.file} has a row whose instruction, input or output is no text, or no output")
        if len(rows) <= self.held_out:
            raise BadSetting(
                f"held_out={self.held_out} leaves none of the {len(rows)} rows of {self.file} for training"
            )
        return rows

    def _split(self, split: Split) -> list[int]:
        """Row numbers; of the shuffled file the first are held out, as `datasets` does it."""
        if split == "test":
            raise NotApplicable("task 'instructions' has no test split: it is a stage before others; use --split valid")
        order = np.random.default_rng(SPLIT_SEED).permutation(len(self._rows))
        return [int(n) for n in (order[: self.held_out] if split == "valid" else order[self.held_out :])]

    def data_digests(self) -> Mapping[str, str]:
        return {"instructions": sha256(self._content).hexdigest()[:12]}

    def size(self, split: Split = "test") -> int:
        return len(self._split(split))

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for row in self._split(split):
            yield Instance(f"row-{row}", f"row-{row}", (), (), {}, context=str(row))

    def solve(self, instance: Instance) -> Program[Prediction]:
        """How probable the file's output is to the model, in nats."""
        example = self._example(int(instance.context or 0))
        reply = yield from ask(Choose(example.prompt, (example.answer,)))
        return Prediction({}, {"log_likelihood": reply.values[0]})

    def examples(self, split: Split = "train") -> Iterator[Example]:
        yield from map(self._example, self._split(split))

    def _example(self, number: int) -> Example:
        row = self._rows[number]
        wrapper = self.texts["with_input" if row.input else "without_input"]
        return Example(wrapper.format(instruction=row.instruction, input=row.input), row.output)
