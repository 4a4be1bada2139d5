"""LLM-TRSR: whom it asks about, its two ways to summarise, its point-wise question, and what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.engines import FunctionEngine
from harness.errors import BadData, BadSetting, InstanceFailed, StaleRun, TooLong
from harness.evaluation import is_baseline
from harness.knobs import settings
from harness.model import Model
from harness.runner import drive, evaluate
from harness.scoring import score
from harness.signature import identify, inputs
from harness.store import SCHEMA, Run
from harness.task import Task
from harness.testing import TaskContract
from harness.types import Choose, Event, Generate, Instance, Item, Key, Prediction, Reply, Request, Scores, Split, Text
from tasks.llm_trsr import LLMTRSR
from tasks.llm_trsr_data import Chosen
from tasks.llm_trsr_summaries import LLMTRSRSummaries
from tasks.prompts import load_texts

TEXTS = "2343b13f"
"""First eight digits of the sha256 over tasks/prompts/llm_trsr.toml, parsed."""
Answer = Callable[[Request], Reply | TooLong]


class TestContract(TaskContract):
    task = LLMTRSR()
    splits = ("test", "valid")


class TestSummariesContract(TaskContract):
    task = LLMTRSRSummaries()
    splits = ("test", "valid", "train")


def solved(task: Task, instance: Instance, answer: Answer) -> tuple[Prediction, list[Request]]:
    asked: list[Request] = []

    def reply(key: Key, request: Request) -> Reply | TooLong:
        asked.append(request)
        return answer(request)

    ((_, found, _),) = drive([(instance.id, task.solve(instance))], FunctionEngine(reply, Choose, Generate))
    assert isinstance(found, Prediction), found
    return found, asked


def always(reply: Reply) -> Answer:
    return lambda request: reply


def prompts(asked: Sequence[Request]) -> list[str]:
    return [request.prompt for request in asked if not hasattr(request, "candidates")]


def test_texts_are_pinned() -> None:
    content = json.dumps(load_texts("llm_trsr"), sort_keys=True).encode()
    assert sha256(content).hexdigest()[:8] == TEXTS


class TestWhom:
    def test_splits_share_no_user(self) -> None:
        task = LLMTRSR()
        users: list[set[str]] = []
        for split, size in (("train", 543), ("valid", 100), ("test", 300)):
            users.append({chosen.user for chosen in task.chosen(split)})  # type: ignore[arg-type]  # the three names
            assert len(users[-1]) == size
        assert len(set.union(*users)) == 943
        assert {line.user for line in task.timelines()} == users[0]

    def test_histories_end_before_the_next_item(self) -> None:
        task = LLMTRSR()
        for instance in task.instances():
            (right,) = instance.relevance
            assert len(instance.history) == 25 or 19 <= len(instance.history) < 25
            assert right not in {event.item.id for event in instance.history}
            assert len({item.id for item in instance.candidates or ()}) == 21

    def test_negatives_are_those_of_pandas(self) -> None:
        """The authors draw with `DataFrame.sample`; what they would draw twice is left out."""
        task = LLMTRSR()
        ids = pd.Series([item.id for item in task.catalogue().items])
        for chosen in task.chosen("test")[:20]:
            drawn = [task.catalogue().items[place].id for place in task.drawn(chosen)]
            right = task.catalogue().items[chosen.target].id
            theirs = [item for item in ids.sample(n=21, random_state=chosen.row) if item != right]
            assert drawn[: len(theirs)] == theirs

    def test_the_right_one_may_be_drawn(self) -> None:
        task = LLMTRSR()
        first = int(np.random.RandomState(7).permutation(len(task.catalogue().items))[0])
        assert first not in task.drawn(Chosen(7, "u", (0,), first))

    def test_another_seed_is_another_split(self) -> None:
        mine, other = ([c.user for c in LLMTRSR(users_seed=seed).chosen("test")] for seed in (0, 1))
        assert mine != other

    def test_too_few(self) -> None:
        with pytest.raises(
            BadSetting, match=r"has 943 users with 10 to 25 events before the next, and 1400 are wanted"
        ):
            LLMTRSR(train=1000).chosen("train")
        with pytest.raises(BadSetting, match="set train=543, valid=100, test=300 lower"):
            LLMTRSR(overlong="drop").chosen("test")

    def test_lessons_of_one_user(self) -> None:
        task = LLMTRSR(train=1, lessons=3)
        (chosen,) = task.chosen("train")
        lessons = list(task.instances("train"))
        items, met = task.catalogue().items, (*chosen.history, chosen.target)
        assert [[*lesson.relevance] for lesson in lessons] == [[items[place].id] for place in met[:-4:-1]]
        assert [len(lesson.history) for lesson in lessons] == [25, 24, 23]
        assert all(len(lesson.candidates or ()) == 2 for lesson in lessons)


class TestOfficialFiles:
    def test_mind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Users with 11 to 26 clicks, each once, whatever impressions they have."""
        folder = tmp_path / "data" / "mind"
        folder.mkdir(parents=True)
        news = [f"N{n}\tnews\tnewsus\tTitle {n}\tAbstract\thttps://x\t[]\t[]" for n in range(40)]
        clicks = {"A": 11, "B": 10, "C": 26, "D": 27, "E": 12, "F": 0}
        lines = [f"{n}\t{user}\t11/9/2019 9:00:00 AM\t{' '.join(f'N{k}' for k in range(clicks[user]))}\tN1-0"
                 for n, user in enumerate("ABCDEFAA")]  # fmt: skip
        (folder / "news.tsv").write_text("\n".join(news) + "\n")
        (folder / "behaviors.tsv").write_text("\n".join(lines) + "\n")
        monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
        task = LLMTRSR(dataset="mind", train=1, valid=1, test=1)
        users = [chosen.user for split in ("train", "valid", "test") for chosen in task.chosen(split)]
        assert sorted(users) == ["A", "C", "E"]
        (asked,) = task.instances()
        text = task.prompt(Item("N7", "Title 7"), [Item("N3", "Title 3")], "Likes nothing.")
        assert text == (
            "### User:\nGiven a news reading preference summary of the user, and information related to the historical "
            "news the user has read, predict whether the user will click on the given next news. Note that the "
            "preference summary captures long-term interests, while the recent five news indicate short term "
            "interests. Both of them should be holistically considered for a more comprehensive understanding of user "
            "behavior. Please output 'yes' or 'no'.\n[Preference Summary]\nLikes nothing.\n[Historical News]\n"
            "id: N3; Category: news; SubCategory: newsus; Title: Title 3\n[Next News]\n"
            "id: N7; Category: news; SubCategory: newsus; Title: Title 7\n### Assistant:\n"
        )
        assert len(asked.candidates or ()) == 21
        (folder / "news.tsv").write_text("N1\tnews\n")
        with pytest.raises(BadData, match=r"news.tsv, line 1: expected id<tab>category"):
            LLMTRSR(dataset="mind").chosen("test")

    def test_news_without_text_are_drawn_for_nobody(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "data" / "mind"
        folder.mkdir(parents=True)
        (folder / "news.tsv").write_text("N1\tnews\tx\tOne\t\t\t\t\nN2\tnews\tx\tTwo\t\t\t\t\n")
        (folder / "behaviors.tsv").write_text("1\tA\t\tN9 N8 N1\t\n")
        monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
        task = LLMTRSR(dataset="mind", train=0, valid=0, test=1, shortest=1, negatives=1)
        (asked,) = task.instances()
        assert {item.id for item in asked.candidates or ()} == {"N1", "N2"}
        assert [task.sentence(event.item) for event in asked.history] == ["id: N9; Title: N9", "id: N8; Title: N8"]

    def test_amazon_m2(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """British rows alone, sessions in the order of the file, and the authors' seeds."""
        folder = tmp_path / "data" / "amazon-m2"
        folder.mkdir(parents=True)
        head = "id,locale,title,price,brand,color,size,model,material,author,desc\n"
        rows = [f'B{n},UK,"Pan, {n}",9.99,Tefal,,,,steel,,"two\nlines"' for n in range(300)] + ["B7,DE,Pfanne,1,,,,,,,"]
        (folder / "products_train.csv").write_text(head + "\n".join(rows) + "\n")
        sessions = [f"\"['B{n}' 'B{n + 1}'\n 'B{n + 2}']\",B{n + 3},UK" for n in range(250)]
        sessions.insert(0, "\"['B7' 'B7' 'B7']\",B7,DE")
        (folder / "sessions_train.csv").write_text("prev_items,next_item,locale\n" + "\n".join(sessions) + "\n")
        monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
        task = LLMTRSR(dataset="amazon-m2", train=200, valid=10, test=40, shortest=3)
        assert [chosen.user for chosen in task.chosen("test")] == [str(n) for n in range(210, 250)]
        asked = next(task.instances())
        assert [event.item.id for event in asked.history] == ["B210", "B211", "B212"]
        ids = pd.Series([f"B{n}" for n in range(300)])
        theirs = {*ids.sample(n=20, random_state=1000 * 1 + 10), "B213"}
        assert {item.id for item in asked.candidates or ()} == theirs
        assert task.sentence(asked.history[0].item) == (
            "id: B210; title: Pan, 210; price: 9.99; brand: Tefal; material: steel; description: two\nlines"
        )
        assert replace(task, ids=False).sentence(asked.history[0].item).startswith("title: Pan, 210; price")


def twelve() -> Instance:
    items = LLMTRSRSummaries().catalogue().items[:12]
    return Instance("test-x", "x", tuple(Event(item) for item in items), (), {})


class TestSummaries:
    def test_hierarchical_blocks_are_asked_at_once_and_merged(self) -> None:
        task, rounds = LLMTRSRSummaries(temperature=0), list[int]()
        program = task.solve(twelve())
        blocks = next(program)
        rounds.append(len(blocks))
        merge = program.send(tuple(Text(f" part {n}\n") for n in range(3)))
        assert (len(blocks), len(merge)) == (3, 1)
        assert prompts(blocks)[2].endswith(
            f"[historical purchase data]:\n{task.sentence(twelve().history[10].item)}\n"
            f"{task.sentence(twelve().history[11].item)}\n### Assistant:\n"
        )
        assert prompts(merge)[0] == (
            f"### User:\n{load_texts('llm_trsr')['merge']}\n[Preference Summary 1:\n]part 0\n"
            "[Preference Summary 2:\n]part 1\n[Preference Summary 3:\n]part 2\n### Assistant:\n"
        )
        with pytest.raises(StopIteration) as ended:
            program.send((Text("all", "length"),))
        made: Prediction = ended.value.value
        assert (made.text, made.facts["summaries"], made.facts["overlong"]) == ("all", 4, 1)

    def test_recurrent_goes_on_with_what_it_has(self) -> None:
        task = LLMTRSRSummaries(method="recurrent", temperature=0)
        made, asked = solved(task, twelve(), lambda request: Text(f"after {len(getattr(request, 'prompt', ''))}"))
        first, second, third = prompts(asked)
        assert "[historical purchase data]:" in first
        assert f"[Previous Preference Summary]:\nafter {len(first)}\n[Recent purchase data]:\n" in second
        assert f"after {len(second)}" in third
        assert made.text == f"after {len(third)}"

    @pytest.mark.parametrize(
        ("reply", "fault"),
        [
            (Text(" ...\n"), "empty"),
            (Text("Likes crime", "length"), "overlong"),
            (Text("I'm sorry, but I can't help with that."), "refused"),
            (Text("Likes crime."), None),
        ],
    )
    def test_every_summary_falls_in_a_class(self, reply: Text, fault: str | None) -> None:
        made, _ = solved(LLMTRSRSummaries(), twelve(), lambda request: reply)
        counted = {name: made.facts[name] for name in ("empty", "overlong", "refused")}
        assert counted == {name: 4.0 if name == fault else 0.0 for name in counted}

    @pytest.mark.slow
    def test_far_fewer_calls_than_users_and_nobody_waits_for_the_slowest(self) -> None:
        """One user's first block is answered last of all; everybody else is done by then."""
        task = LLMTRSRSummaries(method="recurrent", temperature=0)
        slow = next(task.instances()).id
        held: list[Key] = []
        waiting: list[Key] = []
        calls = 0

        class Spy(FunctionEngine):
            capacity = 128

            def __init__(self) -> None:
                super().__init__(lambda key, request: Text("fine"), Generate)

            def submit(self, asked):  # type: ignore[no-untyped-def]  # as its base
                nonlocal calls
                calls += 1
                for key, _ in asked:
                    (held if key == Key(slow) else waiting).append(key)

            def collect(self):  # type: ignore[no-untyped-def]  # as its base
                ready = waiting[:64] or held[:]
                (waiting if waiting else held)[: len(ready)] = []
                return [(key, Text("fine")) for key in ready]

        order = [name for name, _, _ in drive(((i.id, task.solve(i)) for i in task.instances()), Spy())]
        assert order[-1] == slow
        assert len(order) == 300
        assert calls < 60


def kept(task: Task, folder: Path, split: Split, answer: Answer) -> str:
    """A complete run with an engine of our own; its digest."""
    identity = identify(task, split, None, {"engine": "fake"})
    said = {"task": task.name, "settings": dict(settings(task)), "data": dict(task.data_digests()), "split": split}
    manifest = {**said, "model": {"name": "fake"}, "schema": SCHEMA, "identity": identity._asdict()}
    path = folder / task.name / identity.run
    with Run.open(path, manifest) as run:
        evaluate(task, FunctionEngine(lambda key, request: answer(request), Choose, Generate), run, split)
        run.finish(score(path, task.metrics, {}))
    return path.name


class TestRecommendation:
    def test_a_softmax_over_two_tokens(self) -> None:
        task = LLMTRSR()
        instance = next(task.instances())
        made, asked = solved(task, instance, lambda request: Scores((-1.0, -3.0)))
        assert all(isinstance(request, Choose) and request.options == ("yes", "no") for request in asked)
        assert len(asked) == 21
        (value,) = set(made.scores.values())
        assert value == pytest.approx(1 / (1 + np.exp(-2)))
        assert made.facts["yes_no_mass"] == pytest.approx(np.exp(-1) + np.exp(-3))

    @pytest.mark.parametrize("recent", [0, 3, 5])
    def test_recent_items(self, recent: int) -> None:
        task = LLMTRSR(recent=recent)
        instance = next(task.instances())
        _, asked = solved(task, instance, lambda request: Scores((-1.0, -3.0)))
        told = "\n".join(task.sentence(event.item) for event in instance.history[-recent:]) if recent else "NULL"
        assert f"[Preference Summary]\nNULL\n[Historical Items]\n{told}\n[Next Item]\n" in prompts(asked)[0]

    @pytest.mark.slow
    def test_what_does_not_fit_loses_its_history_first(self, tmp_path: Path) -> None:
        digest = kept(LLMTRSRSummaries(), tmp_path, "test", lambda request: Text("A summary."))
        task = LLMTRSR(summaries=digest, runs=str(tmp_path), recent=2)
        instance = next(task.instances())
        last = task.sentence(instance.history[-1].item)

        def answer(request: Request) -> Reply | TooLong:
            text = prompts([request])[0]
            return TooLong("no") if "id:" in text.partition("[Next Item]")[0] else Scores((-1.0, -1.0))

        made, asked = solved(task, instance, answer)
        assert (made.facts["shortened"], made.facts["without_summary"]) == (2, 0)
        assert last in prompts(asked)[21]
        assert "[Preference Summary]\nA summary.\n[Historical Items]\nNULL\n" in prompts(asked)[-1]
        ((_, failed, _),) = drive(
            [("", task.solve(instance))], FunctionEngine(lambda key, request: TooLong("never"), Choose)
        )
        assert isinstance(failed, InstanceFailed)

    def test_the_authors_cut_the_end(self) -> None:
        _, asked = solved(
            LLMTRSR(truncation="paper"), next(LLMTRSR().instances()), lambda request: Scores((-1.0, -1.0))
        )
        assert all(isinstance(request, Choose) and request.cut and request.longest == 2048 for request in asked)

    @pytest.mark.slow
    def test_summaries_by_split(self, tmp_path: Path) -> None:
        said: dict[Split, str] = {"train": "Of train.", "test": "Of test."}
        first = [kept(LLMTRSRSummaries(), tmp_path, split, always(Text(text))) for split, text in said.items()]
        task = LLMTRSR(summaries=",".join(first), runs=str(tmp_path))
        assert "Of test." in task.prompt(Item("1", ""), [], task.summary(next(task.instances())))
        texts = list(task.examples())
        assert all("[Preference Summary]\nOf train.\n" in text.prompt for text in texts)
        assert [text.answer for text in texts].count("yes") == [text.answer for text in texts].count("no") == 543
        assert len(inputs(task)) == 2
        with pytest.raises(
            StaleRun, match="has the valid split; make one with `harness run --task llm-trsr-summaries --s"
        ):
            task.summary(next(task.instances("valid")))
        with pytest.raises(StaleRun, match="has users_seed=0, and users_seed=3 is needed"):
            list(replace(task, users_seed=3).examples())
        with pytest.raises(BadSetting, match="earlier ones are no lessons"):
            list(replace(task, lessons=2).examples())

    def test_conventional_models_are_asked_the_same(self) -> None:
        assert is_baseline(Model.parse("simple:popularity"))
        train = list(LLMTRSR().instances("train"))
        assert {len(instance.candidates or ()) for instance in train} == {2}
