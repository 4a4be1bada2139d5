"""The parser reads any answer, whatever a model writes: every line in one class, every item of the catalogue."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.parsing import Names, read
from harness.parsing.reading import LENIENT
from harness.types import Item

TITLES = (
    *("Toy Story (1995)", "Heat (1995)", "Matrix, The (1999)", "Seven (a.k.a. Se7en) (1995)", "8½ (1963)", "M (1931)"),
    *("Batman: The Animated Series", "12 Angry Men (1957)", "Misérables, Les (1995)", "Crème, 50 ml (Pack of 2)"),
    *("A", "*", "", "[REC] (2007)", 'The "Burbs" (1989)', "And, or; Or | Not / Both", "İ", "ﬁ", "Alien³ (1992)"),
    "Heat (1995)",
)
ITEMS = tuple(Item(str(n), title) for n, title in enumerate(TITLES))
CODES = {str(n): f"B00X{n:06}" for n in range(0, len(TITLES), 2)}
PARTS = (
    *("1. ", "2) ", "- ", "* ", "• ", "10. ", "# ", "| ", "**", "__", "`", "~~", "```json\n", "```", '"', "“", "”"),
    *("'", "[", "]", "{", "}", "(", ")", ":", ", ", "; ", " - ", " — ", "\n", "\n\n", "\r\n", "\t", "  ", "\x00"),
    *("\u200b", "\ufe0f", "\u2028", "\ud800", "\u0130", "𝕳", "²", "½", "<think>", "</think>", "<br>", "<|im_end|>"),
    *("[/INST]", "</s>", "\\", "&amp;", "by Ann", "(1995)", "year", "Answer:", "null", "because it is a film that"),
    *("Sure! Here are ten movies:", "I'm sorry, but I can't", '{"title": "Heat", "year": 1995}', '["Heat (1995)", "A"'),
    *('{"asin": "B00X000002"}', '{"x": [{"y": ["A"]}]}'),
)
ANSWERS = st.lists(
    st.sampled_from([*TITLES, *CODES.values(), *PARTS]) | st.text(st.characters(), max_size=6), max_size=30
).map("".join)


@cache
def names(coded: bool) -> Names:
    return Names(ITEMS, CODES if coded else None)


def check(text: str, coded: bool, some: set[str], finish: Literal["stop", "length"]) -> None:
    """What holds of every reading."""
    known = {item.id for item in ITEMS}
    for candidates, history in ((None, set[str]()), (some, known - some), (known, some)):
        found = read(text, names(coded), candidates=candidates, history=history, finish=finish)
        assert 1 <= len(found.lines) <= 10
        assert sum(found.counts.values()) == len(found.lines)
        for line in found.lines:
            assert line.item is None or line.item in known
            assert line.item is not None or line.outcome not in LENIENT
            json.dumps(line.text)
        assert len(set(found.lenient)) == len(found.lenient)
        assert set(found.strict) <= set(found.lenient) <= (known if candidates is None else candidates) - history


SOME = st.sets(st.sampled_from([item.id for item in ITEMS]), max_size=5)
FINISH: st.SearchStrategy[Literal["stop", "length"]] = st.sampled_from(["stop", "length"])


@pytest.mark.slow
@settings(max_examples=150)
@given(ANSWERS, st.booleans(), SOME, FINISH)
def test_any_text_is_read(text: str, coded: bool, some: set[str], finish: Literal["stop", "length"]) -> None:
    check(text, coded, some, finish)


@pytest.mark.stress
@settings(max_examples=20_000)
@given(ANSWERS, st.booleans(), SOME, FINISH)
def test_any_text_is_read_many_times(text: str, coded: bool, some: set[str], finish: Literal["stop", "length"]) -> None:
    check(text, coded, some, finish)


LENGTH = 16_000
"""Characters: more than any task lets a model write."""
LOOPS = ('"', "“", "\u2028", "  ", "(''ﬁ", 'a{"title": "Heat", "year": 1995}')
"""What kept the parser busy for minutes once."""


@contextmanager
def seconds(most: int) -> Iterator[None]:
    """Not a measurement: what hangs takes minutes, and the rest a hundredth of this."""

    def late(number: int, frame: object) -> None:
        raise AssertionError("the parser hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(most)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
def test_a_model_that_repeats_itself_to_the_end_is_read() -> None:
    with seconds(120):
        for loop in LOOPS:
            whole = f"**A**{loop * (LENGTH // len(loop))}A"
            assert read(whole, names(True), candidates=None, history=()).lines


@pytest.mark.stress
@settings(max_examples=1000)
@given(st.sampled_from(TITLES), st.lists(st.sampled_from([*TITLES[:5], *PARTS, *LOOPS]), min_size=1, max_size=3))
def test_a_model_that_repeats_some_words_is_read(start: str, loop: list[str]) -> None:
    with seconds(60):
        text = "".join(loop)
        check(start + text * (LENGTH // max(1, len(text))), True, {"0"}, "length")
