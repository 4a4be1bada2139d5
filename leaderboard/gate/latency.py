"""The check of time: seconds for each instance, from what the processes of the runs noted.

One run a side is one number a side. It has no interval, so it shows nothing: within the limit it is a go, beyond it
nobody can tell. Several runs a side have a spread, and are decided like every other check, with runs as units. Only
then may the check be a `must`.
"""

from __future__ import annotations

from math import isfinite, nan, sqrt

import numpy as np

from harness.errors import BadSetting
from harness.seeds import half_width
from harness.stats import FEW, t_quantile
from leaderboard.gate.decision import Finding, Gain, decide, reason
from leaderboard.gate.evidence import LATENCY, Evidence, Pace
from leaderboard.gate.policy import Check, Policy


def latency(check: Check, policy: Policy, evidence: Evidence) -> Finding:
    """Decide the check. BadSetting if it is a `must` and a side is a single run."""
    sides = evidence.new.paces, evidence.old.paces
    if check.tier == "must" and min(map(len, sides)) < 2:
        raise BadSetting(
            f"policy {policy.source}, check {LATENCY!r}: as a must it needs two runs or more on each side, since one "
            'run has no interval; make it tier = "should" or "watch", or name more runs'
        )
    why = _unknown([*sides[0], *sides[1]])
    new, old = (_seconds(side) for side in sides)
    if why or not (new and old):
        return _finding(check, policy, evidence, Gain(nan, nan, nan, unit="run", why=why), (None, None), 0.0)
    means = float(np.mean(new)), float(np.mean(old))
    allowed = check.limit(means[1])
    return _finding(
        check, policy, evidence, _gain(new, old, check.max_relative_drop or 0.0, check, policy), means, allowed
    )


def _unknown(paces: list[Pace]) -> str:
    """Why times cannot be compared, or nothing."""
    for pace in paces:
        if pace.seconds is None:
            return pace.why
    machines = sorted({pace.machine for pace in paces})
    return f"timed on different machines: {' and '.join(machines)}" if len(machines) > 1 else ""


def _seconds(paces: list[Pace]) -> list[float]:
    return [pace.seconds for pace in paces if pace.seconds is not None]


def _gain(new: list[float], old: list[float], share: float, check: Check, policy: Policy) -> Gain:
    value, units = float(np.mean(old) - np.mean(new)), len(new) + len(old)
    times = f"{np.mean(new) / np.mean(old):.2f} times the old time" if np.mean(old) > 0 else "the old time was 0"
    if min(len(new), len(old)) < 2:
        return Gain(value, nan, nan, unit="run", units=units, few=True, why=f"{times}, of single runs without interval")
    scaled = [(1 + share) * one for one in old]
    parts = [(float(np.var(side, ddof=1)) / len(side), len(side) - 1.0) for side in (new, scaled)]
    half = half_width(parts, policy.level(check))
    error, freedom = sqrt(sum(variance for variance, _ in parts)), min(len(new), len(old)) - 1.0
    beyond = t_quantile(policy.sure(check), freedom) + t_quantile(policy.power, freedom)
    return Gain(
        value=value,
        low=value - half,
        high=value + half,
        error=error,
        detectable=beyond * error,
        unit="run",
        units=units,
        method="cochran-cox-t",
        few=units < FEW,
        why=times,
    )


def _finding(
    check: Check,
    policy: Policy,
    evidence: Evidence,
    gain: Gain,
    means: tuple[float | None, float | None],
    allowed: float,
) -> Finding:
    verdict = decide(gain, allowed)
    said = reason(verdict, gain, allowed)
    if isfinite(gain.value) and not isfinite(gain.low) and gain.value >= -allowed:
        verdict = "go"
    return Finding(
        check=check,
        metric=LATENCY,
        verdict=verdict,
        reason=said,
        new=means[0],
        old=means[1],
        allowed=allowed,
        gain=gain,
        confidence=policy.sure(check),
        instances=len(evidence.ids),
    )
