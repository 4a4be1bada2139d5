"""Which prompts begin alike, so that a model may read their common beginning once for all of them.

Prompts in order form a tree by what they have in common; every branching of it is a possible group. Whether a whole
branch or the groups inside it save more is decided from the leaves upwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from harness.engines.encode import Ids

PASS = 256
"""What reading a beginning by itself costs, in tokens: one more pass, and one that fills the machine less."""
SHARE = 0.25
"""The least part of a group's tokens that sharing must save; below it, rows of a cache are copied for little."""


@dataclass(frozen=True, slots=True)
class Group:
    """Two or more prompts and how many tokens all of them begin with."""

    members: tuple[int, ...]
    """Places of the prompts among those given."""
    shared: int
    saved: int
    """Tokens that need not be read, less the cost of a pass."""


@dataclass(slots=True)
class _Branch:
    """Prompts from `start` on, in order, that have `shared` tokens in common; its end is not known yet."""

    shared: int
    start: int
    inside: list[Group] = field(default_factory=list)


def group(prompts: Sequence[Ids]) -> list[Group]:
    """Groups without a member in common that are worth sharing, as the tree allows; most prompts may be in none.

    Takes the sorting of the prompts and a few comparisons for each.
    """
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    sizes = list(accumulate((len(prompts[place]) for place in order), initial=0))
    alike = [common(prompts[one], prompts[other]) for one, other in pairwise(order)]
    branches = [_Branch(0, 0)]
    for end, shared in enumerate([*alike, 0], start=1):
        start, inside = end - 1, list[Group]()
        while branches[-1].shared > shared:
            branch = branches.pop()
            start = branch.start
            inside = _better(branch, order[start:end], sizes[end] - sizes[start])
            if branches[-1].shared >= shared:
                branches[-1].inside += inside
        if branches[-1].shared < shared:
            branches.append(_Branch(shared, start, inside))
    return branches[0].inside


def common(one: Ids, other: Ids) -> int:
    """How many tokens two prompts begin with in common; by bisection, since comparing slices is quick in Python."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _better(branch: _Branch, members: Sequence[int], tokens: int) -> list[Group]:
    """The whole branch as one group, or the groups inside it: whichever saves more."""
    saved = (len(members) - 1) * branch.shared - PASS
    if saved >= SHARE * tokens and saved >= sum(one.saved for one in branch.inside):
        return [Group(tuple(members), branch.shared, saved)]
    return branch.inside
