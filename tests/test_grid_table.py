"""The table of a grid: what makes a row, what stays blank, what stands beside it."""

from __future__ import annotations

import csv
import json
import math
import random
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli import main
from harness.engines import FunctionEngine
from harness.errors import RequestFailed
from harness.grid.cells import Cell, Step
from harness.grid.run import Outcome
from harness.model import Model
from harness.signature import Sample
from harness.store import read_scores, write_json
from harness.task import Task
from harness.tuning.recipe import Draw, Recipe, find_recipe
from harness.types import Choose, Key, Reply, Request, Scores
from leaderboard.grid import frame, markdown, sections
from leaderboard.grid_plot import plot_grid
from tasks.tallrec import TALLRec
from tests.fakes import Coins, Shelf, text_engine
from tests.test_leaderboard import make_run


def answering(seed: int, failing: str = "never") -> FunctionEngine:
    """Another model for each seed."""

    def answer(key: Key, request: Request) -> Reply | RequestFailed:
        if not isinstance(request, Choose) or key.instance.endswith(failing):
            return RequestFailed("too long")
        rng = random.Random(f"{seed} {request.prompt}")
        return Scores(tuple(math.log(rng.random() * 0.5 + 1e-9) for _ in request.options))

    return text_engine(answer)


PAPER = find_recipe(Coins(), {})


def cell(seed: int | None, shots: int = 4, task: Task | None = None, name: str = "RT", **more: Path) -> Cell:
    task = task or Coins()
    steps = () if seed is None else (Step((task,), PAPER, Draw(shots, seed)),)
    adapter = more.get("adapter")
    return Cell(
        name, task, Model.parse("base"), adapter, steps, shots, seed, task.name, "" if seed is None else "coins"
    )


def outcome(runs: Path, seed: int, shots: int = 4, failing: str = "never") -> Outcome:
    return Outcome(cell(seed, shots), make_run(runs, Coins(), f"{shots} {seed}", answering(seed, failing)))


def value(run: Path | None) -> float:
    scores = read_scores(run) if run else None
    assert scores is not None
    found: float = scores["metrics"]["AUC"]["value"]
    return found


def test_seeds_make_one_row_with_their_mean_and_deviation(tmp_path: Path) -> None:
    outcomes = [outcome(tmp_path, seed) for seed in (2, 0, 1)]
    (section,) = sections(outcomes)
    (row,) = section.rows
    values = [value(one.run) for one in outcomes]
    found = row.found["AUC"]
    assert row.seeds == (0, 1, 2)
    assert found.mean == pytest.approx(statistics.mean(values), abs=1e-12)
    assert found.sd == pytest.approx(statistics.stdev(values), abs=1e-12)
    assert found.low < found.mean < found.high
    assert (found.units, found.unit, section.chance["AUC"]) == (50, "user", 0.5)
    text = markdown("Coins", [section])
    assert f"| {found.mean:.4f}" in text
    assert f"[{found.low:.4f}, {found.high:.4f}]" in text
    assert "over 50 users, and over the seeds" in text


def test_a_row_with_a_missing_seed_is_blank_and_says_which_and_why(tmp_path: Path) -> None:
    outcomes = [outcome(tmp_path, 0), outcome(tmp_path, 1), Outcome(cell(2), failure="no rows | left")]
    outcomes += [outcome(tmp_path, seed, shots=8) for seed in (0, 1)]
    (section,) = sections(outcomes)
    hole, whole = section.rows
    assert (hole.found, hole.notes) == ({}, ("failed for seed 2: no rows | left",))
    assert whole.found["AUC"].seeds == 2
    line = next(line for line in markdown("", [section]).splitlines() if "| 4 " in line)
    assert [part.strip() for part in line.split("|")[6:10]] == ["0, 1, 2", "", "", ""]
    assert "no rows \\| left" in line
    records = frame([section]).to_dict("records")
    assert [record["seeds"] for record in records] == ["0 1 2", "0 1"]
    assert math.isnan(records[0]["mean"])
    assert records[1]["mean"] == whole.found["AUC"].mean


def test_rows_differ_in_everything_but_the_seed(tmp_path: Path) -> None:
    run = make_run(tmp_path, Coins(), "any", answering(0))
    plain = cell(0)
    other = [
        replace(plain, name="other"),
        replace(plain, shots=8, steps=(replace(plain.steps[0], draw=Draw(8, 0)),)),
        replace(plain, steps=(replace(plain.steps[0], recipe=Recipe(rank=4)),)),
        replace(plain, steps=(replace(plain.steps[0], draw=Draw(4, 0, "valid")),)),
        replace(plain, steps=(plain.steps[0], plain.steps[0])),
        replace(plain, model=Model.parse("other")),
        replace(plain, adapter=Path("alpaca")),
    ]
    (section,) = sections([Outcome(one, run) for one in (plain, *other)])
    assert len(section.rows) == 1 + len(other)
    assert "rows drawn from the validation file" in section.rows[4].notes
    assert [row.notes for row in section.rows[:2]] == [(), ()]
    assert section.rows[3].notes == ("not tuned by the paper's recipe",)


def test_ready_adapters_that_differ_in_the_seed_are_one_row(tmp_path: Path) -> None:
    outcomes = []
    for seed in (0, 1, 2):
        made = {"task": "coins", "settings": [{"count": 200}], "shots": 16, "seed": seed, "pool": "train"}
        (tmp_path / f"lora {seed}").mkdir()
        write_json(tmp_path / f"lora {seed}" / "harness.json", {**made, "recipe": {"rank": 8}})
        run = make_run(tmp_path / "runs", Coins(), f"ready {seed}", answering(seed))
        outcomes.append(Outcome(cell(None, 0, adapter=tmp_path / f"lora {seed}"), run))
    (tmp_path / "stranger").mkdir()
    outcomes.append(Outcome(cell(None, 0, adapter=tmp_path / "stranger"), outcomes[0].run))
    (section,) = sections(outcomes)
    tuned, stranger = section.rows
    assert (tuned.shots, tuned.seeds, tuned.trained) == (16, (0, 1, 2), "count=200")
    assert tuned.found["AUC"].seeds == 3
    assert (stranger.shots, stranger.seeds) == (None, ())
    assert stranger.model == f"base + {tmp_path / 'stranger'}"
    twice = [replace(one, cell=replace(one.cell, adapter=tmp_path / "lora 0")) for one in outcomes[:2]]
    assert len(sections(twice)[0].rows) == 2


def test_failed_instances_are_told(tmp_path: Path) -> None:
    (section,) = sections([outcome(tmp_path, 0), outcome(tmp_path, 1, failing="3")])
    assert section.rows[0].notes == ("up to 10.0% of the instances failed",)


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """Cells as the paper's, with a baseline's answers for both seeds."""
    folder = tmp_path_factory.mktemp("movie")
    words = ["run", "--task", "tallrec", "--model", "simple:like-rate", "--run-dir", str(folder / "run")]
    assert main(words) == 0
    tuned = [cell(seed, 64, TALLRec()) for seed in (0, 1)]
    crossed = replace(tuned[0], steps=(Step((TALLRec(domain="book"),), Recipe(), Draw(64, 0)),), trained="domain=book")
    return [Outcome(one, folder / "run") for one in (*tuned, crossed, cell(0, 32, TALLRec()), cell(None, 0, TALLRec()))]


@pytest.mark.slow
def test_the_paper_s_number_stands_beside_its_own_protocol_only(movie: list[Outcome]) -> None:
    (section,) = sections(movie)
    assert [row.paper for row in section.rows] == [0.6748, None, None, None]
    text = markdown("", [section])
    assert "Paper: AUC of TALLRec, or of the baseline that a row names, arXiv:2305.00447, Table 1, not measured" in text
    assert "over 16 users: few, so wide" in text
    (sampled,) = sections(movie, sample=Sample(100))
    assert {row.paper for row in sampled.rows} == {None}
    assert "[sample 100, seed 0]" in sampled.title


@pytest.mark.slow
def test_the_picture_has_curves_chance_and_the_paper(movie: list[Outcome], tmp_path: Path) -> None:
    out = plot_grid(sections(movie), tmp_path / "grid.svg")
    assert out is not None
    svg = out.read_text()
    for said in ("training rows", "AUC, 95 % interval", "chance", "paper (reported)", "RT, base, domain=book"):
        assert said in svg
    again = plot_grid(sections(movie), tmp_path / "again.svg")
    assert again is not None
    assert again.read_bytes() == out.read_bytes()
    assert plot_grid(sections([Outcome(cell(0), failure="x")]), tmp_path / "none.svg") is None


@pytest.mark.slow
def test_a_grid_of_baselines_from_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Books are not here: their cells fail in one line, the others are complete, and the exit code is 1."""
    monkeypatch.chdir(tmp_path)
    block = '[[block]]\ntask = "tallrec"\nmodel = ["simple:like-rate", "simple:constant"]\n'
    Path("grid.toml").write_text(f'title = "Baselines"\n{block}test = [{{domain = "movie"}}, {{domain = "book"}}]\n')
    words = ["grid", "grid.toml", "--sample", "60", "--out", "report"]
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.err.endswith("4 cells: 2 complete, 2 failed; 0 engine starts\n")
    assert said.err.count("failed: simple:") == 2
    assert "harness data fetch tallrec-book" in said.err
    assert "Traceback" not in said.err
    assert Path("report/grid.md").read_text() == said.out
    assert "## tallrec (domain=movie), test [sample 60, seed 0], version 1" in said.out
    with Path("report/grid.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["mean"] for row in rows if "domain=book" in row["test"]} == {""}
    assert Path("report/grid.svg").is_file()
    assert main(["grid", "grid.toml", "--sample", "60", "--set", "domain=movie", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["engine_starts"] == 0
    assert [one["failure"] for one in found["cells"]] == [None, None]
    assert main(["grid", "grid.toml", "--sample", "60", "--plan"]) == 0
    said = capsys.readouterr()
    assert said.err == "4 cells: 2 complete, 2 to evaluate\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nosuch"], "no suite 'nosuch'; there is instructrec-100, instructrec-cds,"),
        (["tallrec-tabel1"], "no suite 'tallrec-tabel1'; did you mean 'tallrec-table1'?"),
        (["none.toml"], "grid none.toml cannot be read"),
        (["tallrec-table1"], "has no model; name one with --model"),
        (["tallrec-table1", "--task", "tallrec"], "--task is for a grid of its own"),
        (["--task", "tallrec", "--model", "x", "--shots", "some"], "--shots 'some' is neither a number nor all"),
        (["--task", "tallrec", "--model", "x", "--seed", "-1"], "Invalid value for '--seed'"),
        (["--task", "tallrec", "--model", "x", "--set", "domian=book"], "did you mean 'domain'?"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert main(["grid", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_without_arguments_the_suites_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grid"]) == 0
    assert "tallrec-table1 " in capsys.readouterr().out


def test_ways_to_ask_the_same_questions_share_a_table(tmp_path: Path) -> None:
    tasks = [Coins(), Coins(style="loud")]
    made = [
        Outcome(replace(cell(None, task=task), tested="x"), make_run(tmp_path, task, task.style, answering(1)))
        for task in tasks
    ]
    other = Coins(count=100)
    made.append(
        Outcome(replace(cell(None, task=other), tested="count=100"), make_run(tmp_path, other, "other", answering(1)))
    )
    found = sections(made)
    assert [section.title for section in found] == ["coins, test, version 1", "coins (count=100), test, version 1"]
    assert [[row.asked for row in section.rows] for section in found] == [["", "style=loud"], [""]]
    assert "| Asked with |" in markdown("Coins", found[:1])
    assert "Asked with" not in markdown("Coins", found[1:])


def test_other_metrics_stand_under_the_number_of_their_row(tmp_path: Path) -> None:
    (section,) = sections([Outcome(cell(None, task=Shelf()), make_run(tmp_path, Shelf(), "a", text_engine()))])
    lines = markdown("Shelves", [section]).splitlines()
    value = section.rows[0].found["HR@3"]
    (line,) = (line for line in lines if line.startswith("| HR@3"))
    assert f"{value.mean:.4f} [{value.low:.4f}, {value.high:.4f}]" in line
    assert line.rstrip(" |").endswith("0.3000")
    assert not any(line.startswith("| NDCG@10") for line in lines)  # the headline has a column of its own
