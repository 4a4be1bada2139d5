"""From evidence to a verdict: one-sided tests of non-inferiority, and what they amount to together.

A drop is a change for the worse, so every number here is turned until more is better. With the two-sided interval at
2 * confidence - 1, a check is

    go            the whole interval is at or above minus the allowed drop: more than that is ruled out
    no-go         the whole interval is below it: more than that is shown
    cannot tell   the interval reaches to both sides, or there is none

so that each of the two claims is wrong in at most 1 - confidence of cases (Schuirmann 1987).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Literal

from leaderboard.gate.flips import Flip
from leaderboard.gate.policy import Check

Verdict = Literal["go", "no-go", "cannot tell"]
EXIT_CODES: dict[Verdict, int] = {"go": 0, "no-go": 1, "cannot tell": 3}
"""2 is misuse or a refused comparison, in every command."""
SLACK = 1e-12
"""0.59 - 0.60 is a little less than -0.01 in binary, and no drop of more than 0.01."""


@dataclass(frozen=True)
class Gain:
    """How much better the new side is on one metric, turned so that more is better."""

    value: float
    low: float
    high: float
    """nan where there is no interval."""
    error: float | None = None
    """Standard error."""
    detectable: float | None = None
    """The smallest true drop beyond the allowed one that the policy's power would show; None where unknown."""
    unit: str = "instance"
    units: int = 0
    method: str = "undefined"
    few: bool = False
    why: str = ""
    """Why there is no interval, or what is special about it."""


@dataclass(frozen=True)
class Finding:
    """One check of the policy, decided."""

    check: Check
    metric: str
    """Its name, where the check says `headline`."""
    verdict: Verdict
    reason: str
    new: float | None
    old: float | None
    """Scores of the sides, as tables show them."""
    allowed: float
    """The largest drop, in the metric's own unit."""
    gain: Gain
    confidence: float
    instances: int
    flips: tuple[Flip, ...] = ()

    @property
    def decides(self) -> bool:
        """Whether it holds the release up."""
        if self.check.tier == "must":
            return self.verdict != "go"
        return self.check.tier == "should" and self.verdict == "no-go"

    @property
    def warns(self) -> bool:
        """Whether somebody should look, though it decides nothing."""
        return not self.decides and self.verdict != "go"

    @property
    def needed(self) -> int | None:
        """Roughly how many units an equal checkpoint would need to pass with the policy's power; None if these do, or
        if nobody can say."""
        found = self.gain.detectable
        if found is None or not self.allowed > 0 or found <= self.allowed:
            return None
        return ceil(self.gain.units * (found / self.allowed) ** 2)


def decide(gain: Gain, allowed: float) -> Verdict:
    """Where the interval lies against the largest allowed drop."""
    if not (isfinite(gain.low) and isfinite(gain.high)):
        return "cannot tell"
    if gain.low >= -allowed - SLACK:
        return "go"
    return "no-go" if gain.high < -allowed - SLACK else "cannot tell"


def reason(verdict: Verdict, gain: Gain, allowed: float) -> str:
    """One clause for people."""
    if verdict == "cannot tell" and not (isfinite(gain.low) and isfinite(gain.high)):
        return gain.why or f"no interval from {gain.units} {gain.unit}s"
    said = f"; {gain.why}" if gain.why else ""
    if verdict == "go":
        return (f"no drop of more than {allowed:.4g}" if allowed else "no drop") + said
    if verdict == "no-go":
        return (f"dropped by more than {allowed:.4g}" if allowed else "dropped") + said
    return f"between {abs(gain.low):.4f} {_way(gain.low)} and {abs(gain.high):.4f} {_way(gain.high)}{said}"


def overall(findings: Sequence[Finding]) -> Verdict:
    """What the checks amount to: one no-go that decides is enough, then one `must` that cannot tell."""
    deciding = {finding.verdict for finding in findings if finding.decides}
    if "no-go" in deciding:
        return "no-go"
    return "cannot tell" if deciding else "go"


def _way(number: float) -> str:
    return "worse" if number < 0 else "better"
