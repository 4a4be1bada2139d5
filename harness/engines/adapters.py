"""The proof that an adapter is in force: a few prompts must score differently with it than without.

Adapters that were silently not applied, or saved empty, have cost others whole result tables. So no run with an
adapter starts before this proof.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.engines import Engine
from harness.engines.encode import one_line
from harness.engines.text import LoadedModel
from harness.errors import BadModel, RequestFailed
from harness.model import Adapter
from harness.types import Choose, Key, Scores

OPTIONS = ("Yes", "No")
FLOOR = 1e-5
"""Natural log-units; below it lies what the order of additions in float32 does."""
RATIO = 3.0
"""How many times the change must exceed what the base changes from one pass to the next."""


def prove_adapter(
    loaded: LoadedModel, adapter: Adapter, template: str, prompts: Sequence[str], options: Sequence[str] = OPTIONS
) -> float:
    """The largest change that the adapter makes to any option's log-probability after any of the prompts.

    The base answers twice and the adapter once, each time the same prompts in one batch, so that what batching and
    caching do to a score is measured and not taken for the adapter's doing. Raises `BadModel` where the change does
    not clearly exceed that, and where no prompt can be scored.
    """
    requests = [Choose(prompt, tuple(options)) for prompt in prompts]
    base = loaded.engine(None, template)
    tuned = loaded.engine(adapter, template)
    try:
        first, second, changed = (
            probe_scores(base, requests),
            probe_scores(base, requests),
            probe_scores(tuned, requests),
        )
    finally:
        base.close()
        tuned.close()
    noise, change = distance(first, second), distance(first, changed)
    if change <= max(FLOOR, RATIO * noise):
        raise BadModel(
            f"adapter {adapter.name} changes nothing: over {len(requests)} prompts no log-probability moves by more "
            f"than {change:.1e}, and by {noise:.1e} without it; was it saved before training, or for another model?"
        )
    return change


def probe_scores(engine: Engine, requests: Sequence[Choose]) -> list[tuple[float, ...] | None]:
    """Log-probabilities of each request, None where it cannot be answered; raises `BadModel` if none can."""
    engine.submit([(Key(f"probe-{place}"), request) for place, request in enumerate(requests)])
    replies: dict[Key, tuple[float, ...] | None] = {}
    why = "no probe prompts were given"
    while answered := engine.collect():
        for key, reply in answered:
            replies[key] = reply.values if isinstance(reply, Scores) else None
            if isinstance(reply, RequestFailed):
                why = one_line(reply)
    if not any(replies.values()):
        raise BadModel(f"the adapter cannot be proved, since no probe prompt can be scored: {why}")
    return [replies[Key(f"probe-{place}")] for place in range(len(requests))]


def distance(one: Sequence[tuple[float, ...] | None], other: Sequence[tuple[float, ...] | None]) -> float:
    return max(
        abs(a - b)
        for before, after in zip(one, other, strict=True)
        if before is not None and after is not None
        for a, b in zip(before, after, strict=True)
    )
