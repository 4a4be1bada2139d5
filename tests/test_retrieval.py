"""The first stage: how deep it looks, what its runs keep, and what is no run of candidates."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import BadSetting, NotApplicable, StaleRun
from harness.evaluation import perform
from harness.job import Job
from harness.model import Model
from harness.registry import build, task, task_kinds
from harness.runner import drive
from harness.stages import stage
from harness.store import records
from harness.task import Task
from harness.testing import TaskContract
from tasks.retrieval import Retrieval
from tasks.sequential import Sequential
from tests.fakes import text_engine


class TestRetrievalContract(TaskContract):
    task = Retrieval()


def ran(task: Task, model: str, runs: Path) -> Path:
    (path,) = perform(Job(task, Model.parse(model), runs=runs), say=lambda line: None)
    return path


@pytest.fixture(scope="module")
def popular(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(Retrieval(n=60), "simple:popularity", tmp_path_factory.mktemp("runs"))


def test_registered() -> None:
    assert task_kinds()["retrieval"] is Retrieval


def test_it_looks_as_deep_as_it_is_told() -> None:
    assert [Retrieval().depth, Retrieval(n=200).depth] == [50, 200]
    with pytest.raises(BadSetting, match="n='49' should be at least 50"):
        task("retrieval", ["n=49"])
    with pytest.raises(BadSetting, match="candidates"):
        build(Retrieval, {"candidates": "uniform"}, "task 'retrieval'")


@pytest.mark.slow
def test_a_run_keeps_the_best_that_each_user_has_not_seen(popular: Path) -> None:
    found, questions = stage(popular, "retrieval").lists, {q.id: q for q in Retrieval().instances("test")}
    assert found.keys() == questions.keys()
    met = Retrieval().catalogue().met
    for name, question in questions.items():
        assert len(set(found[name])) == 60
        assert question.excluded.isdisjoint(found[name])
        free = sorted((count for item, count in met.items() if item not in question.excluded), reverse=True)
        assert [met[item] for item in found[name]] == free[:60]
    hits = sum(any(item in question.relevance for item in found[name]) for name, question in questions.items())
    assert hits == sum(len(record.ranks) for record in records(popular))


@pytest.mark.slow
def test_the_questions_are_those_of_the_task_sequential() -> None:
    ours, theirs = (list(task.instances("test")) for task in (Retrieval(), Sequential()))
    assert [(q.id, q.history, q.relevance, q.excluded) for q in ours] == [
        (q.id, q.history, q.relevance, q.excluded) for q in theirs
    ]


def test_language_models_are_not_asked() -> None:
    task = Retrieval()
    with pytest.raises(NotApplicable, match="task 'sequential' asks language models with --set candidates=uniform"):
        list(drive(((q.id, task.solve(q)) for q in task.instances("test")), text_engine()))


class TestNoStage:
    @pytest.mark.slow
    def test_not_complete(self, tmp_path: Path) -> None:
        path = ran(Retrieval(), "simple:random", tmp_path)
        assert len(stage(path, "retrieval").lists) == 943
        (path / "scores.json").unlink()
        with pytest.raises(StaleRun, match="is not complete; give the command that made it again, and it goes on"):
            stage(path, "retrieval")

    @pytest.mark.slow
    def test_of_another_task(self, tmp_path: Path) -> None:
        with pytest.raises(StaleRun, match="is a run of task 'sequential', and a run of 'retrieval' is needed"):
            stage(ran(Sequential(), "simple:random", tmp_path), "retrieval")

    def test_of_a_model_that_cannot_answer(self, tmp_path: Path) -> None:
        with pytest.raises(StaleRun, match="holds no answers: simple:recency scores given candidates"):
            stage(ran(Retrieval(), "simple:recency", tmp_path), "retrieval")

    def test_no_run_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(StaleRun, match="is not a run directory"):
            stage(tmp_path, "retrieval")
