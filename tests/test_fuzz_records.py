"""The files of a run with anything done to them: the records as they were written, or one line, and no wrong table."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import BadData
from harness.report import card_table, run_lines, run_table
from harness.runner import evaluate
from harness.scoring import Asked, score
from harness.seal import unsealed
from harness.signature import describe, identify
from harness.store import SCHEMA, Record, Run, read_manifest, read_scores, read_sessions, records
from tests.fakes import Coins, text_engine
from tests.mutations import Reader, attack, said, spoilt

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
RECORDS = st.builds(
    Record,
    id=TEXTS,
    user=TEXTS,
    rows=st.dictionaries(TEXTS, st.none() | st.lists(NUMBERS, max_size=3).map(tuple), max_size=3),
    ranks=st.dictionaries(TEXTS, st.integers(1, 10**6), max_size=3),
    top=st.lists(TEXTS, max_size=3).map(tuple),
    tied=st.booleans(),
    strata=st.dictionaries(TEXTS, NUMBERS, max_size=2),
    tokens=st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)),
    facts=st.dictionaries(TEXTS, NUMBERS, max_size=2),
    text=st.none() | TEXTS,
    failure=st.none() | TEXTS,
    reason=st.none() | TEXTS,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of six instances."""
    task, path = Coins(count=6), tmp_path_factory.mktemp("runs") / "coins" / "r"
    who = {"engine": "noisy"}
    manifest = {
        "schema": SCHEMA,
        "task": task.name,
        "version": task.version,
        "described": describe(task),
        "settings": {"count": 6, "style": "plain"},
        "split": "test",
        "sample": None,
        "model": {**who, "name": "noisy"},
        "metrics": [metric.name for metric in task.metrics],
        "identity": identify(task, "test", None, who)._asdict(),
    }
    with Run.open(path, manifest) as run:
        evaluate(task, text_engine(), run)
        run.note_session({"seconds": 1.5, "answered": 6, "tokens": {"prompt_tokens": 1, "generated_tokens": 2}})
        asked = Asked.of(task.metrics, task.instances())
        run.finish(score(path, task.metrics, asked.chance, task.strata, asked.candidates))
    return path


def files_of(path: Path) -> dict[str, bytes]:
    names = ("run.json", "records.jsonl", "sessions.jsonl", "scores.json")
    return {name: (path / name).read_bytes() for name in names}


@given(RECORDS)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    line = record.line()
    assert line.count(b"\n") == 1
    assert Record.parse(line) == record


@pytest.mark.slow
@settings(max_examples=150)
@given(st.data())
def test_no_change_of_a_byte_is_another_record(data: st.DataObject) -> None:
    line = data.draw(RECORDS).line()
    place, byte = data.draw(st.integers(0, len(line) - 2)), data.draw(st.integers(0, 255))
    changed = line[:place] + bytes([byte]) + line[place + 1 :]
    try:
        found = Record.parse(changed)
    except (ValueError, KeyError, TypeError):
        return
    assert found == Record.parse(line)


def read_all(folder: Path) -> list[Record]:
    read_manifest(folder)
    read_scores(folder)
    read_sessions(folder)
    return list(records(folder))


@pytest.mark.slow
@pytest.mark.parametrize("examples", [100, pytest.param(10_000, marks=pytest.mark.stress)])
def test_whatever_is_in_a_file_without_checksums(whole: Path, tmp_path: Path, examples: int) -> None:
    """As records were written before they had any."""
    lines = (whole / "records.jsonl").read_bytes().splitlines()
    bare = {"records.jsonl": b"".join(unsealed(line) + b"\n" for line in lines)}
    (tmp_path / "run.json").write_bytes((whole / "run.json").read_bytes())
    attack(Reader("bare", bare, read_all), tmp_path, examples)


@pytest.mark.parametrize(
    "line", [b"[" * 5000, b'"x"', b"1", b"null", b'{"rows": []}', b'{"id": [], "rows": {}}', b"\xff"]
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "records.jsonl").write_bytes(line + b"\n")
    with pytest.raises(BadData, match=r"records.jsonl, line 1: not a record"):
        list(records(tmp_path))


def shown(folder: Path) -> object:
    """All that is made of a run's files without its task."""
    return run_table(folder), card_table(folder), run_lines([folder]), list(records(folder))


@pytest.mark.slow
@pytest.mark.parametrize("examples", [100, pytest.param(10_000, marks=pytest.mark.stress)])
def test_whatever_is_in_a_file_of_a_run(whole: Path, tmp_path: Path, examples: int) -> None:
    attack(Reader("run", files_of(whole), read_all), tmp_path, examples)


@pytest.mark.slow
@pytest.mark.parametrize("examples", [60, pytest.param(5_000, marks=pytest.mark.stress)])
def test_what_is_altered_is_never_shown(whole: Path, tmp_path: Path, examples: int) -> None:
    attack(Reader("run", files_of(whole), shown), tmp_path, examples)


def altered(before: Sequence[Record], after: Sequence[Record]) -> bool:
    known = {record.id: record for record in before}
    return any(record != known.get(record.id) for record in after)


@pytest.mark.slow
@pytest.mark.parametrize("examples", [200, pytest.param(20_000, marks=pytest.mark.stress)])
def test_records_are_those_that_were_written(whole: Path, tmp_path: Path, examples: int) -> None:
    """What a flip, a cut, a strange word, a doubled or a lost line leaves is part of what was there, or an error."""
    content, before = (whole / "records.jsonl").read_bytes(), list(records(whole))

    @settings(max_examples=examples, database=None)
    @given(spoilt(content))
    def are(changed: bytes) -> None:
        (tmp_path / "records.jsonl").write_bytes(changed)
        found: list[Record] = []
        if said(lambda: found.extend(records(tmp_path))) is None:
            assert not altered(before, found)
            assert len({record.id for record in found}) == len(found)

    are()


@pytest.mark.parametrize("examples", [40, pytest.param(2_000, marks=pytest.mark.stress)])
def test_a_run_goes_on_from_whatever_is_left(whole: Path, tmp_path: Path, examples: int) -> None:
    """It ends with all records as they would have been, or in one line, and then nothing was lost."""
    content, before = (whole / "records.jsonl").read_bytes(), {record.id: record for record in records(whole)}
    manifest, task, path = read_manifest(whole), Coins(count=6), tmp_path / "r"

    def go_on() -> None:
        with Run.open(path, manifest) as run:
            evaluate(task, text_engine(), run)

    @settings(max_examples=examples, database=None)
    @given(spoilt(content))
    def goes_on(changed: bytes) -> None:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        shutil.copy(whole / "run.json", path / "run.json")
        (path / "records.jsonl").write_bytes(changed)
        if said(go_on) is None:
            assert {record.id: record for record in records(path)} == before
        else:
            kept = (path / "records.jsonl").read_bytes()
            assert changed.startswith(kept)
            assert b"\n" not in changed[len(kept) :]

    goes_on()
