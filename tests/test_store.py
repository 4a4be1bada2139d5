"""Run directories: nothing is lost, nothing is mixed, nothing is left behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BadData, HarnessError, StaleRun
from harness.store import SCHEMA, Record, Run, read_manifest, read_scores, read_sessions, records


def manifest(run: str = "aaa", **more: Any) -> Mapping[str, Any]:
    return {"schema": SCHEMA, "task": "coins", "identity": {"instances": "i", "protocol": "p", "run": run}, **more}


def record(name: str, **more: Any) -> Record:
    kept: dict[str, Any] = {"rows": {"AUC": (1.0, 0.5, 1.0)}, "ranks": {"x": 1}, "top": ("x",), "tied": False}
    kept |= {"strata": {"history": 3.0}, "tokens": (10, 1), **more}
    return Record(id=name, user="u", **kept)


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.text(), st.dictionaries(st.text(), st.none() | st.tuples(FINITE, FINITE)), st.none() | st.text())
def test_a_record_survives_its_line(name: str, rows: dict[str, tuple[float, ...] | None], text: str | None) -> None:
    made = record(name, rows=rows, text=text, facts={"mass": 0.5})
    line = made.line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert Record.parse(line) == made


@given(st.text(), st.dictionaries(st.text(), st.none() | st.tuples(FINITE, FINITE)), st.none() | st.text())
def test_a_line_is_the_record_field_by_field(name: str, rows: dict[str, tuple[float, ...] | None], text: str) -> None:
    made = record(name, rows=rows, text=text, reason=text, facts={"mass": 1 / 3})
    plain = json.dumps(asdict(made), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    assert made.line() == plain.encode() + b"\n"


def test_a_line_as_it_has_always_been() -> None:
    rows = {"NDCG@10": (0.5,), "mass": None}
    made = record("é", rows=rows, ranks={"x": 2}, top=("y", "x"), failure="InstanceFailed", reason='a "quote"')
    assert made.line().decode() == (
        '{"id":"é","user":"u","rows":{"NDCG@10":[0.5],"mass":null},"ranks":{"x":2},"top":["y","x"],"tied":false,'
        '"strata":{"history":3.0},"tokens":[10,1],"facts":{},"text":null,"failure":"InstanceFailed",'
        '"reason":"a \\"quote\\""}\n'
    )


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        record("a", rows={"AUC": (float("nan"),)}).line()


@pytest.mark.parametrize("torn", [1, 5, 60])
def test_only_a_torn_tail_is_cut(tmp_path: Path, torn: int) -> None:
    with Run.open(tmp_path / "r", manifest()) as run:
        for n in range(3):
            run.append(record(f"id {n}"))
    lines = tmp_path / "r" / "records.jsonl"
    whole = lines.read_bytes()
    lines.write_bytes(whole[:-torn])
    with Run.open(tmp_path / "r", manifest()) as run:
        assert run.done == {"id 0", "id 1"}
        run.append(record("id 2"))
    assert lines.read_bytes() == whole


def test_a_tail_longer_than_a_block_is_cut_too(tmp_path: Path) -> None:
    with Run.open(tmp_path / "r", manifest()) as run:
        run.append(record("id 0"))
    lines = tmp_path / "r" / "records.jsonl"
    whole = lines.read_bytes()
    lines.write_bytes(whole + b"x" * 3_000_000)
    with Run.open(tmp_path / "r", manifest()) as run:
        assert run.done == {"id 0"}
    assert lines.read_bytes() == whole


def test_a_spoilt_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    with Run.open(tmp_path / "r", manifest()) as run:
        for n in range(3):
            run.append(record(f"id {n}"))
    lines = tmp_path / "r" / "records.jsonl"
    lines.write_text(lines.read_text().replace('"id 1"', '"id 1'))
    with pytest.raises(BadData, match=r"records.jsonl, line 2"), Run.open(tmp_path / "r", manifest()):
        pass


@pytest.mark.parametrize("line", [1, 2])
def test_a_run_that_cannot_be_resumed_is_left_as_it_is(tmp_path: Path, line: int) -> None:
    with Run.open(tmp_path / "r", manifest()) as run:
        for n in (1, 2):
            run.append(record(f"id {n}"))
    lines = tmp_path / "r" / "records.jsonl"
    spoilt = lines.read_text().replace(f'"id {line}"', f'"id {line}')
    lines.write_text(spoilt)
    with pytest.raises(BadData):
        Run.open(tmp_path / "r", manifest())
    assert lines.read_text() == spoilt
    assert (tmp_path / "r" / "run.json").exists()


def test_a_torn_session_note_harms_nobody(tmp_path: Path) -> None:
    with Run.open(tmp_path / "r", manifest()) as run:
        run.append(record("a"))
        (tmp_path / "r" / "sessions.jsonl").write_text('{"seconds": 1}\n{"answered": 3, "machine": {"x": 1}')
        assert read_sessions(tmp_path / "r") == [{"seconds": 1}]
        run.note_session({"seconds": 2})
    assert read_sessions(tmp_path / "r") == [{"seconds": 1}, {"seconds": 2}]


def test_another_experiment_cannot_go_on_with_a_run(tmp_path: Path) -> None:
    with Run.open(tmp_path / "r", manifest(settings={"domain": "movie"})) as run:
        run.append(record("a"))
    with pytest.raises(StaleRun, match=r"settings.domain: movie there, book here"):
        Run.open(tmp_path / "r", manifest("bbb", settings={"domain": "book"}))
    assert [kept.id for kept in records(tmp_path / "r")] == ["a"]


def test_two_writers_are_kept_apart(tmp_path: Path) -> None:
    with Run.open(tmp_path / "r", manifest()) as run:
        run.append(record("a"))
        with pytest.raises(StaleRun, match="being written by another process"):
            Run.open(tmp_path / "r", manifest())


def test_a_run_without_answers_leaves_nothing_behind(tmp_path: Path) -> None:
    with Run.open(tmp_path / "r", manifest()) as run:
        run.note_session({"seconds": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_what_was_written_stays(tmp_path: Path) -> None:
    with Run.open(tmp_path / "r", manifest()) as run:
        run.append(record("a"))
    (tmp_path / "r" / "records.jsonl").rename(tmp_path / "kept")
    (tmp_path / "r" / "records.jsonl").symlink_to("/dev/full")
    run = Run(tmp_path / "r", manifest())
    with pytest.raises(HarnessError, match=r"no space left for .*; free some and run the same command again"):
        run.append(record("b"))
    run.close()
    assert "b" not in run.done
    (tmp_path / "r" / "records.jsonl").unlink()
    (tmp_path / "kept").rename(tmp_path / "r" / "records.jsonl")
    with Run.open(tmp_path / "r", manifest()) as again:
        assert again.done == {"a"}


def test_finishing(tmp_path: Path) -> None:
    with Run.open(tmp_path / "r", manifest()) as run:
        run.append(record("a"))
        assert read_scores(tmp_path / "r") is None
        run.finish({"instances": 1})
    assert read_scores(tmp_path / "r") == {"instances": 1}
    assert read_manifest(tmp_path / "r")["identity"]["run"] == "aaa"


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"schema": 99, "identity": {"run": "a"}})])
def test_what_is_no_run_directory_says_so(tmp_path: Path, content: str) -> None:
    with pytest.raises(StaleRun, match="not a run directory"):
        read_manifest(tmp_path)
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(StaleRun, match="not written by this version"):
        read_manifest(tmp_path)
