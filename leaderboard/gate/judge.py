"""The checks of a policy, each decided on the evidence of two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import ClassVar

import numpy as np

from harness.errors import BadSetting
from harness.metrics import Mask, Metric, Rows, Users, Weigher
from harness.paired import DRAWS, Contrast, contrast
from harness.registry import unknown
from harness.stats import FEW
from leaderboard.gate.decision import Finding, Gain, decide, reason
from leaderboard.gate.evidence import LATENCY, RATES, Evidence, Table
from leaderboard.gate.flips import flips
from leaderboard.gate.latency import latency
from leaderboard.gate.policy import HEADLINE, Check, Policy


@dataclass(frozen=True)
class Scaled(Metric):
    """A metric times the number in the last column of its rows, the same in all of them.

    With 1 for the new side and 0.98 for the old one, their difference says whether the new score is at least 98 % of
    the old: that the old score is uncertain too is counted, as the same draws of instances make both.
    """

    label: ClassVar[str] = "scaled"

    metric: Metric

    def measure(self, answer: object) -> None:
        return None

    def aggregate(self, rows: Rows, users: Users) -> float:
        return float(rows[0, -1]) * self.metric.aggregate(rows[:, :-1], users)

    def counted(self, rows: Rows, users: Users) -> Mask:
        return self.metric.counted(rows[:, :-1], users)

    def weigher(self, rows: Rows, users: Users) -> Weigher:
        of, factor = self.metric.weigher(rows[:, :-1], users), float(rows[0, -1])
        return lambda weights: factor * of(weights)

    @staticmethod
    def rows(table: Rows, factor: float) -> Rows:
        return np.column_stack([table, np.full(len(table), factor)])


def judge(
    policy: Policy, evidence: Evidence, metrics: Sequence[Metric], *, show: int = 0, draws: int = DRAWS
) -> list[Finding]:
    """Decide every check that is for this task. `metrics` are the task's, the headline first; each finding names the
    `show` instances that moved most; `draws` is for the bootstrap.

    Raises BadSetting for a check that these runs cannot answer: no such metric, or a direction that it does not have.
    """
    task = evidence.manifest["task"]
    checks = checks_of(policy, task)
    named = [(check, metric_of(check, policy, task, metrics)) for check in checks]
    return [
        latency(check, policy, evidence) if metric is None else _scored(check, metric, policy, evidence, show, draws)
        for check, metric in named
    ]


def checks_of(policy: Policy, task: str) -> tuple[Check, ...]:
    """BadSetting if there are none: a gate that asks nothing would let everything pass."""
    checks = policy.of_task(task)
    if not checks:
        raise BadSetting(f"policy {policy.source} has no check for task {task!r}; every one is for another task")
    return checks


def metric_of(check: Check, policy: Policy, task: str, metrics: Sequence[Metric]) -> Metric | None:
    """What a check is about; None is latency. BadSetting if the task has no such metric, or not in that direction."""
    where = f"policy {policy.source}, check {check.metric!r}"
    if check.metric == LATENCY:
        if check.direction == "higher":
            raise BadSetting(f'{where}: direction = "higher" contradicts it; less time is better')
        return None
    known = {metric.name: metric for metric in (*metrics, *RATES)}
    found = metrics[0] if check.metric == HEADLINE else known.get(check.metric)
    if found is None:
        names = [HEADLINE, *known, LATENCY]
        said = unknown("metric", check.metric, names)
        there = "" if "there is" in said else f" There is {', '.join(names)}."
        raise BadSetting(f"{where}: task {task!r} has {said}{there}")
    if found.diagnostic and check.direction is None:
        raise BadSetting(
            f'{where}: {found.name} describes answers and does not say which way is better; give direction = "higher" '
            'or "lower"'
        )
    own = "higher" if found.higher_is_better else "lower"
    if not found.diagnostic and check.direction not in (None, own):
        raise BadSetting(f'{where}: direction = "{check.direction}" contradicts {found.name}, where {own} is better')
    return found


def _scored(check: Check, metric: Metric, policy: Policy, evidence: Evidence, show: int, draws: int) -> Finding:
    table = evidence.table(metric)
    if table is None:
        raise BadSetting(
            f"policy {policy.source}, check {check.metric!r}: {metric.name} does not apply to these runs; no answer of "
            "theirs has a value for it"
        )
    sides = [[metric.aggregate(rows, table.users) for rows in side] for side in (table.new, table.old)]
    new, old = (float(np.mean(side)) for side in sides)
    allowed = check.limit(old)
    if not (isfinite(new) and isfinite(old)):
        allowed = allowed if isfinite(allowed) else 0.0
        gain = Gain(nan, nan, nan, units=len(table.ids), why=f"{metric.name} is undefined on these instances")
    elif evidence.identical:
        gain = Gain(0.0, 0.0, 0.0, units=len(table.ids), method="exact", why="every answer is the same")
    else:
        gain = measure(metric, table, check, policy, (new, old), draws)
    verdict = decide(gain, allowed)
    return Finding(
        check=check,
        metric=metric.name,
        verdict=verdict,
        reason=reason(verdict, gain, allowed),
        new=new if isfinite(new) else None,
        old=old if isfinite(old) else None,
        allowed=allowed,
        gain=gain,
        confidence=policy.sure(check),
        instances=len(table.ids),
        flips=flips(metric, evidence, table, show),
    )


def measure(
    metric: Metric, table: Table, check: Check, policy: Policy, scores: tuple[float, float], draws: int
) -> Gain:
    """The difference of the scores (new, old) with its interval, turned so that more is better.

    For a relative drop the interval is that of new - factor * old, moved by what is allowed, so that it is read against
    the same limit as any other.
    """
    (new, old), sign = scores, sign_of(check, metric)
    if not metric.resampled:
        why = f"{metric.name} has no interval: it grows with every instance, so drawing them anew says nothing"
        return Gain(sign * (new - old), nan, nan, units=len(table.ids), why=why)
    if all(np.array_equal(rows, table.new[0]) for rows in (*table.new, *table.old)):
        return _unmoved(metric, table, policy.sure(check))
    level = policy.level(check)
    if check.max_relative_drop is None:
        found = contrast(metric, table.new, table.old, table.users, level=level, draws=draws)
        return _turned(found, sign, 0.0, policy)
    factor = 1.0 - sign * check.max_relative_drop * (1.0 if old >= 0 else -1.0)
    ours, theirs = [Scaled.rows(rows, 1.0) for rows in table.new], [Scaled.rows(rows, factor) for rows in table.old]
    found = contrast(Scaled(metric), ours, theirs, table.users, level=level, draws=draws)
    return _turned(found, sign, (factor - 1.0) * old, policy)


def sign_of(check: Check, metric: Metric) -> float:
    higher = metric.higher_is_better if check.direction is None else check.direction == "higher"
    return 1.0 if higher else -1.0


def _turned(found: Contrast, sign: float, moved: float, policy: Policy) -> Gain:
    low, high = sorted((sign * (found.low + moved), sign * (found.high + moved)))
    enough = isfinite(found.error)
    return Gain(
        value=sign * (found.value + moved),
        low=low,
        high=high,
        error=found.error if enough else None,
        detectable=found.detectable(policy.power) if enough else None,
        unit=found.unit,
        units=found.units,
        method=found.method,
        few=found.few,
        why="" if enough else f"{found.units} {found.unit}s are too few for an interval",
    )


def _unmoved(metric: Metric, table: Table, confidence: float) -> Gain:
    """No instance counts differently, though answers differ. Then at most 1 - (1 - confidence)^(1/n) of all instances
    do (the rule of three), and each by no more than the metric's whole range."""
    low, high = metric.bounds
    count = len(table.ids)
    share = 1 - (1 - confidence) ** (1 / count)
    if not isfinite(high - low):
        return Gain(0.0, nan, nan, units=count, why=f"equal in all {count} instances, and a difference has no bound")
    most = share * (high - low)
    why = f"equal in all {count} instances, which leaves {most:.2g} possible"
    return Gain(0.0, -most, most, units=count, method="rule of three", few=count < FEW, why=why)
