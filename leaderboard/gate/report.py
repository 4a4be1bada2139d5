"""What the gate found, for people: text for a terminal, markdown for a page; and JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from harness.report import sample_badge
from leaderboard.gate.decision import EXIT_CODES, Finding, Verdict, overall
from leaderboard.gate.evidence import Evidence
from leaderboard.gate.flips import Flip
from leaderboard.gate.policy import Policy
from leaderboard.tables import table

HEAD = ("tier", "check", "old", "new", "better by", "interval", "limit", "detects", "units", "verdict", "why")
SMALL = 0.001
NOTES = (
    'Changes are turned so that more is better; "limit" is the largest drop that the policy allows.',
    "A check is a go if its whole interval is at or above the limit, a no-go if all of it is below, else cannot tell.",
    '"detects" is the smallest true drop beyond the limit that so many units show with the power of the policy.',
)


@dataclass(frozen=True)
class Report:
    """Everything that the reports say."""

    title: str
    """The questions: task, split, sample, version."""
    instances: int
    new: tuple[tuple[str, str], ...]
    """Run and model of each."""
    old: tuple[tuple[str, str], ...]
    policy: Policy
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    """Sentences about these sides."""

    @property
    def verdict(self) -> Verdict:
        return overall(self.findings)

    @property
    def summary(self) -> str:
        """`no-go: NDCG@10`, with the checks that decided it."""
        held = [one.metric for one in self.findings if one.decides and one.verdict == self.verdict]
        if held:
            return f"{self.verdict}: {', '.join(held)}"
        warned = [one.metric for one in self.findings if one.warns]
        return f"{self.verdict}, with a look at {', '.join(warned)}" if warned else self.verdict


def make_report(
    policy: Policy,
    evidence: Evidence,
    findings: Sequence[Finding],
    sources: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
) -> Report:
    """`sources` stand for the old runs where there are none: whose numbers they are, and what of."""
    manifest = evidence.manifest
    title = f"{manifest['described']}, {manifest['split']}{sample_badge(manifest)}, version {manifest['version']}"
    new, old = (
        tuple((str(path), name) for path, name in zip(side.paths, side.names, strict=True))
        for side in (evidence.new, evidence.old)
    )
    return Report(title, len(evidence.ids), new, (*old, *sources), policy, tuple(findings), tuple(notes))


def text(report: Report) -> str:
    """For a terminal, the verdict first."""
    rows = [HEAD, *map(_cells, report.findings)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [report.summary, f"  {report.title}: {report.instances} instances; {_policy(report)}"]
    lines += [f"  {word}: {path}  {name}" for word, side in _sides(report) for path, name in side]
    lines.append("")
    lines += [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines += ["", *(f"  {note}" for note in report.notes)] if report.notes else []
    for finding in report.findings:
        if finding.flips:
            lines += ["", f"  {finding.metric}: what moved most"]
            lines += [f"    {_flip(flip)}" for flip in finding.flips]
    return "\n".join(lines) + "\n"


def markdown(report: Report) -> str:
    """A page; GitHub's job summary shows it too."""
    lines = [f"# {_escaped(report.summary)}", ""]
    lines += [f"{_escaped(report.title)}: {report.instances} instances; {_escaped(_policy(report))}.", ""]
    lines += [f"* {word}: `{path}` {_escaped(name)}" for word, side in _sides(report) for path, name in side]
    lines += ["", *table(HEAD, [[_escaped(cell) for cell in _cells(one)] for one in report.findings]), ""]
    for finding in report.findings:
        if finding.flips:
            head = ("instance", "user", "old", "new", "better by", "place before", "place now")
            rows = [[_escaped(cell) for cell in _flip_cells(flip)] for flip in finding.flips]
            lines += [f"## {_escaped(finding.metric)}: what moved most", "", *table(head, rows), ""]
    return "\n".join([*lines, *map(_escaped, report.notes), *NOTES]) + "\n"


def as_json(report: Report) -> dict[str, Any]:
    """Plain data, null for what is not a finite number."""
    return {
        "schema": 1,
        "verdict": report.verdict,
        "exit_code": EXIT_CODES[report.verdict],
        "title": report.title,
        "instances": report.instances,
        "new": [{"run": path, "model": name} for path, name in report.new],
        "old": [{"run": path, "model": name} for path, name in report.old],
        "policy": {
            "source": report.policy.source,
            "confidence": report.policy.confidence,
            "power": report.policy.power,
        },
        "notes": list(report.notes),
        "checks": [_plain(finding) for finding in report.findings],
    }


def _plain(finding: Finding) -> Mapping[str, Any]:
    gain = finding.gain
    return {
        "metric": finding.metric,
        "asked_as": finding.check.metric,
        "tier": finding.check.tier,
        "verdict": finding.verdict,
        "decides": finding.decides,
        "reason": finding.reason,
        "old": _number(finding.old),
        "new": _number(finding.new),
        "gain": {"value": _number(gain.value), "low": _number(gain.low), "high": _number(gain.high)},
        "allowed_drop": finding.allowed,
        "max_drop": finding.check.max_drop,
        "max_relative_drop": finding.check.max_relative_drop,
        "confidence": finding.confidence,
        "detectable": _number(gain.detectable),
        "needed": finding.needed,
        "unit": gain.unit,
        "units": gain.units,
        "few": gain.few,
        "method": gain.method,
        "instances": finding.instances,
        "flips": [
            {
                "instance": flip.id,
                "user": flip.user,
                "old": flip.old,
                "new": flip.new,
                "gain": flip.gain,
                "old_place": flip.old_place,
                "new_place": flip.new_place,
            }
            for flip in finding.flips
        ],
    }


def _cells(finding: Finding) -> list[str]:
    gain = finding.gain
    between = f"[{_change(gain.low)}, {_change(gain.high)}]" if isfinite(gain.low) else "none"
    units = f"{gain.units} {gain.unit}{'' if gain.units == 1 else 's'}{' (few)' if gain.few else ''}"
    more = f"; some {finding.needed:,} {gain.unit}s would do" if finding.needed and finding.verdict != "no-go" else ""
    return [
        finding.check.tier,
        finding.metric,
        _shown(finding.old),
        _shown(finding.new),
        _change(gain.value) if isfinite(gain.value) else "",
        between,
        f"-{_shown(finding.allowed)}",
        _shown(gain.detectable),
        units,
        finding.verdict if finding.check.tier != "watch" else f"({finding.verdict})",
        finding.reason + more,
    ]


def _flip_cells(flip: Flip) -> list[str]:
    places = ("" if place is None else f"{place:g}" for place in (flip.old_place, flip.new_place))
    return [flip.id, flip.user, f"{flip.old:.4f}", f"{flip.new:.4f}", f"{flip.gain:+.4f}", *places]


def _flip(flip: Flip) -> str:
    name, user, old, new, gain, before, now = _flip_cells(flip)
    places = f"  place {before or 'none'} -> {now or 'none'}" if before or now else ""
    return f"{name}  user {user}  {old} -> {new}  ({gain}){places}"


def _policy(report: Report) -> str:
    return f"policy {report.policy.source}: {100 * report.policy.confidence:g} % sure of each check"


def _sides(report: Report) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    return ("new", report.new), ("old", report.old)


def _shown(value: float | None) -> str:
    """Four places, and two digits of what has less; blank for nothing."""
    if value is None:
        return ""
    return f"{value:.4f}" if value == 0 or abs(value) >= SMALL else f"{value:.2g}"


def _change(value: float) -> str:
    return f"{value:+.4f}" if value == 0 or abs(value) >= SMALL else f"{value:+.2g}"


def _number(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _escaped(said: str) -> str:
    """Markdown's own marks in names of models, users and instances are plain text."""
    for mark in ("\\", "|", "`", "*", "_", "<"):
        said = said.replace(mark, f"\\{mark}")
    return " ".join(said.split())
