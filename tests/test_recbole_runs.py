"""RecBole's models for real: trained on MovieLens-100K, and judged by RecBole's own evaluator beside ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from baselines.recbole import checkpoint, recbole
from baselines.recbole.child import Child
from baselines.recbole.job import Fit, Form, Recipe
from baselines.recbole.material import Lists, Material, Rows, material
from baselines.simple import simple
from harness.data.home import home
from harness.engines import Engine
from harness.errors import BadModel, HarnessError
from harness.evaluation import perform
from harness.job import Job
from harness.model import EngineOptions, Model, ModelSettings
from harness.store import read_scores, records
from harness.task import Task
from harness.testing import RankerContract
from harness.testing.rankers import replies
from harness.types import Event, Item, Key, Rank, Ranked, Scores, Split
from tasks.sequential import Sequential
from tasks.tallrec import TALLRec

pytestmark = pytest.mark.slow
QUICK = {
    "SASRec": {"form": "windows", "train_batch_size": "64", "epochs": "2"},
    "GRU4Rec": {"form": "windows", "train_batch_size": "64", "epochs": "2"},
    "BERT4Rec": {"form": "windows", "train_batch_size": "64", "epochs": "1", "MAX_ITEM_LIST_LENGTH": "20"},
    "BPR": {"epochs": "3"},
    "Pop": {},
    "ItemKNN": {},
}
OPTIONS = EngineOptions(threads=1)


@cache
def task(masking: Literal["seen", "none", "recbole"] = "recbole") -> Sequential:
    return Sequential(masking=masking)


def run(model: str, runs: Path, task: Task, given: Mapping[str, str] = {}, split: Split = "test") -> dict[str, Any]:
    job = Job(task, Model.parse(model), split=split, options=OPTIONS, settings=ModelSettings(dict(given)), runs=runs)
    (path,) = perform(job, lambda line: None)
    scores = read_scores(path)
    assert scores is not None
    return scores


def trained_folder(model: str) -> Path:
    (folder,) = (home() / "baselines").glob(f"{model}-*")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module", autouse=True)
def own_baselines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def theirs(model: str) -> dict[str, float]:
    words = [sys.executable, "-m", "benchmarks.recbole_evaluator", str(trained_folder(model)), "masking=recbole"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])["scores"]
    return found


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "BERT4Rec", "BPR"])
def test_recboles_own_evaluator_agrees(model: str, runs: Path) -> None:
    ours = run(f"recbole:{model}", runs, task(), QUICK[model])["metrics"]
    wanted = theirs(model)
    for name, key in {"HR": "hit", "NDCG": "ndcg", "MRR": "mrr"}.items():
        for k in (10, 20):
            assert ours[f"{name}@{k}"]["value"] == pytest.approx(wanted[f"{key}@{k}"], abs=5e-5), f"{name}@{k}"
    valid = run(f"recbole:{model}", runs, task(), QUICK[model], "valid")["metrics"]["NDCG@10"]["value"]
    told = json.loads((trained_folder(model) / "harness.json").read_text())
    (best,) = (at["score"] for at in told["curve"] if at["epoch"] == told["best_epoch"])
    assert valid == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("model", ["Pop", "ItemKNN"])
def test_models_full_of_ties_lie_between_the_best_and_the_worst_order(model: str, runs: Path) -> None:
    ours = run(f"recbole:{model}", runs, task(), QUICK[model])["metrics"]["HR@10"]["value"]
    kinder, harsher = [], []
    with engine_of(model) as engine:
        for instance, scores in zip(task().instances("test"), catalogue_scores(engine), strict=True):
            ((target, _),) = instance.relevance.items()
            free = {item: score for item, score in scores.items() if item not in instance.excluded}
            above = sum(score > free[target] for score in free.values())
            level = sum(score == free[target] for score in free.values())
            kinder.append(above < 10)
            harsher.append(above + level <= 10)
    assert np.mean(harsher) <= ours <= np.mean(kinder)
    assert np.mean(harsher) - 1e-6 <= theirs(model)["hit@10"] <= np.mean(kinder) + 1e-6
    assert model == "ItemKNN" or np.mean(harsher) < np.mean(kinder)


def test_pop_counts_every_interaction_once(runs: Path) -> None:
    run("recbole:Pop", runs, task())
    counts = task().catalogue().met
    with engine_of("Pop") as engine:
        scores = next(iter(catalogue_scores(engine)))
    most = max(counts.values())
    assert scores == pytest.approx({item.id: counts.get(item.id, 0) / most for item in task().catalogue().items})


def test_a_second_run_trains_nothing_and_a_checkpoint_answers_alike(runs: Path, tmp_path: Path) -> None:
    first = run("recbole:GRU4Rec", runs, task(), QUICK["GRU4Rec"])
    folder = trained_folder("GRU4Rec")
    written = (folder / "model.safetensors").stat().st_mtime_ns
    again = run("recbole:GRU4Rec", tmp_path, task("seen"), QUICK["GRU4Rec"])
    assert again["metrics"]["NDCG@10"]["value"] != first["metrics"]["NDCG@10"]["value"]
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert run(f"checkpoint:{folder}", tmp_path, task()) == first


def test_a_checkpoint_of_other_rows_is_refused(runs: Path) -> None:
    """Its training rows may hold the answers of this task."""
    run("recbole:Pop", runs, task())
    wanted = checkpoint.find(str(trained_folder("Pop")), Sequential(k_core=20), "test", ModelSettings())
    with pytest.raises(BadModel, match=r"was trained on sequential.*the answers may be among them"):
        wanted.make(OPTIONS)


def test_cold_items_can_be_put_last(runs: Path) -> None:
    run("recbole:GRU4Rec", runs, task(), QUICK["GRU4Rec"])
    counts = task().catalogue().met
    scores = {}
    for cold in ("model", "last"):
        found = checkpoint.find(str(trained_folder("GRU4Rec")), task(), "test", ModelSettings({"cold": cold}))
        engine = found.make(OPTIONS)
        scores[cold] = next(iter(catalogue_scores(engine)))
        engine.close()
    never = {item.id for item in task().catalogue().items if not counts.get(item.id)}
    assert never
    warm = {item: score for item, score in scores["last"].items() if item not in never}
    assert max(scores["last"][item] for item in never) < min(warm.values())
    assert warm == {item: scores["model"][item] for item in warm}
    assert max(scores["model"][item] for item in never) > min(warm.values())


def test_a_stranger_is_the_mean_of_the_users() -> None:
    """To a model that reads the user, which RecBole leaves with first weights."""
    made = recbole.find("FPMC", task(), "test", ModelSettings({"epochs": "1", "MAX_ITEM_LIST_LENGTH": "1"})).make(
        OPTIONS
    )
    asked = next(iter(task("none").instances("test")))
    users = [timeline.user for timeline in task().timelines()]
    size = len(task().catalogue().items)
    found = scored(made, {user: Rank(user, asked.history, None, top=size) for user in [*users, "stranger"]})
    made.close()
    item = task().catalogue().items[5].id
    assert found["stranger"][item] == pytest.approx(np.mean([found[user][item] for user in users]), abs=1e-5)


def test_given_candidates_are_scored_exactly_as_in_the_whole_catalogue() -> None:
    sampled = Sequential(candidates="uniform", masking="none")
    with engine_of("SASRec") as engine:
        questions = list(sampled.instances("test"))[:200]
        engine.submit([(Key(q.id), Rank(q.user, q.history, q.candidates)) for q in questions])
        exact = {key.instance: reply for key, reply in engine.collect() if isinstance(reply, Scores)}
        whole = dict(zip((q.id for q in questions), catalogue_scores(engine), strict=False))
    assert len(exact) == 200
    for question in questions:
        wanted = [whole[question.id][item.id] for item in question.candidates or ()]
        assert exact[question.id].values == pytest.approx(wanted, abs=1e-5)


def test_what_is_unknown_comes_last_and_is_counted() -> None:
    known = task().catalogue().items[:2]
    with engine_of("GRU4Rec") as engine:
        stranger = Item("nobody knows", "nobody knows")
        asked = Rank("1", (Event(known[0]),), (stranger, *known))
        lost = Rank("1", (Event(stranger),), known)
        engine.submit([(Key("a"), asked), (Key("b"), lost)])
        answers = {key.instance: reply for key, reply in engine.collect()}
    first, second = answers["a"], answers["b"]
    assert isinstance(first, Scores)
    assert first.values[0] < min(first.values[1:])
    assert first.facts["unknown"] == pytest.approx(1 / 3)
    assert isinstance(second, Scores)
    assert second.facts["by_popularity"] == 1.0
    assert list(second.values) == [task().catalogue().met[item.id] for item in known]


class TestRecBole(RankerContract):
    model = "SASRec"

    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        with engine_of(self.model, "seen") as made:
            yield made

    @pytest.fixture
    def asked(self) -> dict[str, Rank]:
        return some_questions()


class TestFullOfTies(TestRecBole):
    model = "Pop"


class TestSimple(RankerContract):
    @pytest.fixture(params=["popularity", "random"])
    def engine(self, request: pytest.FixtureRequest) -> Engine:
        return simple.find(request.param, task("seen"), "test", ModelSettings()).make(OPTIONS)

    @pytest.fixture
    def asked(self) -> dict[str, Rank]:
        return {name: question for name, question in some_questions().items() if question.candidates is None}


def some_questions() -> dict[str, Rank]:
    """Of the same users, with and without candidates."""
    whole, given = task("none"), Sequential(candidates="uniform")
    asked = {q.id: Rank(q.user, q.history, None, top=20) for q in islice(whole.instances("test"), 40)}
    return asked | {f"given {q.id}": Rank(q.user, q.history, q.candidates) for q in islice(given.instances("test"), 40)}


def test_few_shot_rows_of_tallrec_and_recboles_auc(runs: Path) -> None:
    given = {"shots": "64", "epochs": "10", "seed": "1"}
    valid = run("recbole:Caser", runs, TALLRec(), given, "valid")["metrics"]["AUC"]["value"]
    told = json.loads((trained_folder("Caser") / "harness.json").read_text())
    assert told["form"] == "labelled"
    (best,) = (at["score"] for at in told["curve"] if at["epoch"] == told["best_epoch"])
    assert valid == pytest.approx(best, abs=1e-4)
    assert [at["epoch"] for at in told["curve"]] == [4, 9]


def a_tenth() -> Material:
    """Of the users, for trainings that take seconds."""
    whole = material(task(), False, False, None, 0)
    assert whole.valid is not None
    few = 94
    kept = Lists.of(islice(map(list, whole.timelines), few))
    history = Lists.of(islice(map(list, whole.valid.history), few))
    rows = Rows(whole.valid.user[:few], history, whole.valid.item[:few], None)
    return replace(whole, users=whole.users[:few], timelines=kept, valid=rows)


@pytest.mark.parametrize(
    ("model", "form", "epochs"), [("BPR", "pairs", 12), ("SASRec", "windows", 5), ("BERT4Rec", "windows", 5)]
)
def test_killed_in_the_middle_it_ends_with_the_same_weights(
    tmp_path: Path, model: str, form: Form, epochs: int
) -> None:
    """All three generators: numpy's draws BPR's negatives, torch's SASRec's dropout, Python's BERT4Rec's masks."""
    recipe = Recipe(model, form, "bce", {"seed": 3, "epochs": epochs, "train_batch_size": 32, "stopping_step": 20})
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    whole, killed = (Fit(recipe, a_tenth(), folder, every=0.0) for folder in folders)
    with Child(1) as child:
        told = child.ask(whole)
    with Child(1) as child:
        child.send(killed)
        while not (killed.folder / "state.pt").exists():
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(HarnessError, match=r"killed by signal 9.*run the same command again to go on"):
            child.receive()
    assert not (killed.folder / "made").exists()
    with Child(1) as child:
        again = child.ask(killed)
    assert [at["score"] for at in again["curve"]] == [at["score"] for at in told["curve"]]
    bytes_of = [(folder / "made" / "model.safetensors").read_bytes() for folder in folders]
    assert bytes_of[0] == bytes_of[1]


def test_a_harness_that_is_killed_leaves_nobody_behind(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom baselines.recbole.child import Child\n"
        "print(Child(1).pid, flush=True)\ntime.sleep(600)\n"
    )
    harness = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert harness.stdout is not None
    with harness.stdout:
        child = int(harness.stdout.readline())
    harness.kill()
    harness.wait()
    deadline = time.monotonic() + 60
    while (Path("/proc") / str(child)).exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_one_that_stopped_early_stays_stopped_after_a_kill(tmp_path: Path) -> None:
    recipe = Recipe("BPR", "pairs", "bce", {"seed": 3, "epochs": 50, "learning_rate": 0.5, "stopping_step": 1})
    job = Fit(recipe, a_tenth(), tmp_path, every=0.0)
    with Child(1) as child:
        told = child.ask(job)
        assert len(told["curve"]) < 50
        again = child.ask(replace(job, every=10.0))
    assert again["curve"] == told["curve"]


def test_nothing_leaks_into_this_process_or_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["harness", "--epochs=1", "--seed=7"])
    before = dict(os.environ), set(np.__dict__)
    drawn = repr(np.random.get_state())
    with engine_of("GRU4Rec") as engine:
        assert len(list(catalogue_scores(engine))) == 943
    assert list(tmp_path.iterdir()) == []
    assert (dict(os.environ), set(np.__dict__)) == before
    assert repr(np.random.get_state()) == drawn
    assert "recbole" not in sys.modules
    probe = "from baselines.recbole.compat import import_recbole; import_recbole(); import torch, recbole.utils as u\n"
    probe += "u.get_model('SINE'); print(torch.is_anomaly_enabled())"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_a_model_that_recbole_cannot_train_here_says_why_in_one_line(runs: Path) -> None:
    with pytest.raises(HarnessError, match=r"^RecBole stopped with ValueError: .*hidden size \(64\)") as caught:
        run("recbole:SASRec", runs, task(), {"n_heads": "3"})
    assert "\n" not in str(caught.value)


class engine_of:  # noqa: N801  # it is used as a function
    """A quickly trained model as an engine, closed afterwards."""

    def __init__(self, model: str, masking: Literal["seen", "recbole"] = "recbole") -> None:
        self._engine = recbole.find(model, task(masking), "test", ModelSettings(QUICK[model])).make(OPTIONS)

    def __enter__(self) -> Engine:
        return self._engine

    def __exit__(self, *error: object) -> None:
        self._engine.close()


def catalogue_scores(engine: Engine) -> Iterator[dict[str, float]]:
    """Scores of the whole catalogue for each test instance, nothing masked."""
    size = len(task().catalogue().items)
    asked = {q.id: Rank(q.user, q.history, None, top=size) for q in task().instances("test")}
    found = scored(engine, asked)
    yield from (found[name] for name in asked)


def scored(engine: Engine, asked: Mapping[str, Rank]) -> dict[str, dict[str, float]]:
    """Scores by item of lists of the catalogue."""
    found: dict[str, dict[str, float]] = {}
    for name, reply in replies(engine, asked).items():
        assert isinstance(reply, Ranked)
        assert reply.scores is not None
        found[name] = dict(zip(reply.items, reply.scores, strict=True))
    return found


def test_the_checkpoint_group_reads_what_the_other_made() -> None:
    found = checkpoint.find(str(trained_folder("Pop")), task(), "test", ModelSettings())
    assert found.who["baseline"] == "Pop"


def test_records_hold_what_was_shown(runs: Path) -> None:
    job = Job(task(), Model.parse("recbole:Pop"), options=OPTIONS, runs=runs)
    (path,) = perform(job, lambda line: None)
    kept = list(records(path))
    assert len(kept) == 943
    assert all(len(record.top) == 20 and set(record.facts) == {"unknown", "cold", "by_popularity"} for record in kept)
