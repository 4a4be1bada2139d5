"""BM25: by hand, against its formula, and as an engine."""

from __future__ import annotations

from collections import Counter
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.search import search
from harness.engines import Engine
from harness.errors import RequestFailed
from harness.model import EngineOptions, ModelSettings
from harness.task import Task
from harness.testing import RankerContract
from harness.testing.rankers import replies
from harness.types import Generate, Item, Key, Rank, Ranked, Scores
from tests.test_search import Catalog, Shop, questions

OPTIONS = EngineOptions(threads=1)


def bm25(task: Task, **given: str) -> Engine:
    return search.find("BM25", task, "test", ModelSettings(given)).make(OPTIONS)


def scores_of(engine: Engine, rank: Rank) -> tuple[float, ...]:
    (reply,) = replies(engine, {"q": rank}).values()
    assert isinstance(reply, Scores)
    return reply.values


def test_bm25_by_hand() -> None:
    """Lengths are 2, 3 and 4, each query word is in two of three texts, and ln(1 + 1.5 / 2.5) is ln 1.6."""
    task = Catalog(texts_of=("Red SHOE", "red, red hat", "blue shoe box big"))
    found = scores_of(bm25(task), Rank("u", (), task.catalogue().items, "A red shoe?"))
    assert found == pytest.approx([2 * log(1.6) / 2.125, 2 * log(1.6) / 3.5, log(1.6) / 2.875], abs=1e-9)
    other = scores_of(bm25(task, k1="1", b="0"), Rank("u", (), task.catalogue().items, "red"))
    assert other == pytest.approx([log(1.6) / 2, log(1.6) * 2 / 3, 0], abs=1e-9)
    assert other[2] == 0


def by_formula(texts: list[list[str]], query: list[str]) -> list[float]:
    mean = sum(map(len, texts)) / len(texts)
    total = [0.0] * len(texts)
    for word in query:
        n = sum(word in text for text in texts)
        for place, text in enumerate(texts):
            f = Counter(text)[word]
            if f:
                weight = log(1 + (len(texts) - n + 0.5) / (n + 0.5))
                total[place] += weight * f / (f + 1.5 * (0.25 + 0.75 * len(text) / mean))
    return total


TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "cc", "dé", "e1"]), max_size=6), min_size=1, max_size=7)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(TEXTS, st.lists(st.sampled_from(["a", "b", "cc", "dé", "e1", "nowhere"]), max_size=5))
def test_bm25_is_its_formula_whatever_the_texts(texts: list[list[str]], query: list[str]) -> None:
    task = Catalog(texts_of=tuple(map(" ".join, texts)))
    engine = bm25(task)
    items = task.catalogue().items
    found = scores_of(engine, Rank("u", (), items, " ".join(query)))
    assert found == pytest.approx(by_formula(texts, query), abs=1e-8)
    for one, text in zip(found, texts, strict=True):
        assert all(other == one for other, same in zip(found, texts, strict=True) if sorted(same) == sorted(text))
    # In another order of words, what is equal stays equal.
    again = scores_of(engine, Rank("u", (), items, " ".join(query[::-1])))
    assert len(set(again)) == len(set(found))


def test_bm25_lists_the_catalogue_fairly() -> None:
    task = Catalog(texts_of=("red shoe", "hat", "shoe", "coat", "belt"))
    engine = bm25(task)
    found = replies(engine, {str(n): Rank("u", (), None, "shoe", frozenset({"i2"}), top=2) for n in range(40)})
    seconds = set()
    for reply in found.values():
        assert isinstance(reply, Ranked)
        assert reply.items[0] == "i0"
        assert reply.scores is not None
        assert reply.scores[1] == 0
        seconds.add(reply.items[1])
    assert seconds == {"i1", "i3", "i4"}, "which of the equal ones comes second is the hash's matter"


def test_stop_words_are_read_unless_told_otherwise() -> None:
    task = Catalog(texts_of=("the red", "a hat"))
    items = task.catalogue().items
    assert scores_of(bm25(task), Rank("u", (), items, "the"))[0] > 0
    assert scores_of(bm25(task, stopwords="english"), Rank("u", (), items, "the")) == (0, 0)


def test_a_candidate_from_elsewhere_comes_last() -> None:
    task = Catalog(texts_of=("hat", "coat"))
    stranger = Item("elsewhere", "shoe")
    (reply,) = replies(bm25(task), {"q": Rank("u", (), (stranger, *task.catalogue().items), "shoe")}).values()
    assert isinstance(reply, Scores)
    assert list(reply.values) == [-1, 0, 0]
    assert reply.facts == {"unknown": pytest.approx(1 / 3)}


def test_a_question_without_a_query_among_others_fails_alone() -> None:
    task = Catalog(texts_of=("hat", "shoe"))
    found = replies(bm25(task), {"with": Rank("u", (), None, "shoe"), "without": Rank("u", (), None)})
    assert isinstance(found["with"], Ranked)
    assert isinstance(found["without"], RequestFailed)


def test_texts_without_any_word() -> None:
    task = Catalog(texts_of=("", "?!"))
    assert scores_of(bm25(task), Rank("u", (), task.catalogue().items, "red")) == (0, 0)


class TestBM25(RankerContract):
    @pytest.fixture
    def engine(self) -> Engine:
        return bm25(Shop())

    @pytest.fixture
    def asked(self) -> dict[str, Rank]:
        return questions(True)


def test_other_requests_fail_alone() -> None:
    engine = bm25(Shop())
    engine.submit([(Key("text"), Generate("Hello", 3)), (Key("rank"), Rank("u", (), None, "hat"))])
    found = {key.instance: reply for key, reply in engine.collect()}
    assert isinstance(found["text"], RequestFailed)
    assert isinstance(found["rank"], Ranked)
