"""What readers share: strict and fast reading of whole-number columns, and what to say of a line that is not right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.catalog import Dataset, codes_of, first_appearance
from harness.errors import BadData
from harness.types import Item

DIGITS = b"0123456789"
TOO_LARGE = 10**18
"""No number of a data set is; what does not fit into 64 bits is read as more than this."""
TAB = "\t"
SHOWN = 80
"""Characters of a wrong line that a message repeats."""


def malformed(path: Path, line: int, expected: str, found: str) -> BadData:
    """The error for a line that cannot be read; lines count from 1."""
    shown = found if len(found) <= SHOWN else found[:SHOWN] + "..."
    return BadData(f"{path}, line {line}: expected {expected.replace(TAB, '<tab>')}, found {shown!r}")


def is_id(text: str) -> bool:
    """Whether this can be the number of an item."""
    return text.isascii() and text.isdigit() and len(text) < len(str(TOO_LARGE))


def text_lines(path: Path, encoding: str) -> list[str]:
    """The lines of a text file without their ends. BadData: it is not in this encoding, or has no lines.

    Only a line feed ends a line: `str.splitlines` would also split titles at characters such as U+0085.
    """
    try:
        text = path.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        raise BadData(f"{path}: expected {encoding} text, found the byte {error.object[error.start]:#x}") from error
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise BadData(f"{path}: expected lines, found an empty file")
    return lines


def integers(path: Path, data: bytes, separator: bytes, form: str, line: int = 1) -> NDArray[np.int64]:
    """Lines of whole numbers, as many per line as `form` has parts; shape (lines, parts).

    `data` begins with line number `line` of the file. BadData: a line is not of that form; the message names it.
    """
    if data and not data.endswith(b"\n"):
        data += b"\n"
    count, width = data.count(b"\n"), form.count(separator.decode()) + 1
    # Without its digits, a right file is nothing but whole separators: two comparisons find any line that is not.
    bones = separator * (width - 1) + b"\n"
    whole = data.count(separator) == count * (width - 1)
    spaced = data.replace(separator, b" ") if whole and data.translate(None, DIGITS) == bones * count else b""
    if spaced.strip():
        values = np.fromstring(spaced.decode("ascii"), dtype=np.int64, sep=" ")
        if values.size == count * width and values.max() < TOO_LARGE:  # else fields were empty or did not fit
            return values.reshape(count, width)
    for number, text in enumerate(data.split(b"\n")[:-1], start=line):
        parts = text.split(separator)
        if len(parts) != width or not all(p.isdigit() and len(p.lstrip(b"0")) < len(str(TOO_LARGE)) for p in parts):
            raise malformed(path, number, form, text.decode("latin-1"))
    raise BadData(f"{path}: expected lines of {form.replace(TAB, '<tab>')}, found no line")


def ratings_dataset(
    name: str,
    path: Path,
    rows: NDArray[np.int64],
    items: Sequence[Item],
    attributes: Mapping[str, tuple[tuple[str, ...], ...]],
    line: int = 1,
) -> Dataset:
    """A data set from rows of user, item, rating from 1 to 5, time, shape (events, 4); row 0 is line `line` of `path`.

    BadData: a rating is out of range, or an item is not in the catalogue.
    """
    codes = codes_of(rows[:, 1], [int(item.id) for item in items])
    for wrong, expected, column in (
        (codes < 0, "the number of a listed item", 1),
        ((rows[:, 2] < 1) | (rows[:, 2] > 5), "a rating from 1 to 5", 2),
    ):
        if wrong.any():
            first = int(np.argmax(wrong))
            raise malformed(path, line + first, expected, str(rows[first, column]))
    users, user = first_appearance(rows[:, 0])
    return Dataset(
        name=name,
        items=tuple(items),
        users=tuple(str(number) for number in users),
        user=user,
        item=codes,
        rating=rows[:, 2].astype(np.float32),
        time=rows[:, 3],
        attributes=attributes,
    )


def distinct(path: Path, items: Sequence[Item], line: int = 1) -> None:
    """BadData: two lines of the catalogue have one id. Item 0 is line `line` of the file."""
    seen: set[str] = set()
    for number, item in enumerate(items, start=line):
        if item.id in seen:
            raise malformed(path, number, "an id that no earlier line has", item.id)
        seen.add(item.id)
