"""InstructRec's teacher and tuning texts: what they hold, what they must not hold, and how runs go into questions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli.data import data as data_command
from harness.engines import FunctionEngine
from harness.errors import BadData, BadSetting, InstanceFailed, MissingData, NotApplicable, RequestFailed, StaleRun
from harness.runner import drive, evaluate
from harness.scoring import score
from harness.signature import identify
from harness.store import SCHEMA, Run
from harness.testing import TaskContract
from harness.types import Generate, Key, Prediction, Reply, Request, Split, Text
from tasks.instructrec import InstructRec
from tasks.instructrec_templates import templates
from tasks.instructrec_tuning import Instruction, InstructRecData
from tasks.instructrec_write import InstructRecWrite
from tests import shop

HELD_BACK = (shop.MET - 2, shop.MET - 1)
"""Events of a user that validate and test."""


class TestTeacher(TaskContract):
    task = InstructRecWrite()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("shop")
    shop.open_shop(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(folder))
        yield folder


@pytest.fixture
def teacher(home: Path) -> InstructRecWrite:
    return InstructRecWrite(dataset="amazon-games", what="intention")


@pytest.fixture
def texts(home: Path) -> InstructRecData:
    return InstructRecData(dataset="amazon-games")


def written(task: InstructRecWrite, runs: Path, split: Split = "test") -> str:
    """The digest of a run in which the teacher says what it was asked, in capitals and in other words."""

    def answer(key: Key, request: Request) -> Reply | RequestFailed:
        assert isinstance(request, Generate)
        assert (request.max_tokens, request.temperature) == (512, 0.4)
        return Text(f" He wants {key.instance.upper()}.\n")

    who = {"model": "teacher"}
    made = identify(task, split, None, who)
    manifest = {
        "schema": SCHEMA, "task": task.name, "version": 1, "settings": {"what": task.what, **settings_of(task)},
        "data": dict(task.data_digests()), "split": split, "sample": None, "model": {"name": "teacher"},
        "identity": made._asdict(), "metrics": [metric.name for metric in task.metrics],
    }  # fmt: skip
    with Run.open(runs / task.name / made.run, manifest) as run:
        evaluate(task, FunctionEngine(answer, Generate), run, split)
        run.finish(score(run.path, task.metrics, {}, {}))
    return made.run


def settings_of(task: Any) -> dict[str, Any]:
    from harness.knobs import settings

    return dict(settings(task))


def all_of(instructions: Iterator[Instruction]) -> str:
    return "\n".join(f"{one.prompt}\n{one.answer}" for one in instructions)


class TestTheTeacher:
    def test_reads_the_titles_before_the_last_training_event(self, teacher: InstructRecWrite) -> None:
        task = replace(teacher, what="preference")
        for split in ("train", "valid", "test"):
            instances = {instance.id: instance for instance in task.instances(split)}
            assert len(instances) == shop.USERS
            shown = ", ".join(f"{n}. Game {item}" for n, item in enumerate(shop.met(3)[:4], 1))
            assert f"the oldest first: {shown}. Describe" in task.prompt(instances["user-U3"])

    @pytest.mark.parametrize(("split", "step"), [("train", 4), ("valid", 5), ("test", 6)])
    def test_reads_the_review_of_the_target(self, teacher: InstructRecWrite, split: Split, step: int) -> None:
        for instance in teacher.instances(split):
            told = teacher.prompt(instance)
            user = int(instance.user[1:])
            words = {(user, other) for other in range(shop.MET) if shop.word(user, other) in told}
            assert words == {(user, step)}

    def test_says_what_was_written(self, teacher: InstructRecWrite) -> None:
        some = list(teacher.instances())[:4]
        sorry = "I am sorry, but I cannot help with that."
        texts = [Text("I want it."), Text("  "), Text(sorry), Text("I", "length")]
        replies = dict(zip([instance.id for instance in some], texts, strict=True))
        engine = FunctionEngine(lambda key, request: replies[key.instance], Generate)
        made = {key: outcome for key, outcome, _ in drive(((i.id, teacher.solve(i)) for i in some), engine)}
        facts = [one.facts for instance in some if isinstance(one := made[instance.id], Prediction)]
        assert [{name for name, value in fact.items() if value and name != "words"} for fact in facts] == [
            set(), {"empty"}, {"refused"}, {"overlong"},
        ]  # fmt: skip
        assert [fact["words"] for fact in facts][:2] == [3.0, 0.0]

    def test_data_without_reviews_is_refused(self) -> None:
        with pytest.raises(NotApplicable, match="ml-100k has no reviews; data sets with reviews are amazon-games"):
            list(InstructRecWrite(what="intention").instances())


class TestItsRuns:
    def test_intentions_are_queries(self, teacher: InstructRecWrite, tmp_path: Path) -> None:
        runs = ",".join(written(teacher, tmp_path, split) for split in ("train", "test"))
        task = InstructRec(
            dataset="amazon-games", scenario="personalised-search", intentions=runs, runs=str(tmp_path)
        )  # fmt: skip
        assert {instance.context for instance in task.instances()} == {
            f"He wants TEST-U{u}." for u in range(shop.USERS)
        }
        assert set(task.data_digests()) == {"amazon-games", "intentions"}
        lessons = [instance.context for instance in task.offered("train")]
        assert lessons == [f"He wants TRAIN-{i.user}-4." for i in task.offered("train")]
        with pytest.raises(
            StaleRun, match=r"has no intention for valid-U\d+; make one with .harness run --task instructrec-w"
        ):
            list(task.instances("valid"))

    def test_preferences_stand_in_prompts_and_can_be_queries(self, teacher: InstructRecWrite, tmp_path: Path) -> None:
        run = written(replace(teacher, what="preference"), tmp_path)
        task = InstructRec(dataset="amazon-games", preference="P2", preferences=run, runs=str(tmp_path))
        instance = next(task.instances())
        assert instance.context is None
        user = instance.user.upper()
        assert f"infer the user's preferences He wants USER-{user}. Then please" in task.prompt(
            task.filling(instance), instance.candidates or ()
        )
        asked = replace(task, scenario="personalised-search", instruction="auto")
        assert next(asked.instances()).context == f"He wants USER-{user}."
        both = replace(asked, intention="I2")
        filling = both.filling(next(both.instances()))
        assert (filling.preference, filling.query[:11]) == (f"He wants USER-{user}.", "Video Games")

    def test_a_preference_is_a_query_for_the_last_training_event_alone(
        self, teacher: InstructRecWrite, tmp_path: Path
    ) -> None:
        """The teacher read all that stands before it: it would tell of earlier ones what they were."""
        run = written(replace(teacher, what="preference"), tmp_path)
        task = InstructRec(
            dataset="amazon-games", scenario="personalised-search", preference="P2", preferences=run, runs=str(tmp_path)
        )
        assert {i.id for i in task.instances("train")} == {f"train-U{user}-4" for user in range(shop.USERS)}
        made = InstructRecData(dataset="amazon-games", preferences=run, runs=str(tmp_path), lessons=9, personalised=13)
        told = {one.id for one in made.instructions() if "He wants USER" in f"{one.prompt} {one.answer}"}
        assert told == {f"train-U{user}-4" for user in range(shop.USERS)}

    def test_an_empty_text_fails_alone_and_a_missing_one_stops(self, home: Path, tmp_path: Path) -> None:
        file = tmp_path / "told.jsonl"
        rows = [{"id": f"U{user}", "text": "He likes golf." if user else ""} for user in range(shop.USERS)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        task = InstructRec(dataset="amazon-games", preference="P2", preferences=str(file))
        by_user = {instance.user: instance for instance in task.instances()}
        assert task.filling(by_user["U1"]).preference == "He likes golf."
        with pytest.raises(InstanceFailed, match="there is no preference for test-U0"):
            task.filling(by_user["U0"])
        file.write_text(json.dumps(rows[1]))
        short = replace(task)
        with pytest.raises(
            StaleRun, match=r"has none of user U\d+; make those of all with .harness run --task instruct"
        ):
            [short.filling(instance) for instance in short.instances()]
        query = InstructRec(dataset="amazon-games", scenario="personalised-search", preference="P2")
        with pytest.raises(BadSetting, match=r"is a teacher's; name its texts with preferences=, or make them with"):
            list(query.instances())

    def test_a_training_event_without_a_text_is_left_out(self, teacher: InstructRecWrite, tmp_path: Path) -> None:
        runs = written(teacher, tmp_path, "train")
        task = InstructRec(
            dataset="amazon-games", scenario="personalised-search", intentions=runs, runs=str(tmp_path)
        )  # fmt: skip
        assert task.size("train") == len(list(task.instances("train"))) == shop.USERS
        made = InstructRecData(dataset="amazon-games", intentions=runs, runs=str(tmp_path), lessons=3, queries="I1")
        assert len(list(made.instructions())) > shop.USERS

    def test_runs_of_something_else_are_refused(self, teacher: InstructRecWrite, tmp_path: Path) -> None:
        run = written(teacher, tmp_path)
        task = InstructRec(dataset="amazon-games", preference="P2", preferences=run, runs=str(tmp_path))
        with pytest.raises(StaleRun, match="has what=intention, and what=preference is needed; make one with"):
            task.data_digests()
        other = InstructRec(
            dataset="amazon-games", scenario="personalised-search", intentions=run, runs=str(tmp_path), max_history=3
        )  # fmt: skip
        with pytest.raises(StaleRun, match="has max_history=20, and max_history=3 is needed"):
            list(other.instances())
        with pytest.raises(MissingData, match=r"no run 'abc' of task 'instructrec-write' below .*; there is"):
            replace(other, intentions="abc").data_digests()

    @pytest.mark.parametrize("line", ['{"id": "U1"}', "[]", '{"id": "U1", "text": 3}', "nonsense"])
    def test_a_file_of_another_form_is_refused(self, home: Path, tmp_path: Path, line: str) -> None:
        (tmp_path / "told.jsonl").write_text(f'{{"id": "U0", "text": ""}}\n{line}\n')
        task = InstructRec(dataset="amazon-games", preference="P2", preferences=str(tmp_path / "told.jsonl"))
        with pytest.raises(BadData, match="line 2: expected"):
            task.data_digests()
        with pytest.raises(MissingData, match="cannot be read"):
            replace(task, preferences=str(tmp_path / "no.jsonl")).data_digests()
        (tmp_path / "told.jsonl").write_bytes(b'{"id": "U1", "text": "caf\xe9"}')
        with pytest.raises(BadData, match="expected UTF-8, found the byte 0xe9"):
            replace(task).data_digests()


@pytest.mark.slow
class TestTuningTexts:
    @pytest.mark.slow
    def test_nothing_of_validation_and_test_is_in_them(self, texts: InstructRecData) -> None:
        """Each review has a word of its own; each user's events are known."""
        told = all_of(replace(texts, traditional=17, personalised=13, lessons=9).instructions())
        seen = {(u, s) for u in range(shop.USERS) for s in range(shop.MET) if shop.word(u, s) in told}
        assert seen
        assert not {step for _, step in seen} & set(HELD_BACK)
        for one in replace(texts, searched=0, lessons=9).instructions():
            user, place = one.id.split("-")[1:]
            assert int(place) < HELD_BACK[0]
            known = {f"Game {item}" for item in shop.met(int(user[1:]))[:-2]}
            if templates().by_code[one.code].form in ("match", "rank", "reasoned"):
                assert one.answer in known

    def test_names_made_of_reviews_hold_no_word_of_validation_and_test(self, home: Path) -> None:
        task = InstructRec(dataset="amazon-games", items="reviews")
        names = " ".join(item.text for item in task.catalogue().items)
        assert "wanted" in names or "item" in names or "number" in names
        assert not [s for u in range(shop.USERS) for s in HELD_BACK if shop.word(u, s) in names]

    def test_product_search_teaches_its_training_items_alone(self, texts: InstructRecData) -> None:
        task = replace(texts, traditional=0, personalised=0, searched=9)
        search = InstructRec(dataset="amazon-games", scenario="product-search")
        parts = {split: {i for q in search.offered(split) for i in q.relevance} for split in ("train", "test")}
        found = {f"B{int(one.answer[5:]):03}" for one in task.instructions() if one.answer.startswith("Game")}
        assert found == parts["train"]
        assert not found & parts["test"]

    def test_no_category_is_told_of_an_item_that_product_search_holds_back(self, texts: InstructRecData) -> None:
        search = InstructRec(dataset="amazon-games", scenario="product-search")
        held = {f"Game {int(item.id[1:])}" for split in ("valid", "test") for item in search.searched[split]}
        made = list(replace(texts, searched=0, traditional=0, personalised=13, lessons=9).instructions())
        told = {one.answer for one in made if "Video Games" in one.prompt}
        assert told
        assert not told & held
        assert {one.answer for one in made} & held, "with other queries they are asked for"

    def test_as_many_templates_as_are_wanted(self, texts: InstructRecData) -> None:
        made = list(texts.instructions())
        families = Counter(templates().by_code[one.code].family for one in made)
        assert families == {"A": shop.USERS, "B": 32, "C": 2 * shop.USERS}
        assert len({(one.id, one.code) for one in made}) == len(made), "each once"
        assert {one.code[0] for one in replace(texts, searched=0, traditional=0).instructions()} == {"C"}

    def test_templates_without_their_texts_are_left_out(self, texts: InstructRecData, tmp_path: Path) -> None:
        every = replace(texts, traditional=17, searched=9, personalised=13)
        needs = {t.code for t in templates().by_code.values() if "{preference}" in t.text + t.answer and not t.optional}
        assert {one.code for one in every.instructions()} == set(templates().by_code) - needs - {"C1"}
        file = tmp_path / "told.jsonl"
        file.write_text(
            "".join(json.dumps({"id": f"U{u}", "text": "He likes golf."}) + "\n" for u in range(shop.USERS))
        )
        assert {one.code for one in replace(every, preferences=str(file)).instructions()} == set(templates().by_code)

    def test_forms_and_shares(self, texts: InstructRecData) -> None:
        forms = {templates().by_code[one.code].form for one in replace(texts, forms="rank,match").instructions()}
        assert forms == {"rank", "match"}
        some = {one.id for one in replace(texts, users=0.5).instructions()}
        every = {one.id for one in texts.instructions()}
        assert some < every
        assert 0.3 < len(some) / len(every) < 0.7

    @pytest.mark.slow
    def test_the_same_again(self, texts: InstructRecData) -> None:
        assert list(texts.instructions()) == list(replace(texts).instructions())
        assert list(texts.instructions()) != list(replace(texts, seed=1).instructions())

    @pytest.mark.parametrize(
        ("task", "message"),
        [
            (InstructRecData(forms="rank,ranks"), "forms has 'ranks'; there is rank, match"),
            (InstructRecData(dataset="amazon-cds", searched=0), None),
        ],
    )
    def test_errors(self, home: Path, task: InstructRecData, message: str | None) -> None:
        with pytest.raises((BadSetting, MissingData), match=message or "is not there; run"):
            list(task.instructions())

    def test_they_are_no_evaluation(self, texts: InstructRecData) -> None:
        with pytest.raises(NotApplicable, match="is for tuning; evaluate with --task instructrec"):
            list(texts.instances())
        assert [i.id for i in texts.instances("valid")] == [f"valid-U{u}" for u in users_in_order(texts)]
        assert len(list(texts.examples("valid"))) == shop.USERS

    def test_the_export_is_what_is_tuned_on(self, home: Path, tmp_path: Path) -> None:
        out = CliRunner().invoke(
            data_command,
            ["export", "--task", "instructrec-data", "--set", "dataset=amazon-games", "--out", str(tmp_path)],
        )
        assert out.exit_code == 0, out.output
        rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
        wanted = list(InstructRecData(dataset="amazon-games").instructions())
        assert [(row["template"], row["instruction"], row["output"]) for row in rows] == [one[1:] for one in wanted]
        counts = Counter(one.code for one in wanted)
        told = {line.rsplit(None, 1)[0]: line.rsplit(None, 1)[1] for line in out.output.splitlines()[1:]}
        assert told["instructions"] == str(len(wanted))
        assert {code: int(told[f"{code} {t.form}"]) for code, t in templates().by_code.items()} == {
            code: counts[code] for code in templates().by_code
        }


def users_in_order(task: InstructRecData) -> list[int]:
    return [int(line.user[1:]) for line in task.timelines()]
