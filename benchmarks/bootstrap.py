"""Seconds for 10,000 bootstrap draws of a paired difference, against drawing rows out and asking a library each time.

50,000 instances, as independent ones and as those of 5,000 users, for a mean, for AUC (scikit-learn's
`roc_auc_score`) and for the mean of users' own AUCs. The plain way draws the rows and aggregates them; it is timed over
a few draws, in turn with ours, and counted up, so that what counts is the ratio.

    python -m benchmarks.bootstrap [--instances 50000] [--draws 10000] [--plain 20] [--rounds 2]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from math import inf

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from harness.metrics import NDCG, Metric, Rows, Users
from harness.paired import contrast
from harness.points import AUC, UserAUC

Score = Callable[[Rows, Users], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--instances", type=int, default=50_000)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--plain", type=int, default=20, help="draws of the plain way")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    rng, count = np.random.default_rng(0), given.instances
    means = rng.random((2, count, 1))
    label = rng.random(count) < 0.5
    points = [np.column_stack([label, label + rng.normal(size=count), np.ones(count)]) for _ in range(2)]
    alone, grouped = np.arange(count), np.sort(rng.integers(count // 10, size=count))
    print("| score | units | seconds | plain way, counted up | ratio |\n|---|---|---|---|---|")
    for metric, sides, users, plain in (
        (NDCG(10), means, alone, NDCG(10).aggregate),
        (NDCG(10), means, grouped, NDCG(10).aggregate),
        (AUC(), points, alone, plain_auc),
        (AUC(), points, grouped, plain_auc),
        (UserAUC(), points, grouped, UserAUC().aggregate),
    ):
        report(metric, list(sides), users, plain, given)


def plain_auc(rows: Rows, users: Users) -> float:
    return float(roc_auc_score(rows[:, 0], rows[:, 1]))


def report(metric: Metric, sides: list[Rows], users: Users, plain: Score, given: argparse.Namespace) -> None:
    """Both ways in turn, and a row with the best time of each."""
    ours = slow = inf
    for _ in range(given.rounds):
        began = time.perf_counter()
        contrast(metric, sides[:1], sides[1:], users, draws=given.draws)
        ours = min(ours, time.perf_counter() - began)
        began = time.perf_counter()
        drawn_out(sides, users, plain, given.plain)
        slow = min(slow, (time.perf_counter() - began) / given.plain * given.draws)
    units = len(np.unique(users))
    what = "users" if units < len(users) else "instances"
    print(f"| {metric.name} | {units:,} {what} | {ours:.1f} | {slow:.1f} | {slow / ours:.1f} |", flush=True)


def drawn_out(sides: list[Rows], users: Users, score: Score, draws: int) -> NDArray[np.float64]:
    """The difference in each draw, from rows that are really repeated."""
    order = np.argsort(users, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(users[order])) + 1)
    rng, found = np.random.default_rng(0), np.empty(draws)
    for draw in range(draws):
        chosen = rng.integers(len(members), size=len(members))
        picks, who = chosen, chosen
        if len(members) < len(users):
            picks = np.concatenate([members[unit] for unit in chosen])
            who = np.repeat(np.arange(len(chosen)), [len(members[unit]) for unit in chosen])
        found[draw] = score(sides[0][picks], who) - score(sides[1][picks], who)
    return found


if __name__ == "__main__":
    main()
