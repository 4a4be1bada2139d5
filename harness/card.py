"""The card of a run: what stands behind its numbers, in words, enough to make it again."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import choice
from harness.model import EngineOptions
from harness.store import read_manifest, read_scores, read_sessions, records

Facts = Mapping[str, Any]


def card(path: Path) -> dict[str, str]:
    """From names that people read to plain text, in the order in which they should read it; what is unknown is left
    out. StaleRun: the folder is no run."""
    manifest, sessions = read_manifest(path), read_sessions(path)
    identity, chosen = manifest["identity"], choice.read(path)
    sample = manifest["sample"]
    found = {
        "run": str(path),
        "state": _state(path),
        "model": manifest["model"]["name"],
        "task": f"{manifest['described']}, version {manifest['version']}",
        "paper": manifest.get("paper", ""),
        "settings": _pairs(manifest["settings"]),
        "split": manifest["split"],
        "sample": f"{sample['size']} instances, seed {sample['seed']}" if sample else "",
        "data": _pairs(manifest.get("data", {}), " "),
        "earlier stages": _pairs(manifest.get("inputs", {}), " "),
        "chosen": str(chosen) if chosen else "",
        **_of_model(manifest["model"]),
        "identity": f"instances {identity['instances']}, protocol {identity['protocol']}, run {identity['run']}",
        **_of_sessions(sessions),
    }
    return {name: said for name, said in found.items() if said}


def _state(path: Path) -> str:
    scores = read_scores(path)
    if scores is None:
        return f"not complete: {sum(1 for _ in records(path))} instances on record"
    return f"n/a: {scores['not_applicable']}" if "not_applicable" in scores else "complete"


def _of_model(model: Facts) -> dict[str, str]:
    """What decides its answers, and what it was tuned on; the name has been said."""
    tuned = model.get("tuned") or {}
    told = {name: tuned[name] for name in ("task", "shots", "seed", "pool", "base") if tuned.get(name) is not None}
    shown = {name: value for name, value in model.items() if name not in ("name", "tuned") and value is not None}
    return {"answers decided by": _pairs(shown), "tuned": _pairs(told)}


def _of_sessions(sessions: Sequence[Facts]) -> dict[str, str]:
    """Of the processes that ended by themselves: a killed one leaves no note behind."""
    if not sessions:
        return {}
    starts = sorted(one["started"] for one in sessions if "started" in one)
    tokens = [one["tokens"] for one in sessions if "tokens" in one]
    read, written = (sum(one[kind] for one in tokens) for kind in ("prompt_tokens", "generated_tokens"))
    asked, cached = (sum(one.get(what, 0) for one in sessions) for what in ("asked", "cached"))
    loading, seconds = (sum(one.get(what, 0.0) for one in sessions) for what in ("loading_seconds", "seconds"))
    return {
        "dates": " to ".join(dict.fromkeys((*starts[:1], *starts[-1:]))),
        "processes": str(len(sessions)),
        "time": f"{loading:.1f} s until ready, {seconds:.1f} s answering",
        "questions": f"{asked:,} asked, {cached:,} answered from the cache",
        "tokens": f"{read:,} read, {written:,} written" if read or written else "",
        "hardware": _each(sessions, "machine", _hardware),
        "software": _each(sessions, "software", str),
        "versions": _each(sessions, "versions", lambda found: _pairs(found, " ")),
        "options": _each(sessions, "options", _options),
        "command": _each(sessions, "command", _command),
    }


def _each(sessions: Sequence[Facts], name: str, say: Callable[[Any], str]) -> str:
    """What the processes noted under a name, each thing once, in their order."""
    return "; then ".join(dict.fromkeys(say(one[name]) for one in sessions if one.get(name)))


def _hardware(found: Facts) -> str:
    known = {name: value for name, value in found.items() if value not in (None, [])}
    return _pairs({name: " + ".join(value) if isinstance(value, list) else value for name, value in known.items()})


def _options(given: Facts) -> str:
    usual = asdict(EngineOptions())
    return _pairs({name: value for name, value in given.items() if value != usual.get(name)}) or "as they come"


def _command(words: Sequence[str]) -> str:
    """Without the folder of the program, which is another one elsewhere."""
    program = Path(words[0])
    return shlex.join(["harness" if program.name == "__main__.py" else program.name, *words[1:]])


def _pairs(facts: Facts, between: str = "=") -> str:
    return ", ".join(f"{name}{between}{value}" for name, value in facts.items())
