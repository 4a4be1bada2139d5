"""PALR's tuning texts: which users and windows, what they may know, and that no held-out event reaches them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import Dataset
from harness.types import Event, Item, Timeline
from tasks.palr import PALR
from tasks.palr_texts import Choices, Texts
from tasks.sequential import LeaveOneOut

PLAIN = Choices(share=1.0, seed=0, shown=3, wanted=2, stride=1, negatives=0, swaps=0.0, enrich=False, mixed=True)
LINES = ("abcdef", "abxyz", "mnab", "k")
DIGEST = "b8757dae7cd5"
"""sha256 over every twentieth tuning text of ml-100k's chosen users, first twelve digits."""


def texts(how: Choices, lines: Sequence[str] = LINES, alphabet: str = "abcdefkmnxyz") -> Texts:
    made = [
        Timeline(f"u{n}", tuple(Event(Item(letter, letter.upper())) for letter in line)) for n, line in enumerate(lines)
    ]
    return Texts(made, {letter: place for place, letter in enumerate(alphabet)}, how)


def letters(places: Sequence[int], alphabet: str = "abcdefkmnxyz") -> str:
    return "".join(alphabet[place] for place in places)


class TestByHand:
    def test_windows(self) -> None:
        found = [(letters(w.history), letters(w.targets)) for w in texts(PLAIN, LINES[:1]).windows()]
        assert found == [("a", "bc"), ("ab", "cd"), ("abc", "de"), ("bcd", "ef"), ("cde", "f")]

    def test_a_stride_leaves_windows_out(self) -> None:
        found = [letters(w.history) for w in texts(replace(PLAIN, stride=2), LINES[:1]).windows()]
        assert found == ["a", "abc", "cde"]

    def test_without_negatives_the_targets_alone_are_offered(self) -> None:
        assert all(sorted(w.offered) == sorted(w.targets) for w in texts(PLAIN).windows())

    def test_similar_items_are_what_others_met_beside_the_targets(self) -> None:
        made = [next(texts(replace(PLAIN, negatives=9, seed=seed)).windows_of("u2")) for seed in range(40)]
        assert {letters(window.targets) for window in made} == {"na"}
        # Beside a: b c d e f of the first user, b x y z of the second; b he met himself, m and n nobody else.
        assert set().union(*(letters(window.offered) for window in made)) == set("nacdefxyz")
        assert {len(window.offered) for window in made} == set(range(2, 10))

    def test_short_lists_are_filled_from_users_who_share_an_item(self) -> None:
        made = texts(replace(PLAIN, enrich=True, wanted=4), ("mn", "nz", "ab"))
        assert [letters(window.targets) for window in made.windows_of("u0")] == ["nz"]  # nobody links a or b to m or n

    def test_swaps_move_items_and_lose_none(self) -> None:
        plain, swapped = (list(texts(replace(PLAIN, swaps=rate), LINES[:1]).windows()) for rate in (0.0, 1.0))
        assert plain != swapped
        for before, after in zip(plain, swapped, strict=True):
            assert Counter(before.history + before.targets) == Counter(after.history + after.targets)
            assert len(before.targets) == len(after.targets)

    def test_targets_in_no_order_are_the_same_targets(self) -> None:
        in_time, drawn = (texts(replace(PLAIN, wanted=4, drawn=drawn)).windows() for drawn in (False, True))
        pairs = [(ours.targets, theirs.targets) for ours, theirs in zip(in_time, drawn, strict=True)]
        assert all(sorted(ours) == sorted(theirs) for ours, theirs in pairs)
        assert any(ours != theirs for ours, theirs in pairs)

    def test_a_share_of_the_users_is_drawn_by_seed_and_nested(self) -> None:
        lines = ["abc"] * 40
        chosen = [set(texts(replace(PLAIN, share=share), lines).users) for share in (0.1, 0.2, 1.0)]
        assert [len(users) for users in chosen] == [4, 8, 40]
        assert chosen[0] < chosen[1] < chosen[2]
        assert set(texts(replace(PLAIN, share=0.2, seed=1), lines).users) != chosen[1]


LINE = st.text("abcdefkmnxyz", max_size=9).map(lambda text: "".join(dict.fromkeys(text)))


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.lists(LINE, min_size=1, max_size=6),
    st.builds(
        Choices,
        share=st.sampled_from([0.3, 1.0]),
        seed=st.integers(0, 3),
        shown=st.integers(1, 4),
        wanted=st.integers(1, 4),
        stride=st.integers(1, 3),
        negatives=st.integers(0, 5),
        swaps=st.sampled_from([0.0, 0.5]),
        enrich=st.booleans(),
        mixed=st.booleans(),
        drawn=st.booleans(),
    ),
)
def test_every_window_keeps_the_rules(lines: list[str], how: Choices) -> None:
    made = texts(how, lines)
    chosen = {user: lines[int(user[1:])] for user in made.users}
    met = set("".join(chosen.values()))
    for user, line in chosen.items():
        for window in made.windows_of(user):
            history, targets, offered = map(letters, window[:3])
            assert 1 <= len(history) <= how.shown
            assert 1 <= len(targets) <= how.wanted
            assert len(set(history + targets)) == len(history + targets)
            assert set(targets) <= set(offered)
            assert len(set(offered)) == len(offered) <= len(targets) + how.negatives
            assert not (set(offered) - set(targets)) & set(line)
            assert how.mixed or "".join(item for item in offered if item in targets) == targets
            assert set(history + offered) <= met  # nothing that only other users met
    assert list(made.windows()) == [window for user in made.users for window in made.windows_of(user)]


class HeldOutMoved(PALR):
    """Every user is tested on what the one before him was: another answer for each, and the same training events."""

    def _kept(self) -> Dataset:
        data = super()._kept()
        order, starts = data.timelines
        last = order[starts[1:] - 1]
        item = data.item.copy()
        item[last] = np.roll(item[last], 1)
        return replace(data, item=item)


class TestGuards:
    @pytest.mark.slow
    def test_what_is_held_out_changes_no_text(self) -> None:
        task, other = PALR(k_core=0, stride=20), HeldOutMoved(k_core=0, stride=20)
        ours, theirs = ([i.relevance for i in LeaveOneOut.instances(one, "test")] for one in (task, other))
        assert sum(mine != other for mine, other in zip(ours, theirs, strict=True)) > 900
        assert digest(task) == digest(other)

    def test_pinned(self) -> None:
        assert digest(PALR(stride=20)) == DIGEST


def digest(task: PALR) -> str:
    content = sha256()
    for example in task.examples("train"):
        content.update(f"{example.prompt}\0{example.answer}\0".encode())
    return content.hexdigest()[:12]
