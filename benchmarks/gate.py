"""How often the gate is wrong: equal pairs that it stops, pairs at the limit that it passes, and its power.

Pairs of systems are simulated whose true difference is known, and each goes through the gate's own decision. Equal
systems are exchangeable: what one of them has, the other has in distribution, so that the true difference is exactly 0.
With an allowed drop of 0, an equal pair lies on the limit: the gate may stop it in 5 of 100 cases, and pass it in 5.
The worse system loses exactly what the gate itself says it can detect, which it should then stop in 80 of 100.

    python -m benchmarks.gate [--pairs 2000] [--draws 1000] [--layout users16]
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness.metrics import HitRate, Metric, Rows, Users
from harness.points import AUC, UserAUC
from leaderboard.gate.decision import Gain, decide
from leaderboard.gate.evidence import Table
from leaderboard.gate.judge import measure
from leaderboard.gate.policy import Check, Policy, read_policy

TALLREC_MOVIE = (174, 158, 132, 98, 97, 69, 53, 51, 39, 30, 29, 22, 16, 12, 10, 10)
"""Test instances of each of the 16 users of TALLRec's movies."""
LIMIT = 0.01
"""What the default policy lets the headline drop."""
Draw = Callable[[np.random.Generator, float], tuple[Rows, Rows, Users]]
"""From a loss, 0 for none, to the rows of the new and the old system, and whose they are."""


@dataclass(frozen=True)
class Layout:
    name: str
    metric: Metric
    draw: Draw
    most: float
    """A loss with which everything is lost."""


class Rates(NamedTuple):
    stopped: float
    """Equal pairs, no drop allowed: no-go."""
    passed: float
    """The same: go."""
    default: float
    """Equal pairs that the default limit stops."""
    drop: float
    """The true drop of the worse system, beyond no drop: the mean of what the gate says it can detect."""
    power: float
    """How often it is stopped."""


def means(rng: np.random.Generator, loss: float) -> tuple[Rows, Rows, Users]:
    """A number for each of 400 instances that stand alone: most of it is how hard the instance is."""
    hard = rng.normal(0.5, 0.3, 400)
    old, new = hard + rng.normal(0, 0.15, 400), hard + rng.normal(0, 0.15, 400) - loss
    return new[:, None], old[:, None], np.arange(400)


def hits(count: int, apart: float) -> Draw:
    """Hits and misses of so many instances that stand alone; systems disagree in about 0.45 times `apart` of them."""

    def draw(rng: np.random.Generator, loss: float) -> tuple[Rows, Rows, Users]:
        hard = rng.normal(0, 1, count)
        old, new = hard + rng.normal(0, apart, count) > 0, hard + rng.normal(0, apart, count) - loss > 0
        return new[:, None].astype(float), old[:, None].astype(float), np.arange(count)

    return draw


def clustered(rng: np.random.Generator, loss: float) -> tuple[Rows, Rows, Users]:
    """Hits and misses of 100 users with 1 to 9 instances each; a user suits one system better than the other."""
    users = np.repeat(np.arange(100), rng.integers(1, 10, 100))
    hard = rng.normal(0, 0.7, 100)[users] + rng.normal(0, 0.7, len(users))
    old, new = (hard + rng.normal(0, 0.3, 100)[users] + rng.normal(0, 0.3, len(users)) - less for less in (0.0, loss))
    return (new > 0)[:, None].astype(float), (old > 0)[:, None].astype(float), users


def labelled(counts: tuple[int, ...]) -> Draw:
    """Scores of labelled candidates: users like more or less, are scored higher or lower by both systems and by each,
    and both systems see much of the same in a candidate."""
    users = np.repeat(np.arange(len(counts)), counts)

    def draw(rng: np.random.Generator, loss: float) -> tuple[Rows, Rows, Users]:
        liking = 1 / (1 + np.exp(-rng.normal(0, 0.7, len(counts))))
        label = (rng.random(len(users)) < liking[users]).astype(float)
        shared = rng.normal(0, 0.5, len(counts))[users] + rng.normal(0, 0.8, len(users))
        made = []
        for less in (loss, 0.0):
            signal = (0.7 - less + rng.normal(0, 0.15, len(counts)))[users]
            own = rng.normal(0, 0.3, len(counts))[users] + rng.normal(0, 0.5, len(users))
            made.append(np.column_stack([label, signal * label + shared + own, np.ones(len(users))]))
        return made[0], made[1], users

    return draw


LAYOUTS = {
    "means": Layout("mean over 400 instances", HitRate(10), means, 1.0),
    "users16": Layout("AUC, TALLRec's 16 users", AUC(), labelled(TALLREC_MOVIE), 0.7),
    "users60": Layout("UserAUC, 60 users of 20", UserAUC(), labelled((20,) * 60), 0.7),
    "clustered": Layout("hits of 100 users", HitRate(10), clustered, 5.0),
    "hits400": Layout("hits in 400 instances", HitRate(10), hits(400, 0.35), 5.0),
    "rare": Layout("the same, 2 % differ", HitRate(10), hits(400, 0.045), 5.0),
    "hits20": Layout("hits in 20 instances", HitRate(10), hits(20, 0.35), 5.0),
}


def study(layout: Layout, pairs: int, *, draws: int = 1000, seed: int = 0) -> Rates:
    """Simulate equal pairs and pairs with one worse system, so many of each."""
    policy, rng = read_policy(None), np.random.default_rng(seed)
    equal = [_judged(layout, policy, *layout.draw(rng, 0.0), draws) for _ in range(pairs)]
    known = [gain.detectable for gain in equal if gain.detectable is not None]
    drop = float(np.mean(known))
    loss = losing(layout, drop, np.random.default_rng(seed + 1))
    worse = [_judged(layout, policy, *layout.draw(rng, loss), draws) for _ in range(pairs)]
    none, limit, less = (
        Counter(decide(gain, allowed) for gain in side)
        for side, allowed in ((equal, 0.0), (equal, LIMIT), (worse, 0.0))
    )
    return Rates(none["no-go"] / pairs, none["go"] / pairs, limit["no-go"] / pairs, drop, less["no-go"] / pairs)


def losing(layout: Layout, drop: float, rng: np.random.Generator, sets: int = 400) -> float:
    """The loss that takes this much from the expected score, by bisection over the same simulated sets."""
    seeds = rng.integers(2**32, size=sets)

    def lost(loss: float) -> float:
        return scored(0.0) - scored(loss)

    def scored(loss: float) -> float:
        made = (layout.draw(np.random.default_rng(seed), loss) for seed in seeds)
        return float(np.mean([layout.metric.aggregate(new, users) for new, _, users in made]))

    low, high = 0.0, layout.most
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if lost(middle) > drop else (middle, high)
    return (low + high) / 2


def _judged(layout: Layout, policy: Policy, new: Rows, old: Rows, users: Users, draws: int) -> Gain:
    table = Table([new], [old], users, [str(n) for n in range(len(users))])
    scores = layout.metric.aggregate(new, users), layout.metric.aggregate(old, users)
    return measure(layout.metric, table, Check(layout.metric.name, max_drop=0.0), policy, scores, draws)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=1000, help="of each bootstrap; the gate takes 10,000")
    parser.add_argument("--layout", action="append", choices=LAYOUTS)
    given = parser.parse_args()
    print(
        "| layout | equal, stopped | equal, passed | equal, stopped at 0.01 | drop | power |\n|---|---|---|---|---|---|"
    )
    for name in given.layout or LAYOUTS:
        layout = LAYOUTS[name]
        found = study(layout, given.pairs, draws=given.draws)
        shares = [f"{100 * share:.1f} %" for share in (found.stopped, found.passed, found.default)]
        print(f"| {layout.name} | {' | '.join(shares)} | {found.drop:.4f} | {100 * found.power:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
