"""The one loop: many programs, one engine, each answer sent on as soon as it is there."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from itertools import chain
from math import isfinite
from typing import Any, Generic, Protocol

from harness.engines import Asked, Engine
from harness.errors import BadData, InstanceFailed, NotApplicable, NothingAnswered, RequestFailed
from harness.metrics import Answer
from harness.signature import Sample
from harness.store import Record, Run
from harness.task import Task
from harness.types import (
    Choose,
    Generate,
    Instance,
    Key,
    Prediction,
    Program,
    Rank,
    Reply,
    Request,
    Split,
    T,
    Usage,
    rank_candidates,
)

PATIENCE = 64
"""A run whose first this many instances all fail is not worth going on with."""


class Progress(Protocol):
    def advance(self, failed: bool) -> None:
        """One more instance is done."""
        ...


@dataclass
class _Flight(Generic[T]):
    """A program that waits for answers."""

    program: Program[T]
    step: int = -1
    asked: tuple[Request, ...] = ()
    replies: dict[int, Reply | RequestFailed] = field(default_factory=dict)
    usage: Usage = Usage()
    result: Any = None
    """The T, or the InstanceFailed, that it ended with."""

    def receive(self, place: int, reply: Reply | RequestFailed) -> bool:
        """Keep an answer; true when it was the last that the program waits for."""
        self.replies[place] = reply
        if not isinstance(reply, RequestFailed):
            self.usage = self.usage.plus(reply.usage)
        return len(self.replies) == len(self.asked)

    def advance(self) -> bool:
        """Begin, or send the answers in; true while the program has more to ask."""
        try:
            self._step()
            while not self.asked:
                self._step()
        except StopIteration as stop:
            self.result = stop.value
            return False
        except InstanceFailed as failed:
            self.result = failed
            return False
        return True

    def _step(self) -> None:
        answers = [self.replies[place] for place in range(len(self.asked))]
        failed = [answer for answer in answers if isinstance(answer, RequestFailed)]
        self.replies.clear()
        if self.step < 0:
            self.asked = next(self.program)
        elif failed:
            self.asked = self.program.throw(failed[0])
        else:
            self.asked = self.program.send(tuple(a for a in answers if not isinstance(a, RequestFailed)))
        self.step += 1


def drive(
    programs: Iterable[tuple[str, Program[T]]], engine: Engine, salt: str = ""
) -> Iterator[tuple[str, T | InstanceFailed, Usage]]:
    """Keep as many programs in flight as the engine likes; yield each result when it is there.

    `salt` seeds every sampled generation, together with the program's key and how far it has come, so that
    neither the batch size nor a restart changes what is drawn.
    """
    waiting = iter(programs)
    flights: dict[str, _Flight[T]] = {}

    def admitted() -> Iterator[str]:
        while len(flights) < engine.capacity and (head := next(waiting, None)) is not None:
            key, program = head
            if key in flights:
                raise ValueError(f"two instances have the id {key!r}")
            flights[key] = _Flight(program)
            yield key

    ready: list[str] = []
    while True:
        asked: list[Asked] = []
        for key in chain(ready, admitted()):
            flight = flights[key]
            if flight.advance():
                asked += _questions(key, flight, salt)
            else:
                del flights[key]
                yield key, flight.result, flight.usage
        if not flights:
            return
        if asked:
            # Equal beginnings side by side, for the engine's prefix cache.
            engine.submit(sorted(asked, key=_text))
        ready = [key.instance for key, reply in engine.collect() if flights[key.instance].receive(key.place, reply)]


def evaluate(
    task: Task,
    engine: Engine,
    run: Run,
    split: Split = "test",
    sample: Sample | None = None,
    progress: Progress | None = None,
) -> None:
    """Ask what has not been asked yet; every answer is on record when it is given.

    Raises NothingAnswered, and records nothing, if the first `PATIENCE` instances or all there are fail, and BadData
    if there are none, or two with one id.
    """
    solve = solver(task, engine)
    asked: dict[str, Instance] = {}
    seen: set[str] = set()

    def owed() -> Iterator[tuple[str, Program[Prediction]]]:
        for instance in questions(task, split, sample):
            if instance.id in seen:
                raise BadData(f"task {task.name!r} has two {split} instances with the id {instance.id!r}")
            seen.add(instance.id)
            if instance.id not in run.done:
                asked[instance.id] = instance
                yield instance.id, solve(instance)

    failures: list[Record] = []
    hopeful = bool(run.done)
    for key, outcome, usage in drive(owed(), engine, run.manifest["identity"]["run"]):
        record = make_record(task, asked.pop(key), outcome, usage)
        hopeful = hopeful or record.failure is None
        if not hopeful:
            failures.append(record)
            if len(failures) >= PATIENCE:
                break
            continue
        for held in (*failures, record):
            run.append(held)
            if progress is not None:
                progress.advance(held.failure is not None)
        failures.clear()
    if failures:
        first = failures[0]
        raise NothingAnswered(f"none of the first {len(failures)} instances could be answered: {first.reason}")
    if not seen:
        raise BadData(f"task {task.name!r} has no {split} instances")


def solver(task: Task, engine: Engine) -> Callable[[Instance], Program[Prediction]]:
    """How this engine solves the task: in words if it reads text, else by ranking items."""
    if Rank in engine.answers:
        return partial(rank_candidates, top=task.depth)
    if {Generate, Choose} & engine.answers:
        return task.solve
    raise NotApplicable(f"this engine answers no kind of question that {task.name!r} asks")


def questions(task: Task, split: Split, sample: Sample | None) -> Iterator[Instance]:
    """The instances of a split, or the seeded sample of them, in the task's order."""
    if sample is None:
        yield from task.instances(split)
        return

    def draw(instance: Instance) -> str:
        return sha256(f"{sample.seed}\0{instance.id}".encode()).hexdigest()

    chosen = set(heapq.nsmallest(sample.size, (draw(instance) for instance in task.instances(split))))
    yield from (instance for instance in task.instances(split) if draw(instance) in chosen)


def make_record(task: Task, instance: Instance, outcome: Prediction | InstanceFailed, usage: Usage) -> Record:
    """What is kept of an answer. A score or fact that is not a finite number makes it a failure."""
    prediction = outcome if isinstance(outcome, Prediction) else None
    if prediction and not all(map(isfinite, chain(prediction.scores.values(), prediction.facts.values()))):
        outcome, prediction = InstanceFailed("the model's answer holds a number that is not finite"), None
    answer = Answer.of(instance, prediction)
    places = answer.places
    scores = prediction.scores.values() if prediction else ()
    return Record(
        id=instance.id,
        user=instance.user,
        rows={metric.name: metric.measure(answer) for metric in task.metrics},
        ranks={item: places[item] for item, gain in instance.relevance.items() if gain > 0 and item in places},
        top=answer.ranking[: task.depth],
        tied=len(set(scores)) < len(scores),
        strata=task.traits(instance),
        tokens=(usage.prompt_tokens, usage.generated_tokens),
        facts=prediction.facts if prediction else {},
        text=prediction.text if prediction else None,
        failure=None if prediction else type(outcome).__name__,
        reason=None if prediction else str(outcome),
    )


def _questions(key: str, flight: _Flight[T], salt: str) -> Iterator[Asked]:
    for place, request in enumerate(flight.asked):
        question = Key(key, flight.step, place)
        if isinstance(request, Generate) and request.temperature > 0 and request.seed is None:
            seed = int.from_bytes(sha256(f"{salt}\0{key}\0{flight.step}\0{place}".encode()).digest()[:4], "big") >> 1
            request = replace(request, seed=seed)
        yield question, request


def _text(asked: Asked) -> str:
    _, request = asked
    return request.user if isinstance(request, Rank) else request.prompt
