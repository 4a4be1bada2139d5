"""Recipes, draws and plans of fine-tuning: the numbers of the papers, without any training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.errors import BadSetting, NotApplicable
from harness.registry import task
from harness.tuning.plan import Plan
from harness.tuning.recipe import Draw, Recipe, find_recipe, recipe_toml, split_settings
from harness.tuning.rows import draw, validating
from tasks.tallrec import TALLRec
from tests.fakes import Coins, Shelf

PAPER = find_recipe(TALLRec(), {})


def test_tallrec_s_recipe_is_that_of_the_paper_s_scripts() -> None:
    """SAI990323/TALLRec at c1db29c: shell/instruct_7B.sh and finetune_rec.py."""
    assert Recipe(
        method="lora", rank=8, alpha=16, dropout=0.05, targets="q_proj,v_proj", learning_rate=1e-4, schedule="linear",
        warmup=20, weight_decay=0, max_grad_norm=1, epochs=200, batch=128, micro_batch=32, grouped=True, context=512,
        loss="text", selection="correct", evaluate_steps=10, evaluate_epochs=5, patience=10,
    ) == PAPER  # fmt: skip


@pytest.mark.parametrize(
    ("shots", "steps", "every"),
    [(1, 200, 10), (16, 200, 10), (64, 200, 10), (128, 200, 10), (256, 400, 10), (512, 800, 20), (8000, 12600, 312)],
)
def test_steps_and_validations_are_the_authors(shots: int, steps: int, every: int) -> None:
    """One step an epoch up to 128 rows; eval_step is 10 up to 128 rows, then rows / 128 * 5."""
    plan = Plan.of(PAPER, shots, devices=1)
    assert (plan.steps, plan.every, plan.accumulation) == (steps, every, 4)


def test_devices_share_a_batch() -> None:
    assert Plan.of(PAPER, 8000, devices=4).accumulation == 1
    assert Plan.of(PAPER, 8000, devices=4).steps == Plan.of(PAPER, 8000, devices=1).steps
    with pytest.raises(BadSetting, match="batch=128 is not a multiple of micro_batch=32 times 3 devices"):
        Plan.of(PAPER, 8000, devices=3)


def test_the_small_budget_has_as_many_steps_as_two_cores_bear() -> None:
    recipe = find_recipe(TALLRec(), {"budget": "ci"})
    assert [Plan.of(recipe, shots, devices=1).steps for shots in (16, 64, 256, 8000)] == [10, 20, 80, 250]
    assert [Plan.of(recipe, shots, devices=1).every for shots in (16, 64, 256, 8000)] == [10, 10, 10, 62]


def test_the_last_step_is_validated_however_few_there_are() -> None:
    recipe = find_recipe(TALLRec(), {"epochs": "3"})
    assert Plan.of(recipe, 16, devices=1).every == 3


def test_a_field_of_the_command_line_overrides_the_budget_and_the_budget_the_paper() -> None:
    recipe = find_recipe(Coins(), {"budget": "none", "batch": "32"})
    assert (recipe.learning_rate, recipe.selection, recipe.batch, recipe.micro_batch) == (0.0, "last", 32, 8)
    assert find_recipe(Coins(), {"patience": "none"}).patience is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"budget": "quik"}, "no budget in the recipe of task 'coins' 'quik'; did you mean 'quick'?"),
        ({"rank": "0"}, "rank='0' should be at least 1"),
        ({"loss": "prompt"}, "loss='prompt' should be one of text, answer"),
        ({"epochs": "many"}, "epochs='many' should be a valid number"),
        ({"rnak": "4"}, "no setting of the recipe of task 'coins' 'rnak'; did you mean 'rank'?"),
    ],
)
def test_a_mistake_in_a_recipe_is_one_clear_line(given: dict[str, str], said: str) -> None:
    with pytest.raises(BadSetting) as caught:
        find_recipe(Coins(), given)
    assert said in str(caught.value)


def test_a_recipe_file_is_read_like_the_task_s_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[slow]\nrank = 4\nepochs = 9\n[fast]\nepochs = 1\n")
    assert find_recipe(Shelf(), {"budget": "fast"}, file) == Recipe(rank=4, epochs=1)
    with pytest.raises(NotApplicable, match="task 'shelf' brings no recipe; give a file with --recipe"):
        find_recipe(Shelf(), {})
    assert main(["tune", "--task", "tallrec", "--recipe", str(file), "--show-recipe"]) == 0
    shown = tmp_path / "shown.toml"
    shown.write_text(capsys.readouterr().out)
    assert find_recipe(Shelf(), {}, shown) == Recipe(rank=4, epochs=9)
    said_of = {"rank = 4\n": "rank stands outside a table", "[a\n": "is not TOML", "": "mine.toml holds no recipe"}
    for content, said in said_of.items():
        file.write_text(content)
        with pytest.raises(BadSetting, match=said):
            find_recipe(Shelf(), {}, file)


@pytest.mark.parametrize("name", ["tallrec", "instructions"])
def test_every_budget_of_every_built_in_recipe_can_be_read(name: str, tmp_path: Path) -> None:
    made = task(name)
    for budget in made.recipes:
        recipe = find_recipe(made, {"budget": budget})
        file = tmp_path / f"{budget}.toml"
        file.write_text(recipe_toml(recipe))
        assert find_recipe(made, {}, file) == recipe


def test_options_of_task_and_recipe_never_share_a_name() -> None:
    of_task, of_recipe = split_settings(TALLRec, {"domain": "book", "epochs": "3", "budget": "ci"})
    assert (of_task, of_recipe) == ({"domain": "book"}, {"epochs": "3", "budget": "ci"})
    with pytest.raises(BadSetting, match="no setting of the task or its recipe 'epoch'; did you mean 'epochs'"):
        split_settings(TALLRec, {"epoch": "3"})


@pytest.mark.slow
@given(st.integers(1, 100), st.integers(0, 2**31))
def test_a_declared_pool_never_meets_what_validates(shots: int, seed: int) -> None:
    coins = Coins(count=200)
    how = Draw(shots=shots, seed=seed, pool="valid")
    drawn = draw(coins, how)
    instances, examples = validating(coins, how, None)
    assert (drawn.pool, len(instances)) == (100, 100)
    assert not {one.prompt for one in drawn.examples} & {one.prompt for one in examples}
    assert all(example.prompt.startswith(f"Does {i.user}") for i, example in zip(instances, examples, strict=True))


def test_few_validation_rows_are_spread_evenly() -> None:
    instances, examples = validating(Coins(count=200), Draw(), 4)
    assert [instance.id for instance in instances] == ["valid-0", "valid-50", "valid-100", "valid-150"]
    assert len(examples) == 4


def test_every_third_answer_token_of_eight_texts() -> None:
    """An extra token in the first text shifts what is read in its batch of eight, and nothing after it."""
    places = [[1, 2, 3, 9], *[[1, 2, 9]] * 8]
    chosen = TALLRec().paper_selection(places)
    assert chosen == [(0, 3), *((row, 2) for row in range(1, 8)), (8, 9)]
    assert Counter(place == places[row][-1] for row, place in chosen) == {False: 8, True: 1}
    with pytest.raises(BadSetting, match="this tokenizer finds 1 in most texts; use selection=correct"):
        TALLRec().paper_selection([[4]] * 10)
