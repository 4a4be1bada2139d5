"""Texts of strangers where not every sign may stand: as the name of a file, and in what people read."""

from __future__ import annotations

import os
import re
from pathlib import Path

LONGEST = 200
"""Bytes of a file's name that leave room for what is put behind it; file systems take 255."""
MOVING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves the cursor, colours a terminal, turns the direction of reading, or is no letter at all."""


def is_file_name(text: str) -> bool:
    """Whether it names one file or folder where it is put: no place elsewhere, nothing hidden, and no sign that cannot
    be seen."""
    plain = text == Path(text).name and not text.startswith((".", "-")) and not MOVING.search(text)
    return plain and 0 < len(text.encode()) <= LONGEST


def at_home(text: str | Path) -> Path:
    """The path, with a `~` in front filled in; as it is where there is no such user, of whom pathlib makes an error."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  # for that reason


def printable(text: str, lines: bool = False) -> str:
    """The text with such signs spelt out, a hexadecimal number each; with `lines`, line breaks and tabs stay."""

    def told(found: re.Match[str]) -> str:
        sign = found[0]
        return sign if lines and sign in "\n\t" else sign.encode("unicode_escape").decode()

    return MOVING.sub(told, text)
