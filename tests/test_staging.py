"""Tables that are put in place together, by one process at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from harness.errors import HarnessError
from harness.staging import put_in_place


def put(out: Path, content: str, ready: Event, go_on: Event) -> None:
    with put_in_place(out) as stage:
        (stage / "a.md").write_text(content)
        ready.set()
        assert go_on.wait(20)
        (stage / "b.md").write_text(content)


def test_two_at_once_leave_the_files_of_the_last_one_and_nothing_else(tmp_path: Path) -> None:
    """Not a table of the one beside a table of the other; each would also have cleared the other's away."""
    out, go_on = tmp_path / "report", Event()
    first, second = Event(), Event()
    with ThreadPoolExecutor() as pool:
        one = pool.submit(put, out, "first", first, go_on)
        assert first.wait(20)
        other = pool.submit(put, out, "second", second, go_on)
        assert not second.wait(0.3)
        assert not list(out.glob("*.md"))
        go_on.set()
        one.result(20), other.result(20)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"a.md": "second", "b.md": "second"}


def test_what_fails_changes_nothing_and_lets_the_next_one_in(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("before")
    going_on = Event()
    going_on.set()
    with pytest.raises(UnicodeEncodeError):
        put(tmp_path, "\ud800", Event(), going_on)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.md": "before"}
    with put_in_place(tmp_path) as stage:
        (stage / "a.md").write_text("after")
    assert (tmp_path / "a.md").read_text() == "after"


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("")
    with pytest.raises(HarnessError, match=r"^cannot write .*report: "), put_in_place(tmp_path / "report"):
        pass
