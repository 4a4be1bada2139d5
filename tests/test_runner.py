"""The loop: every program is served, failures are data, bugs are not, and a cut run ends like an uncut one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engines import Answered, Asked, FunctionEngine
from harness.engines.wrappers import Counted, Retried
from harness.errors import BadData, NotApplicable, NothingAnswered, RequestFailed
from harness.meter import Meter
from harness.runner import PATIENCE, Share, answers, drive, evaluate, make_record, questions
from harness.signature import Sample, describe, identify
from harness.store import SCHEMA, Run, records
from harness.task import Task
from harness.types import (
    Generate,
    Instance,
    Item,
    Key,
    Prediction,
    Program,
    Rank,
    Ranked,
    Reply,
    Request,
    Scores,
    Split,
    Text,
    Usage,
    ask,
    ask_all,
    rank_candidates,
)
from tests.fakes import Coins, Shelf, noisy, text_engine


def run_at(path: Path, task: Task, who: str = "noisy") -> Run:
    identity = identify(task, "test", None, {"engine": who})
    return Run.open(path, {"schema": SCHEMA, "task": task.name, "identity": identity._asdict()})


def lines(path: Path) -> list[str]:
    return sorted((path / "records.jsonl").read_text().splitlines())


class Slow(FunctionEngine):
    """Finishes one question at a time, the last one first."""

    def collect(self) -> Sequence[Answered]:
        if not self._in_hand:
            return []
        key, request = self._in_hand.pop()
        return [(key, self._answer(key, request))]


def summarise(blocks: Sequence[str]) -> Program[str]:
    summary = ""
    for block in blocks:
        reply = yield from ask(Generate(f"{summary}|{block}", 8))
        summary = reply.text
    return summary


def echo(key: Key, request: Request) -> Reply | RequestFailed:
    return Text(request.prompt) if isinstance(request, Generate) else RequestFailed("no")


def test_a_recurrent_program_asks_block_after_block_and_batches_across_users() -> None:
    batches: list[int] = []

    class Spy(FunctionEngine):
        def submit(self, asked: Sequence[Asked]) -> None:
            batches.append(len(asked))
            super().submit(asked)

    users = {"a": ["1", "2", "3"], "b": ["1"], "c": ["1", "2"]}
    done = {key: result for key, result, _ in drive(((u, summarise(b)) for u, b in users.items()), Spy(echo, Generate))}
    assert done == {"a": "|1|2|3", "b": "|1", "c": "|1|2"}
    assert batches == [3, 2, 1]


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 7), st.booleans())
def test_every_program_ends_whatever_its_length_and_the_engine_s_order(
    sizes: list[int], width: int, slow: bool
) -> None:
    engine = (Slow if slow else FunctionEngine)(echo, Generate, capacity=width)
    programs = ((f"p{n}", summarise(["x"] * size)) for n, size in enumerate(sizes))
    done = {key: result for key, result, _ in drive(programs, engine)}
    assert done == {f"p{n}": "|x" * size for n, size in enumerate(sizes)}


def test_a_slow_answer_holds_up_nobody() -> None:
    order = []
    slow = Slow(echo, Generate, capacity=2)
    for key, _, _ in drive(((name, summarise(["x"] * n)) for name, n in (("long", 9), ("b", 1), ("c", 1))), slow):
        order.append(key)
    assert order == ["b", "c", "long"]


def test_questions_asked_together_come_back_in_order_and_none_is_fine() -> None:
    def program() -> Program[tuple[str, int]]:
        replies = yield from ask_all([Generate(letter, 1) for letter in "cab"])
        nothing = yield from ask_all([])
        return "".join(reply.text for reply in replies if isinstance(reply, Text)), len(nothing)

    ((_, result, _),) = drive([("x", program())], Slow(echo, Generate))
    assert result == ("cab", 0)


def test_a_program_may_catch_a_failed_request_and_ask_again() -> None:
    def stubborn() -> Program[str]:
        try:
            reply = yield from ask(Generate("long", 1))
        except RequestFailed:
            reply = yield from ask(Generate("short", 1))
        return reply.text

    def picky(key: Key, request: Request) -> Reply | RequestFailed:
        return RequestFailed("too long") if isinstance(request, Generate) and request.prompt == "long" else Text("ok")

    assert [result for _, result, _ in drive([("x", stubborn())], FunctionEngine(picky, Generate))] == ["ok"]


def test_usage_adds_up_over_steps() -> None:
    engine = FunctionEngine(lambda key, request: Text("", usage=Usage(7, 2)), Generate)
    ((_, _, usage),) = drive([("x", summarise(["a", "b"]))], engine)
    assert usage == Usage(14, 4)


def test_sampled_questions_get_seeds_that_depend_on_run_instance_and_step_only() -> None:
    def seeds(salt: str, capacity: int) -> dict[tuple[str, int], int]:
        seen: dict[tuple[str, int], int] = {}

        def spy(key: Key, request: Request) -> Reply | RequestFailed:
            assert isinstance(request, Generate)
            assert request.seed is not None
            seen[key.instance, key.step] = request.seed
            return Text("")

        def program() -> Program[None]:
            yield from ask(Generate("a", 1, temperature=1.0))
            yield from ask(Generate("a", 1, temperature=1.0))

        list(drive([("x", program()), ("y", program())], FunctionEngine(spy, Generate, capacity=capacity), salt))
        return seen

    assert seeds("run", 1) == seeds("run", 9)
    assert len(set(seeds("run", 9).values())) == 4
    assert not set(seeds("run", 9).values()) & set(seeds("other", 9).values())


def test_a_bug_in_a_task_stops_the_run_instead_of_scoring_zero() -> None:
    def buggy() -> Program[None]:
        reply = yield from ask(Generate("x", 1))
        reply.texxt  # type: ignore[attr-defined]  # noqa: B018  the misspelling is the bug

    with pytest.raises(AttributeError):
        list(drive([("x", buggy())], FunctionEngine(echo, Generate)))


def test_one_id_for_two_instances_is_a_bug() -> None:
    with pytest.raises(ValueError, match="two instances have the id 'x'"):
        list(drive([("x", summarise(["a"])), ("x", summarise(["a"]))], FunctionEngine(echo, Generate)))


@pytest.mark.parametrize("task", [Coins(), Shelf()])
def test_a_cut_run_ends_with_the_same_records(tmp_path: Path, task: Task) -> None:
    with run_at(tmp_path / "whole", task) as whole:
        evaluate(task, text_engine(), whole)
    calls = 0

    def dies(key: Key, request: Request) -> Reply | RequestFailed:
        nonlocal calls
        calls += 1
        if calls > 120:
            raise KeyboardInterrupt
        return noisy(key, request)

    with pytest.raises(KeyboardInterrupt), run_at(tmp_path / "cut", task) as cut:
        evaluate(task, text_engine(dies), cut)
    with (tmp_path / "cut" / "records.jsonl").open("ab") as torn:
        torn.write(b'{"id": "half a li')
    with run_at(tmp_path / "cut", task) as again:
        assert 0 < len(again.done) < 200
        evaluate(task, text_engine(capacity=5), again)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def failing(share: Callable[[str], bool]) -> FunctionEngine:
    def answer(key: Key, request: Request) -> Reply | RequestFailed:
        return RequestFailed("prompt too long") if share(key.instance) else noisy(key, request)

    return text_engine(answer)


def test_a_failed_request_is_a_record_and_its_neighbours_are_answered(tmp_path: Path) -> None:
    with run_at(tmp_path / "r", Coins()) as run:
        evaluate(Coins(), failing(lambda name: name.endswith("7")), run)
    kept = list(records(tmp_path / "r"))
    failed = [record for record in kept if record.failure]
    assert len(kept) == 200
    assert len(failed) == 20
    assert {(record.failure, record.reason) for record in failed} == {("RequestFailed", "prompt too long")}
    assert all(record.rows["AUC"] is not None and record.rows["AUC"][2] == 0 for record in failed)


@pytest.mark.parametrize("count", [PATIENCE // 2, PATIENCE * 3])
def test_a_run_that_answers_nothing_is_an_error_and_records_nothing(tmp_path: Path, count: int) -> None:
    task = Coins(count=count)
    message = f"none of the first {min(count, PATIENCE)} instances could be answered: prompt too long"
    with pytest.raises(NothingAnswered, match=message), run_at(tmp_path / "r", task) as run:
        evaluate(task, failing(lambda name: True), run)
    assert not (tmp_path / "r").exists()


def test_failures_before_the_first_success_are_kept(tmp_path: Path) -> None:
    with run_at(tmp_path / "r", Coins()) as run:
        evaluate(Coins(), failing(lambda name: int(name.split("-")[1]) < 40), run)
    assert sum(record.failure is not None for record in records(tmp_path / "r")) == 40


def test_conventional_models_answer_the_same_instances(tmp_path: Path) -> None:
    truth = {instance.id: instance.relevance for instance in Shelf().instances()}

    def oracle(key: Key, request: Request) -> Reply | RequestFailed:
        assert isinstance(request, Rank)
        return Scores(tuple(truth[key.instance].get(item.id, 0.0) for item in request.candidates or ()))

    with run_at(tmp_path / "r", Shelf()) as run:
        evaluate(Shelf(), FunctionEngine(oracle, Rank), run)
    assert all(record.rows["NDCG@10"] == (1.0,) and list(record.ranks.values()) == [1] for record in records(run.path))
    assert all(record.tied for record in records(run.path))


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_shares_are_the_whole_run_in_parts(of: int) -> None:
    task, done = Coins(count=500), {"test-3", "test-70", "test-499"}
    whole = {record.id: record.line() for record in answers(task, text_engine(), "salt", done=done)}
    parts = [list(answers(task, text_engine(), "salt", done=done, share=Share(place, of))) for place in range(of)]
    assert sum(map(len, parts)) == 497
    assert {record.id: record.line() for part in parts for record in part} == whole
    assert max(map(len, parts)) - min(map(len, parts)) <= 64


@dataclass(frozen=True)
class Twice(Coins):
    """The same hundred ids again and again, further apart than any engine's capacity."""

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        for number, instance in enumerate(super().instances(split)):
            yield replace(instance, id=f"{number % 100}")


def test_a_task_that_repeats_an_id_or_has_no_instances_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(BadData, match="task 'coins' has two test instances with the id '0'"),
        run_at(tmp_path / "a", Twice()) as run,
    ):
        evaluate(Twice(), text_engine(capacity=10), run)
    with (
        pytest.raises(BadData, match="task 'coins' has no test instances"),
        run_at(tmp_path / "b", Coins(count=0)) as run,
    ):
        evaluate(Coins(count=0), text_engine(), run)
    assert not (tmp_path / "b").exists()


def test_a_repeated_item_keeps_its_first_place() -> None:
    assert Prediction.ranked(["a", "b", "a"]).ranking("salt") == ("a", "b")


def test_an_engine_that_fits_no_question_does_not_apply(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable), run_at(tmp_path / "r", Coins()) as run:
        evaluate(Coins(), FunctionEngine(echo), run)


def test_a_list_of_the_whole_catalogue() -> None:
    instance = Instance("i", "u", (), None, {"b": 1.0})
    made = make_record(
        Shelf(), Meter(Shelf().metrics), instance, Prediction.ranked(Ranked(("a", "b", "c")).items), Usage()
    )
    assert made.ranks == {"b": 2}
    assert made.rows["HR@3"] == (1.0,)


def test_scores_are_compared_as_floats_whatever_an_engine_gives() -> None:
    """Nanoseconds since 1970 differ by less than a float64 can say: a tie, in the places as in the list."""
    newest = 1_790_000_000_000_000_000
    given: list[float] = [newest, newest + 1, 0.1, newest - 1, True]
    instance = Instance("i", "u", (), tuple(Item(str(n), "") for n in range(5)), {str(n): 1.0 for n in range(5)})
    engine = Retried(FunctionEngine(lambda key, request: Scores(tuple(given)), Rank))
    ((_, outcome, usage),) = drive([("i", rank_candidates(instance))], engine)
    made = make_record(Shelf(), Meter(Shelf().metrics), instance, outcome, usage)
    assert isinstance(outcome, Prediction)
    assert {type(score) for score in outcome.scores.values()} == {float}
    assert made.tied
    assert sorted(made.ranks, key=made.ranks.__getitem__) == list(made.top)
    assert sorted(made.ranks.values()) == [1, 2, 3, 4, 5]


def test_an_answer_that_is_not_finite_is_a_failure() -> None:
    item = Item("x", "x")
    instance = Instance("i", "u", (), (item,), {"x": 1.0})
    made = make_record(Coins(), Meter(Coins().metrics), instance, Prediction({"x": math.nan}), Usage())
    assert made.failure == "InstanceFailed"
    assert made.rows["AUC"] == (1.0, 0.0, 0.0)


def test_a_sample_is_the_same_whatever_the_order_and_grows_by_nesting() -> None:
    task = Coins()
    small = [instance.id for instance in questions(task, "test", Sample(20, 3))]
    large = [instance.id for instance in questions(task, "test", Sample(50, 3))]
    other = [instance.id for instance in questions(task, "test", Sample(20, 4))]
    assert len(small) == 20
    assert set(small) < set(large)
    assert set(small) != set(other)
    order = [instance.id for instance in task.instances()]
    assert small == sorted(small, key=order.index)
    assert len(list(questions(task, "test", Sample(10_000)))) == 200


def test_the_three_identities() -> None:
    base = identify(Coins(), "test", None, {"m": 1})
    assert identify(Coins(style="loud"), "test", None, {"m": 1}).instances == base.instances
    assert identify(Coins(style="loud"), "test", None, {"m": 1}).protocol != base.protocol
    assert identify(Coins(count=9), "test", None, {"m": 1}).instances != base.instances
    assert identify(Coins(), "valid", None, {"m": 1}).instances != base.instances
    assert identify(Coins(), "test", Sample(9), {"m": 1}).instances != base.instances
    other = identify(Coins(), "test", None, {"m": 2})
    assert other[:2] == base[:2]
    assert other.run != base.run
    assert describe(replace(Coins(), style="loud")) == "coins(style=loud)"


def test_transient_failures_are_asked_again_and_counted() -> None:
    tries: dict[str, int] = {}

    def moody(key: Key, request: Request) -> Reply | RequestFailed:
        tries[key.instance] = tries.get(key.instance, 0) + 1
        if key.instance == "never":
            return RequestFailed("busy", transient=True)
        if key.instance == "final":
            return RequestFailed("too long")
        return Text("ok", usage=Usage(3, 1)) if tries[key.instance] == 3 else RequestFailed("busy", transient=True)

    counted = Counted(FunctionEngine(moody, Generate))
    names = ("late", "never", "final")
    done = {k: r for k, r, _ in drive(((n, summarise(["x"])) for n in names), Retried(counted, times=4))}
    assert done["late"] == "ok"
    assert isinstance(done["never"], RequestFailed)
    assert isinstance(done["final"], RequestFailed)
    assert tries == {"late": 3, "never": 5, "final": 1}
    assert (counted.asked, counted.failed, counted.usage) == (9, 8, Usage(3, 1))
