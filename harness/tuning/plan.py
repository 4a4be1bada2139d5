"""Into how many steps a recipe divides its rows, before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.errors import BadSetting
from harness.tuning.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """How many steps there are and when to validate."""

    steps: int
    micro: int
    """Rows in one forward pass of one device."""
    accumulation: int
    every: int
    """Steps between two validations; the last step is always validated."""

    @classmethod
    def of(cls, recipe: Recipe, rows: int, devices: int) -> Plan:
        """`rows` are those of one epoch, `devices` share each batch. BadSetting: a batch cannot be shared so."""
        micro = min(recipe.micro_batch, max(1, recipe.batch // devices))
        at_once = micro * devices
        if recipe.batch % at_once:
            raise BadSetting(
                f"batch={recipe.batch} is not a multiple of micro_batch={recipe.micro_batch} times {devices} devices"
            )
        accumulation = recipe.batch // at_once
        steps = max(1, math.ceil(recipe.epochs * math.ceil(math.ceil(rows / at_once) / accumulation)))
        steps = min(steps, recipe.max_steps or steps)
        every = max(recipe.evaluate_steps, int(recipe.evaluate_epochs * rows / recipe.batch))
        return cls(steps, micro, accumulation, min(every, steps))
