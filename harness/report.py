"""One run for reading: what was asked of whom, the scores, their intervals, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import choice
from harness.stats import TOO_FEW
from harness.store import read_manifest, read_scores, read_sessions, records


def run_table(path: Path) -> str:
    """A few lines of text about a run directory, complete or not."""
    manifest, scores = read_manifest(path), read_scores(path)
    lines = [f"{manifest['described']}  {manifest['split']}{sample_badge(manifest)}  {manifest['model']['name']}"]
    chosen = choice.read(path)
    lines += [f"  {chosen}"] if chosen else []
    if scores is None:
        done = sum(1 for _ in records(path))
        return "\n".join([*lines, f"  not complete: {done} instances on record", f"  {path}"])
    if "not_applicable" in scores:
        return "\n".join([*lines, f"  n/a: {scores['not_applicable']}", f"  {path}"])
    width = max(len(name) for name in scores["metrics"])
    for name, found in scores["metrics"].items():
        lines.append(f"  {name:<{width}}  {_said(found)}")
    unit = scores["metrics"][scores["headline"]]
    if unit is not None:
        lines.append(f"  intervals: 95 %, {interval_note(unit)}")
    for trait, parts in scores.get("strata", {}).items():
        lines += _broken_down(scores["headline"], trait, parts)
    failures = ", ".join(f"{count} {kind}" for kind, count in scores["failures"].items()) or "none"
    ties = "" if scores["tie_rate"] is None else f", ties: {scores['tie_rate']:.1%}"
    lines.append(f"  {scores['instances']} instances, failures: {failures}{ties}")
    return "\n".join([*lines, *_cost(path), f"  {path}"])


def texts(path: Path) -> str:
    """What the model of a run wrote, instance by instance, as later stages read it."""
    lines = []
    for record in records(path):
        lines += [f"--- {record.id}", record.text or (f"(failed: {record.reason})" if record.failure else "(no text)")]
    return "\n".join(lines)


def _cost(path: Path) -> list[str]:
    """Of the processes that ended by themselves: a killed one leaves no note behind."""
    sessions = read_sessions(path)
    tokens = [session["tokens"] for session in sessions if "tokens" in session]
    if not any(any(one.values()) for one in tokens):
        return []
    read, written = (sum(one[kind] for one in tokens) for kind in ("prompt_tokens", "generated_tokens"))
    seconds, cached = (sum(session.get(what, 0) for session in sessions) for what in ("seconds", "cached"))
    again = f", {cached} answers from the cache" if cached else ""
    return [f"  cost: {read:,} tokens read, {written:,} written, {seconds:.1f} s{again}"]


def sample_badge(manifest: Mapping[str, Any]) -> str:
    """` [sample 100, seed 0]`, or nothing for a whole split."""
    sample = manifest["sample"]
    return f" [sample {sample['size']}, seed {sample['seed']}]" if sample else ""


def interval_note(found: Mapping[str, Any]) -> str:
    """How an interval was made, and whether there was little to make it from."""
    if found["method"] == "undefined" and found["units"] < TOO_FEW:
        return f"none: {found['units']} {found['unit']}s are too few"
    few = ": few, so wide" if found["few"] else ""
    return f"{found['method']} over {found['units']} {found['unit']}s{few}"


def part_name(part: Mapping[str, Any]) -> str:
    """`up to 5`, `over 5, up to 20`, `over 20`, or `all`."""
    ends = ((word, part[key]) for word, key in (("over", "over"), ("up to", "up_to")))
    return ", ".join(f"{word} {end:g}" for word, end in ends if end is not None) or "all"


def _broken_down(headline: str, trait: str, parts: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [part_name(part) for part in parts]
    width = max(map(len, names), default=0)
    said = [
        f"    {name:<{width}}  {_number(part)}  {part['instances']} instances"
        for name, part in zip(names, parts, strict=True)
    ]
    return [f"  {headline} by {trait}", *said]


def _said(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "n/a"
    chance = "" if found["value"] is None or found["chance"] is None else f"  chance {found['chance']:.4f}"
    return _number(found) + chance


def _number(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "undefined"
    between = "" if found["low"] is None else f"  [{found['low']:.4f}, {found['high']:.4f}]"
    return f"{found['value']:.4f}{between}"
