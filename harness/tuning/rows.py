"""Training rows: drawn from a task's pool as few-shot papers draw them, and turned into token ids.

A row's ids are those that the model will read at evaluation: the same encoder makes both, so that template, special
tokens and the merge at the boundary of prompt and answer are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.data.splits import few_shot
from harness.engines.encode import Encoder, Ids
from harness.errors import BadSetting, RequestFailed
from harness.task import Task
from harness.tuning.recipe import Draw, Recipe
from harness.types import Example, Instance

IGNORED = -100
"""The label of a token that the loss leaves out, in every library here."""


class Drawn(NamedTuple):
    """What one task contributes."""

    examples: Sequence[Example]
    """In training order."""
    rows: Sequence[int]
    """Their places in the pool."""
    pool: int
    """How many rows there were to draw from."""


class Encoded(NamedTuple):
    """A text in tokens."""

    ids: Ids
    labels: Ids
    """As long as `ids`; of an encoder-decoder, what the decoder writes."""


def draw(task: Task, how: Draw) -> Drawn:
    """The rows of a few-shot training: `shuffle(seed).select(range(K)).shuffle(seed)` of the pool.

    `pool=train` is the training split. `pool=valid` is for papers whose training split cannot be had: the
    validation rows of every second user, the first included; the others validate. BadSetting: there are not K rows.
    """
    pool = list(task.examples(how.pool))
    if how.pool == "valid":
        pool = [example for example, ours in zip(pool, _in_pool(task), strict=True) if ours]
    rows = few_shot(len(pool), len(pool) if how.shots is None else how.shots, how.seed)
    return Drawn([pool[row] for row in rows], rows, len(pool))


def validating(task: Task, how: Draw, limit: int | None) -> tuple[list[Instance], list[Example]]:
    """The instances and texts that choose among checkpoints; none of them is in the pool."""
    instances, examples = list(task.instances("valid")), list(task.examples("valid"))
    if len(instances) != len(examples):
        raise BadSetting(f"task {task.name!r} has no validation text for each instance; use selection=last")
    if how.pool == "valid":
        left = [n for n, ours in enumerate(_in_pool(task)) if not ours]
        instances, examples = [instances[n] for n in left], [examples[n] for n in left]
    if limit is not None and limit < len(instances):
        chosen = [place * len(instances) // limit for place in range(limit)]
        instances, examples = [instances[n] for n in chosen], [examples[n] for n in chosen]
    return instances, examples


def _in_pool(task: Task) -> list[bool]:
    """Which validation rows `pool=valid` trains on. Whole users: the rows of one may tell each other's answers."""
    users: dict[str, int] = {}
    return [users.setdefault(instance.user, len(users)) % 2 == 0 for instance in task.instances("valid")]


def encode(
    examples: Sequence[Example], encoder: Encoder, recipe: Recipe, end: int, encoder_decoder: bool
) -> tuple[list[Encoded], int]:
    """Token ids and labels of each text that is kept, and how many were not (`overlong=drop`).

    `end` closes a text. A longer text than `context` loses its end with `overlong=cut`, as in alpaca-lora.
    """
    kept: list[Encoded] = []
    choices = encoder.choices([(example.prompt, (example.answer,), False) for example in examples])
    for choice in choices:
        if isinstance(choice, RequestFailed):
            raise BadSetting(f"a training text cannot be used: {choice}")
        answer = (*choice.trie.options[0], end)
        if encoder_decoder:
            row, length = Encoded(choice.prompt, answer), max(len(choice.prompt), len(answer))
        else:
            ids = choice.prompt + answer
            labels = ids if recipe.loss == "text" else (IGNORED,) * len(choice.prompt) + answer
            row, length = Encoded(ids, labels), len(ids)
        if length <= recipe.context:
            kept.append(row)
        elif recipe.overlong == "cut":
            kept.append(Encoded(row.ids[: recipe.context], row.labels[: recipe.context]))
    if not kept:
        raise BadSetting(f"all {len(examples)} texts are longer than context={recipe.context} tokens; raise it")
    return kept, len(examples) - len(kept)
