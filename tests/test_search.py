"""Models that read texts, as far as that can be told without a long training: settings, what is learned from, what is
refused, and how they answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from baselines.search import search
from baselines.search.material import Material, material
from baselines.search.settings import NETWORKS, Learning, counting, learning
from baselines.search.words import coded, pieces_of, vocabulary
from harness.engines import Engine
from harness.errors import BadModel, BadSetting, NotApplicable
from harness.knobs import knob
from harness.metrics import MRR, Metric
from harness.model import EngineOptions, ModelSettings
from harness.task import Task
from harness.testing import RankerContract
from harness.types import Catalogue, Event, Instance, Item, Prediction, Program, Rank, Split
from tasks.sequential import Sequential
from tasks.tallrec import TALLRec

OPTIONS = EngineOptions(threads=1)
SMALL = {"embedding": "16", "epochs": "2", "batch": "32", "pieces": "words"}


@dataclass(frozen=True)
class Catalog(Task):
    """Texts to be found, and nothing to learn from."""

    name: ClassVar[str] = "catalog"
    paper: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (MRR(10),)

    texts_of: tuple[str, ...] = ()
    query: str | None = "red shoe"

    def data_digests(self) -> Mapping[str, str]:
        return {}

    def catalogue(self) -> Catalogue:
        return Catalogue(tuple(Item(f"i{place}", text) for place, text in enumerate(self.texts_of)), {})

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        if split == "test":
            yield Instance("q", "u", (), None, {"i0": 1.0}, self.query, self.catalogue())

    def solve(self, instance: Instance) -> Program[Prediction]:
        raise NotApplicable("no prompt")


COLOURS = ("red", "green", "blue", "black", "white")
THINGS = ("hat", "shoe", "coat", "sock", "scarf", "glove", "shirt", "belt")


@dataclass(frozen=True)
class Shop(Catalog):
    """Everybody buys one colour. A query names a thing; right is that thing in the user's colour.

    The gloves that are black, and some more, are sold in the test split only: nothing but their text is known.
    """

    name: ClassVar[str] = "shop"

    users: int = knob(40, "who buys", instances=True)
    queries: bool = knob(True, "whether the query is said", instances=True)
    given: bool = knob(True, "whether validation and test questions have candidates", instances=True)

    def catalogue(self) -> Catalogue:
        return _shelf()

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for user in range(self.users):
            colour = user % len(COLOURS)
            for turn in range(len(THINGS)):
                thing = (turn * 3 + user // len(COLOURS)) % len(THINGS)
                new = (colour, thing) in NEW
                held = "test" if new else ("valid" if turn == 4 else "test" if turn == 6 else "train")
                if held == split:
                    yield self._question(f"{split}-{user}-{turn}", user, colour, thing)

    def _question(self, name: str, user: int, colour: int, thing: int) -> Instance:
        items = _shelf().items
        bought = [other for other in range(len(THINGS)) if other != thing and (colour, other) not in NEW]
        first = user % len(bought)
        history = tuple(Event(items[colour * len(THINGS) + other]) for other in (bought[first:] + bought[:first])[:3])
        target = items[colour * len(THINGS) + thing]
        query = f"a {THINGS[thing]}" if self.queries else None
        candidates = items if self.given and not name.startswith("train") else None
        return Instance(name, f"u{user}", history, candidates, {target.id: 1.0}, query, _shelf())


NEW = ((3, 5), (0, 0), (2, 7))


@cache
def _shelf() -> Catalogue:
    return Catalogue(tuple(Item(f"{c}-{t}", f"{t.title()}, {c}") for c in COLOURS for t in THINGS), {})


def test_pieces() -> None:
    assert pieces_of("Léon: The Professional (1994)", "words") == ["léon", "the", "professional", "1994"]
    assert pieces_of("M cat", "trigrams") == ["#m#", "#ca", "cat", "at#"]
    assert vocabulary(["b a", "b c"], "words", 2) == ("b", "a")
    table = coded(["b nothing a", None, "a a a"], "words", {"b": 1, "a": 2}, 2)
    assert table.tolist() == [[1, 2], [0, 0], [2, 2]]


@cache
def learned(task: Shop) -> Material:
    return material(task, "TEM", Learning())


def test_what_is_learned_from() -> None:
    found = learned(Shop())
    train = list(Shop().instances("train"))
    assert len(found.train.item) == len(train)
    for row, instance in enumerate(train):
        assert found.users[found.train.user[row] - 1] == instance.user
        assert {found.items[found.train.item[row] - 1]} == set(instance.relevance)
        shown = [found.items[code - 1] for code in found.train.history[row] if code]
        assert shown == [event.item.id for event in instance.history[::-1]]
        words = [found.words[code - 1] for code in found.train.query[row] if code]
        assert " ".join(words) == instance.context
    assert len(found.valid.item) == len(list(Shop().instances("valid")))
    assert set(found.valid.others.lengths.tolist()) == {len(_shelf().items) - 1}
    unmet = {found.items[code - 1] for code in np.flatnonzero(found.met == 0) if code}
    assert unmet == {f"{COLOURS[colour]}-{THINGS[thing]}" for colour, thing in NEW}


def test_validation_without_candidates_draws_them_once() -> None:
    one, again = (material(Shop(given=False), "TEM", Learning()) for _ in range(2))
    assert one.digest == again.digest
    count = min(99, len(_shelf().items) - 4)
    for item, others in zip(one.valid.item, one.valid.others, strict=True):
        assert len(set(others.tolist())) == count
        assert item not in others
    assert one.digest != learned(Shop()).digest


def test_a_query_of_the_test_split_teaches_no_word() -> None:
    assert "belt" in learned(Shop()).words
    assert "secret" not in material(Secret(), "TEM", Learning()).words


@dataclass(frozen=True)
class Secret(Shop):
    """One test query has a word that nothing else has."""

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for instance in super().instances(split):
            yield instance if split == "train" else replace(instance, context="a secret")


def test_settings_come_in_order(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'dropout = 0.3\nk1 = 0.9\n[[settings]]\nmodels = ["TEM"]\nheads = 4\nepochs = 7\n'
        '[[settings]]\nbudget = "ci"\nbatch = 64\n'
    )
    found = learning("TEM", ModelSettings({"epochs": "3"}, file))
    assert (found.dropout, found.heads, found.epochs, found.embedding, found.batch) == (0.3, 4, 3, 128, 512)
    cheap = learning("TEM", ModelSettings({"budget": "ci"}, file))
    assert (cheap.heads, cheap.epochs, cheap.embedding, cheap.batch) == (4, 7, 64, 64)
    assert learning("DSSM", ModelSettings({}, file)).pieces == "trigrams"
    assert counting(ModelSettings({}, file)).k1 == 0.9


@pytest.mark.parametrize(
    ("name", "given", "line"),
    [
        ("BM52", {}, "no model 'search:BM52'; did you mean 'search:BM25'?"),
        ("BM25", {"k": "1"}, "no setting of model search:BM25 'k'; did you mean 'k1'?"),
        ("BM25", {"b": "2"}, "b='2' should be at most 1"),
        ("TEM", {"embeding": "8"}, "no setting of model search:TEM 'embeding'; did you mean 'embedding'?"),
        ("TEM", {"embedding": "10", "heads": "4"}, "embedding=10 cannot be divided among heads=4"),
        ("DSSM", {"budget": "tiny"}, "budget='tiny' should be one of full, ci"),
        ("TwoTower", {"epochs": "0"}, "epochs='0' should be at least 1"),
    ],
)
def test_misuse_is_one_line(name: str, given: dict[str, str], line: str) -> None:
    with pytest.raises((BadModel, BadSetting)) as caught:
        search.find(name, Shop(), "test", ModelSettings(given))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("epoch = 3", "no setting of a search model 'epoch'; did you mean 'epochs'?"),
        ('[[settings]]\nmodels = ["SASRec"]', "should be a list of BM25, DSSM, TwoTower, TEM"),
        ("settings = 3", "settings should be a list"),
        ("epochs = [3]", "epochs=[3] should be a number or a word"),
        ("epochs = ", "cannot be read as TOML"),
    ],
)
def test_misuse_of_a_settings_file_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(BadSetting) as caught:
        learning("TEM", ModelSettings({}, file))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "task", "line"),
    [
        ("BM25", Sequential(), "search:BM25 answers queries, and the questions of task 'sequential' have none"),
        ("TEM", Sequential(), "search:TEM answers queries, and the questions of task 'sequential' have none"),
        ("DSSM", Shop(queries=False), "search:DSSM answers queries, and the questions of task 'shop' have none"),
        ("TwoTower", TALLRec(), "task 'tallrec' has no catalogue"),
        ("TwoTower", Catalog(texts_of=("hat",)), "search:TwoTower learns from training questions, and task 'catalog'"),
    ],
)
def test_what_does_not_apply_says_so_before_it_trains(name: str, task: Task, line: str) -> None:
    with pytest.raises(NotApplicable) as caught:
        search.find(name, task, "test", ModelSettings()).make(OPTIONS)
    assert line in str(caught.value)


@dataclass(frozen=True)
class Labelled(Shop):
    """Training questions with candidates."""

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        return super().instances("test")


def test_labelled_training_questions_do_not_apply() -> None:
    with pytest.raises(NotApplicable, match="the training questions of task 'shop' are labelled candidates"):
        search.find("TEM", Labelled(), "test", ModelSettings()).make(OPTIONS)


def made(name: str, task: Task, given: Mapping[str, str] = SMALL) -> Engine:
    return search.find(name, task, "test", ModelSettings(given)).make(OPTIONS)


def questions(context: bool) -> dict[str, Rank]:
    """Of different users, half of them with candidates."""
    asked = {}
    for place, instance in enumerate(Shop(users=20).instances("test")):
        query = instance.context if context else None
        whole = place % 2 == 0
        candidates = None if whole else instance.candidates
        asked[instance.id] = Rank(instance.user, instance.history, candidates, query, top=12)
    return asked


@pytest.mark.slow
class TestNetworks(RankerContract):
    tolerance = 1e-8

    @pytest.fixture(params=NETWORKS)
    def engine(self, request: pytest.FixtureRequest) -> Engine:
        return made(request.param, Shop())

    @pytest.fixture
    def asked(self) -> dict[str, Rank]:
        return questions(True)


class TestWithoutQueries(RankerContract):
    @pytest.fixture
    def engine(self) -> Engine:
        return made("TwoTower", Shop(queries=False))

    @pytest.fixture
    def asked(self) -> dict[str, Rank]:
        return questions(False)


def test_light_names_import_nothing_heavy() -> None:
    probe = "import sys\nfrom baselines.search import search, engine, material, trained, bm25\n"
    probe += "print(sorted({'torch', 'numba', 'bm25s', 'pandas'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"]


def test_a_training_that_leaves_all_numbers_is_stopped() -> None:
    with pytest.raises(BadSetting, match="the loss of epoch 1 is no number; lower learning_rate"):
        made("TwoTower", Shop(), {**SMALL, "learning_rate": "1e30"})
