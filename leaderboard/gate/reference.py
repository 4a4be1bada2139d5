"""A new run against what a paper reports: the same decision, with a published number in the place of the old side.

Only a run in the paper's own setting can be compared, by the rules of `leaderboard.verdict`; any other is refused, and
told in what it differs. Nobody has the paper's answers, so nothing is paired: the interval is that of our score, put
together with the largest error that the paper's number can have on its own questions, where their number is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, nan, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from harness import choice
from harness.errors import BadSetting, StaleRun
from harness.metrics import Metric
from harness.paired import DRAWS, Contrast, contrast
from harness.stats import LEVEL, t_quantile
from harness.store import read_scores
from leaderboard.collect import Entry
from leaderboard.differences import differences, is_of_family
from leaderboard.gate.decision import Finding, Gain, decide, reason
from leaderboard.gate.evidence import RATES, Evidence, Table
from leaderboard.gate.judge import Scaled, checks_of, metric_of, sign_of
from leaderboard.gate.policy import Check, Policy
from leaderboard.published import Published, beside, published
from leaderboard.verdict import paper_half


class Judged(NamedTuple):
    findings: tuple[Finding, ...]
    sources: tuple[tuple[str, str], ...]
    """Of each number: where it stands, and what it is of."""
    notes: tuple[str, ...]


def judge_by_papers(
    policy: Policy,
    evidence: Evidence,
    metrics: Sequence[Metric],
    *,
    draws: int = DRAWS,
    numbers: Sequence[Published] | None = None,
) -> Judged:
    """Decide every check on a metric of the task; papers say nothing of failures, of answers that cannot be read, or of
    this machine's time. `numbers` are those of the installed files if none are given.

    StaleRun if a run is not in the setting of a number, with the differences; BadSetting as by `judge`.
    """
    task, settings = evidence.manifest["task"], evidence.manifest["settings"]
    known = published() if numbers is None else numbers
    shown = beside(known, task, evidence.manifest["split"], settings)
    findings, used, left = [], [], []
    for check in checks_of(policy, task):
        metric = metric_of(check, policy, task, metrics)
        if metric is None or metric in RATES:
            left.append(check.metric)
            continue
        number = _number(metric, shown, evidence)
        findings.append(_decided(check, metric, number, policy, evidence, draws))
        used.append(number)
    if not findings:
        raise BadSetting(f"policy {policy.source} asks nothing of {task!r} that a paper reports")
    notes = [f"No paper reports {' or '.join(left)}, so these checks are left out."] if left else []
    notes += [f"{one.metric} of {one.method}: {'; '.join(one.defects)}." for one in used if one.defects]
    sources = dict.fromkeys((one.source, f"{one.method}, {one.setting}") for one in used)
    return Judged(tuple(findings), tuple(sources), tuple(notes))


def _number(metric: Metric, shown: Sequence[Published], evidence: Evidence) -> Published:
    """The first number that every new run is in the setting of; papers' own come before others'."""
    entries = [_entry(evidence, n) for n in range(len(evidence.new.paths))]
    first, task = evidence.new.paths[0], evidence.manifest["task"]
    of_metric = [one for one in shown if one.metric == metric.name]
    if not of_metric:
        there = ", ".join(dict.fromkeys(one.metric for one in shown)) or "none at all"
        raise StaleRun(f"{first}: papers report no {metric.name} of {task!r} beside this setting; there is {there}")
    whole = [one for one in of_metric if not one.impossible]
    alike = [one for one in whole if all(is_of_family(one, entry) for entry in entries)]
    if not alike:
        methods = ", ".join(dict.fromkeys(one.method for one in whole))
        raise StaleRun(
            f"{first}: no published {metric.name} is of {entries[0].model}; papers report {methods or 'none'}"
        )
    apart = [(one, [said for entry in entries for said in differences(one, entry)]) for one in alike]
    number, found = min(apart, key=lambda pair: len(pair[1]))
    if found:
        what = "; ".join(dict.fromkeys(found))
        raise StaleRun(f"{first} is not in the setting of {number.method} ({number.source}): differs in {what}")
    return number


def _entry(evidence: Evidence, n: int) -> Entry:
    path = evidence.new.paths[n]
    return Entry(
        path=path,
        manifest=evidence.new.manifests[n],
        scores=read_scores(path),
        seconds=0.0,
        cached=False,
        chosen=choice.read(path),
    )


def _decided(
    check: Check, metric: Metric, number: Published, policy: Policy, evidence: Evidence, draws: int
) -> Finding:
    table = evidence.table(metric)
    if table is None:
        raise BadSetting(f"policy {policy.source}, check {check.metric!r}: {metric.name} does not apply to these runs")
    allowed = check.limit(number.value)
    found = _score(metric, table, policy.level(check), draws)
    gain = _gain(found, number, sign_of(check, metric), policy.level(check), policy.power)
    verdict = decide(gain, allowed)
    return Finding(
        check=check,
        metric=metric.name,
        verdict=verdict,
        reason=reason(verdict, gain, allowed),
        new=found.ours if isfinite(found.ours) else None,
        old=number.value,
        allowed=allowed,
        gain=gain,
        confidence=policy.sure(check),
        instances=len(table.ids),
    )


def _score(metric: Metric, table: Table, level: float, draws: int) -> Contrast:
    """Our score with its interval at any level: the contrast with nothing."""
    ours, nothing = [Scaled.rows(rows, 1.0) for rows in table.new], [Scaled.rows(table.new[0], 0.0)]
    return contrast(Scaled(metric), ours, nothing, table.users, level=level, draws=draws)


def _gain(found: Contrast, number: Published, sign: float, level: float, power: float) -> Gain:
    value = found.ours - number.value
    if not isfinite(found.error):
        why = f"{found.units} {found.unit}s are too few for an interval"
        return Gain(sign * value, nan, nan, unit=found.unit, units=found.units, why=why)
    theirs = paper_half(number) / NormalDist().inv_cdf((1 + LEVEL) / 2)
    half = theirs * NormalDist().inv_cdf((1 + level) / 2)
    low = value - sqrt((found.ours - found.low) ** 2 + half**2)
    high = value + sqrt((found.high - found.ours) ** 2 + half**2)
    error = float(np.hypot(found.error, theirs))
    beyond = t_quantile((1 + level) / 2, found.freedom) + t_quantile(power, found.freedom)
    low, high = sorted((sign * low, sign * high))
    return Gain(
        value=sign * value,
        low=low,
        high=high,
        error=error,
        detectable=beyond * error,
        unit=found.unit,
        units=found.units,
        method=found.method,
        few=found.few,
        why="" if theirs else "the paper's own error is not known",
    )
