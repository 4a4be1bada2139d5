"""How much a Llama computes over prompts, and how much a device could: what model FLOP utilisation is made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import MappingProxyType

from benchmarks.models import VOCABULARY, Shape

PEAKS = MappingProxyType(
    {
        "H200 NVL": 835.0,  # NVIDIA H200 data sheet, 1,671 with sparsity
        "H200": 989.0,  # SXM; NVIDIA H200 data sheet, which gives 1,979 with sparsity
        "H100 PCIe": 756.0,  # NVIDIA H100 data sheet, 1,513 with sparsity
        "H100 NVL": 835.0,  # NVIDIA H100 data sheet, 1,671 with sparsity
        "H100": 989.0,  # SXM; NVIDIA H100 data sheet, 1,979 with sparsity
        "A100": 312.0,  # NVIDIA A100 data sheet, dense
        "L40S": 362.0,  # NVIDIA L40S data sheet, dense
        "L4": 121.0,  # NVIDIA L4 data sheet, 242 with sparsity
        "A10": 125.0,  # NVIDIA A10 data sheet, dense
    }
)
"""Dense bfloat16 TFLOP/s by a part of the device's name, the longer names first."""


def peak_of(device: str) -> float | None:
    """Dense bfloat16 TFLOP/s of a device, by the name that its driver gives it; None where we do not know."""
    words = device.replace("-", " ").split()
    return next((peak for name, peak in PEAKS.items() if set(name.split()) <= set(words)), None)


def flops(shape: Shape, start: int, end: int) -> int:
    """Of reading the tokens from place `start` to `end` of a text, what is before them being in a cache, and of the
    logits at the last: two for each weight that a token meets, and four for each number of a key that it looks at,
    itself included, in each layer. Looking tokens up and norms count as nothing."""
    weights = shape.layers * (4 * shape.width**2 + 3 * shape.width * shape.inner)
    looked_at = (end * (end + 1) - start * (start + 1)) // 2
    return 2 * weights * (end - start) + 4 * shape.width * shape.layers * looked_at + 2 * shape.width * VOCABULARY


def least_work(shape: Shape, prompts: Sequence[Sequence[int]], block: int = 16) -> int:
    """FLOPs of answering prompts with one token each, if each beginning that neighbours in sorted order share is read
    once, in whole blocks of tokens; the last token is always read. No engine needs more, so a rate times this over the
    device's peak is never flattered by a prefix cache."""
    if not prompts:
        return 0
    ordered = sorted(map(tuple, prompts))
    shared = [0, *(_alike(one, other) for one, other in pairwise(ordered))]
    return sum(
        flops(shape, min(alike, len(ids) - 1) // block * block, len(ids))
        for ids, alike in zip(ordered, shared, strict=True)
    )


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    shortest = min(len(one), len(other))
    return next((place for place in range(shortest) if one[place] != other[place]), shortest)
