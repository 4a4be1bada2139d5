"""An engine answers requests. It is the only seam between protocols and hardware.

Questions go in with `submit` and answers come out of `collect` as they finish, in any order; so one slow
generation holds up nobody. An engine never raises for a request that it cannot answer: it returns a
`RequestFailed` in the place of the reply.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from harness.errors import RequestFailed
from harness.types import Key, Reply, Request

Asked = tuple[Key, Request]
Answered = tuple[Key, Reply | RequestFailed]


class Engine(Protocol):
    """What the runner drives. Keys are the caller's and must be unique among the questions in hand."""

    @property
    def answers(self) -> frozenset[type[Request]]:
        """The kinds of request that it understands."""
        ...

    @property
    def capacity(self) -> int:
        """How many programs the runner should keep in flight to keep this engine busy."""
        ...

    def submit(self, asked: Sequence[Asked]) -> None:
        """Take questions in hand. Neighbours that share a prefix should be handed over side by side."""
        ...

    def collect(self) -> Sequence[Answered]:
        """Wait until something is finished and return it; empty only when nothing is in hand."""
        ...

    def close(self) -> None:
        """Forget what is in hand. A loaded model stays loaded for others that share it."""
        ...


class FunctionEngine:
    """An engine made of a function: every fake in the tests and the home of the simple baselines."""

    def __init__(
        self, answer: Callable[[Key, Request], Reply | RequestFailed], *answers: type[Request], capacity: int = 1024
    ) -> None:
        self.answers = frozenset(answers)
        self.capacity = capacity
        self._answer = answer
        self._in_hand: deque[Asked] = deque()

    def submit(self, asked: Sequence[Asked]) -> None:
        self._in_hand.extend(asked)

    def collect(self) -> Sequence[Answered]:
        done = [(key, self._answer(key, request)) for key, request in self._in_hand]
        self._in_hand.clear()
        return done

    def close(self) -> None:
        self._in_hand.clear()
