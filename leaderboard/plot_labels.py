"""Where names stand beside points so that they hide neither each other nor the points. Geometry only."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DISTANCES = (5.0, 8.0, 12.0, 18.0, 26.0, 36.0, 48.0, 64.0, 84.0, 110.0, 140.0, 180.0)
"""Of a name from its point, in points of the font."""
TURNS = (0, 8, 4, 12, 2, 14, 6, 10, 1, 15, 7, 9, 3, 13, 5, 11)
"""Directions in sixteenths of a turn, those that read best first."""
NEAR = 12.0
"""A name that is not farther from its point needs no line to it."""
ROUNDS, SHUFFLED = 8, 11
STEPS = 24
"""Spots of a line that are looked at."""
LABEL, MARKER, BAR, LEADER, CROSSED = 1000.0, 150.0, 25.0, 150.0, 75.0
"""What it costs to hide a name, a point or an interval, to have a line on a name, and a line on a point or on another
line; a point of distance costs one."""


class Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float


def place(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    within: Box,
    markers: Sequence[Box] = (),
    bars: Sequence[Box] = (),
) -> list[Box]:
    """A box for each name: of its size, beside its anchor, and inside `within` if it fits there at all.

    Each name in turn takes the cheapest of a fixed set of places, given where the others are, until no name moves.
    Where that ends depends on who begins, so several orders are tried: the same ones for the same input.
    """
    fixed = np.array([*markers, *bars], dtype=float).reshape(-1, 4)
    weights = np.array([MARKER] * len(markers) + [BAR] * len(bars))
    names = []
    for anchor, size in zip(anchors, sizes, strict=True):
        boxes = _places(anchor, size, within)
        cost = _far(boxes, anchor) + _hidden(boxes, fixed) @ weights
        names.append(_Name(anchor, boxes, _path(boxes, anchor), cost))
    best = min(
        (_settled(names, order, fixed[: len(markers)]) for order in _orders(anchors)), key=lambda found: found[0]
    )
    return [Box(*(float(edge) for edge in name.boxes[at])) for name, at in zip(names, best[1], strict=True)]


class _Name(NamedTuple):
    anchor: tuple[float, float]
    boxes: Floats
    """(places, 4)"""
    paths: Floats
    """(places, STEPS, 2)"""
    alone: Floats
    """(places,): what each costs if there were no other names."""


def _orders(anchors: Sequence[tuple[float, float]]) -> list[list[int]]:
    """The crowded first; from each side; and some more."""
    names = list(range(len(anchors)))
    crowd = [sum(abs(a - x) < 80 and abs(b - y) < 24 for a, b in anchors) for x, y in anchors]
    found = [sorted(names, key=lambda n: -crowd[n])]
    for rising in (sorted(names, key=lambda n: anchors[n][0]), sorted(names, key=lambda n: anchors[n][1])):
        found += [rising, rising[::-1]]
    rng = Random(0)
    return found + [rng.sample(names, len(names)) for _ in range(SHUFFLED if max(crowd, default=0) > 2 else 0)]


def _settled(names: Sequence[_Name], order: Sequence[int], markers: Floats) -> tuple[float, list[int]]:
    """What it costs in the end, and the place of each."""
    chosen: dict[int, int] = {}
    total = 0.0
    for _ in range(ROUNDS):
        before, total = dict(chosen), 0.0
        for mine in order:
            others = [n for n in chosen if n != mine]
            taken = np.array([names[n].boxes[chosen[n]] for n in others]).reshape(-1, 4)
            paths = np.array([names[n].paths[chosen[n]] for n in others]).reshape(-1, STEPS, 2)
            cost = names[mine].alone + _among(names[mine], taken, paths, markers)
            chosen[mine] = int(np.argmin(cost))
            total += float(cost[chosen[mine]])
        if chosen == before:
            break
    return total, [chosen[n] for n in range(len(names))]


def leader(box: Box, anchor: tuple[float, float]) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The line from a point to its name; None if they are so close that none is needed."""
    near = (float(np.clip(anchor[0], box.left, box.right)), float(np.clip(anchor[1], box.bottom, box.top)))
    return (anchor, near) if np.hypot(near[0] - anchor[0], near[1] - anchor[1]) > NEAR else None


def _among(name: _Name, taken: Floats, paths: Floats, markers: Floats) -> Floats:
    """(places,): what each costs beside the names that are `taken`, (names, 4), and their `paths`."""
    cost: Floats = LABEL * _hidden(name.boxes, taken).sum(axis=1)
    own = _covered(markers, np.array([name.anchor]))[:, 0]
    spots = name.paths.reshape(-1, 2)
    for weight, blocks in ((LEADER, taken), (CROSSED, markers[~own])):
        cost += weight * _covered(blocks, spots).reshape(len(blocks), len(name.boxes), STEPS).any(axis=2).sum(axis=0)
    on_names = _covered(name.boxes, paths.reshape(-1, 2)).reshape(len(name.boxes), len(paths), STEPS)
    cost += LEADER * on_names.any(axis=2).sum(axis=1) + CROSSED * _cross(name.paths, paths).sum(axis=1)
    return cost


def _cross(paths: Floats, others: Floats) -> NDArray[np.bool_]:
    """(paths, others): which straight ways cross."""
    a, b = paths[:, None, 0], paths[:, None, -1]
    c, d = others[None, :, 0], others[None, :, -1]

    def side(p: Floats, q: Floats, r: Floats) -> Floats:
        ahead, aside = q - p, r - p
        found: Floats = np.sign(ahead[..., 0] * aside[..., 1] - ahead[..., 1] * aside[..., 0])
        return found

    with np.errstate(invalid="ignore"):
        found: NDArray[np.bool_] = (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
    return found


def _places(anchor: tuple[float, float], size: tuple[float, float], within: Box) -> Floats:
    """(places, 4): boxes around the anchor, pushed inside."""
    (x, y), (wide, high) = anchor, size
    boxes = []
    for far in DISTANCES:
        for turn in TURNS:
            across, up = cos(turn * pi / 8), sin(turn * pi / 8)
            left = x + across * (far + wide / 2) - wide / 2
            low = y + up * (far + high / 2) - high / 2
            left = max(min(left, within.right - wide), within.left)
            low = max(min(low, within.top - high), within.bottom)
            boxes.append((left, low, left + wide, low + high))
    return np.array(boxes)


def _far(boxes: Floats, anchor: tuple[float, float]) -> Floats:
    """How far each box is from the anchor, as it was meant or pushed; of equals the first is a little cheaper."""
    gaps = _nearest(boxes, anchor) - np.array(anchor)
    meant = np.repeat(DISTANCES, len(TURNS))
    found: Floats = np.maximum(np.hypot(gaps[:, 0], gaps[:, 1]), meant) + 0.1 * (np.arange(len(boxes)) % len(TURNS))
    return found


def _nearest(boxes: Floats, anchor: tuple[float, float]) -> Floats:
    x, y = anchor
    return np.stack([np.clip(x, boxes[:, 0], boxes[:, 2]), np.clip(y, boxes[:, 1], boxes[:, 3])], axis=1)


def _path(boxes: Floats, anchor: tuple[float, float]) -> Floats:
    """(boxes, STEPS, 2): from the anchor to each box, without its ends; nan for a way so short that it is no line."""
    ends = _nearest(boxes, anchor)
    steps = np.linspace(0, 1, STEPS + 2)[1:-1, None]
    ways: Floats = np.array(anchor) + steps * (ends - np.array(anchor))[:, None]
    ways[np.hypot(*(ends - np.array(anchor)).T) <= NEAR] = np.nan
    return ways


def _hidden(boxes: Floats, others: Floats) -> NDArray[np.bool_]:
    """(boxes, others): which overlap."""
    a, b = boxes[:, None], others[None]
    found: NDArray[np.bool_] = (
        (a[..., 0] < b[..., 2]) & (b[..., 0] < a[..., 2]) & (a[..., 1] < b[..., 3]) & (b[..., 1] < a[..., 3])
    )
    return found


def _covered(boxes: Floats, spots: Floats) -> NDArray[np.bool_]:
    """(boxes, spots): which spots lie in which box."""
    a = boxes[:, None]
    found: NDArray[np.bool_] = (
        (a[..., 0] < spots[:, 0]) & (spots[:, 0] < a[..., 2]) & (a[..., 1] < spots[:, 1]) & (spots[:, 1] < a[..., 3])
    )
    return found
