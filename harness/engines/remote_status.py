"""What an answer over HTTP means: an answer, a request that is wrong, an address or key that is, or trouble."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar

import httpx

from harness.engines.encode import one_line
from harness.errors import RequestFailed

T = TypeVar("T")
LARGEST = 64 << 20
"""Bytes of an answer; what is longer is none."""
BUSY = (408, 425, 429, 503, 529)
"""Not now: says nothing of the request."""
REFUSED = (401, 402, 403)
NOT_THERE = (404, 405, 410)


class Trouble(Exception):
    """No answer this time; another try may have one."""

    def __init__(self, why: str, own: bool, wait: float | None = None) -> None:
        super().__init__(why)
        self.own = own
        """Whether the request itself may be to blame, if others are answered."""
        self.wait = wait
        """Seconds that the server asks us to wait."""


class Wrong(Exception):
    """Address, key or name are wrong, so that no request can be answered: the rest of a sentence about the server."""


async def content_of(response: httpx.Response) -> bytes:
    """The body of a streamed response. Raises Trouble where it is too long to be an answer."""
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > LARGEST:
            raise Trouble(f"the answer is longer than {LARGEST >> 20} MiB", own=True)
    return bytes(content)


def judge(response: httpx.Response, content: bytes, read: Callable[[Any], T], hide: Callable[[str], str]) -> T:
    """What `read` makes of an answer. Raises RequestFailed, Wrong or Trouble for whatever is none; what the server says
    of it goes through `hide`, lest it repeat the key."""
    status = response.status_code
    if 200 <= status < 300:
        try:
            return read(json.loads(content))
        except (ValueError, RecursionError) as error:
            raise Trouble(f"a malformed answer: {one_line(error)}", own=True) from None
    if 300 <= status < 400:
        raise Wrong(f"redirects to {hide(_host(response))}; if that is the right one, give it as --base-url")
    said = _said(status, content, hide)
    if status in BUSY:
        raise Trouble(said, own=False, wait=_wait(response))
    if status in REFUSED:
        raise Wrong(f"lets nobody in with this key, which is taken from OPENAI_API_KEY: {said}")
    if status in NOT_THERE:
        raise Wrong(f"has no such address or model: {said}")
    if status >= 500:
        raise Trouble(said, own=True)
    if b'"unsupported_parameter"' in content or b'"unsupported_value"' in content:
        raise Wrong(f"does not take what all requests have: {said}")
    raise RequestFailed(f"the server refuses this request: {said}")


def _said(status: int, content: bytes, hide: Callable[[str], str]) -> str:
    """The reason that a server gives, in one line; hidden is what must be before anything is cut off."""
    text = content[: 1 << 16].decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = text
    for key in ("error", "message", "detail"):
        if isinstance(found, dict):
            found = found.get(key) or found
    known = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "unknown status"
    reason = one_line(ValueError(hide(found if isinstance(found, str) else json.dumps(found)))) if found else ""
    return f"{status} {known}" + (f", {reason}" if reason else "")


def _wait(response: httpx.Response) -> float | None:
    """Seconds until the server wants to be asked again, where it says."""
    said = response.headers.get("retry-after", "").strip()
    if said.replace(".", "", 1).isdecimal():
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _host(response: httpx.Response) -> str:
    """Where a redirection leads, without anything that could be secret."""
    try:
        target = response.url.join(response.headers.get("location", ""))
    except (httpx.InvalidURL, ValueError):
        return "an address that is none"
    return f"{target.scheme}://{target.netloc.decode('ascii', 'replace').rpartition('@')[2]}{target.path}"
