"""The harness's end of the process in which RecBole runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from baselines.recbole.job import Fit, Load, Questions
from harness.errors import HarnessError


class Child:
    """One process of this interpreter. Nothing that RecBole does to a process, or prints, reaches this one."""

    def __init__(self, threads: int | None) -> None:
        ours, theirs = socket.socketpair()
        self._folder = tempfile.TemporaryDirectory(prefix="harness-recbole-")
        self._log = Path(self._folder.name) / "log"
        count = str(threads or os.cpu_count() or 1)
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        with theirs, self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "baselines.recbole.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder.name,
                env={**os.environ, "OMP_NUM_THREADS": count, "PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
            )
        self._link = Connection(ours.detach())

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, message: Fit | Load | Questions, step: Callable[[int, int], None] | None = None) -> Any:
        """Send and wait for the answer; HarnessError in one line if there is none."""
        self.send(message)
        return self.receive(step)

    def send(self, message: Fit | Load | Questions) -> None:
        try:
            self._link.send(message)
        except ConnectionError:
            raise HarnessError(self._ended()) from None

    def receive(self, step: Callable[[int, int], None] | None = None) -> Any:
        while True:
            try:
                kind, *said = self._link.recv()
            except (EOFError, ConnectionError):
                raise HarnessError(self._ended()) from None
            if kind == "step" and step is not None:
                step(*said)
            elif kind == "failed":
                raise HarnessError(f"RecBole stopped with {said[0]}: {said[1]}")
            elif kind == "done":
                return said[0]

    def close(self) -> None:
        self._link.close()
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ended(self) -> str:
        code = self._process.wait()
        printed = self._log.read_text(errors="replace").splitlines()
        last = next((line for line in reversed(printed) if line.strip()), "it printed nothing")
        why = f"killed by signal {-code}, perhaps for want of memory" if code < 0 else f"exit code {code}"
        return f"the process that runs RecBole ended ({why}): {last.strip()}; run the same command again to go on"
