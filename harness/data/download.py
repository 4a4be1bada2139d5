"""One file from a web site to the disk, with time limits, and progress where a person is watching."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import MissingData

CONNECT_SECONDS = 15.0
SILENCE_SECONDS = 60.0
"""The longest wait for the next bytes. The whole download may take as long as it needs."""


def download(address: str, target: Path, remedy: str) -> None:
    """Writes what the address answers to `target`; follows redirects, honours the usual proxy variables.

    MissingData: the site cannot be reached, refuses, or breaks off; the message ends with `remedy`.
    OSError: `target` cannot be written.
    """
    import httpx

    limits = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
    try:
        with httpx.stream("GET", address, timeout=limits, follow_redirects=True) as answer:
            if answer.status_code != httpx.codes.OK:
                raise MissingData(f"{address} answers {answer.status_code} {answer.reason_phrase}; {remedy}")
            announced = answer.headers.get("Content-Length", "")
            with target.open("wb") as file, _progress(target.name, announced) as advance:
                for block in answer.iter_bytes():
                    file.write(block)
                    advance(len(block))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise MissingData(f"{address} could not be downloaded ({reason}); {remedy}") from error


@contextmanager
def _progress(label: str, announced: str) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, silence in a log."""
    if not sys.stderr.isatty():
        yield lambda _size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task(label, total=int(announced) if announced.isdigit() else None)
        yield lambda size: bar.update(line, advance=size)
