"""Run directories in, standings out: runs of the same instances and protocol, side by side."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import choice
from harness.choice import Choice
from harness.errors import StaleRun
from harness.names import is_file_name
from harness.report import part_name, sample_badge
from harness.store import read_manifest, read_scores, read_sessions


@dataclass(frozen=True)
class Entry:
    """A run; `scores` is None while anything is owed, and its cells stay blank."""

    path: Path
    manifest: Mapping[str, Any]
    scores: Mapping[str, Any] | None
    seconds: float | None
    """Of answering; None where it is not known, since a process that was killed leaves no time behind."""
    cached: bool
    """Whether some answers came from the cache, so that the time says little."""
    chosen: Choice | None = None
    """How its option came about, where it was chosen on validation."""
    apart: tuple[str, ...] = ()
    """In what it differs from others of its standing: options that the protocol chooses for each model, and what tells
    it from a run whose model has the same name."""

    @property
    def model(self) -> str:
        name: str = self.manifest["model"]["name"]
        return f"{name} [{', '.join(self.apart)}]" if self.apart else name

    def metric(self, name: str) -> Mapping[str, Any] | None:
        """Value and interval; None if the run is partial or the metric does not apply."""
        found: Mapping[str, Any] | None = self.scores["metrics"].get(name) if self.scores else None
        return found

    @property
    def strata(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """By trait, and by the name of the part: the headline in that part. Empty if the run is partial."""
        found = self.scores.get("strata", {}) if self.scores else {}
        return {trait: {part_name(part): part for part in parts} for trait, parts in found.items()}


@dataclass(frozen=True)
class Standing:
    """Everybody who answered the same questions in the same protocol, best first."""

    title: str
    key: str
    """Digits that no other standing has, for file names."""
    headline: str
    metrics: Sequence[str]
    entries: Sequence[Entry]

    @property
    def chance(self) -> Mapping[str, float]:
        """What a random order scores, by metric."""
        measured = ((name, entry.metric(name)) for entry in self.entries for name in self.metrics)
        return {name: found["chance"] for name, found in measured if found and found["chance"] is not None}


def collect(runs: Path, task: str | None = None) -> list[Standing]:
    """Every standing below a folder of runs; directories that are no runs of this harness are passed over.

    BadData: the manifest or the scores of a run were altered.
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for card in sorted(runs.glob("*/*/run.json")):
        try:
            manifest = read_manifest(card.parent)
        except StaleRun:
            continue
        if not _has_names(manifest) or (task is not None and manifest["task"] != task):
            continue
        entry = _entry(card.parent, manifest)
        identity = manifest["identity"]
        groups.setdefault((identity["instances"], identity["protocol"]), []).append(entry)
    standings = [_standing(entries) for entries in groups.values()]
    # What only chose an option on validation comes after what it was chosen for.
    return sorted(standings, key=lambda one: (one.entries[0].manifest["split"] != "test", one.title))


def _has_names(manifest: Mapping[str, Any]) -> bool:
    """Whether its task and digests can go into names of files and places, as all that this harness gives can."""
    identity, task = manifest["identity"], manifest.get("task")
    digests = (str(identity.get(part, "")) for part in ("instances", "protocol"))
    return isinstance(task, str) and is_file_name(task) and all(re.fullmatch(r"[\w-]*", one) for one in digests)


def _entry(path: Path, manifest: Mapping[str, Any]) -> Entry:
    scores = read_scores(path)
    sessions = read_sessions(path)
    timed = sum(session.get("answered", 0) for session in sessions)
    whole = bool(sessions) and scores is not None and timed >= scores["instances"]
    seconds = float(sum(session["seconds"] for session in sessions)) if whole else None
    return Entry(path, manifest, scores, seconds, any(one.get("cached") for one in sessions), choice.read(path))


def _standing(entries: Sequence[Entry]) -> Standing:
    manifest = entries[0].manifest
    headline, *_ = manifest["metrics"]
    described, apart = manifest["described"], _differing([entry.manifest["settings"] for entry in entries])
    for name in (*apart, "runs"):  # of a path earlier versions told
        described = re.sub(rf"(?<=[(,]){name}={re.escape(str(manifest['settings'].get(name)))},?", "", described)
    described = described.replace(",)", ")").removesuffix("()")
    chosen = [tuple(f"{name}={entry.manifest['settings'].get(name)}" for name in apart) for entry in entries]
    entries = [replace(entry, apart=told if _reads(entry) else ()) for entry, told in zip(entries, chosen, strict=True)]
    entries = _named_apart(entries)

    def place(entry: Entry) -> tuple[bool, float, str]:
        found = entry.metric(headline)
        value = found["value"] if found else None
        up = found is None or found["higher_is_better"]
        return value is None, 0.0 if value is None else (-value if up else value), entry.model

    return Standing(
        title=f"{described}, {manifest['split']}{sample_badge(manifest)}, version {manifest['version']}",
        key=f"{manifest['identity']['instances'][:4]}{manifest['identity']['protocol'][:4]}",
        headline=headline,
        metrics=manifest["metrics"],
        entries=sorted(entries, key=place),
    )


def _differing(settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Names of options that have several values. Paths have no part in a protocol, and are not shown."""
    names = [name for name in dict.fromkeys(name for one in settings for name in one) if name != "runs"]
    return tuple(name for name in names if len({str(one.get(name)) for one in settings}) > 1)


def _named_apart(entries: Sequence[Entry]) -> list[Entry]:
    """With what tells them apart behind names that several have: no two rows of a table are called the same."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.model, []).append(entry)
    found = []
    for group in groups.values():
        facts = [_facts(entry) for entry in group]
        differ = [
            key for key in dict.fromkeys(key for one in facts for key in one) if len({f.get(key) for f in facts}) > 1
        ]
        for entry, own in zip(group, facts, strict=True):
            told = tuple(f"{key}={own[key]}" for key in differ if key in own)
            found.append(replace(entry, apart=(*entry.apart, *told)) if len(group) > 1 else entry)
    names = Counter(entry.model for entry in found)
    return [replace(e, apart=(*e.apart, f"run {e.path.name}")) if names[e.model] > 1 else e for e in found]


def _facts(entry: Entry) -> dict[str, str]:
    """What decides the answers of a model, digests by their beginnings."""
    model = entry.manifest["model"]
    plain = {key: model[key] for key in ("engine", "dtype", "template", "context", "structured") if key in model}
    digests = {key: str(model[key])[:6] for key in ("weights", "adapter") if model.get(key)}
    return {key: str(value) for key, value in {**plain, **digests, **model.get("settings", {})}.items()}


def _reads(entry: Entry) -> bool:
    """Whether it is a language model, and the wording has a part in its answers."""
    return "weights" in entry.manifest["model"]
