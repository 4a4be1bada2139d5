"""InstructRec's questions and how they are asked: by hand, on a small shop, and the counts of the real files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engines import FunctionEngine
from harness.errors import BadSetting, MissingData, NotApplicable, RequestFailed, StaleRun, TooLong
from harness.evaluation import perform
from harness.job import Job
from harness.model import Model
from harness.runner import drive
from harness.signature import identify
from harness.testing import TaskContract
from harness.types import Choose, Instance, Item, Key, Reply, Request, Scores, Split, tie_break
from tasks.instructrec import InstructRec
from tests import shop

SEARCH = InstructRec(scenario="product-search")


class TestSequential(TaskContract):
    task = InstructRec()
    splits = ("test", "valid")


class TestProductSearch(TaskContract):
    task = SEARCH
    splits = ("test", "valid")


class TestPersonalisedSearch(TaskContract):
    task = InstructRec(scenario="personalised-search", intention="I2")


class TestTournament(TaskContract):
    task = InstructRec(candidates="random99")


@pytest.fixture(scope="module")
def games(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InstructRec]:
    home = tmp_path_factory.mktemp("shop")
    shop.open_shop(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(home))
        yield InstructRec(dataset="amazon-games")


def asked(task: InstructRec, split: Split = "test") -> dict[str, Instance]:
    return {instance.id: instance for instance in task.instances(split)}


def asking(task: InstructRec, scenario: Any, **more: Any) -> InstructRec:
    """The same task with another scenario, and what goes with it."""
    return replace(
        task, scenario=scenario, **{"preference": "auto", "intention": "auto", "instruction": "auto", **more}
    )


def answered(task: InstructRec, instance: Instance, answer: Callable[[Choose], Reply | RequestFailed]) -> Any:
    """What a program makes of a model's answers: a Prediction, or why there is none."""

    def reply(key: Key, request: Request) -> Reply | RequestFailed:
        assert isinstance(request, Choose)
        return answer(request)

    ((_, outcome, _),) = drive([(instance.id, task.solve(instance))], FunctionEngine(reply, Choose))
    return outcome


class TestQuestions:
    def test_the_last_event_tests_and_the_one_before_validates(self, games: InstructRec) -> None:
        test, valid = asked(games), asked(games, "valid")
        assert len(test) == len(valid) == shop.USERS == games.size()
        for user in range(shop.USERS):
            ids = [f"B{item:03}" for item in shop.met(user)]
            assert list(test[f"test-U{user}"].relevance) == ids[-1:], "untitled items and repeats are gone"
            assert [event.item.id for event in test[f"test-U{user}"].history] == ids[:-1]
            assert list(valid[f"valid-U{user}"].relevance) == ids[-2:-1]

    def test_candidates_are_drawn_from_what_the_user_never_met(self, games: InstructRec) -> None:
        for instance in games.instances():
            ids = [item.id for item in instance.candidates or ()]
            met = {f"B{item:03}" for item in shop.met(int(instance.user[1:]))}
            assert len(set(ids)) == 10
            assert set(ids) & met == set(instance.relevance)

    def test_candidates_depend_on_user_and_seed_alone(self, games: InstructRec) -> None:
        lists = {name: instance.candidates for name, instance in asked(games).items()}
        other = asking(games, "personalised-search", intention="I2", likelihood="mean", max_history=2)
        assert {name: instance.candidates for name, instance in asked(other).items()} == lists
        drawn = {name: instance.candidates for name, instance in asked(replace(games, candidate_seed=1)).items()}
        assert sum(drawn[name] != lists[name] for name in lists) == len(lists)

    def test_histories_have_their_last_twenty(self) -> None:
        lengths = [len(instance.history) for instance in InstructRec().instances()]
        assert max(lengths) == 20
        assert lengths.count(20) > 500

    def test_the_labels_of_the_category_are_the_specific_intention(self, games: InstructRec) -> None:
        task = asking(games, "personalised-search", intention="I2")
        said = {True: "Video Games, PC, Accessories.", False: "Video Games, Wii."}
        for instance in task.instances():
            (target,) = instance.relevance
            assert instance.context == said[int(target[1:]) % 2 == 0]

    def test_the_targets_review_is_the_vague_intention(self, games: InstructRec) -> None:
        task = asking(games, "personalised-search")
        instance = asked(task)["test-U3"]
        assert instance.context == f"Number 6. I wanted {shop.word(3, 6)} for item {shop.met(3)[6]}."
        assert task.prompt(task.filling(instance), instance.candidates or ()).startswith(
            f"Using the user's current query: Number 6. I wanted {shop.word(3, 6)} for item {shop.met(3)[6]}. and their"
        )

    def test_training_questions_with_a_query_are_those_that_have_one(self, games: InstructRec) -> None:
        labelled = list(asking(games, "personalised-search", intention="I2").instances("train"))
        assert len(labelled) == shop.USERS * (shop.MET - 3), "every training event but the first"
        reviewed = list(asking(games, "personalised-search").instances("train"))
        assert [i.id for i in reviewed] == [i.id for i in labelled], "every event has its review"
        assert all(shop.word(int(i.user[1:]), int(i.id.split("-")[2])) in (i.context or "") for i in reviewed)
        assert all(instance.candidates is None and instance.context for instance in [*labelled, *reviewed])

    def test_product_search_splits_the_items(self, games: InstructRec) -> None:
        task = asking(games, "product-search")
        parts = [{i for one in task.instances(split) for i in one.relevance} for split in ("train", "valid", "test")]
        assert [len(part) for part in parts] == [32, 4, 4]
        assert task.size("train") == 32
        assert set.union(*parts) == {f"B{item:03}" for item in range(shop.ITEMS)}
        assert all(instance.history == () and len(instance.candidates or ()) == 10 for instance in task.instances())
        assert parts[2] != {i for one in replace(task, items_seed=1).instances() for i in one.relevance}

    def test_namesakes_are_in_one_split(self) -> None:
        split = {item.id: name for name, items in SEARCH.searched.items() for item in items}
        titles: dict[str, set[str]] = {}
        for item in SEARCH.catalogue().items:
            titles.setdefault(item.text, set()).add(split[item.id])
        assert all(len(splits) == 1 for splits in titles.values())
        assert len(titles) < len(split), "there are some"

    def test_one_question_has_one_name(self) -> None:
        assert InstructRec() == InstructRec(preference="P1", intention="I0", instruction="A7")
        assert InstructRec(scenario="product-search", preference="P0", intention="I2", instruction="B7") == SEARCH
        auto = InstructRec(scenario="personalised-search")
        assert auto == replace(auto, preference="P1", intention="I1", instruction="C10")

    def test_training_questions_are_no_evaluation(self, games: InstructRec) -> None:
        with pytest.raises(NotApplicable, match="training questions have no candidates"):
            next(games.solve(next(games.instances("train"))))

    def test_a_line_end_stands_behind_every_prompt_that_wants_one(self, games: InstructRec) -> None:
        with_line = replace(games, line=True)
        pairs = zip(games.examples(), with_line.examples(), strict=True)
        assert all(lined.prompt == plain.prompt + "\n" for plain, lined in pairs)
        (plain,), (lined,) = (next(task.solve(next(task.instances()))) for task in (games, with_line))
        assert isinstance(plain, Choose)
        assert isinstance(lined, Choose)
        assert lined.prompt == plain.prompt + "\n"

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"preference": "P0"}, r"sequential is not asked with <P0,auto>; there is preference=P1 intention=I0 or "),
            ({"scenario": "product-search", "intention": "I1"}, "product-search is not asked with <auto,I1>"),
            ({"instruction": "C10"}, "C10 is no template of scenario=sequential; there is A7, A8, A9, A10, A13, A11"),
            ({"scenario": "product-search", "candidates": "hard9"}, "hard9 is what a model of sequences finds"),
        ],
    )
    def test_what_does_not_go_together_is_said(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(BadSetting, match=message):
            InstructRec(**wrong)

    def test_a_choice_of_wording_is_no_other_protocol(self) -> None:
        first, second = (identify(InstructRec(instruction=code), "test", None, {"m": 1}) for code in ("A7", "A9"))
        assert (first.instances, first.protocol) == (second.instances, second.protocol)
        assert first.run != second.run
        assert identify(InstructRec(likelihood="mean"), "test", None, {"m": 1}).protocol != first.protocol


class TestHardNegatives:
    @pytest.fixture
    def found(self, games: InstructRec, tmp_path: Path) -> tuple[InstructRec, dict[str, Sequence[str]]]:
        from harness.stages import find_stage
        from tasks.retrieval import Retrieval

        first = Retrieval(dataset="amazon-games", k_core=5, repeats=False, untitled=False, n=50)
        (path,) = perform(Job(first, Model.parse("simple:random"), runs=tmp_path), lambda line: None)
        lists = find_stage(tmp_path, "retrieval", path.name, "").lists
        return replace(games, candidates="hard9", retrieval=path.name, runs=str(tmp_path)), dict(lists)

    def test_they_are_the_first_that_the_user_never_met(
        self, found: tuple[InstructRec, dict[str, Sequence[str]]]
    ) -> None:
        task, lists = found
        for name, instance in asked(task).items():
            met = {f"B{item:03}" for item in shop.met(int(instance.user[1:]))}
            wanted = [item for item in lists[name] if item not in met][:9]
            (target,) = instance.relevance
            ids = [item.id for item in instance.candidates or ()]
            assert set(ids) == {target, *wanted}
        places = [
            [item.id in one.relevance for item in one.candidates or ()].index(True) for one in asked(task).values()
        ]
        assert len(set(places)) > 5, "the target has no place of its own"

    def test_the_run_is_part_of_the_questions(self, found: tuple[InstructRec, dict[str, Sequence[str]]]) -> None:
        task, _ = found
        assert set(task.data_digests()) == {"amazon-games", "retrieval of test"}

    def test_another_split_or_other_data_is_refused(
        self, found: tuple[InstructRec, dict[str, Sequence[str]]], tmp_path: Path
    ) -> None:
        task, _ = found
        with pytest.raises(StaleRun, match=r"names no run of the valid split; make one with .*--split valid --model"):
            list(task.instances("valid"))
        with pytest.raises(StaleRun, match=r"has k_core=5, and k_core=0 is needed; make one with .harness run --task"):
            list(replace(task, k_core=0).instances())
        with pytest.raises(MissingData, match="no run of 'retrieval' is named; there is"):
            list(replace(task, retrieval="").instances())


class TestLikelihood:
    REPLY = Scores(tuple(-float(n) for n in range(1, 11)), tokens=tuple(range(10, 0, -1)))

    def instance(self, games: InstructRec) -> Instance:
        return next(games.instances())

    def test_the_sum_with_the_end_is_the_default(self, games: InstructRec) -> None:
        requests: list[Choose] = []
        instance = self.instance(games)

        def answer(request: Choose) -> Reply:
            requests.append(request)
            return self.REPLY

        made = answered(games, instance, answer)
        assert [request.ended for request in requests] == [True]
        assert requests[0].longest == 512
        assert requests[0].options == tuple(item.text for item in instance.candidates or ())
        assert list(made.scores.values()) == list(self.REPLY.values)

    def test_the_mean_is_over_tokens(self, games: InstructRec) -> None:
        made = answered(replace(games, likelihood="mean"), self.instance(games), lambda request: self.REPLY)
        assert list(made.scores.values()) == pytest.approx([-n / (11 - n) for n in range(1, 11)])

    def test_without_the_end(self, games: InstructRec) -> None:
        def answer(request: Choose) -> Reply | RequestFailed:
            return RequestFailed("it is asked for the end") if request.ended else self.REPLY

        made = answered(replace(games, ended=False), self.instance(games), answer)
        assert list(made.scores.values()) == list(self.REPLY.values)

    def test_candidates_of_one_title_are_equal(self, games: InstructRec) -> None:
        instance = self.instance(games)
        one, two, *others = instance.candidates or ()
        twins = replace(instance, candidates=(one, replace(two, text=one.text), *others))

        def answer(request: Choose) -> Reply:
            assert len(request.options) == 9
            return Scores(tuple(-float(n) for n in range(9)), tokens=(1,) * 9)

        scores = answered(games, twins, answer).scores
        assert len(scores) == 10
        assert scores[one.id] == scores[two.id] == 0.0

    def test_a_pointwise_template_ranks_by_the_odds_of_yes(self, games: InstructRec) -> None:
        instance = self.instance(games)
        target = next(item for item in instance.candidates or () if item.id in instance.relevance)

        def answer(request: Choose) -> Reply:
            assert request.options == ("Yes", "No")
            right = f"interact with {target.text} next?" in request.prompt
            return Scores((-1.0, -3.0) if right else (-3.0, -1.0), tokens=(1, 1))

        scores = answered(replace(games, instruction="A11"), instance, answer).scores
        assert scores[target.id] == pytest.approx(1 / (1 + math.exp(-2)))
        assert sum(score == pytest.approx(1 / (1 + math.exp(2))) for score in scores.values()) == 9

    def test_a_long_prompt_loses_its_oldest_titles(self, games: InstructRec) -> None:
        instance, shown = self.instance(games), []

        def answer(request: Choose) -> Reply | RequestFailed:
            shown.append(request.prompt.count("Game") - 10)
            return TooLong("no") if shown[-1] > 4 else self.REPLY

        made = answered(games, instance, answer)
        assert shown == [6, 5, 4]
        assert made.facts["shortened"] == 2.0
        assert isinstance(answered(games, instance, lambda request: TooLong("no")), TooLong)


def brute_force(value: dict[str, int], groups: Sequence[Sequence[str]]) -> list[str]:
    """The winners of groups in the order of their values."""
    return sorted((max(group, key=value.__getitem__) for group in groups), key=value.__getitem__, reverse=True)


class TestOfTournaments:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(2, 30), st.integers(2, 6), st.randoms(use_true_random=False))
    def test_it_equals_brute_force(self, count: int, group: int, random: Any) -> None:
        """A model whose likelihood of a title does not depend on its neighbours, and who remembers whom it saw."""
        titles = [f"title{n:02}" for n in range(count)]
        value = dict(zip(titles, random.sample(range(1000), count), strict=True))
        lists: list[Sequence[str]] = []

        def answer(request: Choose) -> Reply:
            assert len(request.options) <= group
            assert all(request.prompt.count(title) == (title in request.options) for title in titles)
            lists.append(request.options)
            return Scores(tuple(-1.0 / (1 + value[title]) for title in request.options), tokens=(1,) * count)

        items = tuple(Item(title, title) for title in titles)
        made = answered(InstructRec(group=group), Instance("test-u", "u", (), items, {titles[0]: 1.0}), answer)
        left, seen = titles, 0
        while len(left) > group:
            groups = lists[seen : seen + math.ceil(len(left) / group)]
            assert sorted(title for one in groups for title in one) == sorted(left), "everybody plays, once"
            left, seen = brute_force(value, groups), seen + len(groups)
        assert len(lists) == seen + 1
        assert sorted(lists[-1]) == sorted(left)
        assert list(made.ranking("x")) == brute_force(value, [[title] for title in left])
        assert made.ranking("x")[0] == max(titles, key=value.__getitem__)

    def test_a_hundred_are_asked_about_in_ten_groups_and_a_last_list(self) -> None:
        task = InstructRec(candidates="random99")
        sizes = []

        def answer(request: Choose) -> Reply:
            sizes.append(len(request.options))
            return Scores(tuple(-float(len(title)) for title in request.options), tokens=(1,) * len(request.options))

        instance = next(task.instances())
        made = answered(task, instance, answer)
        assert len(instance.candidates or ()) == 100
        assert len(sizes) == 11
        assert len(made.scores) == 10, "what won no group is not ranked"


class TestTexts:
    def test_one_text_for_each_question(self, games: InstructRec) -> None:
        for task in (games, asking(games, "product-search"), replace(games, instruction="A12")):
            for split in ("train", "valid"):
                texts = list(task.examples(split))
                questions = list(task.offered(split))
                assert len(texts) == len(questions) > 0
                said = set()
                for text, question in zip(texts, questions, strict=True):
                    (target,) = question.relevance
                    title, end = f"Game {int(target[1:])}", f"click on Game {int(target[1:])} next."
                    right = ("Yes" if text.prompt.endswith(end) else "No") if task.instruction == "A12" else title
                    assert text.answer == right
                    said.add(text.answer)
                assert task.instruction != "A12" or said == {"Yes", "No"}

    def test_an_evaluation_asks_what_was_tuned(self, games: InstructRec) -> None:
        text, instance = next(games.examples("valid")), next(games.instances("valid"))
        (request,) = next(games.solve(instance))
        assert isinstance(request, Choose)
        assert (request.prompt, text.answer in request.options) == (text.prompt, True)


def test_equal_likelihoods_fall_by_hash(games: InstructRec) -> None:
    instance = next(games.instances())
    made = answered(games, instance, lambda request: Scores((-1.0,) * 10, tokens=(1,) * 10))
    ids = [item.id for item in instance.candidates or ()]
    assert list(made.ranking(instance.id)) == sorted(ids, key=lambda item: tie_break(instance.id, item))
