"""Who works: which options go together, and what is sent to other processes."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace

import pytest

from harness.cli import main
from harness.executors import HERE, Spread
from harness.executors.opening import executor
from harness.model import EngineOptions
from tasks.tallrec import TALLRec


def test_without_a_word_this_process_works() -> None:
    with executor(Spread(), EngineOptions(), print) as working:
        assert working is HERE


@pytest.mark.parametrize("command", ["run", "grid"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--workers", "2"], "--workers, --ray-address and --gpus-per-worker go with --executor ray"),
        (["--gpus-per-worker", "0"], "--workers, --ray-address and --gpus-per-worker go with --executor ray"),
        (["--executor", "ray", "--data-parallel", "2"], "--data-parallel goes with --executor local"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(
    command: str, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--task", "tallrec", "--model", "simple:random", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"harness: {expected}")


def test_pieces_are_done_in_order_and_when_asked_for() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        done.append(number)
        return number * number

    results = iter(HERE.each(work, [(3,), (1,), (2,)]))
    assert next(results) == 9
    assert done == [3]
    assert list(results) == [1, 4]


@pytest.mark.slow
def test_a_task_is_sent_as_its_options_alone() -> None:
    """What it has read of files is read again where it arrives, so that other files there are noticed."""
    task = TALLRec(domain="movie")
    small = len(pickle.dumps(task))
    digests = dict(task.data_digests())
    first = next(iter(task.instances("test")))
    options = {field.name for field in fields(task)}
    assert task.__dict__.keys() > options
    sent = pickle.dumps(task)
    assert len(sent) == small < 500
    found = pickle.loads(sent)
    assert found == task
    assert found.__dict__.keys() == options
    assert dict(found.data_digests()) == digests
    assert next(iter(found.instances("test"))) == first
    assert replace(found, domain="book") != task
