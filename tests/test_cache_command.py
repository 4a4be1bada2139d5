"""`harness cache`, and what real models of two weights in one folder are told of each other: nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.engines.cache import FILE, ResponseCache
from harness.store import read_sessions, records
from harness.types import Ranked, Scores, Text


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the cache of a home of its own will be."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / FILE


def fill(path: Path) -> None:
    cache = ResponseCache(path)
    cache.put({b"1": Text("a"), b"2": Text("b"), b"3": Scores((-1.0,)), b"4": Ranked(("i",))})
    cache.close()


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["cache", *words]) == code
    found = capsys.readouterr()
    return found.err if code == 2 else found.out


def test_without_a_cache_there_is_nothing_to_do(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "stats") == f"{path}: 0 answers, 0.0 MiB\n"
    assert said(capsys, "verify") == f"{path}: 0 answers read, 0 spoilt and removed\n"
    assert said(capsys, "clear", "--yes") == f"{path}: 0 answers removed\n"
    assert not path.exists()


def test_what_is_there_is_counted_and_removed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(path)
    size = path.stat().st_size
    assert said(capsys, "stats").splitlines()[1:] == ["  Ranked: 1", "  Scores: 1", "  Text: 2"]
    found = json.loads(said(capsys, "stats", "--json"))
    assert found == {"path": str(path), "entries": 4, "bytes": size, "kinds": {"Ranked": 1, "Scores": 1, "Text": 2}}
    assert (
        said(capsys, "verify", "--json") == json.dumps({"path": str(path), "checked": 4, "spoilt": 0}, indent=2) + "\n"
    )
    assert said(capsys, "clear", "--yes") == f"{path}: 4 answers removed\n"
    assert json.loads(said(capsys, "stats", "--json"))["entries"] == 0


def test_a_spoilt_entry_is_removed_and_said_by_the_exit_code(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(path)
    path.write_bytes(path.read_bytes().replace(b'"text": "a"', b'"text": "x"'))
    assert said(capsys, "verify", code=1) == f"{path}: 4 answers read, 1 spoilt and removed\n"
    assert said(capsys, "verify") == f"{path}: 3 answers read, 0 spoilt and removed\n"


def test_a_file_that_is_no_cache_is_one_line_and_can_be_cleared(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database " * 1000)
    for word in ("stats", "verify"):
        line = f"harness: the response cache {path} is damaged (file is not a database); run `harness cache clear`\n"
        assert said(capsys, word, code=2) == line
    assert said(capsys, "clear", "--yes") == f"{path} removed\n"
    assert said(capsys, "stats") == f"{path}: 0 answers, 0.0 MiB\n"


@pytest.mark.parametrize(("typed", "left"), [("n\n", 4), ("y\n", 0)])
def test_it_asks_before_it_clears(path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, left: int) -> None:
    import io

    fill(path)
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert main(["cache", "clear"]) == 0
    cache = ResponseCache(path)
    assert sum(cache.get(key) is not None for key in (b"1", b"2", b"3", b"4")) == left
    cache.close()


def run(folder: Path, runs: str, *words: str) -> tuple[list[tuple[str, object]], int, int]:
    """A real run: every record's id and facts, how many questions the model was asked, and the cache answered."""
    given = ["--model", f"hf:{folder}", "--sample", "6", "--threads", "1", "--runs", str(folder.parent / runs), *words]
    assert main(["run", "--task", "tallrec", *given]) == 0
    (made,) = (folder.parent / runs / "tallrec").iterdir()
    (session,) = read_sessions(made)
    return sorted((one.id, {**one.facts}) for one in records(made)), session["asked"], session["cached"]


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in folder.iterdir()}


@pytest.mark.slow
def test_two_models_in_one_folder_never_share_an_answer(path: Path, tmp_path: Path) -> None:
    """Same name, same sizes, same times of change, one process: only the weights are others."""
    from safetensors.numpy import load_file, save_file

    from tests import engine_models

    first = engine_models.llama(tmp_path / "first", chat=True, width=64, layers=1, context=2048)
    second = Path(shutil.copytree(first, tmp_path / "second"))
    weights: dict[str, Any] = load_file(second / "model.safetensors")
    save_file({name: values * 1.5 for name, values in weights.items()}, second / "model.safetensors", {"format": "pt"})
    for file in (*first.iterdir(), *second.iterdir()):
        os.utime(file, ns=(10**18, 10**18))
    assert stamps(first) == stamps(second)
    place = tmp_path / "model"

    first.rename(place)
    ours, asked, cached = run(place, "a")
    assert (asked, cached) == (6, 0)
    assert run(place, "b") == (ours, 0, 6)

    place.rename(first)
    second.rename(place)
    theirs, asked, cached = run(place, "c")
    assert (asked, cached) == (6, 0)
    assert theirs != ours

    place.rename(second)
    first.rename(place)
    assert run(place, "d") == (ours, 0, 6)
    adapter = engine_models.lora(tmp_path / "lora", place)
    others = (
        ["--adapter", str(adapter)],
        ["--template", "chat"],
        ["--dtype", "bfloat16"],
        ["--max-model-len", "2000"],
    )
    for number, words in enumerate(others):
        _, asked, cached = run(place, f"e{number}", *words)
        assert (asked, cached) == (6, 0), words
    assert run(place, "f") == (ours, 0, 6)
