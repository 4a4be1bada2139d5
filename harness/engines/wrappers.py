"""Engines around engines: count what is asked, ask again what failed in passing."""

from __future__ import annotations

from collections.abc import Sequence

from harness.engines import Answered, Asked, Engine
from harness.engines.rules import checked
from harness.errors import RequestFailed
from harness.types import Key, Request, Usage


class Counted:
    """Adds up what the engine inside really did; what a cache answered never reaches it."""

    def __init__(self, inner: Engine) -> None:
        self._inner = inner
        self.answers = inner.answers
        self.capacity = inner.capacity
        self.asked = 0
        self.failed = 0
        self.usage = Usage()

    def submit(self, asked: Sequence[Asked]) -> None:
        self.asked += len(asked)
        self._inner.submit(asked)

    def collect(self) -> Sequence[Answered]:
        done = self._inner.collect()
        for _, reply in done:
            if isinstance(reply, RequestFailed):
                self.failed += 1
            else:
                self.usage = self.usage.plus(reply.usage)
        return done

    def close(self) -> None:
        self._inner.close()


class Retried:
    """Asks again, up to `times` times, where a failure says that it is transient."""

    def __init__(self, inner: Engine, times: int = 3) -> None:
        self._inner = inner
        self._times = times
        self.answers = inner.answers
        self.capacity = inner.capacity
        self._in_hand: dict[Key, tuple[Request, int]] = {}

    def submit(self, asked: Sequence[Asked]) -> None:
        self._in_hand |= {key: (request, 0) for key, request in asked}
        self._inner.submit(asked)

    def collect(self) -> Sequence[Answered]:
        """Every reply is looked at here, inside the cache, so that no wrong one is kept. Raises as `checked`."""
        done: list[Answered] = []
        while self._in_hand and not done:
            collected = self._inner.collect()
            if not collected:  # it has lost questions; the runner says so
                break
            again: list[Asked] = []
            for key, reply in collected:
                if key not in self._in_hand:  # twice, or unasked; the runner says so
                    done.append((key, reply))
                    continue
                request, tries = self._in_hand.pop(key)
                if isinstance(reply, RequestFailed) and reply.transient and tries < self._times:
                    self._in_hand[key] = request, tries + 1
                    again.append((key, request))
                else:
                    done.append((key, checked(key, request, reply)))
            if again:
                self._inner.submit(again)
        return done

    def close(self) -> None:
        self._in_hand.clear()
        self._inner.close()
