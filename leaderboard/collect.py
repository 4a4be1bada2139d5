"""Run directories in, standings out: runs of the same instances and protocol, side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import choice
from harness.choice import Choice
from harness.errors import StaleRun
from harness.report import part_name, sample_badge
from harness.store import read_manifest, read_scores, read_sessions


@dataclass(frozen=True)
class Entry:
    """A run; `scores` is None while anything is owed, and its cells stay blank."""

    path: Path
    manifest: Mapping[str, Any]
    scores: Mapping[str, Any] | None
    seconds: float
    """Of answering, in the processes that ended by themselves; a killed one leaves no time behind."""
    cached: bool
    """Whether some answers came from the cache, so that the time says little."""
    chosen: Choice | None = None
    """How its option came about, where it was chosen on validation."""
    apart: tuple[str, ...] = ()
    """Options in which it differs from others of its standing: those that the protocol chooses for each model."""

    @property
    def model(self) -> str:
        told = ", ".join(f"{name}={self.manifest['settings'][name]}" for name in self.apart)
        return f"{self.manifest['model']['name']}{f' [{told}]' if told else ''}"

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
    """Every standing below a folder of runs; directories that are no runs of this harness are passed over."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for card in sorted(runs.glob("*/*/run.json")):
        try:
            manifest = read_manifest(card.parent)
        except StaleRun:
            continue
        if task is not None and manifest["task"] != task:
            continue
        sessions = read_sessions(card.parent)
        seconds = float(sum(session["seconds"] for session in sessions))
        cached = any(session.get("cached") for session in sessions)
        chosen = choice.read(card.parent)
        entry = Entry(card.parent, manifest, read_scores(card.parent), seconds, cached, chosen)
        identity = manifest["identity"]
        groups.setdefault((identity["instances"], identity["protocol"]), []).append(entry)
    standings = [_standing(entries) for entries in groups.values()]
    return sorted(standings, key=lambda standing: standing.title)


def _standing(entries: Sequence[Entry]) -> Standing:
    manifest = entries[0].manifest
    headline, *_ = manifest["metrics"]
    described, apart = manifest["described"], _differing([entry.manifest["settings"] for entry in entries])
    for name in apart:
        described = re.sub(rf"(?<=[(,]){name}={re.escape(str(manifest['settings'][name]))},?", "", described)
    described = described.replace(",)", ")").removesuffix("()")
    entries = [replace(entry, apart=apart if _reads(entry) else ()) for entry in entries]

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
    names = [name for name in settings[0] if name != "runs"]
    return tuple(name for name in names if len({str(one.get(name)) for one in settings}) > 1)


def _reads(entry: Entry) -> bool:
    """Whether it is a language model, and the wording has a part in its answers."""
    return "weights" in entry.manifest["model"]
