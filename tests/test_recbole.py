"""RecBole's models, as far as that can be told without a training: settings, rows, draws, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.recbole import checkpoint, recbole
from baselines.recbole.job import Form
from baselines.recbole.material import Lists, Material, draw, material
from baselines.recbole.rows import training_rows
from baselines.recbole.settings import model_names, property_defaults, resolve
from baselines.recbole.stored import load_material, save_material
from baselines.recbole.trained import plan
from harness.errors import BadModel, BadSetting, HarnessError, NotApplicable
from harness.knobs import knob
from harness.metrics import NDCG, Metric
from harness.model import EngineOptions, ModelSettings
from harness.task import Task
from harness.types import Catalogue, Event, Instance, Item, Prediction, Program, Split, Timeline
from tasks.retrieval import Retrieval
from tasks.sequential import Sequential
from tasks.tallrec import TALLRec

pytestmark = pytest.mark.slow

LETTERS = tuple(Item(letter, letter) for letter in "abcdef")


@dataclass(frozen=True)
class Letters(Task):
    """Two users who go through the alphabet, one of them backwards."""

    name: ClassVar[str] = "letters"
    paper: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (NDCG(1),)

    pace: int = knob(1, "letters at a time", instances=True)

    def data_digests(self) -> dict[str, str]:
        return {}

    def timelines(self) -> Iterator[Timeline]:
        yield Timeline("up", tuple(map(Event, LETTERS[:4])))
        yield Timeline("down", tuple(map(Event, LETTERS[:1:-1])))
        yield Timeline("nobody", ())

    def catalogue(self) -> Catalogue:
        return Catalogue(LETTERS, {})

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        yield Instance(f"{split}-up", "up", tuple(map(Event, LETTERS[:4])), None, {"e": 1.0})

    def solve(self, instance: Instance) -> Program[Prediction]:
        raise NotApplicable("no prompt")


def rows_of(form: Form, length: int, whole: bool = False) -> list[tuple[int, list[int], int]]:
    made = training_rows(material(Letters(), False, False, None, 0), form, length, whole)
    assert made.history is not None
    assert made.length is not None
    for history, size in zip(made.history, made.length, strict=True):
        assert (history[:size] > 0).all()
        assert not history[size:].any()
    kept = [history[:size].tolist() for history, size in zip(made.history, made.length, strict=True)]
    return list(zip(made.user.tolist(), kept, made.item.tolist(), strict=True))


def test_prefixes_are_every_event_after_those_before_it() -> None:
    up = [(1, [1], 2), (1, [1, 2], 3), (1, [2, 3], 4)]
    down = [(2, [6], 5), (2, [6, 5], 4), (2, [5, 4], 3)]
    assert rows_of("prefixes", 2) == up + down


def test_windows_predict_every_event_once() -> None:
    assert rows_of("windows", 2) == [(1, [1, 2], 3), (1, [3], 4), (2, [6, 5], 4), (2, [4], 3)]
    assert rows_of("windows", 3) == [(1, [1, 2, 3], 4), (2, [6, 5, 4], 3)]
    assert rows_of("windows", 9) == rows_of("windows", 3)


def test_whole_windows_leave_no_event_out() -> None:
    """But the last of a piece of one: a model that masks would have nothing to see it from."""
    assert [history for _, history, _ in rows_of("windows", 2, whole=True)] == [[1, 2], [3, 4], [6, 5], [4, 3]]
    assert [history for _, history, _ in rows_of("windows", 3, whole=True)] == [[1, 2, 3], [6, 5, 4]]


def test_pairs_are_every_interaction() -> None:
    made = training_rows(material(Letters(), False, False, None, 0), "pairs", None)
    assert made.user.tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert made.item.tolist() == [1, 2, 3, 4, 6, 5, 4, 3]


@given(st.lists(st.lists(st.integers(1, 9), max_size=12), min_size=1, max_size=6), st.integers(1, 5))
def test_whatever_the_timelines_windows_and_prefixes_have_the_same_targets(lists: list[list[int]], length: int) -> None:
    users = tuple(str(n) for n in range(len(lists)))
    learned = Material(users, tuple("abcdefghi"), Lists.of(lists), None, None, length)
    prefixes, windows = (training_rows(learned, form, length) for form in ("prefixes", "windows"))
    wanted = sorted((user, item) for user, events in enumerate(lists, 1) for item in events[1:])
    assert sorted(zip(prefixes.user.tolist(), prefixes.item.tolist(), strict=True)) == wanted
    assert windows.history is not None
    assert windows.length is not None
    inner = [
        (user, item)
        for user, history, size, last in zip(windows.user, windows.history, windows.length, windows.item, strict=True)
        for item in [*history[1:size].tolist(), int(last)]
    ]
    assert sorted(inner) == wanted


def test_rows_are_drawn_as_pandas_draws_them() -> None:
    for seed in (0, 1, 7):
        wanted = pd.DataFrame({"row": range(8000)}).sample(n=64, random_state=seed)
        assert draw(8000, 64, seed) == wanted["row"].tolist()


def test_labelled_rows_of_tallrec() -> None:
    task = TALLRec()
    learned = material(task, labelled=True, likes=False, shots=16, seed=1)
    train = list(task.instances("train"))
    drawn = [train[row] for row in draw(8000, 16, 1)]
    assert learned.labelled is not None
    assert learned.labelled.label is not None
    assert learned.valid is not None
    targets = [learned.items[code - 1] for code in learned.labelled.item]
    assert targets == [item.id for instance in drawn for item in instance.candidates or ()]
    assert learned.labelled.label.tolist() == [sum(instance.relevance.values()) for instance in drawn]
    histories = [[learned.items[code - 1] for code in history] for history in learned.labelled.history]
    assert histories == [[event.item.id for event in instance.history] for instance in drawn]
    assert len(learned.valid.user) == 1000


def test_a_disliked_item_of_a_history_can_be_another_token() -> None:
    task = TALLRec()
    learned = material(task, labelled=True, likes=True, shots=16, seed=1)
    drawn = [list(task.instances("train"))[row] for row in draw(8000, 16, 1)]
    assert learned.labelled is not None
    for instance, history in zip(drawn, learned.labelled.history, strict=True):
        said = [learned.items[code - 1] for code in history]
        assert said == [event.item.id + ("" if event.liked else " (disliked)") for event in instance.history]


def test_a_material_survives_the_disk(tmp_path: Path) -> None:
    for learned in (material(Letters(), False, False, None, 0), material(TALLRec(), True, True, 16, 0)):
        save_material(tmp_path, learned)
        assert load_material(tmp_path).digest == learned.digest


def test_the_digest_of_a_material_knows_its_order() -> None:
    one, other = (Material(("u",), ("a", "b"), Lists.of([codes]), None, None, 2) for codes in ([1, 2], [2, 1]))
    assert one.digest != other.digest


def test_how_often_items_are_met() -> None:
    assert material(Letters(), False, False, None, 0).met.tolist() == [0, 1, 1, 2, 2, 1, 1]


def test_every_model_of_the_issue_is_known() -> None:
    kinds = model_names()
    sequential = ["SASRec", "GRU4Rec", "BERT4Rec", "Caser", "NARM", "FPMC", "CORE", "LightSANs", "DIN", "DIEN"]
    assert all(kinds[name] == "sequential" for name in sequential)
    assert all(kinds[name] == "general" for name in ["BPR", "LightGCN", "NeuMF", "ItemKNN", "EASE", "Pop"])


def test_settings_come_in_order(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'dropout_prob = 0.2\n[[settings]]\nmodels = ["GRU4Rec"]\nwhen = {dataset = "ml-100k"}\nlearning_rate = 0.02\n'
        'hidden_size = 32\n[[settings]]\nmodels = ["SASRec"]\nlearning_rate = 9.0\n'
        '[[settings]]\nwhen = {dataset = "ml-1m"}\nnum_layers = 3\n'
    )
    found = resolve("GRU4Rec", Sequential(), ModelSettings({"learning_rate": "1e-3", "form": "windows"}, file))
    assert found.own.form == "windows"
    assert found.options["learning_rate"] == 0.001
    assert found.options["hidden_size"] == 32
    assert found.options["dropout_prob"] == 0.2
    assert "num_layers" not in found.options


def test_our_own_presets_name_only_what_recbole_knows() -> None:
    for task in (Sequential(), TALLRec()):
        for name in recbole.names:
            if name != "NAME":
                resolve(name, task, ModelSettings())


@pytest.mark.parametrize(
    ("name", "given", "line"),
    [
        ("SASRek", {}, "no model 'recbole:SASRek'; did you mean 'recbole:SASRec'?"),
        ("SASRec", {"learning_rat": "1"}, "'learning_rat'; did you mean 'learning_rate'?"),
        ("SASRec", {"learning_rate": "fast"}, "learning_rate='fast' should be a number, as in learning_rate=0.001"),
        ("SASRec", {"enable_amp": "2"}, "enable_amp=2 should be true or false"),
        ("SASRec", {"gpu_id": "1"}, "gpu_id is the task's or the harness's to decide; leave it out"),
        ("SASRec", {"form": "rows"}, "form='rows' should be one of auto, prefixes, windows, pairs, labelled"),
        ("SASRec", {"MAX_ITEM_LIST_LENGTH": "80"}, "MAX_ITEM_LIST_LENGTH=80, but the histories of this task have 50"),
        ("SASRec", {"form": "pairs"}, "form=pairs is for models that read no history, and SASRec reads one"),
        ("BPR", {"form": "windows"}, "form=windows is for sequential models, and BPR reads no history"),
        ("SASRec", {"shots": "16"}, "shots is for labelled rows, and this model learns from whole sequences"),
        ("SASRec", {"form": "labelled"}, "task 'sequential' has no labelled rows to learn from"),
        ("SASRec", {"seed": "-1"}, "seed=-1 is out of range"),
        ("SASRec", {"seed": "1.5"}, "seed=1.5 should be a whole number"),
        ("SASRec", {"MAX_ITEM_LIST_LENGTH": "0"}, "MAX_ITEM_LIST_LENGTH=0 is out of range"),
        ("SASRec", {"user_inter_num_interval": "[5,inf)"}, "user_inter_num_interval is the task's or the harness's"),
        ("SASRec", {"form": "windows", "loss_type": "BPR"}, "form=windows is a cross-entropy over the catalogue"),
        ("FPMC", {"form": "windows"}, "form=windows is for SASRec, GRU4Rec, BERT4Rec, not for FPMC"),
        ("Caser", {"budget": "tiny"}, "no budget 'tiny' is declared for it on 'sequential'; say epochs=N"),
        ("GRU4RecF", {}, "GRU4RecF needs features or a knowledge graph"),
        ("KGAT", {}, "KGAT needs features or a knowledge graph, and no task gives it any"),
    ],
)  # fmt: skip
def test_misuse_is_one_line(name: str, given: dict[str, str], line: str) -> None:
    with pytest.raises(HarnessError) as caught:
        recbole.find(name, Sequential(), "test", ModelSettings(given)).make(EngineOptions())
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_counts_does_not_apply_to_labels() -> None:
    with pytest.raises(NotApplicable, match="Pop learns from what was met, and task 'tallrec' has labelled rows"):
        recbole.find("Pop", TALLRec(), "test", ModelSettings()).make(EngineOptions())


def test_items_of_training_histories_are_not_cold() -> None:
    learned = material(TALLRec(), labelled=True, likes=False, shots=64, seed=1)
    assert learned.labelled is not None
    trained = {*learned.labelled.item.tolist(), *learned.labelled.history.values.tolist()}
    assert set(np.flatnonzero(learned.met).tolist()) == trained
    assert learned.met.sum() == 64 * 11


def test_a_preset_gives_way_to_a_shorter_history_and_a_user_is_told() -> None:
    short = Sequential(max_history=10)
    assert resolve("NARM", short, ModelSettings({"budget": "ci"})).options["MAX_ITEM_LIST_LENGTH"] == 10
    wanted = ModelSettings({"MAX_ITEM_LIST_LENGTH": "20"})
    with pytest.raises(BadSetting, match="the histories of this task have 10 events at most"):
        recbole.find("NARM", short, "test", wanted).make(EngineOptions())


@pytest.mark.slow
def test_retrieval_and_ranking_share_a_training() -> None:
    plans = [
        plan("SASRec", "sequential", task, resolve("SASRec", task, ModelSettings({"budget": "ci"})))
        for task in (Sequential(), Sequential(masking="none"), Retrieval())
    ]
    assert len({(repr(made.recipe), made.material.digest) for made in plans}) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[[settings]]\nmodels = "SASRec"', "models should be a list"),
        ('[[settings]]\nmodels = ["SASrec"]', "no model 'SASrec'; did you mean 'SASRec'?"),
        ('[[settings]]\nwhen = {datset = "ml-1m"}', "no option of any task 'datset'; did you mean 'dataset'?"),
        ("[[settings]]\nwhen = 3", "and when a table"),
        ("learning_rate = nan", "learning_rate=nan should be a number"),
        ("topk = 2026-01-01", "topk=2026-01-01 should be a number, a word, a list or a table"),
    ],
)
def test_misuse_of_a_settings_file_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(BadSetting) as caught:
        resolve("SASRec", Sequential(), ModelSettings({}, file))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_budget_is_what_was_said_for_all(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[[settings]]\nbudget = "ci"\nepochs = 3\n')
    assert resolve("SASRec", Sequential(), ModelSettings({}, file)).options == {}
    file.write_text('budget = "ci"\n[[settings]]\nbudget = "ci"\nepochs = 3\n')
    found = resolve("SASRec", Sequential(), ModelSettings({}, file))
    assert (found.own.budget, found.own.form, found.options["epochs"]) == ("ci", "windows", 3)


def test_a_model_of_users_does_not_apply_to_strangers() -> None:
    """TALLRec's test users are in no training row; it says so before it trains anything."""
    made = recbole.find("BPR", TALLRec(), "test", ModelSettings({"shots": "16"}))
    with pytest.raises(NotApplicable, match="16 of 16 are in no training row"):
        made.make(EngineOptions())


def test_a_settings_file_that_is_not_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("learning_rate = ")
    with pytest.raises(BadSetting, match=r"mine.toml cannot be read as TOML"):
        resolve("SASRec", Sequential(), ModelSettings({}, file))


def test_a_checkpoint_that_is_not_one(tmp_path: Path) -> None:
    def find(name: str) -> None:
        checkpoint.find(name, Sequential(), "test", ModelSettings())

    with pytest.raises(BadModel, match="no folder"):
        find(str(tmp_path / "nothing"))
    with pytest.raises(BadModel, match=r"no harness\.json"):
        find(str(tmp_path))
    (tmp_path / "harness.json").write_text('{"kind": "adapter"}')
    with pytest.raises(BadModel, match="a language model is given as --model"):
        find(str(tmp_path))
    (tmp_path / "harness.json").write_text('{"kind": "recbole"}')
    with pytest.raises(BadModel, match=r"is not whole: model.safetensors, material.safetensors, vocabulary.json"):
        find(str(tmp_path))


def test_the_harness_s_side_imports_neither_torch_nor_recbole() -> None:
    probe = "import sys\nfrom baselines.recbole import engine, trained, settings, stored, material, child, job\n"
    probe += "print(sorted({'torch', 'recbole', 'pandas'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"]


def test_recboles_defaults_are_read_without_importing_it() -> None:
    found = property_defaults("SASRec")
    assert (found["hidden_dropout_prob"], found["loss_type"], found["epochs"]) == (0.5, "CE", 300)
    assert np.isclose(found["learning_rate"], 0.001)
