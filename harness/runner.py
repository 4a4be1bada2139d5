"""The one loop: many programs, one engine, each answer sent on as soon as it is there."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from itertools import chain
from math import isfinite
from typing import Any, Generic, NamedTuple, Protocol

import numpy as np

from harness.engines import Asked, Engine
from harness.engines.rules import checked
from harness.errors import BadData, BrokenEngine, InstanceFailed, NotApplicable, NothingAnswered, RequestFailed
from harness.meter import Meter
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
NEIGHBOURS = 64
"""Instances that go into one share together: neighbours often begin alike, which engines make use of."""


class Share(NamedTuple):
    """A part of the instances: of `of` equal parts the one with number `place`, from 0."""

    place: int
    of: int


WHOLE = Share(0, 1)


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

    def receive(self, key: Key, reply: Reply | RequestFailed) -> bool:
        """Keep an answer; true when it was the last that the program waits for. BrokenEngine: it asked nothing such."""
        if key.step != self.step or key.place in self.replies or key.place not in range(len(self.asked)):
            raise BrokenEngine(f"the engine answered {key} twice, or without having been asked")
        reply = checked(key, self.asked[key.place], reply)
        self.replies[key.place] = reply
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
    neither the batch size nor a restart changes what is drawn. Raises BrokenEngine for an engine that gives another
    number or kind of replies than it was asked for.
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
        collected = engine.collect()
        if not collected:
            lost = sum(len(flight.asked) - len(flight.replies) for flight in flights.values())
            raise BrokenEngine(f"the engine has nothing in hand any more, and {lost} questions are not answered")
        if strange := next((key for key, _ in collected if key.instance not in flights), None):
            raise BrokenEngine(f"the engine answered {strange} twice, or without having been asked")
        ready = [key.instance for key, reply in collected if flights[key.instance].receive(key, reply)]


def evaluate(
    task: Task,
    engine: Engine,
    run: Run,
    split: Split = "test",
    sample: Sample | None = None,
    progress: Progress | None = None,
) -> None:
    """Ask what has not been asked yet; every answer is on record when it is given. Raises as `answers` and `keep`."""
    keep(answers(task, engine, run.manifest["identity"]["run"], split, sample, run.done), run, progress)


def answers(
    task: Task,
    engine: Engine,
    salt: str,
    split: Split = "test",
    sample: Sample | None = None,
    done: Container[str] = (),
    share: Share = WHOLE,
) -> Iterator[Record]:
    """Ask a share of the instances, but those whose ids are done; a record of each as soon as it is answered.

    `salt` is the run's identity: what seeds the samples. Raises BadData if there are no instances, or two with one id.
    """
    solve = solver(task, engine)
    asked: dict[str, Instance] = {}
    met = array("q")  # eight bytes an instance, where a set would hold every id once more

    def owed() -> Iterator[tuple[str, Program[Prediction]]]:
        for place, instance in enumerate(questions(task, split, sample)):
            if instance.id in asked:
                raise _twice(task, split, instance.id)
            met.append(hash(instance.id))
            if place // NEIGHBOURS % share.of == share.place and instance.id not in done:
                asked[instance.id] = instance
                yield instance.id, solve(instance)

    meter = Meter(task.metrics)
    for key, outcome, usage in drive(owed(), engine, salt):
        yield make_record(task, meter, asked.pop(key), outcome, usage)
    if not met:
        raise BadData(f"task {task.name!r} has no {split} instances")
    if len(np.unique(met)) < len(met) and (name := _repeated(questions(task, split, sample))) is not None:
        raise _twice(task, split, name)


def keep(answered: Iterable[Record], run: Run, progress: Progress | None = None, patience: int = PATIENCE) -> None:
    """Put answers on record as they come.

    Raises NothingAnswered, and records nothing, if the first `patience` instances or all there are fail.
    """
    failures: list[Record] = []
    hopeful = bool(run.done)
    for record in answered:
        hopeful = hopeful or record.failure is None
        if not hopeful:
            failures.append(record)
            if len(failures) >= patience:
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


def make_record(
    task: Task, meter: Meter, instance: Instance, outcome: Prediction | InstanceFailed, usage: Usage
) -> Record:
    """What is kept of an answer, measured by a meter of the task's metrics. A score or fact that is not a finite
    number makes it a failure."""
    prediction = outcome if isinstance(outcome, Prediction) else None
    if prediction and not all(map(isfinite, chain(prediction.scores.values(), prediction.facts.values()))):
        outcome, prediction = InstanceFailed("the model's answer holds a number that is not finite"), None
    answer = Answer.of(instance, prediction)
    return Record(
        id=instance.id,
        user=instance.user,
        rows=meter.rows(answer),
        ranks=answer.places,
        top=answer.top(task.depth),
        tied=answer.tied,
        strata=task.traits(instance),
        tokens=(usage.prompt_tokens, usage.generated_tokens),
        facts=prediction.facts if prediction else {},
        text=prediction.text if prediction else None,
        failure=None if prediction else type(outcome).__name__,
        reason=None if prediction else str(outcome),
    )


def _twice(task: Task, split: Split, name: str) -> BadData:
    return BadData(f"task {task.name!r} has two {split} instances with the id {name!r}")


def _repeated(instances: Iterable[Instance]) -> str | None:
    """The first id that an earlier instance has."""
    seen: set[str] = set()
    for instance in instances:
        if instance.id in seen:
            return instance.id
        seen.add(instance.id)
    return None


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
