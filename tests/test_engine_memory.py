"""Memory that really runs out: a process with a limit on its address space, and batches that need more than it has."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest

from harness.checkpoint import resolve
from harness.engines.transformers import TransformersModel, load
from harness.errors import HarnessError, RequestFailed
from harness.model import EngineOptions, Model
from harness.testing.engines import CLOSED, FILMS, OPTIONS, answers, largest_gap, questions
from harness.types import Choose, Generate, Reply, Request, Scores, Text
from tests import engine_models

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps to a limit on the address space"),
]
BATCH = 1 << 16
"""Tokens in one pass at first: far more than there is memory for."""
HISTORY = "A user liked " + ", ".join(engine_models.TITLES * 4)
KINDS: dict[str, list[Request]] = {
    "scores": [Choose(f"{n}. {HISTORY}.\n", (OPTIONS, FILMS)[n % 2]) for n in range(60)],
    "scores behind one beginning": [Choose(f"{HISTORY}, {n}.\n", (OPTIONS, FILMS)[n % 2]) for n in range(60)],
    "texts": [Generate(f"{n}. {HISTORY}.\n", 3) for n in range(60)],
    "options": [Generate(f'{n}. {HISTORY}.\nNext: "', 1, options=CLOSED) for n in range(60)],
}
Answers = list[Reply | RequestFailed]


def answered_in(room: int, folder: str, kind: str) -> tuple[Answers, Answers, int]:
    """Answers in small batches; those with a large budget and so many bytes of memory more; the budget in the end."""
    loaded = load(resolve(Model("hf", folder)), [], EngineOptions(threads=1, batch_tokens=1024))
    assert isinstance(loaded, TransformersModel)
    expected = answers(loaded.engine(), KINDS[kind])
    loaded.budget = BATCH
    with limited(room):
        found = answers(loaded.engine(), KINDS[kind])
    return expected, found, loaded.budget


def read_in(room: int, folder: str) -> str:
    """What is said of a prompt of some 4,000 tokens when so many bytes are left."""
    loaded = load(resolve(Model("hf", folder)), [], EngineOptions(threads=1))
    answers(loaded.engine(), questions(3))
    with limited(room), pytest.raises(HarnessError) as caught:
        answers(loaded.engine(), [Choose(HISTORY * 17, OPTIONS)])
    return str(caught.value)


@contextmanager
def limited(room: int) -> Iterator[None]:
    """This process may take so many bytes more than it has now."""
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(engine_models.llama(tmp_path_factory.mktemp("models") / "llama"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_comes_though_memory_runs_out(kind: str, folder: str) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        expected, found, budget = pool.submit(answered_in, 16 << 20, folder, kind).result()
    assert budget < BATCH, "memory was meant to run out"
    for one, other in zip(expected, found, strict=True):
        if isinstance(one, Text):
            assert other == one
        else:
            assert isinstance(one, Scores)
            assert isinstance(other, Scores)
            assert largest_gap([one.values], [other.values]) < 1e-4
            assert other.usage == one.usage


def test_without_room_for_one_request_the_run_stops_in_one_line(tmp_path: Path) -> None:
    long = str(engine_models.llama(tmp_path / "llama", context=8192))
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        said = pool.submit(read_in, 8 << 20, long).result()
    assert re.match(r"^out of memory on a single request of [0-9]{4} tokens; use a smaller --dtype, .*$", said)
