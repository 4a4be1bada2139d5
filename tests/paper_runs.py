"""Runs as verdicts read them, by their manifests and scores, and the published numbers that they are held against."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.store import SCHEMA
from leaderboard.collect import Entry
from leaderboard.published import Published, published
from leaderboard.verdict import verdict

BEAUTY: Mapping[str, Any] = {
    "dataset": "amazon-beauty",
    "k_core": 5,
    "repeats": False,
    "untitled": True,
    "min_rating": 0.0,
    "masking": "seen",
    "max_history": 50,
    "variant": "v2",
    "candidates": "abc123",
    "top": 50,
    "order": "retriever",
    "remove_seen": True,
    "shown": 20,
    "profile": "",
    "year": False,
    "longest_title": 0,
    "max_tokens": 512,
    "answer": "generate",
    "decoding": "free",
}
RETRIEVAL: Mapping[str, Any] = {"untitled": True, "max_history": 50}
SASREC = {
    "engine": "recbole",
    "baseline": "SASRec",
    "settings": {"budget": "full", "shots": None},
    "name": "recbole:SASRec",
}
LLAMA: Mapping[str, Any] = {
    "engine": "hf",
    "weights": "0",
    "adapter": None,
    "name": "palr-llama-7b (hf, float16)",
    "architecture": "LlamaForCausalLM",
    "parameters": 6_738_415_616,
    "tuned": {
        "task": "palr",
        "settings": [{"dataset": "amazon-beauty", "users": 0.2, "variant": "v2"}],
        "shots": None,
        "pool": "train",
        "recipe": {
            "method": "full",
            "learning_rate": 2e-5,
            "schedule": "cosine",
            "warmup": 0.03,
            "epochs": 3.0,
            "batch": 128,
            "micro_batch": 1,
            "context": 2048,
            "loss": "answer",
            "selection": "last",
        },
    },
}


def number(
    task: str, method: str, metric: str, source: str = "", data: str = "", shots: int | None = None
) -> Published:
    return next(
        one
        for one in published()
        if (one.task, one.method, one.metric, one.shots) == (task, method, metric, shots)
        and one.source.endswith(source)
        and one.data.startswith(data)
    )


def entry(
    path: Path,
    model: Mapping[str, Any],
    settings: Mapping[str, Any] = BEAUTY,
    value: float | None = 0.06,
    between: tuple[float, float] | None = (0.059, 0.061),
    *,
    task: str = "palr",
    metric: str = "HR@10",
    **more: Any,
) -> Entry:
    """A run by its manifest and its score, which is all that is read of it."""
    manifest = {"task": task, "split": "test", "sample": None, "data": {}, "settings": settings, "model": model, **more}
    low, high = between or (None, None)
    return Entry(path, manifest, {"metrics": {metric: {"value": value, "low": low, "high": high}}}, 1.0, False)


def said(one: Published, *entries: Entry) -> str:
    found = verdict(one, entries)
    return f"{found.word}: {found.why}"


def stage(runs: Path, task: str, digest: str, model: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    folder = runs / task / digest
    folder.mkdir(parents=True)
    identity = {"instances": "", "protocol": "", "run": digest}
    card = {"schema": SCHEMA, "task": task, "settings": settings, "model": model, "identity": identity}
    (folder / "run.json").write_text(json.dumps(card))
