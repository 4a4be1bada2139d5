"""A grid's runs as one table for each test setting: a row is what differs in the seed alone.

A row with a hole is blank and says which seed is missing and why: a mean over the seeds that happen to exist would
be another number. Intervals are `harness.seeds`'s, over seeds and test users both.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from harness.evaluation import is_baseline
from harness.grid.cells import Cell, said
from harness.grid.declared import Shots
from harness.grid.run import Outcome
from harness.knobs import knobs, settings
from harness.model import Model
from harness.report import sample_badge
from harness.scoring import aligned
from harness.seeds import SeedInterval, over_seeds
from harness.signature import Sample
from harness.stats import FEW
from harness.store import read_scores
from harness.task import Task
from harness.tuning.recipe import find_recipe
from leaderboard.numbers import number
from leaderboard.published import Reported, reported
from leaderboard.tables import plain, published, table

Trained = tuple[tuple[str, Mapping[str, Any]], ...]
"""What a row was tuned on last: tasks with all their settings."""

ALIKE = ("task", "version", "settings", "texts", "data", "shots", "pool", "recipe", "template", "base_digest")
"""What two tuned adapters share that differ in the seed alone."""


@dataclass(frozen=True)
class Row:
    """Cells that differ in the seed alone."""

    name: str
    model: str
    asked: str
    """Options that differ within the section and change how a question is put, not which one."""
    trained: str
    pool: str
    shots: Shots | None
    """None where a ready adapter does not say."""
    seeds: tuple[int, ...]
    """Those that were asked for; empty where nothing is drawn."""
    found: Mapping[str, SeedInterval]
    """By metric; empty if a seed is missing."""
    paper: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """The rows that answered the same questions."""

    title: str
    headline: str
    metrics: tuple[str, ...]
    chance: Mapping[str, float]
    reported: Sequence[Reported]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class _Place:
    """Where a cell belongs: its row, and its seed there."""

    key: tuple[Any, ...]
    seed: int | None
    model: str
    trained: str
    pool: str
    shots: Shots | None
    on: Trained = field(default=(), compare=False)
    by_paper: bool = field(default=True, compare=False)
    """Whether every tuning was by the first recipe of its task, as far as there is one."""


def sections(outcomes: Sequence[Outcome], split: str = "test", sample: Sample | None = None) -> list[Section]:
    """One section for each task and the settings that decide its questions, in the order of the cells."""
    tasks: dict[tuple[Any, ...], list[Outcome]] = {}
    for outcome in outcomes:
        task = outcome.cell.task
        tasks.setdefault((task.name, *settings(task, instances_only=True).items()), []).append(outcome)
    return [_section(own, split, sample) for own in tasks.values()]


def markdown(title: str, found: Sequence[Section]) -> str:
    """The tables, for people."""
    lines = [f"# {plain(title)}", "", *(line for section in found for line in _lines(section))]
    return "\n".join(lines).rstrip() + "\n"


def frame(found: Sequence[Section]) -> pd.DataFrame:
    """One line for each row and metric, numbers unrounded; blank where a seed is missing."""
    made = pd.DataFrame(records(found))
    return made.astype({"units": "Int64"})


def records(found: Sequence[Section]) -> list[dict[str, Any]]:
    """The same as plain data."""
    return [line for section in found for line in _records(section)]


def _section(outcomes: Sequence[Outcome], split: str, sample: Sample | None) -> Section:
    task = outcomes[0].cell.task
    metrics = tuple(metric.name for metric in task.metrics)
    papers = reported(task.name, split, settings(task), sample is not None)
    papers = [found for found in papers if found.metric in metrics]
    chance: dict[str, float] = {}
    for outcome in outcomes:
        scores = (read_scores(outcome.run) if outcome.run else None) or {"metrics": {}}
        levels = ((name, (scores["metrics"].get(name) or {}).get("chance")) for name in metrics)
        chance |= {name: level for name, level in levels if level is not None}
    asked = _asked({outcome.cell.task for outcome in outcomes})
    tested = outcomes[0].cell.tested if not any(asked.values()) else said(_changed(task))
    title = f"{task.name} ({tested})" if tested not in ("", task.name) else task.name
    badge = sample_badge({"sample": sample._asdict() if sample else None})
    rows = tuple(_row(asked, places, split, [] if sample else papers) for places in _rows(outcomes))
    return Section(f"{title}, {split}{badge}, version {task.version}", metrics[0], metrics, chance, papers, rows)


def _changed(task: Task) -> Mapping[str, Any]:
    """The options that decide which questions are asked, where they are not the default."""
    return {
        k.name: getattr(task, k.name) for k in knobs(type(task)) if k.instances and k.default != getattr(task, k.name)
    }


def _asked(tasks: Collection[Task]) -> Mapping[Task, str]:
    """What tells these tasks from each other: of the options that differ each one's values, if not the default."""
    options = [k for k in knobs(type(next(iter(tasks)))) if k.hashed and not k.tuning and not k.instances]
    differ = [k for k in options if len({getattr(task, k.name) for task in tasks}) > 1]
    return {
        task: said({k.name: getattr(task, k.name) for k in differ if getattr(task, k.name) != k.default})
        for task in tasks
    }


def _rows(outcomes: Iterable[Outcome]) -> list[list[tuple[_Place, Outcome]]]:
    """Cells by row. Two with one seed cannot be one row, so they and their likes stand alone."""
    groups: dict[tuple[Any, ...], list[tuple[_Place, Outcome]]] = {}
    for outcome in outcomes:
        place = _place(outcome.cell)
        groups.setdefault(place.key, []).append((place, outcome))
    found = []
    for group in groups.values():
        twice = Counter(place.seed for place, _ in group).most_common(1)[0][1] > 1
        found += [[one] for one in group] if twice else [sorted(group, key=lambda one: one[0].seed or 0)]
    return found


def _place(cell: Cell) -> _Place:
    pool = cell.steps[-1].draw.pool if cell.steps else ""
    if cell.adapter is not None and not cell.steps:
        return _ready(cell, cell.adapter)
    on: Trained
    if cell.seed is not None and not cell.steps:  # a baseline, which trains itself
        same = replace(cell, seed=None, settings=tuple(pair for pair in cell.settings if pair[0] != "seed"))
        on = ((cell.task.name, settings(cell.task)),)
        ours = all(name in ("shots", "seed") for name, _ in cell.settings)
        return _Place((same,), cell.seed, cell.who, cell.trained, pool, cell.shots, on, ours)
    if cell.seed is None:
        on = tuple((task.name, settings(task)) for step in cell.steps[-1:] for task in step.tasks)
        return _Place((cell,), None, cell.who, cell.trained, pool, cell.shots, on, _by_paper(cell))
    last = cell.steps[-1]
    same = replace(cell, seed=None, steps=(*cell.steps[:-1], replace(last, draw=replace(last.draw, seed=0))))
    on = tuple((task.name, settings(task)) for task in last.tasks)
    return _Place((same,), cell.seed, cell.who, cell.trained, pool, cell.shots, on, _by_paper(cell))


def _by_paper(cell: Cell) -> bool:
    kinds = ((step.recipe, step.tasks[0]) for step in cell.steps)
    return all(not task.recipes or recipe == find_recipe(task, {}) for recipe, task in kinds)


def _ready(cell: Cell, adapter: Path) -> _Place:
    """An adapter that `harness tune` made says what it is; of any other only the name is known."""
    plain = replace(cell, adapter=None)
    try:
        made = json.loads((adapter / "harness.json").read_text("utf-8"))
        on: Trained = tuple((made["task"], each) for each in made["settings"])
        seed, pool = made["seed"], made["pool"]
        shots: Shots = "all" if made["shots"] is None else made["shots"]
        alike = {name: made.get(name) for name in ALIKE}
        alike["after"] = made.get("started_from")
        key = (plain, json.dumps(alike, sort_keys=True))
    except (OSError, ValueError, KeyError, TypeError):
        return _Place((cell,), None, cell.who, "", "", None)
    trained = " + ".join(said(each) for _, each in on)
    theirs = asdict(find_recipe(cell.task, {})) if cell.task.recipes else None
    by_paper = theirs is None or made["recipe"] == theirs
    return _Place(key, seed, f"{plain.who} + adapter", trained, pool, shots, on, by_paper)


def _row(
    asked: Mapping[Task, str], places: Sequence[tuple[_Place, Outcome]], split: str, papers: Sequence[Reported]
) -> Row:
    place, first = places[0]
    task = first.cell.task
    model = place.model if len(places) > 1 else first.cell.who
    seeds = tuple(place.seed for place, _ in places if place.seed is not None)
    runs = [outcome.run for _, outcome in places if outcome.run is not None]
    scores = [read_scores(run) for run in runs]
    unanswered = sorted({found["not_applicable"] for found in scores if found and "not_applicable" in found})
    whole = len(runs) == len(places) and not unanswered
    found: dict[str, SeedInterval] = {}
    if whole:
        rows = aligned(runs, task.metrics)
        found = {m.name: over_seeds(m, *rows[m.name]) for m in task.metrics if m.name in rows}
    failed = max((run["failure_rate"] or 0.0 for run in scores if run), default=0.0)
    notes = [*_missing(places), *(f"n/a: {reason}" for reason in unanswered), *_chosen(places)]
    notes += [f"up to {failed:.1%} of the instances failed"] if failed else []
    notes += ["rows drawn from the validation file"] if place.pool == "valid" else []
    notes += [] if place.by_paper else ["not tuned by the paper's recipe"]
    paper = _paper(place, first.cell.model, split, [one for one in papers if one.metric == task.metrics[0].name])
    choosing = first.cell.choosing
    how = ", ".join(part for part in (asked[task], f"{choosing.option} chosen" if choosing else "") if part)
    return Row(first.cell.name, model, how, place.trained, place.pool, place.shots, seeds, found, paper, tuple(notes))


def _missing(places: Sequence[tuple[_Place, Outcome]]) -> Iterator[str]:
    """`failed: REASON`, with the seeds that it holds for where there are several."""
    for reason, seeds in _by_text(places, lambda outcome: outcome.failure):
        yield f"failed{f' for {seeds}' if seeds else ''}: {reason}"


def _chosen(places: Sequence[tuple[_Place, Outcome]]) -> Iterator[str]:
    """How the option of a row was chosen; each seed's tuning chooses for itself."""
    for line, seeds in _by_text(places, lambda outcome: str(outcome.choice) if outcome.choice else None):
        yield f"{seeds}: {line}" if seeds else line


def _by_text(
    places: Sequence[tuple[_Place, Outcome]], text: Callable[[Outcome], str | None]
) -> Iterator[tuple[str, str]]:
    """What is said of the cells of a row, each with `seed 0, 1`, or nothing where no seed is drawn."""
    found: dict[str, list[int | None]] = {}
    for place, outcome in places:
        if (line := text(outcome)) is not None:
            found.setdefault(line, []).append(place.seed)
    for line, seeds in found.items():
        yield line, "" if seeds == [None] else f"seed {', '.join(map(str, seeds))}"


def _paper(place: _Place, model: Model, split: str, papers: Sequence[Reported]) -> float | None:
    """The paper's number for as many rows, if what is tuned on is what its table is about: for a baseline that of the
    same name, if there is one, for a language model that of the paper's own method."""
    for found in papers:
        same = all(found in reported(task, split, given) for task, given in place.on)
        if place.on and same:
            column = model.name if is_baseline(model) else found.own
            if column not in found.columns:
                return None
            own = found.columns.index(column)
            return next((row[own] for row in found.rows if row[0] == place.shots), None)
    return None


def _lines(section: Section) -> list[str]:
    head = ["#", "Row", "Model", "Asked with", "Tuned on", "Shots", "Seeds"]
    head += [f"{section.headline}: mean", "sd", "95 % interval", "Chance", "Paper", "Notes"]
    cells = [
        [str(number), *_cells(row, section), " ".join(f"{plain(note)}." for note in row.notes)]
        for number, row in enumerate(section.rows, 1)
    ]
    columns = zip(head, *cells, strict=True)
    kept = [column for column in columns if any(column[1:])]  # a column without a word needs no place
    first, *rest = zip(*kept, strict=True)
    return [f"## {plain(section.title)}", "", *table(first, rest), "", *_others(section), *_explained(section), ""]


def _others(section: Section) -> Iterator[str]:
    """What else was measured, a metric a line and a row of the table above a column."""
    lines = []
    for name in section.metrics:
        found = [row.found.get(name) for row in section.rows]
        if name != section.headline and any(one is not None and one.mean for one in found):
            lines.append([name, *map(_mean, found), number(section.chance.get(name))])
    if lines:
        yield from table(["", *(f"#{place}" for place in range(1, len(section.rows) + 1)), "chance"], lines)
        yield ""


def _mean(found: SeedInterval | None) -> str:
    if found is None or not isfinite(found.mean):
        return ""
    between = f" [{number(found.low)}, {number(found.high)}]" if isfinite(found.low) else ""
    return number(found.mean) + between


def _cells(row: Row, section: Section) -> list[str]:
    found = row.found.get(section.headline)
    shots = "" if row.shots is None else str(row.shots)
    who = [*map(plain, (row.name, row.model, row.asked, row.trained)), shots, ", ".join(map(str, row.seeds))]
    level = number(section.chance.get(section.headline))
    if found is None:
        return [*who, "", "", "", level, number(row.paper)]
    between = f"[{number(found.low)}, {number(found.high)}]" if isfinite(found.low) else ""
    mean = number(found.mean) if isfinite(found.mean) else "undefined"
    return [*who, mean, number(found.sd), between, level, number(row.paper)]


def _explained(section: Section) -> list[str]:
    found = next((row.found[section.headline] for row in section.rows if section.headline in row.found), None)
    if found is None:
        return ["No row is complete."]
    few = ": few, so wide" if found.units < FEW else ""
    lines = [
        f"Intervals: 95 %, over {found.units} {found.unit}s{few}, and over the seeds where there are several "
        "(each with its own Student's t). A row without sd is one model, and its interval says "
        "nothing of other seeds. A row that lacks a seed is blank. Failed instances count as the worst answer."
    ]
    if all(row.paper is None for row in section.rows):
        return [*lines, "", *published(section.reported)]
    for one in section.reported:
        told = f"Paper: {one.metric} of {one.own}, or of the baseline that a row names, {one.source}"
        lines += ["", f"{told}, not measured here. {one.note}."]
    return lines


def _records(section: Section) -> Iterator[dict[str, Any]]:
    for row in section.rows:
        for name in section.metrics:
            found = row.found.get(name)
            numbers = {} if found is None else {key: _finite(value) for key, value in found._asdict().items()}
            yield {
                "test": section.title,
                "row": row.name,
                "model": row.model,
                "asked_with": row.asked,
                "tuned_on": row.trained,
                "pool": row.pool,
                "shots": None if row.shots is None else str(row.shots),
                "seeds": " ".join(map(str, row.seeds)),
                "metric": name,
                **{key: numbers.get(key) for key in ("mean", "sd", "low", "high", "unit", "units", "method")},
                "chance": section.chance.get(name),
                "paper": row.paper if name == section.headline else None,
                "notes": "; ".join(row.notes),
            }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value
