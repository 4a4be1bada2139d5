"""Which rows belong to which part: draws and cuts that papers share."""

from __future__ import annotations

import numpy as np

from harness.errors import BadSetting


def few_shot(rows: int, shots: int, seed: int) -> list[int]:
    """Row numbers of a K-shot training set, in training order.

    Equal to `datasets`' `shuffle(seed).select(range(K)).shuffle(seed)`, which TALLRec and its followers use: a
    uniform draw, nested over K for one seed, and not balanced over classes. BadSetting if there are not K rows.
    """
    if not 1 <= shots <= rows:
        raise BadSetting(f"shots={shots} is not between 1 and the {rows} rows of the training split")
    drawn = np.random.default_rng(seed).permutation(rows)[:shots]
    order = np.random.default_rng(seed).permutation(shots)
    return [int(row) for row in drawn[order]]
