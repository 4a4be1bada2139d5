"""PALR: texts pinned, candidates as the first stage found them, answers credited line by line, by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from harness.cli.options import make_task
from harness.engines import FunctionEngine
from harness.errors import BadSetting, MissingData, StaleRun
from harness.evaluation import perform
from harness.job import Job
from harness.knobs import settings
from harness.model import Model
from harness.registry import build, task_kinds
from harness.runner import evaluate
from harness.scoring import score
from harness.signature import identify
from harness.stages import find_stage
from harness.store import SCHEMA, Run, records
from harness.testing import TaskContract, check_task
from harness.types import (
    Generate,
    Instance,
    Item,
    Prediction,
    Program,
    Split,
    Text,
)
from tasks.palr import PALR
from tasks.palr_profile import PALRProfile
from tasks.prompts import load_texts
from tasks.retrieval import Retrieval

TEXTS = "af88fdbb"
"""sha256 over the texts as JSON, first eight digits."""


class TestV1Contract(TaskContract):
    task = PALR(variant="v1")
    splits = ("test", "valid")


@pytest.mark.slow
def test_v2_holds_its_contract(palr: PALR) -> None:
    findings = check_task(palr)
    assert all(finding.holds for finding in findings), findings
    said = [finding.what for finding in findings]
    assert "every shortlist is what an earlier stage found, in its order (0 of 943 are not)" in said
    assert "no question and no reading depends on what is right (0 of 200 do)" in said


class Injecting(PALR):
    """A protocol that cheats: the target takes the place of the last candidate."""

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for instance in super().instances(split):
            (target,) = instance.relevance
            item = Item(target, "the answer")
            yield replace(instance, shortlist=(*(instance.shortlist or ())[:-1], item))


class Telling(PALR):
    """One that cheats in another place: the prompt names what is right."""

    def prompt(self, instance: Instance) -> str:
        right = max(instance.relevance, key=lambda item: instance.relevance[item])
        return f"{super().prompt(instance)} {right}"


class Lifting(PALR):
    """One that puts a target that was found in the first place."""

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for instance in super().instances(split):
            first = sorted(instance.shortlist or (), key=lambda item: item.id not in instance.relevance)
            yield replace(instance, shortlist=tuple(first))


class Reading(PALR):
    """One that finds in every answer what is right."""

    def solve(self, instance: Instance) -> Program[Prediction]:
        yield from super().solve(instance)
        return Prediction.ranked([*instance.relevance])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (Injecting, "every shortlist is"),
        (Lifting, "every shortlist is"),
        (Telling, "no question and no reading"),
        (Reading, "no question and no reading"),
    ],
)
def test_a_protocol_that_cheats_is_found_out(kind: type[PALR], what: str, palr_runs: Path, found: str) -> None:
    failed = [finding.what for finding in check_task(kind(candidates=found, runs=str(palr_runs))) if not finding.holds]
    assert [said for said in failed if said.startswith(what)]


def test_texts_are_pinned() -> None:
    content = json.dumps(load_texts("palr"), sort_keys=True).encode()
    assert sha256(content).hexdigest()[:8] == TEXTS
    assert set(task_kinds()) >= {"palr", "palr-profile"}


class TestPrompt:
    def test_v2_word_for_word(self, palr: PALR) -> None:
        task = replace(palr, shown=2, top=3)
        instance = next(task.instances())
        assert task.prompt(instance) == (
            "Task Instruction: Recommend 10 other movies based on user's watching history from the candidate list.\n"
            'Input: User watched movies "Up in Smoke", "Home Alone". The candidates are "Star Wars", "Fargo", '
            '"Return of the Jedi".\n'
            "Output:"
        )

    def test_v1_has_no_candidates(self) -> None:
        task = PALR(variant="v1", shown=1)
        assert task.prompt(next(task.instances())) == (
            "Task Instruction: Recommend 10 other movies based on user's watching history.\n"
            'Input: User watched movies "Home Alone".\nOutput:'
        )

    def test_years_and_long_titles(self, palr: PALR) -> None:
        item = Item("1", "Good, the Bad and the Ugly, The (1966)")
        assert palr.said(item) == "Good, the Bad and the Ugly, The"
        assert replace(palr, year=True).said(item) == item.text
        assert replace(palr, longest_title=12).said(item) == "Good, the"
        assert replace(palr, longest_title=3).said(item) == "Goo"

    def test_orders(self, palr: PALR, asked: Instance) -> None:
        listed = [item.id for item in asked.shortlist or ()]
        orders = {
            order: [i.id for i in replace(palr, order=order).ordered(asked)] for order in ("retriever", "reversed")
        }
        assert orders == {"retriever": listed, "reversed": listed[::-1]}
        drawn = [[i.id for i in replace(palr, order="shuffled", order_seed=seed).ordered(asked)] for seed in (0, 0, 1)]
        assert drawn[0] == drawn[1] != drawn[2]
        assert all(sorted(order) == sorted(listed) and order != listed for order in drawn)


class TestFirstStage:
    def test_candidates_are_the_first_unseen_of_the_run(self, palr: PALR) -> None:
        lists = find_stage(Path(palr.runs), "retrieval", palr.candidates, "").lists
        for instance in palr.instances():
            assert [item.id for item in instance.shortlist or ()] == list(lists[instance.id][:50])

    @pytest.mark.slow
    def test_what_was_seen_is_taken_out(self, tmp_path: Path) -> None:
        job = Job(Retrieval(k_core=5, masking="none"), Model.parse("simple:popularity"), runs=tmp_path)
        (path,) = perform(job, say=lambda line: None)
        kept = PALR(candidates=path.name, runs=str(tmp_path), remove_seen=False)
        for with_seen, without in zip(kept.instances(), replace(kept, remove_seen=True).instances(), strict=True):
            met = {event.item.id for event in without.history} | without.excluded
            assert len(with_seen.shortlist or ()) == 50
            assert [i for i in with_seen.shortlist or () if i.id not in met] == list(without.shortlist or ())

    def test_it_changes_how_is_asked_and_not_what(self, palr: PALR) -> None:
        ours, plain = (identify(task, "test", None, {}) for task in (palr, PALR(variant="v1")))
        assert ours.instances == plain.instances
        assert ours.protocol != plain.protocol
        elsewhere = identify(replace(palr, users=0.5), "test", None, {})
        assert elsewhere == ours

    def test_its_content_counts(self, palr: PALR, tmp_path: Path) -> None:
        """The same digest with another list inside is another protocol."""
        there = Path(palr.runs) / "retrieval" / palr.candidates
        copy = tmp_path / "retrieval" / palr.candidates
        copy.mkdir(parents=True)
        for name in ("run.json", "scores.json"):
            (copy / name).write_bytes((there / name).read_bytes())
        lines = (there / "records.jsonl").read_text().splitlines(keepends=True)
        first = json.loads(lines[0])
        del first["sum"]
        lines[0] = json.dumps({**first, "top": first["top"][::-1]}) + "\n"
        (copy / "records.jsonl").write_text("".join(lines))
        ours, theirs = (identify(task, "test", None, {}) for task in (palr, replace(palr, runs=str(tmp_path))))
        assert ours.instances == theirs.instances
        assert ours.protocol != theirs.protocol

    def test_none_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(MissingData, match="no run of 'retrieval' is named; make one with `harness run --task "
                           "retrieval --set k_core=5 --model recbole:SASRec` and name it by the digits"):  # fmt: skip
            check_task(PALR(runs=str(tmp_path)))

    def test_conventional_models_need_none(self) -> None:
        ours, plain = (list(islice(task.instances(), 9)) for task in (PALR(), PALR(variant="v1")))
        assert [(q.id, q.history, q.relevance) for q in ours] == [(q.id, q.history, q.relevance) for q in plain]
        assert all(q.shortlist is None for q in ours)

    def test_another_is_named(self, palr: PALR) -> None:
        with pytest.raises(MissingData, match=f"there is no run '0123' .*{palr.candidates} .simple:popularity."):
            next(replace(palr, candidates="0123").instances())

    @pytest.mark.parametrize(("option", "value"), [("k_core", 3), ("min_rating", 2.0)])
    def test_of_other_questions(self, palr: PALR, option: str, value: Any) -> None:
        with pytest.raises(StaleRun, match=f"has {option}=.*, and {option}={value} is needed"):
            next(replace(palr, **{option: value}).instances())

    def test_of_another_split(self, palr: PALR) -> None:
        with pytest.raises(StaleRun, match="has split=test, and split=valid is needed"):
            palr.prompt(next(palr.instances("valid")))

    def test_conventional_models_validate_without_one(self, palr: PALR) -> None:
        assert all(question.shortlist is None for question in palr.instances("valid"))

    def test_of_fewer_items(self, palr: PALR) -> None:
        with pytest.raises(
            StaleRun, match=r"has 60 items for each user, and top=61; make one with `.* --set n=61 --model"
        ):
            next(replace(palr, top=61).instances())

    def test_a_longer_history_than_there_is(self) -> None:
        with pytest.raises(BadSetting, match="shown=60 is more than max_history=50; raise that, too"):
            PALR(shown=60)


class TestExamples:
    def test_both_forms(self) -> None:
        plain, offered = list(PALR(stride=50, users=0.01).examples())[:2]
        assert plain.prompt.startswith(
            "Task Instruction: Recommend 10 other movies based on user's watching history.\n"
        )
        assert "The candidates are" in offered.prompt
        assert plain.answer == offered.answer
        titles = offered.answer.strip().strip('"').split('", "')
        assert len(titles) == 10
        assert all(f'"{title}"' in offered.prompt.partition("The candidates are")[2] for title in titles)

    def test_v1_is_tuned_without_candidates(self) -> None:
        texts = list(PALR(variant="v1", stride=50, users=0.01).examples())
        assert texts
        assert not any("The candidates are" in text.prompt for text in texts)

    def test_validation_is_the_next_item(self) -> None:
        task = PALR()
        texts, asked = list(task.examples("valid")), list(PALR(variant="v1").instances("valid"))
        assert len(texts) == len(asked) == 943
        (target,) = asked[0].relevance
        item = next(item for item in task.catalogue().items if item.id == target)
        assert texts[0].answer == f' "{task.said(item)}"'

    def test_what_is_for_tuning_is_refused_by_an_evaluation(self) -> None:
        with pytest.raises(BadSetting, match="users decides what is tuned on, and no evaluation; give it to"):
            make_task("palr", ("users=0.5",))


class TestProfile:
    def test_word_for_word(self) -> None:
        task = PALRProfile(shown=1)
        assert task.prompt(next(task.instances())).splitlines() == [
            "Your task is to use two keywords to summarize user's preference based on history interactions.",
            "The output is an itemized list based on importance. The output template is:",
            '{KEYWORD_1: "HISTORY_MOVIE_1", "HISTORY_MOVIE_2"; KEYWORD_2: "HISTORY_MOVIE_2"}',
            "The history movies and their keywords",
            '"Home Alone (1990)": Children\'s, Comedy',
        ]

    @pytest.mark.slow
    def test_a_run_of_it_is_read(self, tmp_path: Path) -> None:
        task, written = PALRProfile(), '{Comedy: "Home Alone (1990)", "Jaws (1975)"; Drama: "Fargo (1996)"}'
        engine = FunctionEngine(lambda key, request: Text(written), Generate)
        path = _kept(task, engine, tmp_path / "palr-profile")
        first = {record.id: record for record in records(path)}[next(task.instances()).id]
        assert (first.facts["keywords"], first.facts["titles"], first.text) == (2, 3, written)
        assert first.facts["grounded"] == 1  # Home Alone; the other two the user did not watch of late
        asks = PALR(variant="v1", profile=path.name, runs=str(tmp_path), shown=1)
        prompt = asks.prompt(next(asks.instances()))
        assert f'User watched movies "Home Alone". User preference: {written}.\nOutput:' in prompt
        assert set(asks.stages) == {"profile"}
        with pytest.raises(
            StaleRun, match=r"has k_core=5, and k_core=6 is needed; make one with `harness run --task palr"
        ):
            next(replace(asks, k_core=6).instances())

    def test_beauty_has_no_keywords(self) -> None:
        with pytest.raises(BadSetting, match="dataset='amazon-beauty' should be one of ml-100k, ml-1m"):
            build(PALRProfile, {"dataset": "amazon-beauty"}, "task")


def _kept(task: PALRProfile, engine: FunctionEngine, folder: Path) -> Path:
    """A run of a task with an engine of our own, complete."""
    identity = identify(task, "test", None, {"engine": "fake"})
    path = folder / identity.run
    manifest = {
        "task": task.name,
        "model": {"name": "fake"},
        "settings": dict(settings(task)),
        "data": dict(task.data_digests()),
        "split": "test",
        "schema": SCHEMA,
        "identity": identity._asdict(),
    }
    with Run.open(path, manifest) as run:
        evaluate(task, engine, run)
        run.finish(score(path, task.metrics, {}))
    return path
