"""The ready grids are those of the papers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from baselines.recbole import recbole
from harness import registry
from harness.grid.cells import Cell, Changes, change, expand
from harness.tuning.recipe import find_recipe
from tasks.instructrec import InstructRec
from tasks.instructrec_tuning import InstructRecData
from tasks.llm_trsr import LLMTRSR
from tasks.palr import PALR
from tasks.tallrec import TALLRec


def cells(name: str, changes: Changes | None = None) -> list[Cell]:
    return expand(change(registry.suite(name), changes or Changes(model=("base",))))


def test_table_1_is_the_paper_s() -> None:
    found = cells("tallrec-table1")
    assert Counter((cell.tested, cell.shots) for cell in found) == {
        (f"domain={domain}", shots): 5 for domain in ("movie", "book") for shots in (16, 64, 256)
    }
    assert {cell.seed for cell in found} == {0, 1, 2, 3, 4}
    assert all(cell.steps[0].tasks == (cell.task,) for cell in found)
    assert {cell.steps[0].recipe for cell in found} == {find_recipe(TALLRec(), {})}
    assert {cell.steps[0].draw.pool for cell in found} == {"train"}


def test_the_pool_of_books_is_declared() -> None:
    found = cells("tallrec-table1-book-pool")
    assert {(cell.tested, cell.steps[0].draw.pool) for cell in found} == {("domain=book", "valid")}
    assert len(found) == 15


def test_k_goes_from_1_to_512() -> None:
    found = cells("tallrec-figure-k")
    assert sorted({int(cell.shots) for cell in found}) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert len(found) == 2 * 10 * 5


def test_cross_domain_is_every_training_on_every_test() -> None:
    found = cells("tallrec-cross-domain")
    assert Counter((cell.trained, cell.tested) for cell in found) == {
        (train, test): 5
        for train in ("domain=movie", "domain=book", "domain=movie + domain=book")
        for test in ("domain=movie", "domain=book")
    }
    assert {cell.shots for cell in found} == {64}


def test_the_ablation_has_either_stage_and_both() -> None:
    found = cells("tallrec-ablation", Changes(model=("base",), first={"file": "mine.json", "epochs": "1"}))
    stages = {name: {tuple(s.tasks[0].name for s in c.steps) for c in found if c.name == name} for name in ["AT", "RT"]}
    assert stages == {"AT": {("instructions",)}, "RT": {("tallrec",)}}
    both = [cell for cell in found if cell.name == "TALLRec"]
    assert {tuple(step.tasks[0].name for step in cell.steps) for cell in both} == {("instructions", "tallrec")}
    assert len({cell.steps[0] for cell in both}) == 1  # one general stage for all
    assert both[0].steps[0].recipe.epochs == 1
    assert len(found) == 2 * (1 + 9 * 5 + 9 * 5)


def test_a_ready_alpaca_takes_the_place_of_the_general_stage() -> None:
    found = cells("tallrec-ablation", Changes(model=("base",), adapter=("alpaca",), shots=(64,), seed=(0,)))
    assert [(cell.name, str(cell.adapter), len(cell.steps)) for cell in found if cell.tested == "domain=movie"] == [
        ("AT", "alpaca", 0),
        ("RT", "None", 1),
        ("TALLRec", "alpaca", 1),
    ]


OTHERS = {"tallrec-table1-conventional", "sequential-ml-100k", "palr-ml-100k", "palr-order", "llm-trsr-ml-100k"}


TALLREC = sorted(name for name in {*registry.suites()} - OTHERS if not name.startswith("instructrec"))


@pytest.mark.parametrize("name", TALLREC)
def test_every_suite_says_what_it_is_and_has_no_model(name: str) -> None:
    suite = registry.suite(name)
    assert suite.title.startswith("TALLRec")
    assert all(block.model == () for block in suite.blocks)
    small = Changes(model=("base",), shots=(16,), seed=(0,), settings={"budget": "ci"})
    assert 1 <= len(cells(name, small)) <= 6


@pytest.mark.slow
def test_the_conventional_rows_of_table_1_draw_rows_by_seed() -> None:
    found = cells("tallrec-table1-conventional", Changes())
    assert Counter((cell.who, cell.shots) for cell in found) == {
        (f"recbole:{name}", shots): 5 for name in ("GRU4Rec", "Caser", "SASRec") for shots in (16, 64, 256)
    }
    assert {dict(cell.settings)["seed"] for cell in found} == {"0", "1", "2", "3", "4"}
    assert all(dict(cell.settings)["shots"] == str(cell.shots) and not cell.steps for cell in found)


def test_the_table_of_conventional_models_has_all_of_them() -> None:
    found = cells("sequential-ml-100k", Changes())
    assert {cell.model.name for cell in found if cell.model.engine == "recbole"} == {*recbole.names} - {"NAME"}
    assert {cell.seed for cell in found} == {None}


def test_palr_asks_one_model_in_every_way_and_conventional_ones_once() -> None:
    found = cells("palr-ml-100k", Changes(model=("base",), settings={"candidates": "0123"}))
    tasks = [cell.task for cell in found if cell.model.name == "base"]
    assert all(isinstance(task, PALR) and task.candidates == "0123" for task in tasks)
    assert len(set(tasks)) == len(tasks) == 7
    others = [cell for cell in found if cell.model.name != "base"]
    assert {cell.model.engine for cell in others} == {"recbole", "simple"}
    assert {cell.task for cell in others} == {PALR(variant="v1", candidates="0123")}


def test_orders_of_candidates() -> None:
    found = cells("palr-order", Changes(model=("base",), settings={"candidates": "0123"}))
    asked = [(cell.task.order, cell.task.order_seed) for cell in found if isinstance(cell.task, PALR)]
    assert asked == [("retriever", 0), ("reversed", 0), *(("shuffled", seed) for seed in range(5))]


def test_llm_trsr_has_the_paper_s_conventional_models_and_three_histories() -> None:
    found = cells("llm-trsr-ml-100k", Changes(model=("base",)))
    assert [cell.task.recent for cell in found if isinstance(cell.task, LLMTRSR) and cell.model.name == "base"] == [
        0,
        3,
        5,
    ]
    conventional = [cell.model.name for cell in found if cell.model.engine == "recbole"]
    assert conventional == ["NeuMF", "DIN", "DIEN", "GRU4Rec", "NARM", "SASRec", "CORE"]


@pytest.mark.parametrize(
    ("name", "rankers", "asked"),
    [
        ("sequential", {"SASRec", "BERT4Rec", "GRU4Rec"}, [("sequential", ("P1", "I0"), "random9", "amazon-games")]),
        (
            "personalised",
            {"BM25", "TEM"},
            [
                ("personalised-search", ask, "random9", "amazon-games")
                for ask in (("P2", "I0"), ("P1", "I1"), ("P1", "I2"))
            ],
        ),
        ("search", {"BM25", "DSSM"}, [("product-search", ("P0", "I2"), "random9", "amazon-games")]),
        ("hard", {"SASRec"}, [("sequential", ("P1", "I0"), "hard9", "amazon-games")]),
        ("100", {"BM25", "TEM"}, [("personalised-search", ("P1", "I1"), "random99", "amazon-games")]),
        ("cds", {"SASRec", "BERT4Rec", "GRU4Rec"}, [("sequential", ("P1", "I0"), "random9", "amazon-cds")]),
    ],
)
def test_instructrec_s_tables_ask_what_the_paper_does(name: str, rankers: set[str], asked: list[Any]) -> None:
    found = cells(f"instructrec-{name}")
    ours = [cell for cell in found if cell.model.name == "base"]
    tasks = [cell.task for cell in ours if isinstance(cell.task, InstructRec)]
    assert [(t.scenario, (t.preference, t.intention), t.candidates, t.dataset) for t in tasks] == asked
    assert {cell.choosing.option for cell in ours if cell.choosing} == {"instruction"}
    others = {cell.model.name for cell in found if cell.model.engine in ("recbole", "search")}
    assert others == rankers
    assert {cell.model.name for cell in found if cell.model.engine == "simple"} == {"random", "popularity"}


def test_a_held_out_scenario_is_tuned_on_more_and_more() -> None:
    found = cells("instructrec-held-out")
    stages = [cell.steps[0] for cell in found]
    texts = [step.tasks[0] for step in stages]
    assert all(isinstance(task, InstructRecData) for task in texts)
    assert [(t.searched, t.personalised, t.queries) for t in texts if isinstance(t, InstructRecData)] == [
        (0, 0, "all"),
        (1, 0, "all"),
        (1, 2, "P2,I2"),
        (1, 2, "all"),
    ]
    assert {step.recipe.method for step in stages} == {"lora"}
    assert len({cell.task for cell in found}) == 1
