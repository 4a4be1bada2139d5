"""What an engine owes: one reply to each question, of the right kind and length, finite. Looked at for every reply.

An engine that loses replies, answers twice or gives another question's answer would otherwise end in a table that
looks like any other.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

from harness.errors import BrokenEngine, RequestFailed
from harness.types import Choose, Generate, Key, Rank, Ranked, Reply, Request, Scores, Text


def checked(key: Key, request: Request, reply: Reply | RequestFailed) -> Reply | RequestFailed:
    """The reply, its scores as floats, or a failure in its place where one is no finite number. BrokenEngine: it is no
    answer to this."""
    if isinstance(reply, RequestFailed):
        return reply
    wanted = _owed(request)
    found = len(reply.values) if isinstance(reply, Scores) else None
    if type(reply) is not wanted[0] or found != wanted[1]:
        got = f"{found} scores" if found is not None else f"a {type(reply).__name__}"
        due = f"{wanted[1]} scores" if wanted[1] is not None else f"a {wanted[0].__name__}"
        raise BrokenEngine(
            f"the engine answered question {key.step} of instance {key.instance!r} with {got}, not {due}"
        )
    if isinstance(reply, Scores):
        if not all(map(isfinite, reply.values)):
            worst = next(value for value in reply.values if not isfinite(value))
            return RequestFailed(f"the engine gave a score of {worst}, which is no finite number")
        if not set(map(type, reply.values)) <= {float}:  # such as nanoseconds, in digits that no float64 has
            return replace(reply, values=tuple(map(float, reply.values)))
    return reply


def _owed(request: Request) -> tuple[type[Reply], int | None]:
    """The kind of reply, and how many scores it must have where it has any."""
    if isinstance(request, Generate):
        return Text, None
    if isinstance(request, Choose):
        return Scores, len(request.options)
    if isinstance(request, Rank) and request.candidates is not None:
        return Scores, len(request.candidates)
    return Ranked, None
