"""PALR: answers credited line by line, spelt from what is left, or scored; by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.engines import FunctionEngine
from harness.errors import NotApplicable, RequestFailed
from harness.runner import drive
from harness.types import (
    Choose,
    Generate,
    Instance,
    Item,
    Key,
    Prediction,
    Reply,
    Request,
    Scores,
    Text,
)
from tasks.palr import PALR

TEXTS = "af88fdbb"
"""sha256 over the texts as JSON, first eight digits."""


def answers(task: PALR, instance: Instance, reply: Reply | RequestFailed) -> Prediction:
    engine = FunctionEngine(lambda key, request: reply, Generate, Choose)
    ((_, outcome, _),) = drive([(instance.id, task.solve(instance))], engine)
    assert isinstance(outcome, Prediction)
    return outcome


def _first_first(palr: PALR, offered: Sequence[Item], request: Request) -> Reply:
    """A model that likes candidates in the order in which they are offered."""
    if isinstance(request, Choose):
        return Scores(tuple(-float(place) for place, _ in enumerate(request.options, 1)))
    assert isinstance(request, Generate)
    if request.options:
        return Text(next(option for option in request.options if option not in request.barred))
    return Text(" " + ", ".join(f'"{palr.said(item)}"' for item in offered))


class TestAnswers:
    def test_a_film_may_keep_its_year(self, palr: PALR, asked: Instance) -> None:
        said = [item for item in asked.shortlist or () if not item.text.endswith("(1997)")][:2]
        wrong = f"{palr.said(said[1])} (1897)"
        found = answers(palr, asked, Text(f' "{said[0].text}", "{palr.said(said[1])}", "{wrong}"'))
        assert found.ranking("") == tuple(item.id for item in said)
        assert (found.facts["exact"], found.facts["not_in_catalogue"]) == (2, 1)

    @pytest.mark.parametrize("way", [{}, {"decoding": "constrained"}, {"answer": "score"}])
    def test_what_was_seen_is_no_answer_however_it_is_given(self, palr: PALR, asked: Instance, way: Any) -> None:
        """Also where it is offered. Without masking it is one, as for conventional models."""
        task = replace(palr, remove_seen=False, top=3, **way)
        seen = next(item for item in palr.catalogue().items if item.id in asked.excluded)
        offered = (seen, *(asked.shortlist or ())[:2])
        for excluded, best in ((asked.excluded, offered[1].id), (frozenset[str](), seen.id)):
            question = replace(asked, shortlist=offered, excluded=excluded)
            engine = FunctionEngine(lambda key, request: _first_first(palr, offered, request), Generate, Choose)
            ((_, found, _),) = drive([("", task.solve(question))], engine)
            assert isinstance(found, Prediction)
            assert found.ranking("")[0] == best
            assert found.facts.get("in_history", 0) == (seen.id not in found.scores and "answer" not in way)

    def test_all_that_was_seen_is_taken_out_without_masking(self, palr_runs: Path, found: str) -> None:
        palr = PALR(candidates=found, runs=str(palr_runs), masking="none", shown=2, max_history=2)
        lines = {line.user: line for line in palr.timelines()}
        for question in palr.instances():
            met = {event.item.id for event in lines[question.user].events}
            assert met.isdisjoint(item.id for item in question.shortlist or ())

    def test_a_list_is_its_ranking(self, palr: PALR, asked: Instance) -> None:
        said = [palr.said(item) for item in asked.shortlist or ()][:10]
        found = answers(palr, asked, Text(" " + ", ".join(f'"{title}"' for title in said)))
        assert found.ranking("") == tuple(item.id for item in (asked.shortlist or ())[:10])
        assert {name: count for name, count in found.facts.items() if count} == {
            "lines": 10,
            "exact": 10,
            "spelled": 10,
        }

    def test_what_earns_nothing_takes_no_place(self, palr: PALR, asked: Instance) -> None:
        target = (asked.shortlist or ())[6]
        offered = {item.id for item in asked.shortlist or ()} | asked.excluded
        outside = next(i for i in palr.catalogue().items if i.id not in offered and i.id not in asked.relevance)
        seen = asked.history[-1].item
        lines = [f'"{palr.said(item)}"' for item in (seen, outside, target, target)]
        found = answers(palr, asked, Text(", ".join(['"No Film of This Name at All"', *lines])))
        assert found.ranking("") == (target.id,)
        counted = {name: count for name, count in found.facts.items() if count}
        wanted = {"not_in_catalogue": 1, "in_history": 1, "out_of_candidates": 1, "exact": 1, "duplicate": 1}
        assert counted == {**wanted, "lines": 5, "spelled": 4}

    def test_v1_credits_the_whole_catalogue(self, palr: PALR, asked: Instance) -> None:
        offered = {item.id for item in asked.shortlist or ()} | asked.excluded
        outside = next(item for item in palr.catalogue().items if item.id not in offered)
        found = answers(replace(palr, variant="v1"), asked, Text(f'"{palr.said(outside)}"'))
        assert list(found.scores) == [outside.id]

    def test_doubtful_lines_are_lenient(self, palr: PALR, asked: Instance) -> None:
        item = next(item for item in asked.shortlist or () if len(item.text) > 20 and item.text.isascii())
        said = palr.said(item)
        found = answers(palr, asked, Text(f'"{said[:5]}{said[4:]}"'))  # one letter twice
        assert (dict(found.scores), found.lenient, found.facts["fuzzy"]) == ({}, (item.id,), 1)

    def test_eleven_lines_are_ten(self, palr: PALR, asked: Instance) -> None:
        said = [f'"{palr.said(item)}"' for item in asked.shortlist or ()]
        assert len(answers(palr, asked, Text(", ".join(said))).scores) == 10

    def test_an_empty_answer_is_an_answer(self, palr: PALR, asked: Instance) -> None:
        found = answers(palr, asked, Text(""))
        assert (found.scores, found.facts["empty"], found.facts["lines"]) == ({}, 1, 1)


class Speller(FunctionEngine):
    """Writes the last of the options that are left, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Generate] = []
        super().__init__(self._spell, Generate, Choose)

    def _spell(self, key: Key, request: Request) -> Reply:
        assert isinstance(request, Generate)
        self.asked.append(request)
        return Text([option for option in request.options if option not in request.barred][-1])


class TestConstrained:
    def test_ten_candidates_each_once(self, palr: PALR, asked: Instance) -> None:
        engine, task = Speller(), replace(palr, decoding="constrained")
        ((_, found, _),) = drive([(asked.id, task.solve(asked))], engine)
        assert isinstance(found, Prediction)
        listed = [item.id for item in asked.shortlist or ()]
        assert found.ranking("") == tuple(listed[::-1][:10])
        assert len(engine.asked) == 10
        first, last = engine.asked[0], engine.asked[-1]
        assert engine.asked[2].prompt == task.prompt(asked) + "".join(first.options[::-1][:2])
        assert engine.asked[2].barred == first.options[::-1][:2]
        # Closed by a comma as in the texts that a model was tuned on, but for the last.
        assert all(option.endswith('",') for option in first.options)
        assert last.options == tuple(option.removesuffix(",") for option in first.options)
        assert found.text == "".join(first.options[::-1][:10]).removesuffix(",")
        assert found.facts["exact"] == found.facts["lines"] == 10

    def test_no_more_than_there_are(self, palr: PALR) -> None:
        task = replace(palr, decoding="constrained", top=4)
        instance = next(task.instances())
        ((_, found, _),) = drive([(instance.id, task.solve(instance))], Speller())
        assert isinstance(found, Prediction)
        assert len(found.scores) == 4

    def test_v1_spells_from_the_catalogue_without_what_was_seen(self) -> None:
        task, engine = PALR(variant="v1", decoding="constrained"), Speller()
        instance = next(task.instances())
        ((_, found, _),) = drive([(instance.id, task.solve(instance))], engine)
        assert isinstance(found, Prediction)
        first = engine.asked[0]
        items = task.catalogue().items
        assert first.options == tuple(dict.fromkeys(f' "{task.said(item)}",' for item in items))
        assert all(request.options is first.options for request in engine.asked[:9])
        fresh = {task.said(item) for item in items if item.id not in instance.excluded}
        seen = {f' "{task.said(item)}",' for item in items if task.said(item) not in fresh}
        assert set(first.barred) == seen
        assert len(seen) < len(instance.excluded)  # he saw one of two films called Chasing Amy
        assert len(found.scores) == 10
        assert instance.excluded.isdisjoint(found.scores)


class TestScore:
    def test_candidates_by_the_probability_of_their_text(self, palr: PALR, asked: Instance) -> None:
        task = replace(palr, answer="score", top=3)
        instance = replace(asked, shortlist=(asked.shortlist or ())[:3])
        found = answers(task, instance, Scores((-3.0, -1.0, -2.0)))
        listed = [item.id for item in instance.shortlist or ()]
        assert found.ranking("") == (listed[1], listed[2], listed[0])

    def test_not_without_candidates(self) -> None:
        task = PALR(variant="v1", answer="score")
        with pytest.raises(NotApplicable, match="variant=v1 has none; use variant=v2"):
            next(task.solve(next(task.instances())))
