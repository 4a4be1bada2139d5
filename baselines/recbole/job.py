"""What goes to and fro between the harness and the process that runs RecBole. Plain data, no torch, no RecBole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.recbole.material import Ints, Lists, Material

Form = Literal["prefixes", "windows", "pairs", "labelled"]
VERSION = 1
"""Of how trainings are made here; raised whenever their weights or answers could change."""
STATE = "state.pt"
"""In the folder of a training: what it needs to go on after a kill."""
JUDGES = ("DIN", "DIEN")
"""Models that learn from labels by themselves, and answer in probabilities."""
EVERY_POSITION = ("SASRec", "GRU4Rec")
"""Their state at a place does not know what follows it, so each place can predict its next item."""
MASKED = ("BERT4Rec",)
"""They predict items inside a window from both sides."""


@dataclass(frozen=True)
class Recipe:
    """A model of RecBole's and everything that decides its weights besides the material."""

    model: str
    form: Form
    loss: Literal["bce", "mse"]
    """Of labelled rows."""
    options: Mapping[str, Any]
    """RecBole's own options that are not its defaults, the seed among them."""


@dataclass(frozen=True)
class Fit:
    """Train this and leave it in `folder / "made"`; what is needed to go on after a kill lies in `folder`, too."""

    recipe: Recipe
    material: Material
    folder: Path
    every: float = 10.0
    """Seconds between two states on disk, each after a validation; what came later is lost in a kill."""


@dataclass(frozen=True)
class Load:
    """Get ready to answer with what a training left in `folder`."""

    folder: Path
    cold: Literal["model", "last"]


class Questions(NamedTuple):
    """Questions about items, in codes."""

    ids: tuple[str, ...]
    """Of the instances: ties fall by them."""
    users: Ints
    history: Lists
    candidates: Lists | None
    """0 is an item without a code. None is the whole catalogue."""
    excluded: Lists
    """What of the whole catalogue may not be named."""
    top: int


class Answers(NamedTuple):
    """Scores of all candidates, or of the best items; one list a question."""

    items: Lists
    scores: NDArray[np.float32]
    """As many as there are `items.values`."""
    popular: NDArray[np.bool_]
    """Whether the question was answered by popularity, since nothing in its history is known."""
