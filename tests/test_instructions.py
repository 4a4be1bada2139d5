"""The general instruction stage: prompts, held-out rows and errors, and a real two-stage tuning with TALLRec."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import datasets
import pytest

from harness.cli import main
from harness.errors import BadData, BadSetting, MissingData, NotApplicable
from harness.types import SPLITS, Split
from tasks.instructions import Instructions
from tasks.prompts import load_texts

ROWS = [
    {"instruction": f"Write number {n} in words.", "input": "" if n % 2 else f"{n}", "output": f"number {n}"}
    for n in range(40)
]


@pytest.fixture
def task(tmp_path: Path) -> Instructions:
    file = tmp_path / "alpaca_data.json"
    file.write_text(json.dumps(ROWS))
    return Instructions(file=str(file), held_out=8)


def test_the_prompts_are_pinned(task: Instructions) -> None:
    assert {name: sha256(text.encode()).hexdigest()[:16] for name, text in task.texts.items()} == {
        "with_input": "0cb0848952657a16",
        "without_input": "4eb8fe7f827ee2b4",
    }
    assert task.texts["with_input"] == load_texts("tallrec")["wrapper"]


def test_rows_are_held_out_as_datasets_does_it(task: Instructions) -> None:
    table = datasets.Dataset.from_list(ROWS).train_test_split(
        test_size=8, shuffle=True, seed=42, load_from_cache_file=False, keep_in_memory=True
    )
    pairs: tuple[tuple[Split, str], ...] = (("train", "train"), ("valid", "test"))
    for split, theirs in pairs:
        answers = [example.answer for example in task.examples(split)]
        assert answers == list(table[theirs]["output"])
    assert (task.size("train"), task.size("valid")) == (32, 8)


def test_a_row_with_input_and_one_without_have_different_prompts(task: Instructions) -> None:
    prompts = {example.answer: example.prompt for split in SPLITS[:2] for example in task.examples(split)}
    assert "### Input:\n6\n\n### Response:\n" in prompts["number 6"]
    assert "### Input:" not in prompts["number 7"]
    assert prompts["number 7"].endswith("### Instruction:\nWrite number 7 in words.\n\n### Response:\n")


def test_there_is_no_test_split(task: Instructions) -> None:
    with pytest.raises(NotApplicable, match="has no test split"):
        next(task.instances("test"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[{}]", "is not a JSON list of objects"),
        ("nothing", "is not a JSON list of objects"),
        ('[{"instruction": 3, "output": "x"}]', "is no text"),
        (json.dumps(ROWS[:8]), "held_out=8 leaves none of the 8 rows"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(content)
    with pytest.raises((BadData, BadSetting), match=said):
        Instructions(file=str(file), held_out=8).size("train")


def test_without_the_file_it_says_how_to_name_one() -> None:
    with pytest.raises(MissingData, match=r"name one like alpaca_data.json with --set file="):
        Instructions().data_digests()


@pytest.mark.slow
def test_a_general_stage_and_a_recommendation_stage(task: Instructions, tiny: Path, tmp_path: Path) -> None:
    """AT, then RT on top of it, from the command line."""
    general, both = tmp_path / "AT", tmp_path / "TALLRec"
    words = ["--set", "budget=ci", "--model", str(tiny), "--threads", "1"]
    general_words = ["tune", "--task", "instructions", "--out", str(general), "--set", "held_out=8"]
    assert main([*general_words, "--set", f"file={task.file}", *words]) == 0
    small = ["--set", "epochs=1", "--set", "valid_rows=40", "--shots", "8", "--adapter", str(general)]
    assert main(["tune", "--task", "tallrec", *small, *words, "--out", str(both)]) == 0
    manifest = json.loads((both / "harness.json").read_text())
    assert manifest["stage_before"] == str(general)
    assert manifest["proof"]["gap"] < 1e-3
