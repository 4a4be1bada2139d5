"""What was given of a baseline by hand is a difference; what its makers, or the presets of a task, set is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import registry
from harness.model import ModelSettings
from leaderboard.differences import differences
from leaderboard.published import Published, said
from tests.paper_runs import BEAUTY, SASREC, entry, number

WEAK = number("palr", "SASRec", "HR@10", data="Beauty")


def trained(tmp_path: Path, one: Published, model: str, settings: Mapping[str, Any], given: ModelSettings) -> list[str]:
    """Differences of a run of a baseline as the command line would make it."""
    group, _, name = model.partition(":")
    task = registry.build(registry.task_kind(one.task), {key: said(value) for key, value in settings.items()}, "")
    found = registry.baseline_groups()[group].find(name, task, "test", given)
    manifest = json.loads(json.dumps({"engine": group, **found.who, "name": found.name}))
    return differences(one, entry(tmp_path, manifest, settings, task=one.task))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"seed": "7"}, []),
        ({"budget": "ci"}, ["training budget (ci, the paper's full)"]),
        ({"budget": "ci", "seed": "3"}, ["training budget (ci, the paper's full)"]),
        ({"learning_rate": "10"}, ["hyperparameters (learning_rate=10)"]),
        ({"stopping_step": "1"}, ["training budget (stopping_step=1, the paper's full)"]),
        (
            {"hidden_size": "2", "MAX_ITEM_LIST_LENGTH": "1"},
            ["hyperparameters (MAX_ITEM_LIST_LENGTH=1, hidden_size=2)"],
        ),
        ({"loss_type": "BPR", "form": "prefixes"}, ["hyperparameters (form=prefixes, loss_type=BPR)"]),
        (
            {"budget": "ci", "epochs": "2", "train_batch_size": "8"},
            ["training budget (ci, epochs=2, the paper's full)", "hyperparameters (train_batch_size=8)"],
        ),
    ],
)
def test_what_was_given_by_hand_is_a_difference(tmp_path: Path, given: Mapping[str, str], expected: list[str]) -> None:
    assert trained(tmp_path, WEAK, "recbole:SASRec", BEAUTY, ModelSettings(given)) == expected


def test_what_a_file_of_settings_gives_is_a_difference(tmp_path: Path) -> None:
    file = tmp_path / "tuned.toml"
    file.write_text('seed = 3\n[[settings]]\nmodels = ["SASRec"]\nlearning_rate = 0.5\n[[settings]]\nepochs = 5\n')
    assert trained(tmp_path, WEAK, "recbole:SASRec", BEAUTY, ModelSettings({}, file)) == [
        "training budget (epochs=5, the paper's full)",
        "hyperparameters (learning_rate=0.5)",
    ]


def test_what_a_task_presets_is_no_difference(tmp_path: Path) -> None:
    auc = number("tallrec", "SASRec", "AUC", shots=64)
    few = {"shots": "64", "seed": "2"}
    apart = "data: digest of ml-100k (not said, the paper's d830dc8af2a83042)"
    assert trained(tmp_path, auc, "recbole:SASRec", {"domain": "movie", "readout": "paper"}, ModelSettings(few)) == [
        apart
    ]
    assert trained(
        tmp_path,
        auc,
        "recbole:SASRec",
        {"domain": "movie", "readout": "paper"},
        ModelSettings({**few, "n_layers": "4"}),
    ) == [
        apart,
        "hyperparameters (n_layers=4)",
    ]


def test_search_models_are_told_by_their_settings_too(tmp_path: Path) -> None:
    tem = number("instructrec", "TEM", "HR@1", "Table 7, I2")
    settings: dict[str, Any] = {
        "scenario": "personalised-search",
        "preference": "P1",
        "intention": "I2",
        "dataset": "amazon-games",
    }
    settings |= {"k_core": 5, "repeats": False, "untitled": False, "min_rating": 0, "max_history": 20}
    settings |= {"items": "title", "candidates": "random9"}
    assert trained(tmp_path, tem, "search:TEM", settings, ModelSettings({"seed": "5"})) == []
    assert trained(tmp_path, tem, "search:TEM", {**settings, "items": "reviews"}, ModelSettings()) == [
        "items (reviews, the paper's title)"
    ]
    assert trained(tmp_path, tem, "search:TEM", settings, ModelSettings({"heads": "4", "patience": "1"})) == [
        "training budget (patience=1, the paper's full)",
        "hyperparameters (heads=4)",
    ]


def test_settings_that_a_source_tells_are_asked_for(tmp_path: Path) -> None:
    told = number("sequential", "RecBole SASRec", "HR@10", "beauty_results.md")
    settings: dict[str, Any] = {
        "dataset": "amazon-beauty",
        "k_core": 5,
        "candidates": "full",
        "untitled": True,
        "masking": "recbole",
    }
    settings |= {"min_rating": 0, "max_history": 50}
    as_told = ModelSettings({"train_batch_size": "128"})
    assert trained(tmp_path, told, "recbole:SASRec", settings, as_told) == []
    assert trained(tmp_path, told, "recbole:SASRec", settings, ModelSettings()) == [
        "hyperparameters: train_batch_size (not said, the paper's 128)"
    ]
    older = number("sequential", "RecBole SASRec", "HR@10", "an older run")
    assert trained(tmp_path, older, "recbole:SASRec", settings, ModelSettings()) == [
        "hyperparameters (not told of this run)"
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("far:SASRec", []),
        ("far:SASRec (shots=64, seed=1, budget=full)", []),
        ("far:SASRec (seed=1, tuned.toml)", ["hyperparameters (tuned.toml)"]),
        (
            "far:SASRec (epochs=10, layers=[64, 32], rate=0.1)",
            ["training budget (epochs=10, the paper's full)", "hyperparameters (layers=[64, 32], rate=0.1)"],
        ),
    ],
)
def test_the_name_is_read_where_the_group_is_not_installed(tmp_path: Path, name: str, expected: list[str]) -> None:
    run = entry(tmp_path, {**SASREC, "engine": "far", "name": name})
    assert differences(WEAK, run) == expected
