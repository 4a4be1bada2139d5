"""Workers on Ray: the shares of one run over several engines, or the cells of a grid, on one machine or many.

This process opens run directories and writes all records, so nothing of what holds for a run depends on Ray. A worker
that dies is replaced, and asked for what its share still owes. Ray is imported only when a crew is made.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from harness.answering import Counts, noted, now, title, total
from harness.engines.encode import one_line
from harness.errors import BadSetting, EngineStopped, HarnessError, NotApplicable
from harness.executors import Say, Spread
from harness.executors.worker import INHERITED, Batch, Order, Refusal, Worker
from harness.job import Contestant, Job
from harness.model import EngineOptions
from harness.progress import progress_bar
from harness.registry import baseline_groups
from harness.runner import PATIENCE, Share, keep
from harness.store import Record, Run

T = TypeVar("T")
LIVES = 4
"""Workers that may be spent on one share of a run, or on one piece of other work."""
AHEAD = 8
"""Batches that a worker may have sent without their being written; then it waits."""
STORE = 1 << 28
"""Bytes of Ray's object store on a machine of our own; what is larger goes to the disk."""


@dataclass
class _Tally:
    """What the workers of one run have cost, the dead ones up to their last batch."""

    software: str = ""
    replaced: int = 0
    first: float | None = None
    """When the first batch came."""
    costs: dict[Any, Counts] = field(default_factory=dict)
    machines: list[Any] = field(default_factory=list)

    def take(self, stream: Any, batch: Batch) -> None:
        self.first = self.first or time.monotonic()
        self.software = batch.software
        if stream not in self.costs and batch.machine not in self.machines:
            self.machines.append(batch.machine)
        self.costs[stream] = batch.counts

    def counts(self) -> Counts:
        found = Counts()
        for cost in self.costs.values():
            found = found.plus(cost)
        return found


class Crew:
    """Workers that live as long as the context. One is started when there is work for it, or when it died."""

    def __init__(self, spread: Spread, options: EngineOptions, say: Say) -> None:
        """Connects to Ray, or starts it on this machine. BadSetting: there is none, or it is too small."""
        if find_spec("ray") is None:
            raise BadSetting("Ray is not installed; install the extra ray, or say --executor local")
        self.workers = spread.workers
        self._say = say
        self._hands: dict[int, Any] = {}
        self._ours = _connect(spread)
        try:
            self._resources = _resources(spread, options, say)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self._rest()
        self.close()

    def close(self) -> None:
        """End the workers at once, and Ray if it was started here."""
        import ray

        for place in list(self._hands):
            self._dismiss(place)
        if self._ours:
            ray.shutdown()

    def answer(self, job: Job, contestant: Contestant, run: Run) -> None:
        """As `harness.answering.answer`, with a share of the instances for each worker."""
        began, before, tally = time.monotonic(), len(run.done), _Tally()
        session: dict[str, Any] = {"started": now()}
        try:
            with closing(self._records(_sendable(job), run, tally)) as records:
                first = list(islice(records, 1))  # the time that is left is reckoned without the loading
                with progress_bar(title(job, contestant), total(job), before) as bar:
                    # One share's first neighbours may fail all together, and come first.
                    keep(chain(first, records), run, bar, PATIENCE * self.workers)
        except BaseException:
            for place in list(self._hands):
                self._dismiss(place)  # they would go on asking
            raise
        finally:
            if tally.first is not None:
                session |= {"loading_seconds": round(tally.first - began, 3)}
                session |= {"seconds": round(time.monotonic() - tally.first, 3), "answered": len(run.done) - before}
                session |= {"workers": self.workers, "replaced": tally.replaced, "worker_machines": tally.machines}
                run.note_session({**session, **noted(job, tally.counts(), tally.software)})

    def each(self, work: Callable[..., T], given: Sequence[tuple[Any, ...]]) -> list[T | EngineStopped]:
        """As `Executor.each`, as many at the same time as there are workers. Pieces that lose a worker begin again."""
        import ray

        found: dict[int, T | EngineStopped] = {}
        waiting, free = deque(range(len(given))), deque(range(self.workers))
        running: dict[Any, tuple[int, int]] = {}
        spent: Counter[int] = Counter()
        while waiting or running:
            while waiting and free:
                piece, place = waiting.popleft(), free.popleft()
                running[self._hand(place).do.remote(work, *given[piece])] = piece, place
            (done,), _ = ray.wait(list(running), num_returns=1)
            piece, place = running.pop(done)
            free.append(place)
            try:
                found[piece] = ray.get(done)
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError as death:
                spent[piece] += 1
                if self._may_replace(place, spent[piece], _first_line(death)):
                    waiting.append(piece)
                else:
                    found[piece] = _lost(_first_line(death))
        return [found[piece] for piece in range(len(given))]

    def _records(self, job: Job, run: Run, tally: _Tally) -> Generator[Record]:
        """What the workers send, in the order in which it comes."""
        import ray

        shares = 1 if _trains(job) else self.workers
        given: deque[str] = deque(maxlen=PATIENCE * self.workers)
        """Whoever keeps the records may hold so many of them back before the first is written."""

        def ask(place: int, done: Any) -> Any:
            ways = {"num_returns": "streaming", "_generator_backpressure_num_objects": AHEAD}
            order = Order(job, run.manifest, Share(place, shares))
            return self._hand(place).answer.options(**ways).remote(order, done)

        done = ray.put(frozenset(run.done))
        streams = {ask(place, done): place for place in range(shares)}
        spent: Counter[int] = Counter()
        lost = ""
        while streams:
            (stream,), _ = ray.wait(list(streams), num_returns=1)
            place = streams.pop(stream)
            batch = _next(stream)
            if isinstance(batch, Batch):
                streams[stream] = place
                tally.take(stream, batch)
                for record in batch.records:
                    given.append(record.id)
                    yield record
            elif batch is not None:
                spent[place] += 1
                if self._may_replace(place, spent[place], batch):
                    tally.replaced += 1
                    streams[ask(place, ray.put(frozenset(run.done).union(given)))] = place
                else:
                    lost = batch
        if lost:
            raise _lost(lost)

    def _may_replace(self, place: int, spent: int, why: str) -> bool:
        """Bury a dead worker, and say so; false if too many have died of the same work."""
        self._dismiss(place)
        if spent >= LIVES:
            return False
        self._say(f"worker {place} died ({why}); another one takes over what it owes")
        return True

    def _hand(self, place: int) -> Any:
        """The worker with this number; started if there is none."""
        import ray

        if place not in self._hands:
            environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
            kind = ray.remote(Worker).options(**self._resources)
            self._hands[place] = kind.remote(str(Path.cwd()), environment)
        return self._hands[place]

    def _dismiss(self, place: int) -> None:
        import ray

        if (hand := self._hands.pop(place, None)) is not None:
            ray.kill(hand)

    def _rest(self) -> None:
        """Let engines end as they should: some have processes of their own."""
        import ray

        for place, hand in list(self._hands.items()):
            try:
                ray.get(hand.rest.remote(), timeout=60)
            except ray.exceptions.RayError:
                self._dismiss(place)


def _connect(spread: Spread) -> bool:
    """Whether Ray was started here."""
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        return False
    address = spread.ray_address
    try:
        if address is None:
            cores = max(spread.workers, os.cpu_count() or 1)
            ray.init("local", num_cpus=cores, include_dashboard=False, object_store_memory=STORE, **_QUIET)
        else:
            ray.init(address, **_QUIET)
    except Exception as error:  # Ray raises just that, among others
        where = f"the Ray at {address}" if address else "a Ray on this machine"
        raise BadSetting(f"cannot start or reach {where}: {one_line(error)}") from error
    return address is None


_QUIET = {"configure_logging": False, "log_to_driver": True}


def _resources(spread: Spread, options: EngineOptions, say: Say) -> dict[str, float]:
    """What each worker needs; says so if it has to wait for it. BadSetting: this Ray cannot ever give it."""
    import ray

    there = ray.cluster_resources()
    gpus = spread.gpus_per_worker
    if gpus is None:
        gpus = options.tensor_parallel if there.get("GPU") else 0
    wanted = {"CPU": spread.workers, "GPU": spread.workers * gpus}
    if any(number > there.get(name, 0) for name, number in wanted.items()):
        raise BadSetting(f"{_named(wanted)} are needed for {spread.workers} workers, and Ray has {_named(there)}")
    free = ray.available_resources()
    if any(number > free.get(name, 0) for name, number in wanted.items()):
        say(f"waiting until Ray can give {_named(wanted)}; {_named(free)} are free now")
    return {"num_cpus": 1, "num_gpus": gpus}


def _named(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{resources.get(name, 0):.0f} {name}s" for name in ("CPU", "GPU"))


def _next(stream: Any) -> Batch | str | None:
    """The next batch; None at the end, and why where the worker is dead. Raises what the worker refuses."""
    import ray

    try:
        found: Batch | Refusal = ray.get(next(stream))
    except StopIteration:
        return None
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as death:
        return _first_line(death)
    if isinstance(found, Batch):
        return found
    if found.kind is EngineStopped:
        return found.reason
    raise (NotApplicable if found.kind is NotApplicable else HarnessError)(found.reason)


def _first_line(death: Exception) -> str:
    """The rest are Ray's own numbers."""
    return (str(death).strip().splitlines() or [type(death).__name__])[0].rstrip(".")


def _lost(why: str) -> EngineStopped:
    return EngineStopped(f"{LIVES} workers died of the same work, the last one: {why}; the same command goes on")


def _trains(job: Job) -> bool:
    """Whether the model trains itself first. One worker then answers all: several, without a folder that all share,
    would train as many models, and one run would hold the answers of each."""
    group = baseline_groups().get(job.model.engine)
    return group is not None and group.find(job.model.name, job.task, job.split, job.settings).trains


def _sendable(job: Job) -> Job:
    return replace(job, options=replace(job.options, data_parallel=1), choosing=None)
