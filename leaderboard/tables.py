"""Standings as markdown for people and CSV for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from math import inf
from typing import Any

import pandas as pd

from harness.report import interval_note
from leaderboard.collect import Entry, Reported, Standing


def markdown(standings: Sequence[Standing]) -> str:
    """One section a standing: ours, chance, and what the paper reports."""
    return "\n".join(["# Leaderboard", "", *(line for standing in standings for line in _section(standing))]) + "\n"


def frame(standings: Sequence[Standing]) -> pd.DataFrame:
    """One row per run and metric, numbers unrounded; blank where a run is partial or a metric does not apply."""
    rows = [
        {
            "standing": standing.title,
            "model": entry.model,
            "metric": name,
            **{key: (entry.metric(name) or {}).get(key) for key in ("value", "low", "high", "chance", "unit", "units")},
            "instances": entry.scores["instances"] if entry.scores else None,
            "failure_rate": entry.scores["failure_rate"] if entry.scores else None,
            "tie_rate": entry.scores["tie_rate"] if entry.scores else None,
            "prompt_tokens": entry.scores["tokens"]["prompt"] if entry.scores else None,
            "generated_tokens": entry.scores["tokens"]["generated"] if entry.scores else None,
            "seconds": entry.seconds,
            "chosen": str(entry.chosen) if entry.chosen else None,
            "run": str(entry.path),
        }
        for standing in standings
        for entry in standing.entries
        for name in standing.metrics
    ]
    return pd.DataFrame(rows)


def _section(standing: Standing) -> list[str]:
    # What no run has, such as a language model's probability mass among baselines only, needs no column.
    shown = [name for name in standing.metrics if any(_value(entry, name) is not None for entry in standing.entries)]
    head = ["", "Model", *shown, "n", "failed", "tokens read / written", "time"]
    places = iter(range(1, len(standing.entries) + 1))
    body = [_row(entry, shown, places) for entry in standing.entries]
    chance = ["", "*chance*", *(number(standing.chance.get(name)) for name in shown), "", "", "", ""]
    lines = [f"## {standing.title}", "", *table(head, [*body, chance]), "", _note(standing), ""]
    lines += [
        line
        for entry in standing.entries
        if entry.scores and "not_applicable" in entry.scores
        for line in (f"n/a: {entry.model}: {entry.scores['not_applicable']}.", "")
    ]
    for entry in standing.entries:
        lines += [f"{entry.model}: {entry.chosen}.", ""] if entry.chosen else []
    for trait in dict.fromkeys(trait for entry in standing.entries for trait in entry.strata):
        lines += _broken_down(standing, trait)
    return [*lines, *published(standing.reported)]


def _row(entry: Entry, metrics: Sequence[str], places: Any) -> list[str]:
    if entry.scores is None:
        return ["", f"{entry.model} (not complete)", *("" for _ in metrics), "", "", "", ""]
    if "not_applicable" in entry.scores:
        return ["", entry.model, *("n/a" for _ in metrics), "", "", "", ""]
    cells = [_cell(entry.metric(name)) for name in metrics]
    tokens = entry.scores["tokens"]
    spent = f"{tokens['prompt']:,} / {tokens['generated']:,}" if tokens["prompt"] else ""
    failed = f"{entry.scores['failure_rate']:.1%}"
    return [str(next(places)), entry.model, *cells, str(entry.scores["instances"]), failed, spent, _time(entry)]


def _broken_down(standing: Standing, trait: str) -> list[str]:
    """The headline in each part of the instances, for the runs that say it."""
    found = [(entry.model, entry.strata[trait]) for entry in standing.entries if trait in entry.strata]
    parts = {name: part for _, own in found for name, part in own.items()}
    names = sorted(parts, key=lambda name: -inf if parts[name]["over"] is None else parts[name]["over"])
    head = ["Model", *(f"{name} (n={parts[name]['instances']})" for name in names)]
    rows = [[model, *(_cell(own.get(name)) for name in names)] for model, own in found]
    return [f"{standing.headline} by {trait}:", "", *table(head, rows), ""]


def published(reported: Sequence[Reported]) -> list[str]:
    """A paper's own tables, with their source. Several metrics of the same row are one table, a line for each."""
    lines: list[str] = []
    for (source, note, own, columns, single), group in groupby(reported, key=_in_common):
        found = list(group)
        head = ["metric" if single else columns[0], *(f"**{name}**" if name == own else name for name in columns[1:])]
        rows = [(one.metric if single else str(first), rest) for one in found for first, *rest in one.rows]
        what = single or found[0].metric
        lines += [f"Reported by the paper, not measured here: {what}, {source}. {note}.", ""]
        lines += [*table(head, [[first, *(number(value) for value in rest)] for first, rest in rows]), ""]
    return lines


def _in_common(one: Reported) -> tuple[str, str, str, Sequence[str], str]:
    """What metrics of one table of a paper's share: where it has one row, what that is about."""
    single = str(one.rows[0][0]) if len(one.rows) == 1 else ""
    return one.source, one.note, one.own, one.columns, single


def _note(standing: Standing) -> str:
    found = (entry.metric(standing.headline) for entry in standing.entries)
    made = next((metric for metric in found if metric), None)
    if made is None:
        return "No run is complete."
    return f"Brackets: 95 % interval, {interval_note(made)}. Failed instances count as the worst answer."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A markdown table, a line each."""
    columns = list(zip(head, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return [line(head), line(["-" * width for width in widths]), *(line(row) for row in rows)]


def _value(entry: Entry, metric: str) -> float | None:
    found = entry.metric(metric)
    return found["value"] if found else None


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "n/a"
    if found["value"] is None:
        return "undefined"
    if found["low"] is None:
        return number(found["value"])
    return f"{number(found['value'])} [{number(found['low'])}, {number(found['high'])}]"


def number(value: float | None) -> str:
    """Four places; blank for nothing."""
    return "" if value is None else f"{value:.4f}"


def _time(entry: Entry) -> str:
    if entry.cached:
        return "(cached)"
    return f"{entry.seconds:.1f} s" if entry.seconds < 120 else f"{entry.seconds / 60:.1f} min"
