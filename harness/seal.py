"""Checksums inside JSON: a flipped byte in what was measured must be found before it gets into a table.

A sealed object ends in one more member, `"sum"`: eight hexadecimal digits, CRC-32 over every byte before the comma of
that member. What has no such member was written by hand, or before there was one, and is taken as it is; no change of
a single byte makes the one of the other.
"""

from __future__ import annotations

import re
from zlib import crc32

_TAIL = re.compile(rb',\s*"sum": ?"([0-9a-f]{8})"\s*\}\s*\Z')
_REACH = 64
"""Bytes at the end that hold the member."""


def seal(text: str) -> bytes:
    """The text of a JSON object that has members, with its checksum as the last one; indented if the text is."""
    head = text.rstrip().removesuffix("}").rstrip().encode()
    lead, end = (b",\n  ", b"\n}") if "\n" in text else (b",", b"}")
    return head + lead + b'"sum":"%08x"' % crc32(head) + end


def unsealed(content: bytes) -> bytes:
    """The same without its checksum. ValueError: the content does not match it."""
    tail = _TAIL.search(content, max(0, len(content) - _REACH))
    if tail is None:
        return content
    head = content[: tail.start()]
    if crc32(head) != int(tail[1], 16):
        raise ValueError("its checksum does not match")
    return head + b"}"
