"""A grid as people write it: blocks, each of which is a product of lists. From a TOML file, or in Python as a suite.

    title = "Few shots, two seeds"
    [[block]]
    name = "RT"
    task = "tallrec"
    model = "models/base"
    shots = [0, 16, 64, "all"]
    seed = [0, 1]
    test = {domain = "movie"}
    recipe = {budget = "ci"}

Nothing is looked up here: `harness.grid.cells` does that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from harness import registry
from harness.errors import BadSetting

Shots = int | Literal["all"]
Value = str | int | float | bool
Settings = Mapping[str, Value]
"""Options by name, of a task or of a recipe."""
Pool = Literal["train", "valid"]
LISTS = ("model", "shots", "seed", "test", "adapter")
"""Fields of a block that may be written without brackets if they hold one thing."""


@dataclass(frozen=True)
class Stage:
    """A fine-tuning that a block's models have behind them before they see its own rows."""

    task: str
    set: Settings = field(default_factory=dict)
    recipe: Settings = field(default_factory=dict)
    recipe_file: str | None = None
    shots: Shots = "all"
    seed: int = 0
    pool: Pool = "train"


@dataclass(frozen=True)
class Block:
    """A product of lists; each combination is a cell."""

    task: str
    name: str = ""
    """Of its rows in the table."""
    model: tuple[str, ...] = ()
    shots: tuple[Shots, ...] = (0,)
    """Rows to tune on; 0 is the model as it is, or with `adapter` or `first`, the adapter as it is."""
    seed: tuple[int, ...] = (0,)
    """Each draws the rows and seeds the training; nothing is drawn for 0 shots."""
    test: tuple[Settings, ...] = ({},)
    """Settings of the evaluated task, one alternative after another."""
    train: tuple[tuple[Settings, ...], ...] = ()
    """Settings of the task that is tuned on, likewise; several in one alternative are joint training. Default: each
    test's own."""
    pool: Pool = "train"
    recipe: Settings = field(default_factory=dict)
    """Fields of the recipe, and `budget`."""
    recipe_file: str | None = None
    adapter: tuple[str, ...] = ()
    """Ready LoRA folders, to be evaluated, or tuned further."""
    first: Stage | None = None
    """A stage whose LoRA the block goes on from."""
    choose: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """An option of the evaluated task that each language model chooses on validation, and the values among which; none
    are the task's own alternatives."""
    choose_sample: int | None = None
    """On how many validation instances, at most; default: as many as the grid's sample."""

    @property
    def tunes(self) -> bool:
        return any(shots != 0 for shots in self.shots)


@dataclass(frozen=True)
class Grid:
    title: str
    blocks: tuple[Block, ...]


def read_grid(file: Path) -> Grid:
    """The grid in a TOML file; BadSetting in one line for whatever is wrong with it."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"grid {file} cannot be read: {error}") from None
    return parse_grid(text, str(file))


def parse_grid(text: str, where: str) -> Grid:
    """The same from text; `where` names it in errors."""
    found = registry.read_toml(text, where, ["title", "block"])
    title, blocks = found.get("title", ""), found.get("block")
    if not isinstance(title, str):
        raise BadSetting(f"{where}: title should be a text")
    if not isinstance(blocks, list) or not blocks or not all(isinstance(block, dict) for block in blocks):
        raise BadSetting(f"{where} has no block; write [[block]] above its lists")
    return Grid(title, tuple(_block(block, f"{where}, block {n}") for n, block in enumerate(blocks, 1)))


def _block(table: Mapping[str, Any], where: str) -> Block:
    _known(Block, table, where)
    if isinstance(table.get("first"), dict):
        _known(Stage, table["first"], f"{where}, first")
    listed = {key: [value] if key in LISTS and not isinstance(value, list) else value for key, value in table.items()}
    if "train" in listed:
        choices = listed["train"] if isinstance(listed["train"], list) else [listed["train"]]
        listed["train"] = [choice if isinstance(choice, list) else [choice] for choice in choices]
    if isinstance(table.get("choose"), str):
        listed["choose"] = {table["choose"]: []}
    block = _typed(listed, where)
    for name in ("shots", "seed", "test"):
        if not getattr(block, name):
            raise BadSetting(f"{where}: {name} is empty; name something, or leave it out")
    if any(not choice for choice in block.train):
        raise BadSetting(f"{where}: train holds an empty list; name the settings of a task in it")
    return block


def _typed(listed: Mapping[str, Any], where: str) -> Block:
    from pydantic import TypeAdapter, ValidationError  # here, because `harness --help` has no need of it

    try:
        # By way of JSON, where strict means what TOML means: no text for a number, no true for a 1.
        block: Block = TypeAdapter(Block).validate_json(json.dumps(listed, default=str), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # The last part of the place may be the name of a type in a union, which says nothing to people.
        place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part.isidentifier())
        should = first["msg"].removeprefix("Input ")
        raise BadSetting(f"{where}: {place.removesuffix('.int').removesuffix('.str')} {should}") from None
    return block


def _known(kind: type, table: Mapping[str, Any], where: str) -> None:
    names = [f.name for f in fields(kind)]
    for key in table:
        if key not in names:
            raise BadSetting(registry.unknown(f"key of {where}", key, names))
