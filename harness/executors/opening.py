"""Whoever the command line says is to work, made ready."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import BadSetting
from harness.executors import HERE, Executor, Say, Spread
from harness.model import EngineOptions


@contextmanager
def executor(spread: Spread, options: EngineOptions, say: Say) -> Iterator[Executor]:
    """Whoever works, for as long as the context lasts. BadSetting: the options do not go together, or Ray cannot be
    had."""
    spread = _spread(spread, options)
    if spread.executor == "local":
        yield HERE
        return
    from harness.executors.ray import Crew

    with Crew(spread, options, say) as crew:
        yield crew


def _spread(spread: Spread, options: EngineOptions) -> Spread:
    """vLLM has no data parallelism of its own for an offline engine with a dense model, and needs none: copies that
    share nothing are workers."""
    if spread.executor == "ray":
        if options.data_parallel > 1:
            raise BadSetting("--data-parallel goes with --executor local; on Ray, each of the --workers is a copy")
        return spread
    if spread != Spread():
        raise BadSetting("--workers, --ray-address and --gpus-per-worker go with --executor ray")
    return Spread("ray", options.data_parallel) if options.data_parallel > 1 else spread
