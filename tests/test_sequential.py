"""Leave one out: splits by hand and against pandas, ties, masks, draws that stay what they were, and the prompt."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import Dataset, load
from harness.data.candidates import Urn
from harness.engines import FunctionEngine
from harness.errors import BadSetting, NotApplicable, RequestFailed
from harness.registry import build, task_kinds
from harness.runner import drive
from harness.signature import identify
from harness.testing import TaskContract, check_task
from harness.types import SPLITS, Choose, Event, Instance, Item, Key, Prediction, Reply, Request, Scores, Split
from tasks.prompts import load_texts
from tasks.sequential import Sequential
from tests.fakes import text_engine

TEXTS = "b776294c"
"""sha256 over the texts as JSON, first eight digits."""
DRAWS = {"uniform": "2620513d6784", "popularity": "e9e515b15e16"}
"""sha256 over ids and candidates of ml-100k's test instances, first twelve digits."""

Row = tuple[str, str, int, float]
"""User, item, time, rating."""
ROWS: list[Row] = [
    ("ann", "p", 30, 5),
    ("bob", "q", 10, 5),
    ("ann", "q", 20, 1),
    ("ann", "r", 20, 4),  # a tie with the line above
    ("cid", "s", 5, 5),
    ("bob", "p", 10, 5),  # ties with all of bob's
    ("ann", "s", 10, 5),
    ("bob", "r", 10, 2),
    ("cid", "t", 4, 5),
    ("ann", "t", 40, 4),
    ("dan", "u", 7, 5),
]
"""Of seven items v is met by nobody. In time ann met s q r p t, bob q p r, cid t s, dan u."""


def toy(rows: Sequence[Row], catalogue: str = "pqrstuv") -> Dataset:
    users = list(dict.fromkeys(user for user, _, _, _ in rows))
    return Dataset(
        name="toy",
        items=tuple(Item(letter, f"title of {letter}") for letter in catalogue),
        users=tuple(users),
        user=np.array([users.index(row[0]) for row in rows]),
        item=np.array([catalogue.index(row[1]) for row in rows]),
        rating=np.array([row[3] for row in rows]),
        time=np.array([row[2] for row in rows]),
    )


@dataclass(frozen=True)
class Toy(Sequential):
    """The protocol on rows of a test's own."""

    rows: tuple[Row, ...] = tuple(ROWS)

    @cached_property
    def _whole(self) -> Dataset:
        return toy(self.rows)


def asked(task: Sequential, split: Split) -> dict[str, Instance]:
    return {instance.id: instance for instance in task.instances(split)}


def shown(instance: Instance) -> str:
    return "".join(event.item.id for event in instance.history)


def target(instance: Instance) -> str:
    ((item, relevance),) = instance.relevance.items()
    assert relevance == 1
    return item


class TestByHand:
    def test_the_last_event_tests_and_the_one_before_validates(self) -> None:
        task = Toy()
        found = {split: [(i, shown(q), target(q)) for i, q in asked(task, split).items()] for split in SPLITS}
        assert found == {
            "test": [("test-ann", "sqrp", "t"), ("test-bob", "qp", "r")],
            "valid": [("valid-ann", "sqr", "p"), ("valid-bob", "q", "p")],
            "train": [("train-ann-1", "s", "q"), ("train-ann-2", "sq", "r"), ("train-cid-1", "t", "s")],
        }
        assert [task.size(split) for split in SPLITS] == [3, 2, 2]

    def test_events_have_times_and_count_alike(self) -> None:
        history = asked(Toy(), "test")["test-ann"].history
        assert [event.time for event in history] == [10, 20, 20, 30]
        assert all(event.liked for event in history)  # q has a rating of 1
        assert history[0] == Event(Item("s", "title of s"), True, 10)

    def test_timelines_are_the_training_events(self) -> None:
        timelines = [(line.user, "".join(event.item.id for event in line.events)) for line in Toy().timelines()]
        assert timelines == [("ann", "sqr"), ("bob", "q"), ("cid", "ts"), ("dan", "u")]

    def test_the_catalogue_is_what_somebody_met_and_counts_training_alone(self) -> None:
        catalogue = Toy().catalogue()
        assert [item.id for item in catalogue.items] == list("pqrstu")
        assert catalogue.met == {"q": 2, "r": 1, "s": 2, "t": 1, "u": 1}

    def test_all_instances_share_one_catalogue(self) -> None:
        for task in (Toy(), Toy(candidates="uniform", negatives=1)):
            assert {id(q.catalogue) for split in SPLITS for q in task.instances(split)} == {id(task.catalogue())}

    def test_a_history_is_cut_at_its_old_end(self) -> None:
        task = Toy(max_history=2)
        assert shown(asked(task, "test")["test-ann"]) == "rp"
        assert shown(asked(task, "train")["train-ann-2"]) == "sq"
        assert asked(task, "test")["test-ann"].excluded == set("sqrp")

    def test_traits_count_what_is_not_shown(self) -> None:
        task = Toy(max_history=1)
        traits = {i: task.traits(q) for split in SPLITS for i, q in asked(task, split).items()}
        assert traits["test-ann"] == {"history": 4, "popularity": 1}
        assert traits["valid-ann"] == {"history": 3, "popularity": 0}
        assert traits["train-ann-2"] == {"history": 2, "popularity": 1}
        assert traits["train-cid-1"] == {"history": 1, "popularity": 2}

    def test_low_ratings_go_before_anything_else(self) -> None:
        task = Toy(min_rating=4)
        assert [(shown(q), target(q)) for q in task.instances("test")] == [("srp", "t")]
        assert [line.user for line in task.timelines()] == ["ann", "bob", "cid", "dan"]

    def test_filters_that_leave_nobody(self) -> None:
        with pytest.raises(BadSetting, match="min_rating=6 and k_core=0 leave no user of ml-100k with three events"):
            list(Toy(min_rating=6).instances())


class TestMasking:
    def test_what_was_seen_is_no_answer(self) -> None:
        assert asked(Toy(), "test")["test-ann"].excluded == set("sqrp")
        assert asked(Toy(), "valid")["valid-ann"].excluded == set("sqr")
        assert not any(question.excluded for question in Toy().instances("train"))

    def test_a_target_seen_before_stays_an_answer(self) -> None:
        again: list[Row] = [("dan", item, time, 5) for time, item in enumerate("pqrqp")]
        task = Toy(rows=tuple(again))
        assert [(target(q), q.excluded) for q in task.instances("test")] == [("p", frozenset("qr"))]

    def test_none(self) -> None:
        assert not any(q.excluded for split in SPLITS for q in Toy(masking="none").instances(split))

    def test_only_recbole_s_rule_spares_sequential_models(self) -> None:
        answers = {task.masking: (task.masks(True), task.masks(False)) for task in map(masked, ("seen", "none"))}
        assert answers == {"seen": (True, True), "none": (True, True)}
        recbole = masked("recbole")
        assert (recbole.masks(True), recbole.masks(False)) == (False, True)
        assert asked(recbole, "test")["test-ann"].excluded == set("sqrp")

    def test_sampled_candidates_need_none(self) -> None:
        assert not any(q.excluded for q in Toy(candidates="uniform", negatives=1).instances("valid"))


def masked(masking: str) -> Sequential:
    return build(Toy, {"masking": masking}, "task")


EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("pqrst"), st.integers(0, 3), st.just(5.0)))


@settings(deadline=None)
@given(EVENTS, st.integers(1, 4))
def test_splits_are_what_a_plain_loop_makes(rows: list[Row], most: int) -> None:
    lines = {user: [row[1] for row in sorted(rows, key=lambda r: r[2]) if row[0] == user] for user, _, _, _ in rows}
    task = Toy(rows=tuple(rows), max_history=most)
    if not any(len(line) > 2 for line in lines.values()):
        with pytest.raises(BadSetting):
            task.size()
        return
    expected: dict[Split, list[tuple[str, list[str], str]]] = {"train": [], "valid": [], "test": []}
    for user, line in lines.items():
        held = 2 if len(line) > 2 else 0
        for place in range(1, len(line) - held):
            expected["train"].append((f"train-{user}-{place}", line[:place][-most:], line[place]))
        if held:
            expected["valid"].append((f"valid-{user}", line[:-2][-most:], line[-2]))
            expected["test"].append((f"test-{user}", line[:-1][-most:], line[-1]))
    for split in SPLITS:
        assert [(q.id, list(shown(q)), target(q)) for q in task.instances(split)] == expected[split]
        assert task.size(split) == len(expected[split])
    trained = [item for line in lines.values() for item in (line[:-2] if len(line) > 2 else line)]
    assert task.catalogue().met == Counter(trained)


@pytest.fixture(scope="module")
def films() -> Sequential:
    return Sequential()


class TestMovieLens:
    def test_counts(self, films: Sequential) -> None:
        assert [films.size(split) for split in SPLITS] == [97_171, 943, 943]
        assert [sum(1 for _ in films.instances(split)) for split in SPLITS] == [97_171, 943, 943]
        assert sum(len(line.events) for line in films.timelines()) == 98_114
        assert len(films.catalogue().items) == 1682
        assert sum(films.catalogue().met.values()) == 98_114

    def test_targets_are_those_of_pandas(self, films: Sequential) -> None:
        data = load("ml-100k")
        frame = pd.DataFrame({"user": data.user, "item": data.item, "time": data.time})
        users = frame.sort_values("time", kind="stable").groupby("user")["item"]
        last: list[tuple[Split, int]] = [("test", -1), ("valid", -2)]
        for split, place in last:
            theirs = {f"{split}-{data.users[user]}": data.items[items.iloc[place]].id for user, items in users}
            assert {q.id: target(q) for q in films.instances(split)} == theirs

    def test_what_is_excluded_is_all_that_was_seen(self, films: Sequential) -> None:
        for question in films.instances("test"):
            assert len(question.excluded) == films.traits(question)["history"]
            assert {event.item.id for event in question.history} <= question.excluded
            assert len(question.history) == min(50, len(question.excluded))

    @pytest.mark.parametrize("how", ["uniform", "popularity"])
    def test_draws_stay_what_they_were(self, how: str) -> None:
        task = build(Sequential, {"candidates": how}, "task")
        lines = [[q.id, *(item.id for item in q.candidates or ())] for q in task.instances("test")]
        assert sha256(json.dumps(lines).encode()).hexdigest()[:12] == DRAWS[how]

    @pytest.mark.parametrize("how", ["uniform", "popularity"])
    def test_candidates_are_the_target_and_what_was_never_met(self, how: str) -> None:
        task = build(Sequential, {"candidates": how, "negatives": "50"}, "task")
        data = load("ml-100k")
        met: dict[str, set[str]] = {name: set() for name in data.users}
        for user, item in zip(data.user, data.item, strict=True):
            met[data.users[user]].add(data.items[item].id)
        for split in ("valid", "test"):
            for question in task.instances(split):
                ids = [item.id for item in question.candidates or ()]
                assert len(set(ids)) == len(ids) == 51
                assert set(ids) & met[question.user] == {target(question)}

    @pytest.mark.slow
    def test_popular_items_are_drawn_more_often(self) -> None:
        arp = {}
        for how in ("uniform", "popularity"):
            task = build(Sequential, {"candidates": how}, "task")
            met = task.catalogue().met
            drawn = [item for q in task.instances("test") for item in q.candidates or () if item.id != target(q)]
            arp[how] = np.mean([met.get(item.id, 0) for item in drawn])
        assert arp["popularity"] > 2 * arp["uniform"]

    def test_the_target_stands_anywhere(self) -> None:
        task = Sequential(candidates="popularity")
        places = [[item.id for item in q.candidates or ()].index(target(q)) for q in task.instances("test")]
        error = 100 / 12**0.5 / len(places) ** 0.5
        assert abs(np.mean(places) - 49.5) < 3 * error
        assert len(set(places)) == 100

    def test_a_draw_depends_on_seed_and_instance_alone(self) -> None:
        base = Sequential(candidates="uniform")
        first = next(base.instances("test"))
        assert next(replace(base, max_history=1, masking="none").instances("test")).candidates == first.candidates
        assert next(replace(base, candidate_seed=1).instances("test")).candidates != first.candidates
        assert next(base.instances("valid")).candidates != first.candidates

    def test_every_option_changes_which_instances_are_asked(self) -> None:
        changed = [
            Sequential(**changes)
            for changes in (
                {}, {"k_core": 5}, {"min_rating": 3}, {"candidates": "uniform"}, {"negatives": 9},
                {"candidate_seed": 1}, {"masking": "none"}, {"max_history": 20},
            )
        ]  # fmt: skip
        assert len({identify(task, "test", None, {}).instances for task in changed}) == len(changed)


class TestUrn:
    def test_too_few_to_draw_from(self) -> None:
        assert sorted(Urn(np.array([1, 1, 0, 1])).line_up("x", 7, 0, [0], 2)) == [0, 1, 3]
        with pytest.raises(BadSetting, match="negatives=3, but 2 is all that can be drawn for x; lower it"):
            Urn(np.array([1, 1, 0, 1])).line_up("x", 7, 0, [0], 3)
        with pytest.raises(BadSetting, match="negatives=99, but 1 is all that can be drawn for test-ann; lower it"):
            list(Toy(candidates="uniform").instances("test"))

    @given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30), st.data())
    def test_any_weights_give_distinct_items_that_were_not_met(self, weights: list[int], data: st.DataObject) -> None:
        met = data.draw(st.lists(st.integers(0, len(weights) - 1), min_size=1))
        free = [place for place, weight in enumerate(weights) if weight and place not in met]
        count = data.draw(st.integers(0, len(free)))
        line = Urn(np.array(weights)).line_up(data.draw(st.text(max_size=3)), 0, met[0], met, count)
        assert len(set(line)) == len(line) == count + 1
        assert set(line) - {met[0]} <= set(free)

    @pytest.mark.slow
    @pytest.mark.parametrize("heavy", [0, 10**9])
    def test_draws_follow_the_weights(self, heavy: int) -> None:
        """Two of the weights 1, 2, 3; with nearly all the weight on what was met, rejection gives up."""
        urn, draws = Urn(np.array([1, 1, 2, 3, heavy])), 4000
        counts = Counter(frozenset(urn.line_up("x", seed, 0, [0, 4], 2)) - {0} for seed in range(draws))
        for one, two in ((1, 2), (1, 3), (2, 3)):
            chance = one / 6 * two / (6 - one) + two / 6 * one / (6 - two)
            error = (chance * (1 - chance) / draws) ** 0.5
            assert abs(counts[frozenset((one, two))] / draws - chance) < 4 * error


class TestLanguageModels:
    def test_texts_are_pinned(self) -> None:
        texts = load_texts("sequential")
        assert Sequential().texts == texts
        assert sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:8] == TEXTS

    def test_the_prompt_lists_the_history_oldest_first(self) -> None:
        prompt = Toy(max_history=2).prompt(asked(Toy(max_history=2), "test")["test-ann"])
        assert prompt == (
            "These are films that one person watched, in order, the most recent one last:\n"
            "title of r\ntitle of p\n\n"
            "The film that this person watched next:\n"
        )
        assert "beauty products" in Toy(dataset="amazon-beauty").prompt(asked(Toy(), "test")["test-ann"])

    def test_candidates_with_one_text_share_its_score(self) -> None:
        task = Toy(candidates="uniform", negatives=1)
        candidates = (Item("1", "Alien"), Item("2", "Heat"), Item("3", "Alien"))
        question = replace(asked(task, "valid")["valid-bob"], candidates=candidates, relevance={"3": 1.0})

        def answer(key: Key, request: Request) -> Reply | RequestFailed:
            assert isinstance(request, Choose)
            assert request.options == ("Alien", "Heat")
            return Scores((-2.5, -1.0))

        ((_, outcome, _),) = drive([(question.id, task.solve(question))], FunctionEngine(answer, Choose))
        assert isinstance(outcome, Prediction)
        assert outcome.scores == {"1": -2.5, "2": -1.0, "3": -2.5}

    def test_the_whole_catalogue_fits_no_prompt(self) -> None:
        task = Toy()
        programs = ((question.id, task.solve(question)) for question in task.instances("test"))
        with pytest.raises(NotApplicable, match="choose among sampled candidates with --set candidates=uniform"):
            list(drive(programs, text_engine()))


def test_registered() -> None:
    assert task_kinds()["sequential"] is Sequential


class TestFull(TaskContract):
    task = Sequential()
    splits = ("valid", "test")


class TestUniform(TaskContract):
    task = Sequential(candidates="uniform", negatives=20)


class TestPopularity(TaskContract):
    task = Sequential(candidates="popularity", min_rating=4, k_core=5, negatives=20)


@pytest.mark.slow
def test_what_is_found_of_the_whole_catalogue() -> None:
    found = {finding.what: finding.holds for finding in check_task(Sequential(masking="recbole"))}
    assert all(found.values())
    assert "all instances share one catalogue" in found
    assert "oracle scores NDCG@10 1.0000, the most there is" in found
    assert any(what.startswith("random scores HR@20") for what in found)
    assert any(what.startswith("no language model can be asked: ") for what in found)
