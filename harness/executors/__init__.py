"""Who does the work: this process, or workers on Ray that hold an engine each.

An executor has a run's questions answered, and does pieces of work that do not wait for one another. Runs, their
order and their scores are the same whoever works: one process, the one that was started, opens the run directory and
writes what the others send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from harness.errors import EngineStopped
from harness.knobs import knob

if TYPE_CHECKING:  # the command line asks only for the options, and should answer at once
    from harness.job import Contestant, Job
    from harness.store import Run

T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Spread:
    """Over what the work is spread. No score depends on it."""

    executor: Literal["local", "ray"] = knob("local", "who asks: this process, or workers on Ray")
    workers: int = knob(1, "workers on Ray, each with an engine of its own", low=1)
    ray_address: str | None = knob(None, "a running Ray: auto, or HOST:PORT; default: one of its own on this machine")
    gpus_per_worker: int | None = knob(
        None, "GPUs of a worker on Ray; default: as --tensor-parallel where Ray has any", low=0
    )

    @property
    def one_machine(self) -> bool:
        """Whether all work is done on this machine, as far as is known. The response cache needs it: a file of SQLite
        cannot be shared between machines."""
        return self.ray_address is None


class Executor(Protocol):
    @property
    def workers(self) -> int:
        """How many pieces of work are done at the same time."""
        ...

    def answer(self, job: Job, contestant: Contestant, run: Run) -> None:
        """Ask what is owed of a run, and put it on record. Raises what keeps it from completion."""
        ...

    def each(self, work: Callable[..., T], given: Sequence[tuple[Any, ...]]) -> Iterable[T | EngineStopped]:
        """`work(*arguments)` for each of these, in their order; EngineStopped for one that cost too many workers."""
        ...


class Local:
    """This process, one thing after another."""

    workers = 1

    def answer(self, job: Job, contestant: Contestant, run: Run) -> None:
        from harness.answering import answer

        answer(job, contestant, run)

    def each(self, work: Callable[..., T], given: Sequence[tuple[Any, ...]]) -> Iterator[T]:
        return (work(*arguments) for arguments in given)


HERE = Local()
