"""Leaderboards as they come, for tests of what is made from them: one of 3 rows, one of 20."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from leaderboard.sheet import Breakdown, Cell, Column, Kind, Line, Part, Sheet

HISTORY = (Part("up to 5", 513), Part("over 5, up to 10", 322), Part("over 10, up to 20", 125), Part("over 20", 40))
POPULARITY = (Part("up to 0", 12), Part("over 0, up to 5", 207), Part("over 5, up to 20", 1402), Part("over 20", 8379))
HEADLINE = "HR@10"
LONG = "models/a/very/long/path/of/checkpoints/run-17/step-004000 (vllm, bfloat16)"
CHANCE = Line("chance", "chance", {HEADLINE: Cell(0.1)})
BASELINES = (
    *("SASRec", "GRU4Rec", "BERT4Rec", "LightGCN", "NeuMF", "ItemKNN", "EASE"),
    *("SLIMElastic", "DIN", "DIEN", "Caser", "Pop", "BPR"),
)


def cell(value: float, half: float = 0.03, place: Literal["", "best", "second"] = "", level: bool = False) -> Cell:
    return Cell(value, max(0.0, value - half), min(1.0, value + half), place=place, level=level)


def line(name: str, kind: Kind, score: Cell, seconds: float, tokens: tuple[int, int] | None = None) -> Line:
    return Line(name, kind, {HEADLINE: score}, f"runs/{name}", 1000, 0.0, None, tokens, seconds)


def reported(k: int, score: float) -> Line:
    return Line(f"TALLRec, K={k}", "reported", {HEADLINE: Cell(score)}, own=True)


def breakdown(trait: str, parts: Sequence[Part], names: Sequence[str]) -> Breakdown:
    rng = random.Random(0)
    rows = []
    for n, name in enumerate(names):
        values = [0.7 - 0.45 * n / len(names) + rng.uniform(-0.1, 0.1) for _ in parts]
        rows.append((name, {p.name: cell(v, 0.9 / p.instances**0.5) for p, v in zip(parts, values, strict=True)}))
    return Breakdown(trait, parts, rows)


def sheet(lines: Sequence[Line], breakdowns: Sequence[Breakdown] = (), badges: Sequence[str] = ()) -> Sheet:
    columns = [Column(HEADLINE, True, False), Column("unknown", False, True)]
    title = "sequential(dataset=ml-100k,candidates=uniform,negatives=99), test [sample 1000, seed 0], version 2"
    return Sheet(title, "ab12cd34", "sequential", "", HEADLINE, badges, columns, lines, breakdowns, ())


def small() -> Sheet:
    """A checkpoint, its adapter and a baseline."""
    lines = [
        line("models/qwen2.5-0.5b + lora-64", "adapter", cell(0.52, place="best"), 212.0, (400_000, 24_000)),
        line("recbole:SASRec (budget=ci)", "baseline", cell(0.49, level=True), 3.1),
        line("models/qwen2.5-0.5b (hf, bfloat16)", "language model", cell(0.31), 640.0, (400_000, 90_000)),
    ]
    names = [one.name for one in lines]
    broken = [breakdown("history", HISTORY, names), breakdown("popularity", POPULARITY, names)]
    return sheet([*lines, CHANCE], broken)


def large() -> Sheet:
    """Twenty scores: checkpoints with adapters, many baselines close to each other; and a paper's numbers."""
    rng = random.Random(3)
    folder = "models/llama-3-8b + adapters/2026-11/tallrec"
    lines = [
        line(f"{folder}-shots-256-seed-0", "adapter", cell(0.655, place="best"), 346, (900_000, 12_000)),
        line(f"{folder}-shots-64-seed-1", "adapter", cell(0.631, level=True), 154, (901_000, 11_500)),
        line(f"{folder}-shots-64-seed-0", "adapter", cell(0.6305, level=True), 154, (900_500, 11_800)),
        line(f"{folder}-shots-16-seed-0", "adapter", cell(0.552), 106, (899_000, 15_000)),
        line(LONG, "language model", cell(0.47), 300, (450_000, 32_000)),
        line("hf:tiny", "language model", cell(0.12), 300, (450_000, 32_000)),
        replace(line("models/cached-7b", "language model", cell(0.44), 4, (450_000, 20_000)), cached=True),
    ]
    for n, name in enumerate(BASELINES):
        lines.append(line(f"recbole:{name} (budget=ci)", "baseline", cell(0.6 - 0.004 * n), rng.uniform(2, 6)))
    lines.sort(key=lambda one: -(one.cells[HEADLINE].value or 0))
    names = [one.name for one in lines]
    lines += [
        Line("models/half-done", "language model", {HEADLINE: Cell(None, why="not complete")}),
        Line("simple:recency", "baseline", {HEADLINE: Cell(None, why="n/a")}),
        CHANCE,
        *(reported(k, score) for k, score in ((16, 0.6724), (64, 0.6748), (256, 0.7198))),
    ]
    broken = [breakdown("history", HISTORY, names), breakdown("popularity", POPULARITY, names)]
    return sheet(lines, broken, ["sampled metric: 100 candidates", "sample of 1000", "few users: 16"])
