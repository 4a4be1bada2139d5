"""Runs for reading: what was asked of whom, the scores, their intervals and what it cost; many in a line each; two
sides compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

from harness import choice
from harness.card import card
from harness.comparison import Comparison, Flip
from harness.errors import BadData, StaleRun
from harness.paired import Contrast
from harness.stats import TOO_FEW
from harness.store import Record, as_written, read_manifest, read_scores, read_sessions, records

WIDEST = 60
"""Letters to which the columns of a listing are filled up; what is longer is shown whole."""
SMALL = 0.0001
"""The smallest p-value that is written out."""


def run_table(path: Path) -> str:
    """A few lines of text about a run directory, complete or not."""
    with as_written(path):
        return _table(path)


def _table(path: Path) -> str:
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
    if notes := interval_notes(scores["metrics"].items()):
        lines.append(f"  intervals: 95 %, {notes}")
    for trait, parts in scores.get("strata", {}).items():
        lines += _broken_down(scores["headline"], trait, parts)
    failures = ", ".join(f"{count} {kind}" for kind, count in scores["failures"].items()) or "none"
    ties = "" if scores["tie_rate"] is None else f", ties: {scores['tie_rate']:.1%}"
    lines.append(f"  {scores['instances']} instances, failures: {failures}{ties}")
    return "\n".join([*lines, *_answers(path, scores), *_cost(path), f"  {path}"])


def card_table(path: Path) -> str:
    """The card of a run, one fact a line. StaleRun: the folder is no run."""
    with as_written(path):
        facts = card(path)
    width = max(map(len, facts))
    return "\n".join(f"  {name:<{width}}  {said}" for name, said in facts.items())


def runs_below(folder: Path) -> list[Path]:
    """The run directories in a folder, at any depth, by name; the folder itself, if it is one.

    StaleRun: it is none and holds none, or is not there.
    """
    if (folder / "run.json").exists():
        return [folder]
    found = [one.parent for one in sorted(folder.rglob("run.json"))]
    if not found:
        here = "has no run.json, and no run lies below it" if folder.is_dir() else "is no folder"
        raise StaleRun(f"{folder} is not a run directory: it {here}")
    return found


def run_lines(paths: Sequence[Path]) -> str:
    """One line for each run: its path, task, model, and the headline with its interval, or why there is none."""
    rows = []
    for path in paths:
        with as_written(path):
            rows.append(_run_line(path))
    widths = [min(WIDEST, max(map(len, column))) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def record_lines(path: Path, count: int) -> str:
    """The first records of a run: what each instance adds to the metrics, and where the right items stood."""
    return "\n".join(_record_line(record) for record in islice(records(path), count))


def comparison_table(comparison: Comparison, adjusted: Mapping[str, float], flips: Sequence[Flip] = ()) -> str:
    """Two sides: each metric's difference, how sure it is, and the instances that changed most. `adjusted` has the
    p-values after the correction, by metric."""
    lines = [f"{who}  {said}" for who, said in zip(("ours  ", "theirs"), _sides(comparison.sides), strict=True)]
    head = ("", "ours", "theirs", "difference", "95 % interval", "p", "Holm", "detectable", "paired")
    found = comparison.differences.items()
    rows = [head, *(_difference(name, one, adjusted.get(name), comparison.diagnostics) for name, one in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        lines.append("  " + "  ".join(cells).rstrip())
    lines.append(f"  {comparison.instances} instances")
    lines += [f"  largest gap in {fact}: {gap:.3g}" for fact, gap in sorted(comparison.gaps.items())]
    for flip in flips:
        failed = f"  ({flip.failed})" if flip.failed else ""
        said = f"{flip.ours:.4f} - {flip.theirs:.4f} = {flip.change:+.4f}"
        lines.append(f"  changed: {flip.instance}  user {flip.user}  {said}{failed}")
    return "\n".join(lines)


def corrected_note(adjusted: Sequence[Mapping[str, float]]) -> str:
    """What the columns of `comparison_table` mean, once for all tables."""
    tests = sum(isfinite(p) for each in adjusted for p in each.values())
    return (
        f"  p: two-sided, of no difference. Holm: corrected for {tests} comparison{'' if tests == 1 else 's'}.\n"
        "  detectable: the smallest true difference that would be found with 80 % power."
    )


def texts(path: Path) -> str:
    """What the model of a run wrote, instance by instance, as later stages read it."""
    lines = []
    for record in records(path):
        lines += [f"--- {record.id}", record.text or (f"(failed: {record.reason})" if record.failure else "(no text)")]
    return "\n".join(lines)


def _answers(path: Path, scores: Mapping[str, Any]) -> Iterator[str]:
    """What failed, with an example of each kind, and how many of the texts could be read."""
    if scores["failures"]:
        examples: dict[str, Record] = {}
        for record in records(path):
            if record.failure is not None:
                examples.setdefault(record.failure, record)
        for kind in scores["failures"]:
            if kind in examples:
                yield f"  {kind}, for example {examples[kind].id}: {examples[kind].reason}"
    rate = scores.get("parse_rate")  # runs of before did not say
    if rate is not None:
        yield f"  parsed: {rate:.1%} of the texts name an item"


def _run_line(path: Path) -> tuple[str, ...]:
    try:
        manifest = read_manifest(path)
    except (StaleRun, BadData):
        return str(path), "unreadable", "", ""
    scores = read_scores(path)
    if scores is None:
        state = f"not complete: {sum(1 for _ in records(path))} instances on record"
    elif "not_applicable" in scores:
        state = f"n/a: {scores['not_applicable']}"
    else:
        found = scores["metrics"][scores["headline"]]
        state = f"{scores['headline']} {_number(found) if found else 'n/a'}"
    task = f"{manifest['described']}, {manifest['split']}{sample_badge(manifest)}"
    return str(path), task, str(manifest["model"]["name"]), state


def _record_line(record: Record) -> str:
    if record.failure is not None:
        return f"  {record.id}  user {record.user}  {record.failure}: {record.reason}"
    rows = "  ".join(f"{name} {' '.join(f'{x:g}' for x in row)}" for name, row in record.rows.items() if row)
    places = f"  right at {', '.join(map(str, sorted(record.ranks.values())))}" if record.ranks else ""
    return f"  {record.id}  user {record.user}  {rows}{places}"


def _sides(sides: Sequence[Sequence[Path]]) -> Iterator[str]:
    """Models and paths, and what was asked of them where that differs, as a wording does."""
    told = {path: read_manifest(path) for side in sides for path in side}
    alike = len({manifest["described"] for manifest in told.values()}) == 1
    for side in sides:
        parts = []
        for path in side:
            asked = "" if alike else f" on {told[path]['described']}"
            parts.append(f"{told[path]['model']['name']}{asked} ({path})")
        yield ", ".join(parts)


def _difference(name: str, found: Contrast, adjusted: float | None, diagnostics: frozenset[str]) -> tuple[str, ...]:
    """The cells of a row, with a dash for what cannot be said."""
    made = interval_note({"method": found.method, "unit": found.unit, "units": found.units, "few": found.few})
    score = f"{found.ours:.4f}", f"{found.theirs:.4f}", f"{found.value:+.4f}"
    label = f"{name} (diagnostic)" if name in diagnostics else name
    if not isfinite(found.error):
        return label, *score, "-", "-", "-", "-", made
    tests = (_p_value(p) for p in (found.p, adjusted))
    return label, *score, f"[{found.low:+.4f}, {found.high:+.4f}]", *tests, f"{found.detectable():.4f}", made


def _p_value(p: float | None) -> str:
    if p is None or not isfinite(p):
        return "-"
    return f"{p:.4f}" if p >= SMALL else f"<{SMALL}"


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


def interval_notes(metrics: Iterable[tuple[str, Mapping[str, Any] | None]]) -> str:
    """How the intervals of several metrics were made: one note if it is the same for all, else each with its metrics.
    Empty if none has a value."""
    made: dict[str, dict[str, None]] = {}
    for name, found in metrics:
        if found and found["value"] is not None:
            made.setdefault(interval_note(found), {})[name] = None
    return "; ".join(how if len(made) == 1 else f"{how} ({', '.join(names)})" for how, names in made.items())


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
