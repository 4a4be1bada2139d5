"""The response cache: the same question is asked once, a different one never gets its answer."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engines import FunctionEngine
from harness.engines.cache import Cached, ResponseCache
from harness.errors import HarnessError, RequestFailed
from harness.types import Choose, Event, Generate, Item, Key, Rank, Ranked, Reply, Request, Scores, Text, Usage

ASKED = Choose("Does she like it?", ("Yes", "No"))


class Model:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def answer(self, key: Key, request: Request) -> Reply | RequestFailed:
        self.asked.append(request)
        if isinstance(request, Generate) and request.prompt == "fail":
            return RequestFailed("no")
        if isinstance(request, Generate):
            return Text(f"answer {len(self.asked)}", "length", Usage(5, 2))
        return Scores((-0.5, -1.0 / 3), Usage(9, 0))


def ask(cache: ResponseCache, model: Model, requests: Sequence[Request], **who: str) -> list[Reply | RequestFailed]:
    engine = Cached(FunctionEngine(model.answer, Choose, Generate, Rank), cache, {"weights": "w", **who})
    engine.submit([(Key(str(n)), request) for n, request in enumerate(requests)])
    found: dict[Key, Reply | RequestFailed] = {}
    while answered := engine.collect():
        found |= dict(answered)
    return [found[Key(str(n))] for n in range(len(requests))]


@pytest.fixture
def cache(tmp_path: Path) -> ResponseCache:
    return ResponseCache(tmp_path / "deep" / "responses.sqlite")


def test_a_question_is_asked_once_and_answered_the_same(cache: ResponseCache) -> None:
    model = Model()
    requests: list[Request] = [ASKED, Generate("write", 8), Generate("write", 8, temperature=1.0, seed=3)]
    first = ask(cache, model, requests)
    assert ask(cache, model, requests) == first
    assert len(model.asked) == 3


@pytest.mark.parametrize("other", [{"weights": "v"}, {"adapter": "a"}, {"template": "chat"}, {"software": "hf 2"}])
def test_another_model_never_gets_its_answer(cache: ResponseCache, other: dict[str, str]) -> None:
    model = Model()
    ask(cache, model, [ASKED])
    engine = Cached(FunctionEngine(model.answer, Choose), cache, {"weights": "w", **other})
    engine.submit([(Key("0"), ASKED)])
    assert engine.hits == 0


def test_every_field_of_a_request_counts(cache: ResponseCache) -> None:
    write = Generate("write", 8, seed=1)
    variants: list[Request] = [ASKED, Choose(ASKED.prompt, ("No", "Yes")), Choose("Other", ASKED.options), write]
    variants += [replace(write, prompt="rite"), replace(write, max_tokens=9), replace(write, stop=("x",))]
    variants += [replace(write, temperature=0.5), replace(write, top_p=0.5), replace(write, seed=2)]
    model = Model()
    ask(cache, model, variants)
    assert model.asked == variants


def test_what_may_differ_next_time_is_not_kept(cache: ResponseCache) -> None:
    model = Model()
    rank = Rank("u", (Event(Item("a", "a")),), (Item("b", "b"),))
    requests: list[Request] = [Generate("fail", 8), Generate("write", 8, temperature=1.0), rank]
    ask(cache, model, requests)
    ask(cache, model, requests)
    assert len(model.asked) == 6


def test_a_spoilt_entry_is_asked_again(cache: ResponseCache, tmp_path: Path) -> None:
    model = Model()
    ask(cache, model, [ASKED])
    with sqlite3.connect(tmp_path / "deep" / "responses.sqlite") as raw:
        raw.execute("update answers set body = replace(body, '-0.5', '-0.4')")
    raw.close()
    assert ask(cache, model, [ASKED]) == [Scores((-0.5, -1.0 / 3), Usage(9, 0))]
    assert len(model.asked) == 2


@pytest.mark.parametrize("body", ["cast(x'ff00fe' as text)", "x'00'", "'{}'"])
def test_whatever_stands_in_a_spoilt_entry_is_asked_again(cache: ResponseCache, tmp_path: Path, body: str) -> None:
    model = Model()
    ask(cache, model, [ASKED])
    with sqlite3.connect(tmp_path / "deep" / "responses.sqlite") as raw:
        raw.execute(f"update answers set body = {body}")
    raw.close()
    assert ask(cache, model, [ASKED]) == [Scores((-0.5, -1.0 / 3), Usage(9, 0))]
    assert len(model.asked) == 2


TEXTS = st.text(st.characters())  # halves of surrogate pairs, too: a model's tokens may end within a character
NUMBERS = st.floats(allow_nan=False)
USAGES = st.builds(Usage, st.integers(0, 10**9), st.integers(0, 10**9))
FACTS = st.dictionaries(TEXTS, NUMBERS, max_size=3)
REPLIES = (
    st.builds(Text, TEXTS, st.sampled_from(["stop", "length"]), USAGES)
    | st.builds(Scores, st.lists(NUMBERS).map(tuple), USAGES, FACTS, st.lists(st.integers(0, 99)).map(tuple))
    | st.builds(Ranked, st.lists(TEXTS).map(tuple), USAGES, st.none() | st.lists(NUMBERS).map(tuple), FACTS)
)


@pytest.mark.slow
def test_answers_survive_to_the_bit(cache: ResponseCache) -> None:
    @given(st.dictionaries(st.binary(max_size=40), REPLIES, max_size=4))
    def survives(made: dict[bytes, Reply]) -> None:
        cache.put(made)
        found = {key: cache.get(key) for key in made}
        assert found == made
        assert repr(found) == repr(made)  # minus zero equals zero, and a list may equal no tuple

    survives()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_asked_again(cache: ResponseCache, value: float) -> None:
    asked: list[Request] = []

    def answer(key: Key, request: Request) -> Reply:
        asked.append(request)
        return Scores((value, -1.0)) if len(asked) == 1 else Scores((-0.5, -1.0))

    for _ in range(3):
        engine = Cached(FunctionEngine(answer, Choose), cache, {})
        engine.submit([(Key("0"), ASKED)])
        last = engine.collect()
    assert last == [(Key("0"), Scores((-0.5, -1.0)))]
    assert len(asked) == 2


def test_a_file_that_is_no_cache_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "r.sqlite").write_text("this is not a database, and it is long enough to be looked at" * 50)
    with pytest.raises(HarnessError, match="run `harness cache clear`, or say --no-cache"):
        ResponseCache(tmp_path / "r.sqlite")
