"""The grid without engines: what a file means, what options change, what is tuned, and how it fails."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.errors import BadData, BadModel, BadSetting, EngineStopped, HarnessError
from harness.grid.cells import Cell, Changes, change, expand
from harness.grid.declared import Block, Grid, Stage, parse_grid
from harness.grid.run import Failure, How, Tunings, attempt, plan, run_grid, tuned
from harness.store import write_json
from harness.tuning.recipe import Draw
from harness.tuning.spec import Tuning

ROOT = Path(__file__).parent.parent
FILE = """
title = "Few shots"
[[block]]
name = "RT"
task = "tallrec"
model = "base"
shots = [0, 16, "all"]
seed = [0, 1]
test = [{domain = "movie"}, {domain = "book"}]
train = [{domain = "movie"}, [{domain = "movie"}, {domain = "book"}]]
recipe = {budget = "ci", epochs = 5}
[[block]]
task = "tallrec"
model = ["base", "simple:like-rate"]
"""


def test_a_file_means_its_products() -> None:
    grid = parse_grid(FILE, "grid.toml")
    cells = expand(grid)
    assert grid.title == "Few shots"
    tuned = [cell for cell in cells if cell.steps]
    assert len(tuned) == 2 * 2 * 2 * 2  # tests, trainings, shots but 0, seeds
    assert {cell.shots for cell in tuned} == {16, "all"}
    assert {cell.steps[0].draw for cell in tuned} == {Draw(k, seed) for k in (16, None) for seed in (0, 1)}
    assert {cell.trained for cell in tuned} == {"domain=movie", "domain=movie + domain=book"}
    assert {len(cell.steps[0].tasks) for cell in tuned} == {1, 2}
    assert {cell.steps[0].recipe.epochs for cell in tuned} == {5}
    plain = [cell for cell in cells if not cell.steps]
    assert [(cell.who, cell.tested, cell.seed) for cell in plain] == [
        ("base", "domain=movie", None),
        ("base", "domain=book", None),
        ("base", "tallrec", None),
        ("simple:like-rate", "tallrec", None),
    ]


def test_the_file_of_the_documentation_is_one() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "grid.md").read_text("utf-8"), re.DOTALL)
    cells = expand(parse_grid(text, "docs/grid.md"))
    assert len([cell for cell in cells if cell.name == "RT"]) == 1 + 3 * 3 * 2
    assert [len(cell.steps) for cell in cells if cell.name == "both stages"] == [1, 2]


def test_training_is_on_what_is_tested_unless_the_grid_says_otherwise() -> None:
    block = Block("tallrec", model=("base",), shots=(4,), test=({"domain": "movie"}, {"domain": "book"}))
    assert [cell.steps[0].tasks for cell in expand(Grid("", (block,)))] == [
        (cell.task,) for cell in expand(Grid("", (block,)))
    ]


def test_the_same_thing_said_twice_is_one_cell() -> None:
    block = Block("tallrec", model=("base", "base"), shots=(0, 4, 4), seed=(0, 0), test=({}, {"domain": "movie"}))
    assert len(expand(Grid("", (block, block)))) == 2


def test_a_stage_before_goes_first_and_without_shots_is_evaluated_itself() -> None:
    stage = Stage("tallrec", {"domain": "book"}, {"epochs": 1}, shots=100)
    cells = expand(Grid("", (Block("tallrec", model=("base",), shots=(0, 8), first=stage),)))
    assert [[step.draw.shots for step in cell.steps] for cell in cells] == [[100], [100, 8]]
    assert [cell.seed for cell in cells] == [None, 0]
    assert [cell.trained for cell in cells] == ["domain=book", "domain=book, then tallrec"]


def test_a_baseline_takes_shots_and_seeds_as_its_settings() -> None:
    blocks = (
        Block("tallrec", model=("recbole:GRU4Rec",), shots=(16, "all"), seed=(0, 1), recipe={"epochs": 5}),
        Block("tallrec", model=("recbole:GRU4Rec", "simple:random")),
    )
    cells = expand(Grid("", blocks))
    assert [dict(cell.settings) for cell in cells] == [
        {"epochs": "5", "shots": "16", "seed": "0"},
        {"epochs": "5", "shots": "16", "seed": "1"},
        {"epochs": "5", "seed": "0"},
        {"epochs": "5", "seed": "1"},
        {},
        {},
    ]
    assert [cell.shots for cell in cells] == [16, 16, "all", "all", "all", 0]
    assert [bool(cell.trained) for cell in cells] == [True] * 5 + [False]
    assert [cell.who for cell in cells[3:]] == ["recbole:GRU4Rec (epochs=5)", "recbole:GRU4Rec", "simple:random"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = [", "grid.toml is not TOML"),
        ("titel = 'x'", "grid.toml: no key 'titel'; did you mean 'title'?"),
        ("title = 'x'", "grid.toml has no block; write [[block]] above its lists"),
        ("[[block]]\nmodle = 'x'", "no key of grid.toml, block 1 'modle'; did you mean 'model'?"),
        ("[[block]]\nmodel = 'x'", "grid.toml, block 1: task Field required"),
        ("[[block]]\ntask = 'tallrec'\nshots = ['some']", "grid.toml, block 1: shots.0"),
        ("[[block]]\ntask = 'tallrec'\nshots = true", "grid.toml, block 1: shots.0"),
        ("[[block]]\ntask = 'tallrec'\nseed = ['0']", "grid.toml, block 1: seed.0 should be a valid integer"),
        ("[[block]]\ntask = 'tallrec'\nseed = []", "grid.toml, block 1: seed is empty"),
        ("[[block]]\ntask = 'tallrec'\npool = 'test'", "pool should be 'train' or 'valid'"),
        ("[[block]]\ntask = 'tallrec'\nfirst = {tsk = 'x'}", "block 1, first 'tsk'; did you mean 'task'?"),
        ("[[block]]\ntask = 'tallrec'\ntrain = [[]]", "train holds an empty list"),
        ("[[block]]\ntask = 'talrec'\nmodel = 'x'", "no task 'talrec'; did you mean 'tallrec'?"),
        ("[[block]]\ntask = 'tallrec'", "the block of the grid on 'tallrec' has no model; name one with --model"),
        ("[[block]]\ntask = 'tallrec'\nmodel = 'x'\ntest = {domian = 'book'}", "did you mean 'domain'?"),
        ("[[block]]\ntask = 'tallrec'\nmodel = 'x'\nshots = 4\nrecipe = {rnk = 4}", "did you mean 'rank'?"),
        ("[[block]]\ntask = 'tallrec'\nmodel = 'x'\nshots = 4\nrecipe = {budget = 'x'}", "no budget in"),
        ("[[block]]\ntask = 'tallrec'\nmodel = 'x'\nshots = -1", "shots='-1' should be at least 1"),
        ("[[block]]\ntask = 'tallrec'\nmodel = 'simple:random'\nshots = 4", "simple:random has no settings"),
        ("[[block]]\ntask = 'tallrec'\nmodel = 'recbole:GRU4Rec'\nrecipe = {epoch = 5}", "did you mean 'epochs'?"),
        ("[[block]]\ntask = 'tallrec'\nmodel = 'recbole:GRU4Rec'\nadapter = 'y'", "GRU4Rec is no language model"),
        ("[[block]]\ntask = 'tallrec'\nmodel = 'recbole:SASRec'\npool = 'valid'", "leave train and pool out"),
        ("[[block]]\ntask = 'tallrec'\nmodel = 'nosuch:x'", "no kind of model 'nosuch'"),
        (
            "[[block]]\ntask = 'tallrec'\nmodel = 'x'\nadapter = 'y'\nfirst = {task = 'tallrec'}",
            "has both adapter and first",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(text: str, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        expand(parse_grid(text, "grid.toml"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


ABLATION = Grid(
    "",
    (
        Block("tallrec", name="AT", first=Stage("instructions")),
        Block("tallrec", name="RT", shots=(1, 2), seed=(0, 1)),
        Block("tallrec", name="both", shots=(1, 2), seed=(0, 1), first=Stage("instructions")),
    ),
)


def test_options_take_the_place_of_an_axis_in_every_block() -> None:
    changed = change(ABLATION, Changes(model=("base",), seed=(7,), shots=(64,), pool="valid"))
    assert [block.model for block in changed.blocks] == [("base",)] * 3
    assert [block.shots for block in changed.blocks] == [(0,), (64,), (64,)]  # AT tunes on none of its own
    assert {(block.seed, block.pool) for block in changed.blocks} == {((7,), "valid")}


def test_a_ready_adapter_stands_in_for_the_stage_before() -> None:
    changed = change(ABLATION, Changes(adapter=("alpaca",)))
    assert [(block.adapter, block.first) for block in changed.blocks] == [
        (("alpaca",), None),
        ((), None),
        (("alpaca",), None),
    ]
    plain = change(Grid("", (Block("tallrec", shots=(4,)),)), Changes(adapter=("alpaca",)))
    assert plain.blocks[0].adapter == ("alpaca",)


def test_settings_go_where_they_belong() -> None:
    block = Block("tallrec", shots=(4,), test=({"domain": "movie"},), train=(({"domain": "movie"},),))
    given = {"domain": "book", "readout": "log_odds", "epochs": "3"}
    (changed,) = change(Grid("", (block,)), Changes(settings=given)).blocks
    assert changed.test == ({"domain": "book", "readout": "log_odds"},)
    assert changed.train == (({"domain": "movie", "readout": "log_odds"},),)
    assert changed.recipe == {"epochs": "3"}
    staged = change(ABLATION, Changes(first={"file": "x.json", "epochs": "1"})).blocks[0].first
    assert staged is not None
    assert (staged.set, staged.recipe) == ({"file": "x.json"}, {"epochs": "1"})
    with pytest.raises(BadSetting, match="did you mean 'epochs'"):
        change(ABLATION, Changes(settings={"epoch": "3"}))
    with pytest.raises(BadSetting, match="--first-set is for grids with an earlier stage"):
        change(Grid("", (block,)), Changes(first={"file": "x"}))


class Workshop:
    """Tunes by copying a ready LoRA, and remembers what it was asked for."""

    def __init__(self, ready: Path, refuse: Callable[[Tuning], bool] = lambda _: False) -> None:
        self.ready = ready
        self.refuse = refuse
        self.asked: list[Tuning] = []

    def __call__(self, tuning: Tuning, out: Path, say: Any, threads: int | None) -> Mapping[str, Any]:
        self.asked.append(tuning)
        if self.refuse(tuning):
            raise BadData("the rows are spoilt")
        shutil.copytree(self.ready, out, dirs_exist_ok=True)
        write_json(out / "harness.json", {"task": tuning.tasks[0].name})
        return {}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests import engine_models  # which imports torch and peft

    return engine_models.llama(tmp_path_factory.mktemp("models") / "llama", width=64, layers=1)


@pytest.fixture(scope="module")
def ready(base: Path) -> Path:
    from tests import engine_models

    return engine_models.lora(base.parent / "lora", base)


def tuned_cells(base: Path, *seeds: int, shots: tuple[int, ...] = (4,), full: bool = False) -> list[Cell]:
    stage = Stage("tallrec", recipe={"epochs": 1}, shots=8)
    recipe = {"method": "full"} if full else {}
    block = Block("tallrec", model=(str(base),), shots=shots, seed=seeds, first=stage, recipe=recipe)
    return expand(Grid("", (block,)))


@pytest.mark.slow
def test_a_shared_stage_is_tuned_once_and_gone_on_from(base: Path, ready: Path, tmp_path: Path) -> None:
    workshop = Workshop(ready)
    tunings = Tunings(How(tuned=tmp_path), workshop, print)
    made = [tunings.make(cell) for cell in tuned_cells(base, 0, 1, 2, shots=(0, 4))]
    assert [tuning.draw.shots for tuning in workshop.asked] == [8, 4, 4, 4]
    assert [tuning.adapter for tuning in workshop.asked] == [None, *[made[0].adapter] * 3]
    assert len({contender.adapter for contender in made}) == 4
    assert all(c.adapter is not None and c.adapter.parent == tmp_path / "tallrec" for c in made)
    assert [tuned(cell, How(tuned=tmp_path)) for cell in tuned_cells(base, 0, 1, 2)] == made[1:]


@pytest.mark.slow
def test_full_tuning_makes_another_model(base: Path, ready: Path, tmp_path: Path) -> None:
    (cell,) = tuned_cells(base, 0, full=True)
    made = Tunings(How(tuned=tmp_path), Workshop(ready), print).make(cell)
    assert made.adapter is None
    assert Path(made.model.name).parent == tmp_path / "tallrec"


@pytest.mark.slow
def test_a_failed_tuning_costs_the_cells_that_need_it_and_is_not_tried_again(
    base: Path, ready: Path, tmp_path: Path
) -> None:
    workshop = Workshop(ready, refuse=lambda tuning: tuning.draw.shots == 8)
    cells = tuned_cells(base, 0, 1, shots=(0, 4))
    finished = run_grid(cells, How(runs=tmp_path / "runs", tuned=tmp_path / "tuned"), lambda line: None, workshop)
    assert [outcome.failure for outcome in finished.outcomes] == ["the rows are spoilt"] * 3
    assert len(workshop.asked) == 1
    assert finished.starts == 0


@pytest.mark.slow
def test_a_plan_says_what_is_owed_and_does_nothing(base: Path, ready: Path, tmp_path: Path) -> None:
    how = How(runs=tmp_path / "runs", tuned=tmp_path / "tuned")
    extra = expand(Grid("", (Block("tallrec", model=(f"hf:{base}", "hf:./none")),)))
    found = plan([*tuned_cells(base, 0), *extra], how)
    assert [state for _, state in found] == ["to tune and evaluate", "to evaluate", "fails: no model folder ./none"]
    assert not list(tmp_path.iterdir())


def test_whatever_goes_wrong_in_a_cell_is_its_failure_but_an_interrupt_is_not() -> None:
    def wrong(error: BaseException) -> None:
        raise error

    heard: list[str] = []
    assert attempt(heard.append, wrong, BadModel("no folder")) == Failure("no folder")
    assert attempt(heard.append, wrong, EngineStopped("died")) == Failure("died", engine=True)
    assert heard == []
    assert attempt(heard.append, wrong, KeyError("x\ny")) == Failure("KeyError: 'x\\ny'", engine=True)
    assert "Traceback" in heard[0]
    with pytest.raises(KeyboardInterrupt):
        attempt(heard.append, wrong, KeyboardInterrupt())
