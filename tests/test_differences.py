"""In what runs differ from a paper's setting: each difference by itself, and none where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.choice import Alternative, Choice
from leaderboard.differences import differences, is_of_family
from leaderboard.verdict import verdict
from tests.paper_runs import BEAUTY, LLAMA, RETRIEVAL, SASREC, entry, number, said, stage

WEAK = number("palr", "SASRec", "HR@10", data="Beauty")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of runs with SASRec's candidates in it; gives where the next run would be."""
    stage(tmp_path, "retrieval", "abc123", {"name": "recbole:SASRec", **SASREC}, RETRIEVAL)
    return tmp_path / "palr" / "0"


def test_families_are_ours_by_name(runs: Path) -> None:
    tem = number("instructrec", "TEM", "HR@1", "Table 10")
    assert is_of_family(tem, entry(runs, {"engine": "search", "baseline": "search:TEM", "name": "search:TEM"}))
    assert not is_of_family(tem, entry(runs, {"engine": "search", "baseline": "search:DSSM", "name": "search:DSSM"}))
    popular = number("sequential", "PopRec", "HR@10")
    assert is_of_family(
        popular, entry(runs, {"engine": "simple", "baseline": "popularity", "name": "simple:popularity"})
    )
    assert is_of_family(WEAK, entry(runs, {"engine": "checkpoint", "baseline": "SASRec", "name": "checkpoint:x"}))
    assert not is_of_family(WEAK, entry(runs, LLAMA))
    assert not is_of_family(
        number("palr", "PALR_v2", "HR@10"), entry(runs, {**LLAMA, "architecture": "Qwen2ForCausalLM"})
    )


def test_a_baseline_in_the_paper_s_setting_differs_in_nothing(runs: Path) -> None:
    assert differences(WEAK, entry(runs, SASREC)) == []


@pytest.mark.parametrize(
    ("model", "settings", "more", "expected"),
    [
        ({}, {"dataset": "ml-100k"}, {}, "data (ml-100k, the paper's amazon-beauty)"),
        ({}, {"k_core": 0}, {}, "k_core (0, the paper's 5)"),
        ({}, {"repeats": True}, {}, "repeats (true, the paper's false)"),
        ({}, {}, {"split": "valid"}, "split (valid, the paper's test)"),
        ({}, {}, {"task": "sequential"}, "task (sequential, the paper's palr)"),
        ({"settings": {"budget": "ci"}}, {}, {}, "training budget (ci, the paper's full)"),
        ({"settings": {"budget": "full", "shots": 64}}, {}, {}, "K (64, the paper's all)"),
        ({}, {"untitled": False}, {}, "untitled (false, the paper's true)"),
        ({}, {"masking": "none"}, {}, "masking (none; the paper does not say, and seen is asked)"),
        ({}, {"max_history": 1}, {}, "max_history (1; the paper does not say, and 50 is asked)"),
        ({"settings": {"epochs": 10}}, {}, {}, "training budget (epochs=10, the paper's full)"),
        ({"settings": {"budget": "ci", "epochs": 1}}, {}, {}, "training budget (ci, epochs=1, the paper's full)"),
        ({"settings": {"form": "windows"}}, {}, {}, "hyperparameters (form=windows)"),
        ({"engine": "checkpoint"}, {}, {}, "training budget (not said of a checkpoint, the paper's full)"),
    ],
)
def test_each_difference_of_a_baseline(
    runs: Path, model: Mapping[str, Any], settings: Mapping[str, Any], more: Mapping[str, Any], expected: str
) -> None:
    run = entry(runs, {**SASREC, **model}, {**BEAUTY, **settings})
    changed = replace(run, manifest={**run.manifest, **more})
    assert differences(WEAK, changed) == [expected]
    assert said(WEAK, changed) == f"not attempted: differs in {expected} ({changed.model})"


@pytest.mark.parametrize("model", [SASREC, LLAMA])
def test_what_an_odd_manifest_lacks_is_not_said(runs: Path, model: Mapping[str, Any]) -> None:
    one = WEAK if model is SASREC else PALR
    run = entry(runs, model)
    whole = {**run.manifest}
    for name in whole:
        odds: list[dict[str, Any]] = [{}, {name: None}, {name: "?"}, {name: {}}, {name: []}]
        for odd in odds:
            changed = {key: value for key, value in whole.items() if key != name} | odd
            other = replace(run, manifest=changed)
            found = differences(one, other)
            assert found or name in ("sample", "data") or not is_of_family(one, other), (name, odd)
    for name in model:
        for table in ({key: value for key, value in model.items() if key != name}, {**model, name: None}):
            assert isinstance(differences(one, replace(run, manifest={**whole, "model": table})), list)
    bare = replace(run, manifest={"model": {"baseline": "SASRec"} if model is SASREC else {}})
    assert {"task (not said, the paper's palr)", "data (not said, the paper's amazon-beauty)"} <= {
        *differences(one, bare)
    }


@pytest.mark.parametrize("settings", [None, [], {}, [None], "x", [{}]])
def test_a_tuning_that_does_not_say_on_what(runs: Path, settings: Any) -> None:
    assert differences(PALR, entry(runs, {**LLAMA, **tuned(settings=settings)})) == [
        "tuning: data (not said, the paper's amazon-beauty)",
        "tuning: users (not said, the paper's 0.2)",
        "tuning: variant (not said, the paper's v2)",
    ]


PALR = number("palr", "PALR_v2", "HR@10", data="Beauty")


def test_a_language_model_in_the_paper_s_setting_differs_in_nothing(runs: Path) -> None:
    assert differences(PALR, entry(runs, LLAMA)) == []
    merged = {**LLAMA, "parameters": 6_742_609_920, "name": "m", "tuned": {**LLAMA["tuned"], "base": "x/Llama-7B-hf"}}
    assert differences(PALR, entry(runs, merged)) == []
    assert verdict(PALR, [entry(runs, LLAMA, value=0.0721, between=(0.0700, 0.0740))]).word == "reproduced"


def tuned(**changed: Any) -> dict[str, Any]:
    return {"tuned": {**LLAMA["tuned"], **changed}}


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        ({"parameters": 1_407_104}, {}, "size (1,407,104 parameters, the paper's 6,738,415,616)"),
        ({"parameters": None}, {}, "size (not said, the paper's 6,738,415,616)"),
        ({"name": "Llama-2-7b-hf"}, {}, "weights (not said to be of that name, the paper's llama-7b)"),
        ({}, {"variant": "v1"}, "variant (v1, the paper's v2)"),
        ({}, {"profile": "9"}, "profile (9, the paper's none)"),
        ({}, {"top": 20}, "top (20, the paper's 50)"),
        ({}, {"decoding": "constrained"}, "decoding (constrained, the paper's free)"),
        ({}, {"candidates": "abc124"}, "candidates (abc124, the paper's a run of recbole:SASRec)"),
        ({}, {"candidates": ""}, "candidates (none, the paper's a run of recbole:SASRec)"),
        ({}, {"candidates": "b0"}, "candidates (by recbole:BPR, the paper's by recbole:SASRec)"),
        ({}, {"candidates": "c1"}, "candidates: training budget (ci, the paper's full)"),
        (
            {},
            {"candidates": "d2"},
            "candidates: training budget (stopping_step=1, the paper's full); "
            "candidates: hyperparameters (learning_rate=10)",
        ),
        ({}, {"candidates": "e3"}, "candidates: max_history (1, the paper's 50)"),
        ({}, {"order": "shuffled"}, "order (shuffled; the paper does not say, and retriever is asked)"),
        ({}, {"year": True}, "year (true, the paper's false)"),
        ({}, {"order_seed": 7}, ""),
        ({"tuned": None}, {}, "tuning (none that is known, the paper's palr)"),
        (tuned(task="tallrec"), {}, "tuning (tallrec, the paper's palr)"),
        (tuned(shots=64), {}, "K (64, the paper's all)"),
        (tuned(pool="valid"), {}, "training rows (of the valid split, the paper's of the train split)"),
        (
            tuned(settings=[{"dataset": "ml-1m", "users": 0.2, "variant": "v2"}]),
            {},
            "tuning: dataset (ml-1m, the paper's amazon-beauty)",
        ),
        (
            tuned(settings={"dataset": "amazon-beauty", "users": 1.0, "variant": "v2"}),
            {},
            "tuning: users (1, the paper's 0.2)",
        ),
        (
            tuned(settings=[*LLAMA["tuned"]["settings"], {"dataset": "ml-1m"}]),
            {},
            "tuning (on 2 at once, the paper's on one)",
        ),
        (
            tuned(recipe={**LLAMA["tuned"]["recipe"], "learning_rate": 1e-3, "epochs": 1.0}),
            {},
            "recipe (learning_rate, epochs)",
        ),
    ],
)
def test_each_difference_of_a_language_model(
    runs: Path, model: Mapping[str, Any], settings: Mapping[str, Any], expected: str
) -> None:
    folder = runs.parent.parent
    by_hand: dict[str, Any] = {"budget": "full", "learning_rate": 10, "stopping_step": 1}
    stage(folder, "retrieval", "b0", {**SASREC, "name": "recbole:BPR"}, RETRIEVAL)
    stage(folder, "retrieval", "c1", {**SASREC, "settings": {"budget": "ci"}}, RETRIEVAL)
    stage(folder, "retrieval", "d2", {**SASREC, "settings": by_hand}, RETRIEVAL)
    stage(folder, "retrieval", "e3", SASREC, {**RETRIEVAL, "max_history": 1})
    found = differences(PALR, entry(runs, {**LLAMA, **model}, {**BEAUTY, **settings}))
    assert "; ".join(found) == expected


def test_several_differences_are_all_named_and_the_nearest_run_is_taken(runs: Path) -> None:
    near = entry(runs, {**SASREC, "settings": {"budget": "ci"}}, {**BEAUTY, "dataset": "ml-100k"})
    far = entry(runs, {**SASREC, "settings": {"budget": "ci"}}, {**BEAUTY, "dataset": "ml-100k", "k_core": 0})
    assert said(WEAK, far, near) == (
        "not attempted: differs in data (ml-100k, the paper's amazon-beauty); training budget (ci, the paper's full) "
        "(recbole:SASRec)"
    )


def test_settings_that_a_manifest_does_not_say_are_differences(runs: Path) -> None:
    settings = {name: value for name, value in BEAUTY.items() if name not in ("dataset", "k_core")}
    assert differences(WEAK, entry(runs, SASREC, settings)) == [
        "data (not said, the paper's amazon-beauty)",
        "k_core (not said, the paper's 5)",
    ]


MOVIE = {"domain": "movie", "readout": "paper"}
ML_100K = {"ml-100k": "d830dc8af2a83042"}


def test_k_data_and_readout_of_tallrec(tmp_path: Path) -> None:
    auc = {16: number("tallrec", "SASRec", "AUC", shots=16), 64: number("tallrec", "SASRec", "AUC", shots=64)}
    model = {**SASREC, "settings": {"budget": "full", "shots": 64}}
    run = entry(tmp_path, model, {**MOVIE, "readout": "log_odds"}, task="tallrec", metric="AUC", data=ML_100K)
    assert differences(auc[64], run) == []
    assert differences(auc[16], run) == ["K (64, the paper's 16)"]
    other = replace(run, manifest={**run.manifest, "data": {"ml-100k": "0"}})
    assert differences(auc[64], other) == ["data: digest of ml-100k (0, the paper's d830dc8af2a83042)"]
    book = number("tallrec", "SASRec", "AUC", data="Book", shots=64)
    of_books = {"test.json": "5f06875fd757fc49c5e7334fe5b8969fa59c1634"}
    apart = differences(book, entry(tmp_path, model, {"domain": "book"}, task="tallrec", metric="AUC", data=of_books))
    assert apart == ["split: the baselines' files hold other test users than the prompts"]


def test_a_tuning_after_another(tmp_path: Path) -> None:
    wanted = number("tallrec", "TALLRec", "AUC", data="Movie", shots=64)
    recipe = {
        "method": "lora",
        "rank": 8,
        "alpha": 16.0,
        "dropout": 0.05,
        "targets": "q_proj,v_proj",
        "epochs": 200.0,
        "learning_rate": 1e-4,
        "schedule": "linear",
        "warmup": 20.0,
        "batch": 128,
        "micro_batch": 4,
        "grouped": True,
        "context": 512,
        "loss": "text",
        "selection": "correct",
        "evaluate_steps": 10,
        "evaluate_epochs": 5.0,
        "patience": 10,
    }
    made = {
        "task": "tallrec",
        "settings": [MOVIE],
        "shots": 64,
        "pool": "train",
        "recipe": recipe,
        "started_from": "a1",
    }

    def found(tuning: Mapping[str, Any] | None, **settings: Any) -> list[str]:
        model = {**LLAMA, "tuned": tuning}
        run = entry(tmp_path, model, {**MOVIE, **settings}, task="tallrec", metric="AUC", data=ML_100K)
        return differences(wanted, run)

    assert found(made) == []
    assert found({**made, "started_from": None}) == ["tuning (not after another, the paper's after Alpaca tuning)"]
    assert found(made, readout="log_odds") == ["readout (log_odds, the paper's paper)"]
    assert found({**made, "shots": None}) == ["K (all, the paper's 64)"]
    assert found(None) == ["tuning (none that is known, the paper's tallrec)", "K (0, the paper's 64)"]


def test_an_untuned_model_and_a_chosen_option(tmp_path: Path) -> None:
    flan = number("instructrec", "Flan-T5-XL", "HR@1")
    settings = {
        "dataset": "amazon-cds",
        "scenario": "sequential",
        "preference": "P1",
        "candidates": "random9",
        "k_core": 5,
        "repeats": False,
        "untitled": False,
        "min_rating": 0.0,
        "max_history": 20,
        "intention": "I0",
        "items": "title",
        "line": False,
        "likelihood": "sum",
        "ended": True,
        "max_length": 512,
        "group": 10,
    }
    model = {
        "engine": "hf",
        "weights": "0",
        "adapter": None,
        "name": "google/flan-t5-xl (hf, bfloat16)",
        "tuned": None,
        "architecture": "T5ForConditionalGeneration",
        "parameters": 2_849_757_184,
    }
    run = entry(tmp_path, model, settings, task="instructrec", metric="HR@1")
    choice = Choice("instruction", "A7", "HR@1", "valid", 500, (Alternative("A7", "0", 0.1),))
    assert differences(flan, replace(run, chosen=choice)) == []
    assert differences(flan, run) == ["choice (instruction was given, the paper's was chosen on validation)"]
    bent = entry(tmp_path, {**model, "adapter": "1"}, settings, task="instructrec", metric="HR@1")
    assert differences(flan, replace(bent, chosen=choice)) == ["tuning (an adapter, the paper's none)"]


def test_the_settings_of_an_earlier_stage(tmp_path: Path) -> None:
    llama_30b = {"name": "upstage/llama-30b-instruct-2048 (hf, float16)", "engine": "hf"}
    stage(tmp_path, "llm-trsr-summaries", "aa", llama_30b, {"method": "hierarchical"})
    stage(tmp_path, "llm-trsr-summaries", "bb", llama_30b, {"method": "recurrent"})
    wanted = number("llm-trsr", "LLM-TRSR-Hierarchical", "Recall@3", data="Amazon")
    settings = {
        "dataset": "amazon-m2",
        "train": None,
        "valid": None,
        "test": 1000,
        "shortest": 10,
        "longest": 25,
        "overlong": "auto",
        "negatives": 20,
        "recent": 5,
        "ids": True,
    }

    def found(summaries: str) -> list[str]:
        run = entry(tmp_path / "llm-trsr" / "0", LLAMA, {**settings, "summaries": summaries}, task="llm-trsr")
        return [one for one in differences(wanted, run) if "summaries" in one]

    assert found("aa") == []
    assert found("aa, aa") == []
    assert found("aa,bb") == ["summaries: method (recurrent, the paper's hierarchical)"]
    assert found("aa,ff") == ["summaries (aa,ff, the paper's a run of llama-30b-instruct)"]
    assert found("none") == ["summaries (none, the paper's a run of llama-30b-instruct)"]
