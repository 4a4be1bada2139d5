"""Valid files with something wrong in them, for tests that no reader trips over: flipped, cut, doubled, replaced."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError

STRANGE = (
    *(b"", b"\n", b"\r", b"\t", b" ", b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc2\x85"),
    *(b"\xcc\x81", b'"', b"'", b'"""', b"\\", b",", b";", b"|", b"::", b"[", b"]", b"{", b"}", b"=", b":", b"#"),
    *(b"[[x]]\n", b"x = 1\n", b"0", b"-1", b"-0", b"1.5", b"1e999", b"-1e999", b"9" * 25, b"9" * 5000, b"NaN", b"inf"),
    *(b"Infinity", b"1_000", b"null", b"true", b"False", b"None", b"[]", b"{}", b'""', b'"x"', b'"\\ud800"', b"[[]]"),
    *(b'{"x": null}', b"1979-05-27", b"[" * 5000, b'{"x":' * 5000, b"x=" + b"[" * 5000, b"(" * 300, b"a." * 3000),
    *("²".encode(), "Ⅷ٣".encode(), b"1j", b"-" * 9000),
)
"""What nobody expects in the place of a value, or anywhere."""
WORD = re.compile(rb'"[^"\n]*"|[\w.+-]+')


class Change(NamedTuple):
    """One thing that goes wrong with a file."""

    way: str
    place: int
    """Where, in bytes, words or lines, modulo how many there are."""
    strange: bytes

    def of(self, content: bytes) -> bytes:
        return WAYS[self.way](content, self.place, self.strange)


def _flip(content: bytes, place: int, strange: bytes) -> bytes:
    at = place // 8 % max(1, len(content))
    return content[:at] + bytes(byte ^ 1 << place % 8 for byte in content[at : at + 1]) + content[at + 1 :]


def _insert(content: bytes, place: int, strange: bytes) -> bytes:
    at = place % (len(content) + 1)
    return content[:at] + strange + content[at:]


def _delete(content: bytes, place: int, strange: bytes) -> bytes:
    at = place % (len(content) + 1)
    return content[:at] + content[at + 1 + len(strange) % 40 :]


def _cut(content: bytes, place: int, strange: bytes) -> bytes:
    return content[: place % (len(content) + 1)]


def _replace(content: bytes, place: int, strange: bytes) -> bytes:
    words = list(WORD.finditer(content))
    if not words:
        return strange
    word = words[place % len(words)]
    return content[: word.start()] + strange + content[word.end() :]


def _double(content: bytes, place: int, strange: bytes) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    at = place % len(lines)
    return b"".join([*lines[: at + 1], *lines[at:]])


def _drop(content: bytes, place: int, strange: bytes) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    at = place % len(lines)
    return b"".join([*lines[:at], *lines[at + 1 :]])


WAYS: Mapping[str, Callable[[bytes, int, bytes], bytes]] = {
    "replace": _replace,
    "flip": _flip,
    "insert": _insert,
    "delete": _delete,
    "cut": _cut,
    "double": _double,
    "drop": _drop,
}
CHANGES = st.lists(
    st.builds(Change, st.sampled_from(sorted(WAYS)), st.integers(0, 10**6), st.sampled_from(STRANGE)),
    min_size=1,
    max_size=3,
)


def spoilt(content: bytes) -> st.SearchStrategy[bytes]:
    """The content with one to three things wrong with it; now and then any bytes at all."""

    def changed(changes: list[Change]) -> bytes:
        made = content
        for change in changes:
            made = change.of(made)
        return made

    return CHANGES.map(changed) if not content else st.one_of(*[CHANGES.map(changed)] * 9, st.binary(max_size=200))


class Reader(NamedTuple):
    """A reader of files, and files that it reads."""

    name: str
    files: Mapping[str, bytes]
    read: Callable[[Path], object]
    """From a folder that has them."""
    names: tuple[str, ...] = ()
    """What else may be said in place of the name of a file."""


def attack(reader: Reader, folder: Path, examples: int) -> None:
    """Whatever is in its files, a reader returns something or says in one line, naming the file or the folder, what is
    wrong."""
    for name, content in reader.files.items():
        (folder / name).write_bytes(content)
    reader.read(folder)

    @settings(max_examples=examples, deadline=None, database=None)
    @given(
        st.sampled_from(sorted(reader.files)).flatmap(lambda name: st.tuples(st.just(name), spoilt(reader.files[name])))
    )
    def survives(found: tuple[str, bytes]) -> None:
        name, content = found
        (folder / name).write_bytes(content)
        try:
            line = said(lambda: reader.read(folder))
        finally:
            (folder / name).write_bytes(reader.files[name])
        assert line is None or any(one in line for one in (str(folder), *reader.files, *reader.names)), line

    survives()


def said(use: Callable[[], object]) -> str | None:
    """The line in which it ends, if it does; anything but a HarnessError is a bug and goes through."""
    try:
        use()
    except HarnessError as error:
        line = str(error)
    else:
        return None
    assert line.strip()
    assert not {"\n", "\r"} & set(line), line
    line.encode("utf-8", "surrogateescape")
    return line
