"""The project's own leaderboard is made of commands that exist, in an order in which each finds what it needs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from harness import registry
from harness.cli.run import run
from harness.cli.tune import tune
from harness.tuning.recipe import find_recipe, split_settings
from harness.tuning.tiny import Recipe
from leaderboard.project.plan import Step, steps

PLAN = steps("models")


def after(step: Step, *options: str) -> Iterator[str]:
    """The words that follow these options."""
    return (word for option, word in zip(step.words, step.words[1:], strict=False) if option in options)


def test_no_step_is_made_twice() -> None:
    assert len({step.words for step in PLAN}) == len(PLAN)


def test_what_a_step_needs_was_made_before() -> None:
    made: set[str] = set()
    for step in PLAN:
        folders = {word.removeprefix("hf:") for word in after(step, "--model", "--adapter")}
        needed = {folder for folder in folders if folder.startswith("models/")}
        needed |= {name for word in step.words for name in re.findall(r"{(\w+)}", word)}
        assert needed <= made, step
        made |= {*after(step, "--out"), step.name}


@pytest.mark.slow
def test_every_command_is_one_of_the_harness_and_its_settings_are_the_task_s() -> None:
    for step in PLAN:
        command = run if step.runs else tune
        command.make_context(step.words[0], list(step.words[1:])).close()
        (task,), given = after(step, "--task"), registry.pairs(tuple(after(step, "--set")))
        of_task, of_recipe = split_settings(registry.task_kind(task), given)
        made = registry.task(task, tuple(f"{name}={value}" for name, value in of_task.items()))
        for preset in after(step, "--from-scratch"):
            assert not of_recipe
            assert Recipe.load(preset)
        if of_recipe:
            assert find_recipe(made, of_recipe)


def test_each_paper_has_a_language_model_beside_chance_popularity_and_trained_baselines() -> None:
    for task in ("tallrec", "palr", "llm-trsr", "instructrec"):
        asked = {
            model for step in PLAN if step.runs and task in after(step, "--task") for model in after(step, "--model")
        }
        assert any(model.startswith("hf:") for model in asked)
        assert {"simple:random", "simple:popularity", "recbole:SASRec", "recbole:GRU4Rec"} <= asked
