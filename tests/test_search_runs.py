"""Networks over texts for real: what they learn from a shop, from MovieLens-100K, and after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from baselines.search import search
from harness.data import Dataset, load
from harness.data.candidates import Urn
from harness.data.home import home
from harness.errors import NotApplicable
from harness.evaluation import perform
from harness.job import Job
from harness.knobs import knob
from harness.metrics import MRR, HitRate, Metric
from harness.model import EngineOptions, Model, ModelSettings
from harness.store import read_scores, records
from harness.task import Task
from harness.testing.rankers import replies
from harness.types import Catalogue, Event, Instance, Item, Prediction, Program, Rank, Scores, Split
from tasks.retrieval import Retrieval
from tests.test_search import NEW, Shop

pytestmark = pytest.mark.slow
OPTIONS = EngineOptions(threads=1)
SHOP = {"embedding": "32", "heads": "2", "epochs": "30", "patience": "30", "batch": "32", "learning_rate": "0.005"}


@dataclass(frozen=True)
class Genres(Task):
    """Which of ten films did this user rate, when his query names its genres? Ratings are split 80/10/10 by chance, so
    that some films of the test split are in no training question."""

    name: ClassVar[str] = "genres"
    paper: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (MRR(10), HitRate(1))

    users: int = knob(150, "how many of the users ask", instances=True)
    negatives: int = knob(9, "films drawn beside the right one", instances=True)

    def data_digests(self) -> Mapping[str, str]:
        return {"ml-100k": self._data.digest}

    def catalogue(self) -> Catalogue:
        return self._catalogue

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for user in range(self.users):
            codes, kinds = self._split(user)
            for place in np.flatnonzero(kinds == split).tolist():
                before = [code for code, kind in zip(codes[:place], kinds, strict=False) if kind == "train"][-10:]
                yield self._question(f"{split}-{user}-{place}", split, user, codes[place], before, codes)

    def _split(self, user: int) -> tuple[list[int], NDArray[np.str_]]:
        """The films of a user in order of time, and the split of each."""
        starts, order = self._data.timelines.starts, self._data.timelines.order
        codes = self._data.item[order[starts[user] : starts[user + 1]]].tolist()
        return codes, np.random.default_rng(user).choice(["train", "valid", "test"], len(codes), p=[0.8, 0.1, 0.1])

    def _question(self, name: str, split: Split, user: int, target: int, before: list[int], met: list[int]) -> Instance:
        items = self._catalogue.items
        shown = None if split == "train" else self._urn.line_up(name, 0, target, met, self.negatives)
        return Instance(
            id=name,
            user=self._data.users[user],
            history=tuple(Event(items[code]) for code in before),
            candidates=None if shown is None else tuple(items[code] for code in shown),
            relevance={items[target].id: 1.0},
            context=" ".join(self._genres[target]),
            catalogue=self._catalogue,
        )

    def solve(self, instance: Instance) -> Program[Prediction]:
        raise NotApplicable("no prompt")

    @cached_property
    def _data(self) -> Dataset:
        return load("ml-100k")

    @cached_property
    def _urn(self) -> Urn:
        return Urn(np.ones(len(self._data.items), dtype=np.int64))

    @cached_property
    def _genres(self) -> tuple[tuple[str, ...], ...]:
        return self._data.attributes["genres"]

    @cached_property
    def _catalogue(self) -> Catalogue:
        """Texts are titles and genres, in another order than queries have them."""
        pairs = zip(self._data.items, self._genres, strict=True)
        items = tuple(Item(item.id, f"{item.text}: {' '.join(genres[::-1])}") for item, genres in pairs)
        splits = (zip(*self._split(user), strict=True) for user in range(self.users))
        return Catalogue(items, Counter(items[code].id for split in splits for code, kind in split if kind == "train"))


@cache
def genres() -> Genres:
    return Genres()


def run(model: str, runs: Path, task: Task, given: Mapping[str, str] = {}) -> Path:
    job = Job(task, Model.parse(model), options=OPTIONS, settings=ModelSettings(dict(given)), runs=runs)
    (path,) = perform(job, lambda line: None)
    return path


def score(path: Path, metric: str) -> float:
    scores = read_scores(path)
    assert scores is not None
    value: float = scores["metrics"][metric]["value"]
    return value


@pytest.fixture(scope="module", autouse=True)
def own_baselines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def hits(name: str, task: Shop, new: bool) -> float:
    """Share of the shop's test questions that are answered right, of those whose answer is new or known."""
    engine = search.find(name, task, "test", ModelSettings(SHOP)).make(OPTIONS)
    kept = [q for q in task.instances("test") if (q.relevance.keys() <= unmet()) == new]
    found = replies(engine, {q.id: Rank(q.user, q.history, q.candidates, q.context) for q in kept})
    right = 0
    for question in kept:
        reply = found[question.id]
        assert isinstance(reply, Scores)
        best = (question.candidates or ())[int(np.argmax(reply.values))]
        right += best.id in question.relevance
    return right / len(kept)


def unmet() -> set[str]:
    items = Shop().catalogue().items
    return {items[colour * 8 + thing].id for colour, thing in NEW}


def test_the_shop_is_understood() -> None:
    """A query alone leaves five colours; with a history it leaves one. Who has not seen an item can read its title."""
    known = {name: hits(name, Shop(), new=False) for name in ("DSSM", "TwoTower", "TEM")}
    assert known["DSSM"] < 0.5
    assert min(known["TwoTower"], known["TEM"]) > 0.9
    assert min(hits(name, Shop(), new=True) for name in ("TwoTower", "TEM")) > 0.5


@pytest.mark.parametrize("name", ["DSSM", "TEM", "TwoTower"])
def test_genres_are_learned(name: str, tmp_path: Path) -> None:
    given = {"budget": "ci", "epochs": "4", "embedding": "32", "batch": "256"}
    found = score(run(f"search:{name}", tmp_path, genres(), given), "MRR@10")
    counted = score(run("search:BM25", tmp_path, genres()), "MRR@10")
    drawn = score(run("simple:random", tmp_path, genres()), "MRR@10")
    popular = score(run("simple:popularity", tmp_path, genres()), "MRR@10")
    assert counted > drawn + 0.2
    assert found > max(drawn, popular) + 0.1


def test_two_towers_find_in_the_whole_catalogue(tmp_path: Path) -> None:
    given = {"budget": "ci", "epochs": "2", "embedding": "32", "max_history": "8"}
    listed = run("search:TwoTower", tmp_path, Retrieval(), given)
    assert all(len(record.top) == 50 for record in records(listed))
    assert score(listed, "HR@50") > score(run("simple:popularity", tmp_path, Retrieval()), "HR@50") + 0.03


def test_a_training_is_made_once_for_its_settings_and_questions(tmp_path: Path) -> None:
    def folders() -> dict[Path, int]:
        found = (home() / "baselines").glob("DSSM-*/model.safetensors")
        return {path.parent: path.stat().st_mtime_ns for path in found}

    before = folders()
    given = {"embedding": "8", "heads": "1", "epochs": "1", "batch": "32"}
    run("search:DSSM", tmp_path / "a", Shop(), given)
    first = folders()
    ((folder, _),) = first.items() - before.items()
    told = json.loads((folder / "harness.json").read_text())
    assert (told["kind"], told["model"], told["epochs"], told["best_epoch"]) == ("search", "DSSM", 1, 0)
    run("search:DSSM", tmp_path / "b", Shop(), given)
    assert folders() == first
    run("search:DSSM", tmp_path / "c", Shop(), {**given, "seed": "1"})
    run("search:DSSM", tmp_path / "d", Shop(users=41), given)
    assert len(folders()) == len(first) + 2


SCRIPT = """
import sys
from baselines.search import search
from harness.model import EngineOptions, ModelSettings
from tests.test_search import Shop
given = {"epochs": "6", "patience": "6", "batch": "16", "embedding": "32", "heads": "2", "seed": "5"}
search.find(sys.argv[1], Shop(users=200), "test", ModelSettings(given)).make(EngineOptions(threads=1))
"""


def start(name: str, place: Path) -> subprocess.Popen[str]:
    surroundings = {**os.environ, "HARNESS_HOME": str(place), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", SCRIPT, name]
    return subprocess.Popen(words, env=surroundings, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize("name", ["TwoTower"])
def test_killed_in_the_middle_it_ends_with_the_same_weights(tmp_path: Path, name: str) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(name, whole).communicate()[1].startswith(f"training {name}: 6 epochs")
    first = start(name, killed)
    while not list(killed.glob("baselines/*.partial/*/state.pt")):
        assert first.poll() is None
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not list(killed.glob("baselines/*/model.safetensors"))
    again = start(name, killed).communicate()[1]
    assert again.startswith(f"training {name}: going on where it was stopped")
    told, bytes_of = zip(*map(result, (whole, killed)), strict=True)
    curves = [[(at["loss"], at["score"]) for at in one["curve"]] for one in told]
    assert curves[0] == curves[1]
    assert bytes_of[0] == bytes_of[1]


def result(place: Path) -> tuple[dict[str, Any], bytes]:
    (folder,) = (path.parent for path in place.glob("baselines/*/model.safetensors"))
    return json.loads((folder / "harness.json").read_text()), (folder / "model.safetensors").read_bytes()
