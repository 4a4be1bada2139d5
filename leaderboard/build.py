"""From a standing to the sheet that all renderers show: cells and marks, rows of papers and what we say of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from harness import registry
from harness.errors import BadData, StaleRun, UnknownName
from harness.metrics import Metric
from harness.report import interval_notes, sample_badge
from harness.task import Task
from leaderboard.collect import Entry, Standing
from leaderboard.published import Published, beside, published, rows
from leaderboard.sheet import Breakdown, Cell, Column, Kind, Line, Part, Place, Sheet
from leaderboard.significance import Contenders, Told, tell_apart
from leaderboard.verdict import TOLERANCE, overall, verdicts

SAME = 12
"""Places to which two scores must agree to be one."""


def sheet(standing: Standing, metrics: Mapping[str, Metric] | None = None) -> Sheet:
    """The table of a standing. `metrics`, by name, are those of its task; None looks them up, and where the task is not
    installed there are no comparisons."""
    known = _metrics(standing) if metrics is None else metrics
    columns = tuple(_columns(standing, known))
    whole = [entry for entry in standing.entries if entry.scores and "not_applicable" not in entry.scores]
    told, unread = _told(list(_contenders(whole, columns, known)))
    lines = [_line(entry, columns) for entry in standing.entries]
    lines = _marked(lines, columns, told)
    reported = [_reported(row, columns, standing) for row in rows(_beside(standing))]
    first = standing.entries[0].manifest
    return Sheet(
        title=standing.title,
        key=standing.key,
        task=first["task"],
        paper=first.get("paper", ""),
        headline=standing.headline,
        badges=tuple(_badges(standing, whole)),
        columns=columns,
        lines=(*lines, *_chance(standing), *(line for line in reported if line.cells)),
        breakdowns=tuple(_breakdown(standing, trait) for trait in _traits(standing)),
        notes=tuple(_notes(whole, columns, told, [*unread, *_unknown(known)], bool(reported))),
    )


def _metrics(standing: Standing) -> dict[str, Metric]:
    kind = _kind_of_task(standing)
    return {metric.name: metric for metric in kind.metrics} if kind else {}


def _kind_of_task(standing: Standing) -> type[Task] | None:
    """None if it is not installed."""
    try:
        return registry.task_kind(standing.entries[0].manifest["task"])
    except UnknownName:
        return None


def _columns(standing: Standing, metrics: Mapping[str, Metric]) -> Iterator[Column]:
    """What no run has, such as a language model's probability mass among baselines only, needs no column."""
    for name in standing.metrics:
        found = [one for entry in standing.entries if (one := entry.metric(name)) and one["value"] is not None]
        if found or name == standing.headline:
            metric = metrics.get(name)  # of runs of before, which did not say
            higher, diagnostic = (metric.higher_is_better, metric.diagnostic) if metric else (True, False)
            said = found[0] if found else {}
            yield Column(name, said.get("higher_is_better", higher), said.get("diagnostic", diagnostic))


def _contenders(
    whole: Sequence[Entry], columns: Sequence[Column], metrics: Mapping[str, Metric]
) -> Iterator[Contenders]:
    for column in columns:
        scored = [(entry.path, value) for entry in whole if (value := _value(entry, column.name)) is not None]
        if column.name in metrics and not column.diagnostic and len(scored) > 1:
            values = [_shown(value if column.higher_is_better else -value) for _, value in scored]
            yield Contenders(metrics[column.name], [path for path, _ in scored], values.index(max(values)))


def _shown(value: float) -> float:
    """Two sums of the same numbers in another order are the same score."""
    return round(value, SAME)


def _value(entry: Entry, metric: str) -> float | None:
    found = entry.metric(metric)
    return found["value"] if found else None


def _line(entry: Entry, columns: Sequence[Column]) -> Line:
    scores, model = entry.scores, entry.manifest["model"]
    line = Line(entry.model, _kind(model), {}, str(entry.path), shots=_shots(model), seed=_seed(model))
    if scores is None:
        return replace(line, cells={column.name: Cell(None, why="not complete") for column in columns})
    if "not_applicable" in scores:
        return replace(
            line, cells={column.name: Cell(None, why="n/a") for column in columns}, note=scores["not_applicable"]
        )
    tokens = scores["tokens"]["prompt"], scores["tokens"]["generated"]
    return replace(
        line,
        cells={column.name: _cell(entry.metric(column.name)) for column in columns},
        instances=scores["instances"],
        failure_rate=scores["failure_rate"],
        parse_rate=scores.get("parse_rate"),
        tokens=tokens if any(tokens) else None,
        seconds=None if entry.cached else entry.seconds,
        cached=entry.cached,
        note=str(entry.chosen) if entry.chosen else "",
    )


def _kind(model: Mapping[str, Any]) -> Kind:
    if "weights" not in model:
        return "baseline"
    return "adapter" if model.get("adapter") else "language model"


def _shots(model: Mapping[str, Any]) -> int | None:
    told: int | None = ((model.get("tuned") or {}) | model.get("settings", {})).get("shots")
    return told


def _seed(model: Mapping[str, Any]) -> int | None:
    told: int | None = ((model.get("tuned") or {}) | model.get("settings", {})).get("seed")
    return told


def _cell(found: Mapping[str, Any] | None) -> Cell:
    if found is None:
        return Cell(None, why="n/a")
    if found["value"] is None:
        return Cell(None, why="undefined")
    return Cell(found["value"], found["low"], found["high"])


def _marked(lines: Sequence[Line], columns: Sequence[Column], told: Told) -> list[Line]:
    """The best and the second of each column that says which model is better, and who is level with the best."""
    places: dict[str, list[float]] = {}
    for column in columns:
        values = [_shown(value) for line in lines if (value := line.cells[column.name].value) is not None]
        if not column.diagnostic and len(values) > 1:
            places[column.name] = sorted(set(values), reverse=column.higher_is_better)[:2]

    def mark(line: Line, name: str, cell: Cell) -> Cell:
        if cell.value is None or name not in places:
            return cell
        best, *rest = places[name]
        value = _shown(cell.value)
        place: Place = "best" if value == best else "second" if value in rest else ""
        level = value != best and line.run is not None and Path(line.run) in told.level.get(name, ())
        return replace(cell, place=place, level=level)

    return [replace(line, cells={name: mark(line, name, cell) for name, cell in line.cells.items()}) for line in lines]


def _chance(standing: Standing) -> Iterator[Line]:
    if standing.chance:
        yield Line("chance", "chance", {name: Cell(value) for name, value in standing.chance.items()})


def _beside(standing: Standing) -> list[Published]:
    first = standing.entries[0].manifest
    return beside(published(), first["task"], first["split"], first["settings"])


def _reported(row: Sequence[Published], columns: Sequence[Column], standing: Standing) -> Line:
    """A row of a paper's table, as far as this one has its metrics."""
    names = {column.name for column in columns}
    shown = [number for number in row if number.metric in names]
    if not shown:
        return Line("", "reported", {})
    first = shown[0]
    return Line(
        name=f"{first.method}, {first.setting}",
        kind="reported",
        cells={number.metric: Cell(number.value) for number in shown},
        instances=first.instances,
        note="; ".join(dict.fromkeys(defect for number in shown for defect in number.defects)),
        source=". ".join(said for said in (first.source, first.note) if said),
        shots=first.shots,
        own=first.own,
        verdict=overall(verdicts(shown, standing.entries)),
    )


def _badges(standing: Standing, whole: Sequence[Entry]) -> Iterator[str]:
    sizes = {tuple(entry.scores.get("candidates") or ()) for entry in whole if entry.scores} - {()}
    for fewest, most in sorted(sizes):
        if most > 1:
            yield f"sampled metric: {fewest if fewest == most else f'{fewest} to {most}'} candidates"
    kind, version = _kind_of_task(standing), standing.entries[0].manifest["version"]
    if kind and kind.version != version:
        yield f"out of date: the task has version {kind.version} now"
    if sample := sample_badge(standing.entries[0].manifest):
        yield sample.strip(" []")
    found = next((one for entry in whole if (one := entry.metric(standing.headline))), None)
    if found and found["few"]:
        yield f"few {found['unit']}s: {found['units']}"


def _traits(standing: Standing) -> list[str]:
    return list(dict.fromkeys(trait for entry in standing.entries for trait in entry.strata))


def _breakdown(standing: Standing, trait: str) -> Breakdown:
    """The headline in each part of the instances, for the runs that say it."""
    found = [(entry.model, entry.strata[trait]) for entry in standing.entries if trait in entry.strata]
    parts = {name: part for _, own in found for name, part in own.items()}
    names = sorted(parts, key=lambda name: -inf if parts[name]["over"] is None else parts[name]["over"])
    return Breakdown(
        trait,
        tuple(Part(name, parts[name]["instances"]) for name in names),
        tuple((model, {name: _cell(own.get(name)) for name in names}) for model, own in found),
    )


def _told(columns: Sequence[Contenders]) -> tuple[Told, list[str]]:
    """The comparisons; or none, and why a damaged run keeps them from being made."""
    try:
        return tell_apart(columns), []
    except (StaleRun, BadData) as error:
        return Told({}, 0, 0), [f"Nothing is compared: {error}."]


def _unknown(metrics: Mapping[str, Metric]) -> list[str]:
    return [] if metrics else ["The task is not installed here, so nothing is compared."]


def _notes(
    whole: Sequence[Entry], columns: Sequence[Column], told: Told, more: Sequence[str], reported: bool
) -> Iterator[str]:
    if not whole:
        yield "No run is complete."
    if how := interval_notes((column.name, entry.metric(column.name)) for column in columns for entry in whole):
        yield f"Brackets: 95 % interval, {how}. Failed instances count as the worst answer."
    if told.pairs:
        yield (
            "Bold: the best of a column; underlined: the second. †: cannot be told from the best (paired differences "
            f"over the same instances, 5 % level, Holm's correction, for all {told.pairs} pairs of the columns)."
        )
    if told.undefined:
        yield f"{told.undefined} comparisons rest on too few units to say anything, and carry no mark."
    yield from more
    if reported:
        yield (
            "Reported rows are published numbers, not measured here. A number is attempted only by a run of the same "
            "model family and size, data, split, K, candidates and training. It is reproduced if the 95 % interval of "
            f"the difference lies within {TOLERANCE.relative:.0%} of it (or {TOLERANCE.absolute} if that is more, but "
            f"at most {TOLERANCE.at_most:.0%}), not reproduced if it lies outside, else inconclusive."
        )
