"""Groups of prompts that begin alike: by hand, and against the definition read off all beginnings."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from harness.engines.beginnings import PASS, SHARE, Group, common, group
from harness.engines.encode import Ids

BLOCK = 90
"""Tokens for each letter of a prompt below: three letters shared by two are worth a little more than a pass."""
words = st.lists(st.text("abc", min_size=1, max_size=6), max_size=12)


def prompt(word: str) -> Ids:
    return tuple(ord(letter) for letter in word for _ in range(BLOCK))


def alike(prompts: Sequence[Ids]) -> int:
    """Tokens that all of them begin with."""
    columns = (len(set(tokens)) == 1 for tokens in zip(*prompts, strict=False))
    return sum(takewhile(bool, columns))


def saved_at_best(prompts: list[Ids]) -> int:
    """From the definition: all of them in one group, or what is best among those that go on alike."""
    if len(prompts) < 2:
        return 0
    shared = alike(prompts)
    inside = sum(
        saved_at_best([one for one in prompts if one[shared : shared + 1] == (token,)])
        for token in {one[shared] for one in prompts if len(one) > shared}
    )
    whole = (len(prompts) - 1) * shared - PASS
    return whole if whole >= SHARE * sum(map(len, prompts)) and whole >= inside else inside


def test_by_hand() -> None:
    one, other = (1,) * 700, (2,) * 200
    prompts = [(*one, 3), (9, 9), (*other, 4), (*one, 5), other, (*one, 3, 3), (*other, 6), (9, 9)]
    # (*one, 3) and (*one, 3, 3) have a token more in common, but three prompts share the others.
    expected = [Group((0, 5, 3), 700, 2 * 700 - PASS), Group((4, 2, 6), 200, 2 * 200 - PASS)]
    assert group(prompts) == expected[:1], "what is saved on the second is less than a quarter of its tokens"
    assert group([*prompts, (*other, 7)]) == [*expected[:1], Group((4, 2, 6, 8), 200, 3 * 200 - PASS)]


def test_groups_inside_are_better_than_a_short_instruction_for_all() -> None:
    instruction = (0,) * 50
    users = [(*instruction, *(user,) * 600) for user in (1, 2, 3)]
    found = group([(*user, 100 + film) for film in range(7) for user in users])
    assert [one.shared for one in found] == [650, 650, 650]
    assert [one.members for one in found] == [tuple(range(first, 21, 3)) for first in range(3)]


def test_nothing_is_grouped_where_little_is_shared() -> None:
    assert group([]) == []
    assert group([()]) == []
    assert group([(), (), (1,)]) == []
    assert group([(7,) * 5000]) == []
    assert group([(*(0,) * 50, *(film,) * 200) for film in range(1, 500)]) == []


def test_the_same_prompt_twice_is_a_group() -> None:
    long = tuple(range(2000))
    assert group([long, long]) == [Group((0, 1), 2000, 2000 - PASS)]


@given(words)
def test_as_much_is_saved_as_the_definition_allows(found: list[str]) -> None:
    prompts = [prompt(word) for word in found]
    groups = group(prompts)
    members = [place for one in groups for place in one.members]
    assert len(set(members)) == len(members)
    for one in groups:
        inside = [prompts[place] for place in one.members]
        assert len(inside) > 1
        assert one.shared == alike(inside)
        assert one.saved == (len(inside) - 1) * one.shared - PASS
        assert one.saved >= SHARE * sum(map(len, inside))
    assert sum(one.saved for one in groups) == saved_at_best(prompts)


@given(words, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(found: list[str], draw: random.Random) -> None:
    prompts = [prompt(word) for word in found]
    mixed = draw.sample(prompts, len(prompts))

    def as_texts(texts: list[Ids]) -> list[list[Ids]]:
        return sorted(sorted(texts[place] for place in one.members) for one in group(texts))

    assert as_texts(prompts) == as_texts(mixed)


@given(st.text("ab", max_size=40), st.text("ab", max_size=40), st.text("ab", max_size=40))
def test_what_two_prompts_have_in_common(front: str, one: str, other: str) -> None:
    pair = [tuple(map(ord, front + rest)) for rest in (one, other)]
    assert common(*pair) == alike(pair)
