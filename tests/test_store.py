"""Run directories: nothing is lost, nothing is mixed, nothing is left behind."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BadData, HarnessError, StaleRun
from harness.seal import seal, unsealed
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
    assert unsealed(made.line()) == plain.encode()


def test_a_line_as_it_has_always_been() -> None:
    # The checksum is the one in the trailer that gzip writes for the line up to there.
    rows = {"NDCG@10": (0.5,), "mass": None}
    made = record("é", rows=rows, ranks={"x": 2}, top=("y", "x"), failure="InstanceFailed", reason='a "quote"')
    assert made.line().decode() == (
        '{"id":"é","user":"u","rows":{"NDCG@10":[0.5],"mass":null},"ranks":{"x":2},"top":["y","x"],"tied":false,'
        '"strata":{"history":3.0},"tokens":[10,1],"facts":{},"text":null,"failure":"InstanceFailed",'
        '"reason":"a \\"quote\\"","sum":"9aa33235"}\n'
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
        with pytest.raises(StaleRun, match="being written by process"):
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


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not as this harness wrote it"),
        ("{", "not as this harness wrote it"),
        ("[]", "not as this harness wrote it"),
        (json.dumps({"schema": 99, "identity": {"run": "a"}}), "not written by this version"),
        (json.dumps({"schema": SCHEMA, "identity": "a"}), "not written by this version"),
    ],
)
def test_what_is_no_run_directory_says_so(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(StaleRun, match="not a run directory"):
        read_manifest(tmp_path)
    (tmp_path / "run.json").write_text(content)
    with pytest.raises((StaleRun, BadData), match=says):
        read_manifest(tmp_path)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of three records, to be copied."""
    path = tmp_path_factory.mktemp("written") / "r"
    with Run.open(path, manifest()) as run:
        for n in range(3):
            run.append(record(f"id {n}", text="Heat"))
        run.note_session({"seconds": 1.5, "answered": 3})
        run.finish({"headline": "AUC", "instances": 3})
    return path


def read(path: Path, name: str) -> Any:
    if name == "records.jsonl":
        return list(records(path))
    return {"run.json": read_manifest, "scores.json": read_scores, "sessions.jsonl": read_sessions}[name](path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["records.jsonl", "run.json", "scores.json", "sessions.jsonl"])
def test_a_changed_byte_is_an_error_or_changes_nothing(written: Path, tmp_path: Path, name: str) -> None:
    whole, before = (written / name).read_bytes(), read(written, name)
    found = 0
    for place in range(len(whole)):
        for change in (0x01, 0x08, 0x80):
            (tmp_path / name).write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
            try:
                after = read(tmp_path, name)
            except (BadData, StaleRun) as error:
                assert name in str(error)  # noqa: PT017  # not every change is an error
                found += 1
            else:
                assert harmless(before, after), (place, change)
    assert found > len(whole)


def harmless(before: Any, after: Any) -> bool:
    """The same, but for the checksum's own name, or for the end of the file, which reads as a line cut by a kill."""
    if isinstance(before, list):
        return before[: len(after)] == after or (len(before) == len(after) and all(map(harmless, before, after)))
    return isinstance(after, dict) and all(after.get(key) == value for key, value in before.items())


def test_a_second_record_of_an_instance_is_an_error_that_names_it(written: Path, tmp_path: Path) -> None:
    lines = (written / "records.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run.json").write_bytes((written / "run.json").read_bytes())
    (tmp_path / "records.jsonl").write_bytes(b"".join([*lines, lines[1]]))
    with pytest.raises(BadData, match=r"records.jsonl, line 4: a second record of instance 'id 1'"):
        list(records(tmp_path))
    with pytest.raises(BadData, match="line 4"):
        Run.open(tmp_path, manifest())


def test_records_without_a_manifest_are_nobodys(written: Path, tmp_path: Path) -> None:
    """Else whoever came next, another model say, would be told that all is answered."""
    for name in ("records.jsonl", "scores.json"):
        path = tmp_path / name
        path.mkdir()
        (path / name).write_bytes((written / name).read_bytes())
        with pytest.raises(StaleRun, match="holds answers, and no run"):
            Run.open(path, manifest("bbb"))
        assert (path / name).exists()


def test_who_holds_a_run_is_said(tmp_path: Path) -> None:
    with (
        Run.open(tmp_path / "r", manifest()),
        pytest.raises(StaleRun, match=rf"written by process {os.getpid()} on \S+ since 20\d\d-\S+; wait for it"),
    ):
        Run.open(tmp_path / "r", manifest())
    assert not (tmp_path / "r").exists()


@given(st.dictionaries(st.text(min_size=1), st.text() | st.integers(), min_size=1), st.sampled_from([None, 2]))
def test_a_seal_is_one_more_member(content: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(content, indent=indent)
    sealed = seal(text)
    assert json.loads(unsealed(sealed)) == content
    assert json.loads(sealed) == {**content, "sum": json.loads(sealed)["sum"]}
    assert unsealed(text.encode()) == text.encode()


def test_the_checksum_is_crc32_of_what_stands_before_it() -> None:
    assert seal('{"a":1}') == b'{"a":1,"sum":"%08x"}' % zlib.crc32(b'{"a":1')
