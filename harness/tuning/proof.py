"""The proof that what lies on the disk is what was trained.

Empty adapters, and best checkpoints that were never loaded, have cost others whole result tables. So the texts that
the tuned model answered in memory are answered again by what was saved, read back from disk; and an adapter must
answer them differently than its base does.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.engines.adapters import FLOOR, RATIO, distance, probe_scores
from harness.engines.transformers import TransformersModel
from harness.errors import HarnessError
from harness.model import Adapter
from harness.tuning.recipe import Precision
from harness.types import Choose, Example

PROBES = 8
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.05}
"""Natural log-units between memory and disk; the arithmetic is the same, only a different adapter exceeds it."""

Probe = Sequence[tuple[float, ...] | None]


def answers(model: TransformersModel, adapter: Adapter | None, template: str, examples: Sequence[Example]) -> Probe:
    """Log-probabilities of the first few examples' answers."""
    engine = model.engine(adapter, template)
    try:
        return probe_scores(engine, [Choose(one.prompt, (one.answer,)) for one in examples[:PROBES]])
    finally:
        engine.close()


def compare(trained: Probe, base: Probe, again: Probe, saved: Probe, precision: Precision) -> dict[str, float]:
    """Largest change by the tuning and largest gap between memory and disk, in natural log-units.

    `base` and `again` are the untuned base, asked twice, so that its own noise is known. Raises HarnessError if the
    saved model answers as its base does, or not as the trained one did.
    """
    noise, change, gap = distance(base, again), distance(base, saved), distance(trained, saved)
    if gap > TOLERANCE[precision]:
        raise HarnessError(
            f"the saved model is not the trained one: its log-probabilities differ by {gap:.1e}; nothing was kept"
        )
    if change <= max(FLOOR, RATIO * noise):
        raise HarnessError(
            f"tuning changed nothing: no log-probability of {len(saved)} answers moves by more than {change:.1e}; "
            "raise the learning rate or the epochs"
        )
    return {"probes": len(saved), "change": change, "gap": gap}
