"""What papers report, as data: one `Published` for each number below `leaderboard/reference`.

A file has systems, by the names that its tables give them, and tables. One that stands in a folder below is of other
people's numbers for the same questions, and has `independent = true`.

    [systems.TALLRec]                   # who answered; without this, a family of that name that nobody here is of
    family = "LLaMA"                    # of a baseline: what it is called here, such as "recbole:SASRec"
    architecture = "LlamaForCausalLM"   # of a language model, and so are size, named, tuned, tuned_with, after, chosen

    [[table]]
    settings = {dataset = ["ml-1m", "ml-100k"]}     # beside which runs it is shown; a list names several values
    data_sets = ["ml-1m"]                           # which of them are the paper's
    needs = {k_core = 5, masking = "seen"}          # what a run must have besides, to be compared
    assumed = ["masking"]                           # which of that the paper does not tell: a protocol's own default
    open = ["candidate_seed"]                       # not told either, or deciding nothing here: any value will do
    metrics = ["HR@10", "NDCG@10"]
    [table.methods]
    SASRec = [0.1978, 0.1192]                       # a number for each metric
    [[table.defects]]                               # of all methods and metrics that it does not leave out
    methods = ["SASRec"]
    reason = "weak"

Where a model was tuned on K rows, `shots` names each K, and a method has its numbers of the first K first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import groupby
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import BadData
from harness.registry import read_toml, unknown

T = TypeVar("T")
Words = tuple[str, ...]
DATA = ("dataset", "domain")
"""Options of tasks that say which data set is meant."""
OPTIONS = ("settings", "needs", "tuned_with", "trained_with")
"""Fields that hold options by name, each with one value or a list of those that are allowed."""
SHOTS = "K"
"""How a column is headed that says how many rows a model was tuned on."""


@dataclass(frozen=True)
class System:
    """Who answered in a paper, in so far as runs of ours can be told by it."""

    family: Words
    """Names of ours of the same kind, such as `recbole:SASRec`; of a language model, what people call it."""
    architecture: str | None = None
    """As checkpoints say it; None of whoever is no language model that can be loaded."""
    size: int | None = None
    """Parameters."""
    named: Words = ()
    """What names of its checkpoints contain, in small letters: equal shapes are no equal weights."""
    tuned: str | None = None
    """The task that it was tuned on; None: as it comes."""
    tuned_with: Mapping[str, Words] = field(default_factory=dict)
    """Settings of that task; the data set is that of the number, if none is named."""
    after: str = ""
    """A tuning that it had behind it before."""
    needs: Mapping[str, Words] = field(default_factory=dict)
    """Settings of the evaluated task that are about language models alone, or this one."""
    assumed: Words = ()
    open: Words = ()
    """As those of a number."""
    stages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By setting that names the run of an earlier stage: settings of it, and under `model` a part of its model's
    name."""
    chosen: str = ""
    """An option that was chosen on validation."""
    instances: int | None = None
    """Where it answered fewer than the others of its tables."""


@dataclass(frozen=True)
class Published:
    """One number of a paper's, and what a run must be to stand beside it."""

    task: str
    split: str
    table: str
    """File and place, which no other table has."""
    method: str
    metric: str
    value: float
    data: str
    """What the paper calls its data."""
    shots: int | None
    """Rows that it was tuned on; None: all that its protocol has."""
    source: str
    note: str
    """Of the whole table."""
    defects: Words
    """Reasons why this number is no good target; first, if there is one, why it is impossible."""
    impossible: bool
    """It cannot be right, so it is never a target."""
    apart: Words
    """Differences from any run that can be made here, each with the word for what differs in front."""
    own: bool
    """It is of the paper's own method."""
    independent: bool
    """It is of other people's, not of the paper that the task is of."""
    system: System
    shown: Mapping[str, Words]
    """Settings of the runs beside which it is shown."""
    data_sets: Words
    """Names of ours of the data that it is about."""
    digests: Mapping[str, str]
    """Digests of that data, where they are known to be those of the paper's."""
    needs: Mapping[str, Words]
    """Settings that a run must have to be compared, the data set apart."""
    assumed: Words
    """Which of these the paper does not tell, though they move numbers: as the task has them by default."""
    open: Words
    """Settings that may be anything: draws that are not told, and what decides nothing for this number."""
    trained_with: Mapping[str, Words]
    """Settings of a baseline that are told, and are not its makers' own."""
    stages: Mapping[str, Mapping[str, str]]
    """As those of a system."""
    candidates: str
    """Whom the answer stands among, in words."""
    seeds: str
    """Of draws and trainings, as far as they are told."""
    instances: int | None
    """Questions that it rests on; None: not known."""
    rarer: int | None
    """How many of them have the rarer label, where the metric is about two labels."""

    @property
    def setting(self) -> str:
        """`K=64, MovieLens-100K`."""
        return self.data if self.shots is None else f"{SHOTS}={self.shots}, {self.data}"

    @property
    def family(self) -> Words:
        return self.system.family


@dataclass(frozen=True)
class _Defect:
    reason: str
    methods: Words = ()
    """None: all."""
    metrics: Words = ()
    impossible: bool = False
    apart: str = ""
    """Why no run of ours can match: `split: other users`."""

    def is_of(self, method: str, metric: str) -> bool:
        return method in (self.methods or [method]) and metric in (self.metrics or [metric])


@dataclass(frozen=True)
class _Table:
    task: str
    split: str
    source: str
    note: str
    data: str
    settings: Mapping[str, Words]
    data_sets: Words
    candidates: str
    metrics: Words
    methods: Mapping[str, tuple[float, ...]]
    own: str = ""
    independent: bool = False
    needs: Mapping[str, Words] = field(default_factory=dict)
    assumed: Words = ()
    open: Words = ()
    trained_with: Mapping[str, Words] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    seeds: str = ""
    instances: int | None = None
    rarer: int | None = None
    shots: tuple[int, ...] = ()
    """Each K; none where nothing is drawn."""
    defects: tuple[_Defect, ...] = ()

    def numbers(self) -> Iterator[tuple[str, int | None, str, float]]:
        """Method, K, metric and value: K after K, method after method."""
        width = len(self.metrics)
        for place, shots in enumerate(self.shots or (None,)):
            for method, values in self.methods.items():
                for metric, value in zip(self.metrics, values[place * width : (place + 1) * width], strict=True):
                    yield method, shots, metric, value

    def wrong(self) -> str | None:
        """What is wrong with it, if anything."""
        wanted = len(self.metrics) * max(len(self.shots), 1)
        for method, values in self.methods.items():
            if len(values) != wanted:
                return f"has {len(values)} numbers of {method} for {wanted} columns"
            if not all(isfinite(value) for value in values):
                return f"has a number of {method} that is not finite"
        strange = [name for defect in self.defects for name in defect.methods if name not in self.methods]
        strange += [name for defect in self.defects for name in defect.metrics if name not in self.metrics]
        strange += [self.own] if not self.independent and self.own not in self.methods else []
        return f"names {strange[0]!r}, which it has no number of" if strange else None


def published(folder: Path | None = None) -> tuple[Published, ...]:
    """Every number in the files of a folder and below, the papers' before others'; None is the one that is installed.

    BadData names the file and the table that cannot be read, and says why.
    """
    return _installed() if folder is None else tuple(_below(folder, ""))


def beside(
    numbers: Sequence[Published], task: str, split: str, settings: Mapping[str, Any], independent: bool = True
) -> list[Published]:
    """Those that are shown beside runs of a task, split and settings; others than papers' only if `independent`."""
    return [
        one
        for one in numbers
        if one.task == task
        and one.split == split
        and (independent or not one.independent)
        and all(said(settings.get(name)) in values for name, values in one.shown.items())
    ]


def rows(numbers: Sequence[Published]) -> list[list[Published]]:
    """The numbers of each row of a table, a metric each: one table, method and K."""
    found: dict[tuple[str, int | None, str], list[Published]] = {}
    for one in numbers:
        found.setdefault((one.table, one.shots, one.method), []).append(one)
    return list(found.values())


def said(value: Any) -> str:
    """A value as options write it: `none`, `true`, `0.2`, and 5.0 as `5`."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


@cache
def _installed() -> tuple[Published, ...]:
    return tuple(_below(files("leaderboard") / "reference", ""))


def _below(folder: Traversable, path: str) -> Iterator[Published]:
    for one in sorted(folder.iterdir(), key=lambda one: (one.is_dir(), one.name)):
        if one.is_dir():
            yield from _below(one, f"{path}{one.name}/")
        elif one.name.endswith(".toml"):
            yield from parse(one.read_text("utf-8"), path + one.name)


def parse(text: str, where: str) -> list[Published]:
    """The numbers of one file; `where` names it in errors. BadData: it is not such a file."""
    found = read_toml(text, where, ["systems", "table"], BadData)
    systems = {name: _typed(System, one, f"{where}, system {name}") for name, one in found.get("systems", {}).items()}
    places = [f"{where}, table {n}" for n in range(1, len(found.get("table", [])) + 1)]
    tables = [_table(one, place) for one, place in zip(found.get("table", []), places, strict=True)]
    made = [one for table, place in zip(tables, places, strict=True) for one in _numbers(table, systems, place)]
    if unused := sorted(systems.keys() - {one.method for one in made}):
        raise BadData(f"{where}, system {unused[0]}: no table has a number of it; is the name right?")
    for number in made:
        if (wrong := _unfit(number)) is not None:
            raise BadData(f"{number.table}, {number.method}: {wrong}")
    return made


def _unfit(number: Published) -> str | None:
    wrong = [f"{name!r} is assumed, but not among its needs" for name in number.assumed if name not in number.needs]
    asked = {**number.needs, **number.stages}
    wrong += [f"{name!r} is open, and asked for as well" for name in number.open if name in asked]
    return wrong[0] if wrong else None


def _table(content: Mapping[str, Any], where: str) -> _Table:
    if isinstance(content, dict) and isinstance(content.get("source"), str):
        where += f" ({content['source']})"
    table = _typed(_Table, content, where)
    if (wrong := table.wrong()) is not None:
        raise BadData(f"{where} {wrong}")
    return table


def _typed(kind: type[T], content: Mapping[str, Any], where: str) -> T:
    from pydantic import TypeAdapter, ValidationError  # here, because `harness --help` has no need of it

    if not isinstance(content, dict):
        raise BadData(f"{where} should be a table")
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]  # T has no bound: the name of what all dataclasses are is private
    for key in content:
        if key not in names:
            raise BadData(f"{where}: {unknown('field', key, names)}")
    plain = dict(content)
    for name in OPTIONS:
        if isinstance(plain.get(name), dict):
            plain[name] = {option: _words(value) for option, value in plain[name].items()}
    if isinstance(plain.get("family"), str):
        plain["family"] = [plain["family"]]
    try:
        # By way of JSON, where strict means what TOML means: no text for a number, no true for a 1.
        return TypeAdapter(kind).validate_json(json.dumps(plain, default=str), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        wrong = "is missing" if first["type"] == "missing" else first["msg"].removeprefix("Input ")
        raise BadData(f"{where}: {place} {wrong}") from None


def _words(value: Any) -> list[str]:
    return [said(one) for one in (value if isinstance(value, list) else [value])]


def _numbers(table: _Table, systems: Mapping[str, System], where: str) -> Iterator[Published]:
    asked = {name: values for name, values in table.settings.items() if name not in DATA}
    for method, shots, metric, value in table.numbers():
        system = systems.get(method, System((method,)))
        wrong = [defect for defect in table.defects if defect.is_of(method, metric)]
        wrong.sort(key=lambda defect: not defect.impossible)
        yield Published(
            task=table.task,
            split=table.split,
            table=where,
            method=method,
            metric=metric,
            value=value,
            data=table.data,
            shots=shots,
            source=table.source,
            note=table.note,
            defects=tuple(defect.reason for defect in wrong),
            impossible=any(defect.impossible for defect in wrong),
            apart=tuple(defect.apart for defect in wrong if defect.apart),
            own=method == table.own,
            independent=table.independent,
            system=system,
            shown=table.settings,
            data_sets=table.data_sets,
            digests=table.digests,
            needs={**asked, **table.needs, **system.needs},
            assumed=(*(name for name in table.assumed if name not in system.needs), *system.assumed),
            open=(*(name for name in table.open if name not in {**system.needs, **system.stages}), *system.open),
            trained_with=table.trained_with,
            stages={**table.stages, **system.stages},
            candidates=table.candidates,
            seeds=table.seeds,
            instances=system.instances or table.instances,
            rarer=table.rarer,
        )


@dataclass(frozen=True)
class Reported:
    """A metric of a table of a paper's, laid out as printed: a column a method."""

    metric: str
    source: str
    note: str
    own: str
    """The column with the paper's own method."""
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    """The first entry of each says what the others are for."""


def reported(task: str, split: str, settings: Mapping[str, Any], sampled: bool = False) -> list[Reported]:
    """The papers' tables for this task, split and settings, a metric each; beside `sampled` runs the note says that
    the papers' are of all instances."""
    more = "; of all instances, and the rows above of a sample" if sampled else ""
    found = []
    numbers = beside(published(), task, split, settings, independent=False)
    for _, group in groupby(numbers, key=lambda one: one.table):
        whole = list(group)
        for metric in dict.fromkeys(one.metric for one in whole):
            own = [one for one in whole if one.metric == metric]
            first, methods = own[0], list(dict.fromkeys(one.method for one in own))
            head = "data" if first.shots is None else SHOTS
            lines: dict[Any, list[Any]] = {}
            for one in own:
                lines.setdefault(one.data if one.shots is None else one.shots, []).append(one.value)
            best = next((one.method for one in own if one.own), "")
            values = [[name, *line] for name, line in lines.items()]
            found.append(Reported(metric, first.source, first.note + more, best, [head, *methods], values))
    return found
