"""PALR from the first stage to a table with real parts: a model made on the spot, every way to ask it, one grid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.store import read_scores, records
from harness.types import ItemId
from tasks.palr import PALR

pytestmark = pytest.mark.slow

TEXTS = ("users=0.05", "stride=20", "negatives=5", "year=true")
WAYS: tuple[list[str], ...] = ([], ["decoding=constrained"], ["answer=score"], ["variant=v1"])


def said(*words: str) -> int:
    return main(list(words))


def sets(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model that has seen a few lists, and a run of the first stage."""
    made = tmp_path_factory.mktemp("palr")
    scratch = ["--from-scratch", "tiny-list", "--out", str(made / "model"), "--threads", "1"]
    assert said("tune", "--task", "palr", *sets(*TEXTS), *scratch) == 0
    first = ["--task", "retrieval", "--set", "k_core=5", "--model", "simple:popularity", "--runs", str(made / "runs")]
    assert said("run", *first) == 0
    return made


def found(folder: Path) -> str:
    (path,) = (folder / "runs" / "retrieval").iterdir()
    return path.name


def test_every_way_to_ask_it(folder: Path) -> None:
    given = ["--runs", str(folder / "runs"), "--sample", "12", "--model", f"hf:{folder / 'model'}", "--threads", "1"]
    shortlists: dict[str, list[ItemId]] = {
        q.id: [item.id for item in q.shortlist or ()]
        for q in PALR(candidates=found(folder), runs=str(folder / "runs")).instances()
    }
    tops = []
    for place, way in enumerate(WAYS):
        where = folder / f"way {place}"
        settings = sets(f"candidates={found(folder)}", "year=true", "max_tokens=64", *way)
        assert said("run", "--task", "palr", *settings, *given, "--run-dir", str(where)) == 0
        scores, kept = read_scores(where), list(records(where))
        assert scores is not None
        assert scores["instances"] == 12
        assert scores["failures"] == {}
        if way in (["decoding=constrained"], ["answer=score"]):
            assert all(set(record.top) <= set(shortlists[record.id]) for record in kept)
        if way == ["decoding=constrained"]:
            assert all(len(record.top) == record.facts["exact"] == 10 for record in kept)
        tops.append([record.top for record in kept])
    assert tops[WAYS.index(["decoding=constrained"])] != tops[WAYS.index(["answer=score"])]


def test_a_grid_of_orders_is_one_table(folder: Path) -> None:
    words = ["grid", "palr-order", "--model", f"hf:{folder / 'model'}", "--runs", str(folder / "runs"), "--sample", "6"]
    words += [*sets(f"candidates={found(folder)}", "year=true", "max_tokens=48"), "--threads", "1"]
    assert said(*words, "--out", str(folder / "out")) == 0
    text = (folder / "out" / "grid.md").read_text()
    assert text.count("## palr") == 1
    assert "order=reversed" in text
    assert "order=shuffled, order_seed=4" in text
    assert "| lines " in text


def test_tuned_on_by_its_recipe(folder: Path) -> None:
    out = folder / "tuned"
    words = ["tune", "--task", "palr", *sets(*TEXTS, "budget=ci", "max_steps=2"), "--model", str(folder / "model")]
    assert said(*words, "--out", str(out), "--threads", "1") == 0
    made = json.loads((out / "harness.json").read_text())
    assert made["recipe"]["method"] == "full"
    assert made["settings"][0]["users"] == 0.05
