"""TALLRec against the published files: prompts byte for byte, splits by git hash, reference scores."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from hashlib import sha1, sha256

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from baselines.simple import simple
from harness.data import load
from harness.data.fetch import fetch
from harness.data.splits import few_shot
from harness.engines import FunctionEngine
from harness.errors import BadSetting, NotApplicable, RequestFailed
from harness.model import EngineOptions, ModelSettings
from harness.runner import drive, solver
from harness.testing import TaskContract
from harness.tuning.recipe import Draw
from harness.tuning.rows import draw
from harness.types import SPLITS, Choose, Key, Prediction, Reply, Request, Scores, Split
from tasks.prompts import load_texts
from tasks.tallrec import TALLRec
from tests.real_data import real

MOVIE_BLOBS = {
    "train": "2bbe93bffecd30423606a6d8e78d22c9a6c5f64f",
    "valid": "d26599315557a9587cd74d83c1c565670361d215",
    "test": "ee8bb62c56a82d6f176b07d094cc39e8a13878bc",
}
"""git hashes of data/movie/*.json in SAI990323/TALLRec at c1db29c."""
TEXTS = "102c3344"
"""sha256 over the texts as JSON, first eight digits; the movie blobs above vouch for all but the wrapper."""
PROMPTS = "e7193103"
"""sha256 over the 1,000 whole prompts of movie test."""


@pytest.fixture(scope="module")
def movie() -> TALLRec:
    return TALLRec()


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TALLRec]:
    published = real("book-crossing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(tmp_path_factory.mktemp("home")))
        fetch("tallrec-book", published)
        made = TALLRec(domain="book")
        for split in ("valid", "test"):
            made._data.rows(split)
        yield made


def git_blob(content: bytes) -> str:
    return sha1(b"blob %d\0" % len(content) + content).hexdigest()


def auc_of(task: TALLRec, name: str, split: Split) -> float:
    engine = simple.find(name, task, split, ModelSettings()).make(EngineOptions())
    solve = solver(task, engine)
    labels, scores = [], []
    known = {instance.id: instance for instance in task.instances(split)}
    for key, outcome, _ in drive(((i.id, solve(i)) for i in known.values()), engine):
        assert isinstance(outcome, Prediction)
        ((item, score),) = outcome.scores.items()
        labels.append(known[key].relevance[item])
        scores.append(score)
    return round(100 * float(roc_auc_score(labels, scores)), 2)


@pytest.mark.parametrize("split", SPLITS)
def test_movie_files_are_the_published_ones(movie: TALLRec, split: Split) -> None:
    name, content = movie.export(split)
    assert name == f"{split}.json"
    assert git_blob(content) == MOVIE_BLOBS[split]


@pytest.mark.slow
@pytest.mark.parametrize("split", ["valid", "test"])
def test_book_files_survive_reading_and_writing(book: TALLRec, split: Split) -> None:
    """Each published record is taken apart into books and put together again, to the same bytes."""
    _, content = book.export(split)
    published = {
        "valid": "6bfc37282e913de25d333479ad3df4285bac1660",
        "test": "5f06875fd757fc49c5e7334fe5b8969fa59c1634",
    }
    assert git_blob(content) == published[split]


def test_prompt_texts_are_pinned() -> None:
    texts = json.dumps(dict(load_texts("tallrec")), sort_keys=True)
    assert sha256(texts.encode()).hexdigest()[:8] == TEXTS


def test_all_movie_prompts_are_pinned(movie: TALLRec) -> None:
    content = sha256()
    for instance in movie.instances("test"):
        content.update(movie.prompt(instance).encode())
    assert content.hexdigest()[:8] == PROMPTS


def test_a_prompt_as_people_read_it(movie: TALLRec) -> None:
    prompt = movie.prompt(next(iter(movie.instances("test"))))
    lines = prompt.split("\n")
    assert lines[0].endswith("appropriately completes the request.  # noqa: E501")
    assert lines[2:4] == ["### Instruction:", movie.texts["instruction"].format(domain="movie")]
    assert re.fullmatch(r'Whether the user will like the target movie ".+ \(\d{4}\)"\?', lines[8])
    assert prompt.endswith("\n\n### Response:\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        ("like-rate", "test", 72.60),
        ("like-rate", "valid", 68.90),
        ("item-mean", "test", 67.15),
        ("popularity", "test", 59.68),
        ("recency", "test", 64.66),
        ("constant", "test", 50.0),
        ("oracle", "test", 100.0),
    ],
)
def test_reference_scores_movie(movie: TALLRec, name: str, split: Split, expected: float) -> None:
    assert auc_of(movie, name, split) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("split", "expected"), [("test", 69.62), ("valid", 68.72)])
def test_reference_scores_book(book: TALLRec, split: Split, expected: float) -> None:
    assert auc_of(book, "like-rate", split) == expected


def test_books_have_no_times(book: TALLRec) -> None:
    with pytest.raises(NotApplicable, match="no times"):
        auc_of(book, "recency", "test")


def test_split_facts(movie: TALLRec) -> None:
    users = [Counter(instance.user for instance in movie.instances(split)) for split in SPLITS]
    assert [len(found) for found in users] == [80, 14, 16]
    assert sorted(users[2].values()) == [10, 10, 12, 16, 22, 29, 30, 39, 51, 53, 69, 97, 98, 132, 158, 174]
    for split, liked in zip(SPLITS, (4457, 658, 528), strict=True):
        assert sum(sum(instance.relevance.values()) for instance in movie.instances(split)) == liked


@pytest.mark.slow
def test_unlabelled_texts_are_of_users_in_no_split(movie: TALLRec) -> None:
    texts = list(movie.unlabelled())
    taken = {instance.user for split in SPLITS for instance in movie.instances(split)}
    unlabelled = list(movie._data.unlabelled())
    assert not taken & {instance.user for instance in unlabelled}
    assert texts == [movie.prompt(instance) + movie.row(instance)["output"] for instance in unlabelled]
    dataset = load("ml-100k")
    sizes = Counter(dataset.users[user] for user in dataset.user)
    assert len(texts) == sum((count - 1) // 10 for user, count in sizes.items() if user not in taken)


@pytest.mark.slow
def test_labels_of_unlabelled_texts_are_thrown_by_a_coin(movie: TALLRec) -> None:
    dataset = load("ml-100k")
    truth = {
        (dataset.users[user], dataset.items[item].id): rating > 3
        for user, item, rating in zip(dataset.user, dataset.item, dataset.rating, strict=True)
    }
    unlabelled = list(movie._data.unlabelled())
    sides = [event.liked is bool(truth[one.user, event.item.id]) for one in unlabelled for event in one.history]
    answers = [(gain > 0) is bool(truth[one.user, item]) for one in unlabelled for item, gain in one.relevance.items()]
    for agreed in (sides, answers):
        assert abs(sum(agreed) / len(agreed) - 0.5) < 3 * 0.5 / len(agreed) ** 0.5
    scores = [sum(event.liked for event in one.history) for one in unlabelled]
    labels = [max(one.relevance.values()) for one in unlabelled]
    assert roc_auc_score(labels, scores) == pytest.approx(0.5, abs=0.02)


def softmax(values: np.ndarray) -> np.ndarray:
    powers: np.ndarray = np.exp(values)
    powers /= powers.sum()
    return powers


def test_the_read_outs_against_the_authors_double_softmax(movie: TALLRec) -> None:
    """Their score is a softmax over two probabilities: it must order, and so score, exactly as ours."""
    rng = np.random.default_rng(0)
    logits = {instance.id: rng.normal(size=5) for instance in movie.instances("test")}

    def answer(key: Key, request: Request) -> Reply | RequestFailed:
        assert isinstance(request, Choose)
        assert request.options == ("Yes", "No")
        first = np.log(softmax(logits[key.instance]))[:2]
        return Scores((float(first[0]), float(first[1])))

    instances = list(movie.instances("test"))
    labels = {i.id: next(iter(i.relevance.values())) for i in instances}
    ours: dict[str, dict[str, float]] = {"paper": {}, "log_odds": {}, "fact": {}, "mass": {}}
    for task in (movie, TALLRec(readout="log_odds")):
        engine = FunctionEngine(answer, Choose)
        for key, outcome, _ in drive(((i.id, task.solve(i)) for i in instances), engine):
            assert isinstance(outcome, Prediction)
            ours[task.readout][key] = next(iter(outcome.scores.values()))
            ours["fact"][key] = outcome.facts["log_odds"]
            ours["mass"][key] = outcome.facts["yes_no_mass"]
    theirs = {key: softmax(softmax(found)[:2])[0] for key, found in logits.items()}

    def auc(scores: dict[str, float]) -> float:
        return float(roc_auc_score([labels[key] for key in labels], [scores[key] for key in labels]))

    assert auc(ours["paper"]) == auc(theirs)
    assert auc(ours["log_odds"]) == auc({key: found[0] - found[1] for key, found in logits.items()})
    assert auc(ours["log_odds"]) != auc(ours["paper"])
    assert ours["fact"] == pytest.approx(ours["log_odds"])
    assert ours["mass"] == pytest.approx({key: float(softmax(found)[:2].sum()) for key, found in logits.items()})


@pytest.mark.slow
@given(st.integers(1, 300), st.integers(0, 2**31), st.data())
def test_few_shot_draws_are_those_of_datasets(rows: int, seed: int, data: st.DataObject) -> None:
    shots = data.draw(st.integers(1, rows))
    table = datasets.Dataset.from_dict({"row": list(range(rows))})
    drawn = table.shuffle(seed=seed, load_from_cache_file=False, keep_in_memory=True).select(range(shots))
    theirs = drawn.shuffle(seed=seed, load_from_cache_file=False, keep_in_memory=True)["row"]
    assert few_shot(rows, shots, seed) == list(theirs)
    assert set(few_shot(rows, max(1, shots // 2), seed)) <= set(few_shot(rows, shots, seed))


@pytest.mark.slow
def test_pools_for_any_k(movie: TALLRec) -> None:
    rows = list(movie.examples("train"))
    (one,) = draw(movie, Draw(shots=1)).examples
    assert one in rows
    few, more = (draw(movie, Draw(shots=shots, seed=7)) for shots in (16, 64))
    assert few.pool == 8000
    assert set(few.rows) < set(more.rows)
    assert [rows[row] for row in few.rows] == few.examples
    assert few.rows != draw(movie, Draw(shots=16, seed=8)).rows
    assert sorted(draw(movie, Draw()).rows) == list(range(8000))
    assert {example.answer for example in rows} == {"Yes.", "No."}
    with pytest.raises(BadSetting, match="shots=8001 is not between 1 and the 8000 rows"):
        draw(movie, Draw(shots=8001))


class TestMovieContract(TaskContract):
    task = TALLRec()
    splits = ("valid", "test")


@pytest.mark.slow
def test_the_book_contract(book: TALLRec) -> None:
    contract = TaskContract()
    contract.task, contract.splits = book, ("valid", "test")
    contract.test_the_protocol_holds()
