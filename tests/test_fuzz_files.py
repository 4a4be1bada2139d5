"""No file that people or programs hand over trips the harness: it is read, or one line says what is wrong with it."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from harness import choice
from harness.checkpoint import resolve, resolve_adapter
from harness.grid.cells import Changes, change
from harness.grid.declared import read_grid
from harness.model import Model, ModelSettings
from harness.store import read_manifest, read_scores, read_sessions
from harness.tuning.recipe import find_recipe
from leaderboard.gate.policy import read_policy
from leaderboard.published import parse
from tests.fakes import Coins
from tests.mutations import Reader, attack
from tests.test_gate_reference import REFERENCE

GRID = b"""
title = "Few shots"
[[block]]
name = "a"
task = "tallrec"
model = ["simple:random", "simple:like-rate"]
test = [{domain = "movie"}, {domain = "book"}]
[[block]]
task = "tallrec"
model = "models/base"
shots = [0, 16, "all"]
seed = [0, 1]
train = [[{domain = "book"}, {domain = "movie"}]]
pool = "valid"
recipe = {budget = "ci", epochs = 2}
choose = "readout"
choose_sample = 50
"""
CONFIG = b"""
learning_rate = 0.01
name = "x"
[[settings]]
epochs = 3
[[settings]]
epochs = 4
"""
RECIPE = b"""
[paper]
learning_rate = 1e-4
batch = 16
micro_batch = 8
selection = "last"
[quick]
epochs = 1
"""
CHOSEN = {
    "option": "wording",
    "value": "A",
    "metric": "HR@1",
    "split": "valid",
    "instances": 3,
    "alternatives": [
        {"value": "A", "run": "d1", "score": 0.5, "reason": None},
        {"value": "B", "run": "d2", "score": None, "reason": "no"},
    ],
}
MODEL = {
    "config.json": json.dumps(
        {
            "architectures": ["LlamaForCausalLM"],
            "dtype": "float32",
            "max_position_embeddings": 64,
            "text_config": {"dtype": "float32"},
        }
    ).encode(),
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b'{"model_max_length": 64}',
    "harness.json": b'{"base_digest": null, "rows": []}',
    "model.safetensors.index.json": b'{"metadata": {}, "weight_map": {"a.weight": "model.safetensors"}}',
    "model.safetensors": save({"a.weight": np.ones((4, 2), dtype=np.float32), "b": np.zeros(3, dtype=np.float16)}),
}
ADAPTER = {
    "adapter_config.json": b'{"peft_type": "LORA", "r": 2, "rank_pattern": {"a": 4}}',
    "adapter_model.safetensors": save(
        {
            "base_model.model.a.lora_A.weight": np.ones((2, 2), dtype=np.float32),
            "base_model.model.a.lora_B.weight": np.ones((4, 2), dtype=np.float32),
        }
    ),
    "harness.json": b'{"base_digest": null}',
}
RUN = {
    "run.json": json.dumps({"schema": 1, "task": "coins", "identity": {"run": "abc", "instances": "d"}}).encode(),
    "scores.json": b'{"metrics": {"AUC": {"value": 0.5}}, "instances": 3, "sum": "x"}',
    "sessions.jsonl": b'{"seconds": 1.0, "options": {}}\n{"seconds": 2.0}\n',
}


def read_adapter(folder: Path) -> object:
    base = folder.parent / "base"
    base.mkdir(exist_ok=True)
    for name, content in MODEL.items():
        (base / name).write_bytes(content)
    return resolve_adapter(folder, resolve(Model("hf", str(base))))


READERS = (
    Reader("grid", {"g.toml": GRID}, lambda folder: change(read_grid(folder / "g.toml"), Changes())),
    Reader("policy", {"p.toml": (files("leaderboard") / "policies" / "example.toml").read_bytes()}, lambda folder:
           read_policy(folder / "p.toml")),
    Reader("published", {"r.toml": REFERENCE.encode()}, lambda folder: parse(
           (folder / "r.toml").read_bytes().decode("utf-8", "replace"), "r.toml")),
    Reader("model-config", {"m.toml": CONFIG}, lambda folder: ModelSettings({}, folder / "m.toml").tables()),
    Reader("recipe", {"r.toml": RECIPE}, lambda folder: find_recipe(Coins(), {}, folder / "r.toml"),
           ("brings no recipe",)),
    Reader("chosen", {"chosen.json": json.dumps(CHOSEN).encode()}, lambda folder: str(choice.read(folder))),
    Reader("model", MODEL, lambda folder: resolve(Model("hf", str(folder))), ("are incomplete",)),
    Reader("adapter", ADAPTER, read_adapter),
    Reader("run", RUN, lambda folder: (read_manifest(folder), read_scores(folder), read_sessions(folder))),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_whatever_is_in_a_file(reader: Reader, tmp_path: Path) -> None:
    folder = tmp_path / reader.name
    folder.mkdir()
    attack(reader, folder, examples=60)


@pytest.mark.stress
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_whatever_is_in_a_file_many_times(reader: Reader, tmp_path: Path) -> None:
    folder = tmp_path / reader.name
    folder.mkdir()
    attack(reader, folder, examples=5000)
