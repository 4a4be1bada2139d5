"""What is set of a search model. The later comes before the earlier: defaults, presets.toml, `--model-config`,
`--model-set`. A file of `--model-config` looks like the presets, without its line of sources; what stands above its
list is for every model:

    epochs = 5
    [[settings]]
    models = ["TEM"]            # all, if left out
    budget = "ci"               # only if `budget=ci` is said
    heads = 4
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from baselines.search.words import Pieces
from harness.errors import BadSetting
from harness.knobs import knob, knobs
from harness.model import ModelSettings
from harness.registry import build, unknown

SELECTORS = ("models", "budget", "source")
NETWORKS = ("DSSM", "TwoTower", "TEM")


@dataclass(frozen=True)
class Counting:
    """Of BM25."""

    k1: float = knob(1.5, "how slowly a repeated word stops counting", low=0)
    b: float = knob(0.75, "how much a long text is held against itself", low=0, high=1)
    stopwords: Literal["none", "english"] = knob("none", "words that are left out: none, or bm25s's English list")


@dataclass(frozen=True)
class Learning:
    """Of the three networks."""

    budget: Literal["full", "ci"] = knob("full", "how much training: as the papers do, or what a CPU bears")
    embedding: int = knob(64, "numbers in every vector", low=1)
    layers: int = knob(2, "layers of the transformer", low=1)
    heads: int = knob(2, "its heads; they divide the embedding", low=1)
    text_layers: int = knob(1, "layers above the mean of a text's words", low=0)
    dropout: float = knob(0.1, "share of numbers left out in training", low=0, high=0.9)
    forget: float = knob(0.1, "share of known users and items read in training as if unknown", low=0, high=0.9)
    pieces: Pieces = knob("words", "what a text is made of: words, or letter trigrams")
    vocabulary: int = knob(30_000, "most frequent pieces that have a vector", low=1)
    max_pieces: int = knob(32, "pieces of a text that are read", low=1)
    max_history: int = knob(20, "last items of a history that are read", low=1)
    corrected: bool = knob(True, "negatives of the batch are weighed by how often they are drawn")
    epochs: int = knob(50, "most passes over the training questions", low=1)
    patience: int = knob(5, "validations without a better one before training ends", low=1)
    batch: int = knob(512, "questions in a step: each is a negative of the others", low=2)
    learning_rate: float = knob(0.001, "Adam's", low=0)
    weight_decay: float = knob(0.0, "Adam's, decoupled", low=0)
    seed: int = knob(0, "of first weights, order, dropout and what is forgotten", low=0, high=2**32 - 1)


def counting(given: ModelSettings) -> Counting:
    return build(Counting, _texts(_merged("BM25", given, {*_names(Counting)})), "model search:BM25")


def learning(model: str, given: ModelSettings) -> Learning:
    """All settings of a network. BadSetting in one line for a name or value that there is not."""
    what = f"model search:{model}"
    found = build(Learning, _texts(_merged(model, given, {*_names(Learning)})), what)
    if model != "DSSM" and found.embedding % found.heads:
        raise BadSetting(f"{what}: embedding={found.embedding} cannot be divided among heads={found.heads}")
    return found


def _merged(model: str, given: ModelSettings, known: set[str]) -> dict[str, Any]:
    general, listed = _tables(given)
    budget = str(given.given.get("budget", general.get("budget", "full")))
    built_in = tomllib.loads((files("baselines.search") / "presets.toml").read_text("utf-8"))["settings"]
    merged: dict[str, Any] = {}
    for table in (*filter(_for(model, budget), built_in), general, *filter(_for(model, budget), listed)):
        # A file is for several models; what this one has not is another's. What nobody has is caught in `_tables`.
        merged |= {name: value for name, value in table.items() if name not in SELECTORS and name in known}
    budgets = {"budget": budget} if "budget" in known else {}
    return {**merged, **budgets, **given.given}


def _for(model: str, budget: str) -> Any:
    return lambda table: model in table.get("models", [model]) and table.get("budget", budget) == budget


def _tables(given: ModelSettings) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a file says of every model, and its list. BadSetting: it has what no model here has."""
    general, listed = given.tables()
    where = f"--model-config {given.file}"
    known = sorted({*_names(Learning), *_names(Counting)})
    for table in (general, *listed):
        for name, value in table.items():
            selector = table is not general and name in SELECTORS
            if name not in known and not selector:
                raise BadSetting(f"{where}: " + unknown("setting of a search model", name, known))
            if not selector and not isinstance(value, (bool, int, float, str)):
                raise BadSetting(f"{where}: {name}={value} should be a number or a word")
        models = table.get("models", [])
        if not isinstance(models, list) or not {*map(str, models)} <= {"BM25", *NETWORKS}:
            raise BadSetting(f"{where}: models={models} should be a list of BM25, {', '.join(NETWORKS)}")
    return general, listed


def _names(kind: type) -> list[str]:
    return [known.name for known in knobs(kind)]


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}
