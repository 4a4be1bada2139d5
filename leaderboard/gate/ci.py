"""The same for systems of continuous integration: JUnit XML, and the annotations of GitHub Actions."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from leaderboard.gate.decision import Finding
from leaderboard.gate.report import Report

UNPRINTABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, even escaped."""


def junit(report: Report) -> bytes:
    """One test case for each check: a no-go that decides is a failure, a `must` that cannot tell an error, so that
    neither is green; what else cannot tell, or only watches, is skipped."""
    outcomes = [_outcome(finding) for finding in report.findings]
    counts = {
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count("failure")),
        "errors": str(outcomes.count("error")),
        "skipped": str(outcomes.count("skipped")),
        "time": "0",
    }
    suites = ElementTree.Element("testsuites", {"name": "harness regress", **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _printable(report.title), **counts})
    for finding, outcome in zip(report.findings, outcomes, strict=True):
        name = _printable(f"{finding.check.tier}: {finding.metric}")
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": f"regress.{_printable(report.title)}", "name": name, "time": "0"}
        )
        if outcome:
            said = {"message": _printable(f"{finding.verdict}: {finding.reason}")}
            kind = {} if outcome == "skipped" else {"type": finding.verdict}
            ElementTree.SubElement(case, outcome, {**said, **kind}).text = _printable(told(finding))
        ElementTree.SubElement(case, "system-out").text = _printable(told(finding))
    ElementTree.indent(suites)
    made: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return made + b"\n"


def workflow_commands(report: Report) -> list[str]:
    """GitHub's annotations: an error for each no-go that decides, a warning for each check that cannot tell, a notice
    for what is only watched, and one for the whole."""
    lines = []
    for finding in report.findings:
        if _outcome(finding) == "failure":
            level = "error"
        elif finding.verdict == "go":
            continue
        else:
            level = "notice" if finding.check.tier == "watch" else "warning"
        lines.append(_command(level, f"{finding.metric}: {finding.verdict}", told(finding)))
    return [*lines, _command("notice", f"harness regress: {report.verdict}", f"{report.summary}; {report.title}")]


def told(finding: Finding) -> str:
    """One check in one line."""
    old, new = ("none" if score is None else f"{score:.4g}" for score in (finding.old, finding.new))
    return (
        f"{finding.check.tier} {finding.metric}: old {old}, new {new}, allowed drop {finding.allowed:.4g}, "
        f"{finding.gain.units} {finding.gain.unit}s: {finding.verdict}, {finding.reason}"
    )


def _outcome(finding: Finding) -> str:
    """The element of its test case; empty if it passed."""
    if finding.decides:
        return "failure" if finding.verdict == "no-go" else "error"
    return "skipped" if finding.verdict == "cannot tell" or finding.check.tier == "watch" else ""


def _command(level: str, title: str, message: str) -> str:
    """As GitHub's toolkit writes it (actions/toolkit, packages/core/src/command.ts)."""
    return f"::{level} title={_property(title)}::{_data(message)}"


def _data(said: str) -> str:
    return said.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(said: str) -> str:
    return _data(said).replace(":", "%3A").replace(",", "%2C")


def _printable(said: str) -> str:
    return UNPRINTABLE.sub("?", said)
