"""What every engine that ranks items must keep to. Subclass `RankerContract` and give it the fixtures `engine` and
`asked`: at least eight questions of different users, half of them with candidates and half on the whole catalogue.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.engines import Engine
from harness.errors import RequestFailed
from harness.types import Key, Rank, Ranked, Reply, Scores


def replies(engine: Engine, asked: Mapping[str, Rank]) -> dict[str, Reply | RequestFailed]:
    """Ask all at once, by name; each must be answered exactly once."""
    engine.submit([(Key(name), request) for name, request in asked.items()])
    found: dict[str, Reply | RequestFailed] = {}
    while answered := engine.collect():
        for key, reply in answered:
            assert key.instance not in found, f"{key} was answered twice"
            found[key.instance] = reply
    assert set(found) == set(asked)
    return found


class RankerContract:
    tolerance = 1e-4
    """Largest change of a score that another batch may make."""

    def test_says_what_it_answers(self, engine: Engine) -> None:
        assert engine.answers == {Rank}
        assert engine.capacity >= 1

    def test_nothing_in_hand_is_an_empty_answer(self, engine: Engine) -> None:
        assert list(engine.collect()) == []

    def test_candidates_get_finite_scores_and_the_catalogue_a_list(
        self, engine: Engine, asked: Mapping[str, Rank]
    ) -> None:
        for name, reply in replies(engine, asked).items():
            candidates = asked[name].candidates
            if candidates is not None:
                assert isinstance(reply, Scores)
                assert len(reply.values) == len(candidates)
                assert all(map(math.isfinite, reply.values))
            else:
                assert isinstance(reply, Ranked)
                assert 0 < len(reply.items) <= asked[name].top
                assert len(set(reply.items)) == len(reply.items)
                assert reply.scores is None or sorted(reply.scores, reverse=True) == list(reply.scores)

    def test_what_is_excluded_is_not_named(self, engine: Engine, asked: Mapping[str, Rank]) -> None:
        listed = {name: request for name, request in asked.items() if request.candidates is None}
        first = {name: named(reply) for name, reply in replies(engine, listed).items()}
        without = {name: replace(listed[name], excluded=frozenset(items[:5])) for name, items in first.items()}
        for name, reply in replies(engine, without).items():
            # The others move up, and keep their order.
            kept = [item for item in first[name] if item not in without[name].excluded]
            assert [item for item in named(reply) if item in kept] == kept
            assert not without[name].excluded & set(named(reply))

    def test_a_shorter_list_is_the_beginning_of_a_longer_one(self, engine: Engine, asked: Mapping[str, Rank]) -> None:
        listed = {name: request for name, request in asked.items() if request.candidates is None}
        long = replies(engine, listed)
        short = replies(engine, {name: replace(request, top=3) for name, request in listed.items()})
        for name, reply in short.items():
            assert named(reply) == named(long[name])[:3]

    def test_neither_order_nor_company_matters(self, engine: Engine, asked: Mapping[str, Rank]) -> None:
        together = replies(engine, asked)
        names = sorted(asked)
        random.Random(0).shuffle(names)
        for part in (names[:3], names[3:]):
            for name, reply in replies(engine, {name: asked[name] for name in part}).items():
                self.same(reply, together[name])

    def test_the_order_of_candidates_does_not_matter(self, engine: Engine, asked: Mapping[str, Rank]) -> None:
        given = {name: request for name, request in asked.items() if request.candidates}
        turned = {
            name: replace(request, candidates=(request.candidates or ())[::-1]) for name, request in given.items()
        }
        there, back = replies(engine, given), replies(engine, turned)
        for name, reply in there.items():
            other = back[name]
            assert isinstance(reply, Scores)
            assert isinstance(other, Scores)
            self.close(reply.values, other.values[::-1])

    def test_closing_forgets_what_is_in_hand(self, engine: Engine, asked: Mapping[str, Rank]) -> None:
        engine.submit([(Key(name), request) for name, request in asked.items()])
        engine.close()
        assert list(engine.collect()) == []

    def same(self, one: Reply | RequestFailed, other: Reply | RequestFailed) -> None:
        if isinstance(one, Scores):
            assert isinstance(other, Scores)
            self.close(one.values, other.values)
        else:
            assert named(one) == named(other)

    def close(self, one: Sequence[float], other: Sequence[float]) -> None:
        assert max(abs(x - y) for x, y in zip(one, other, strict=True)) <= self.tolerance


def named(reply: Reply | RequestFailed) -> list[str]:
    assert isinstance(reply, Ranked)
    return list(reply.items)
