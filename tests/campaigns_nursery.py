"""Processes that are born with their imports done: a nursery imports once and forks a child for every command.

A child is a process of its own, with its own pid, and dies by SIGKILL like any other; it only saves the seconds that
importing torch costs, so that a hundred kills do not pay a hundred imports. Run as a module, this is the nursery:
it reads one JSON object a line and answers with two, `{"pid": ...}` at the birth and `{"code": ..., "seconds": ...}`
at the end, where a code below zero is the signal that ended the child.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
MAIN = "harness.cli:main"
LIGHT = ("harness.cli", "harness.evaluation", "harness.data.fetch", "httpx")
HEAVY = (
    *LIGHT,
    "peft",
    "datasets",
    "accelerate",
    "matplotlib.pyplot",
    "transformers.trainer",
    "transformers.models.llama.modeling_llama",
    "harness.engines.transformers",
    "harness.tuning.making",
    "leaderboard.grid",
)
"""What a command that asks a language model imports."""
CHANGES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"})


class Ended(NamedTuple):
    code: int
    """Exit code; below zero, the signal."""
    seconds: float
    changes: int | None
    """How often the command changed the folder that was watched; None for one that was killed."""


class Nursery:
    """A nursery with `imports` done. One child at a time; use it as a context."""

    def __init__(self, imports: Sequence[str], environment: Mapping[str, str]) -> None:
        told = {"PATH": os.environ["PATH"], "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.campaigns_nursery", *imports]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env={**told, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._hear() == {"ready": True}

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def run(
        self,
        words: Sequence[str],
        log: Path,
        *,
        seconds: float | None = None,
        change: int | None = None,
        watched: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run `harness WORDS`, and SIGKILL it after so many seconds, or when it is about to make its change number
        `change` to the watched folder: opening a file for writing, renaming, removing, making a folder."""
        assert self._process.stdin is not None
        asked = {
            "words": list(words),
            "log": str(log),
            "change": change,
            "watched": str(watched) if watched else None,
            "environment": dict(environment or {}),
        }
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        pid = self._hear()["pid"]
        if seconds is not None:
            _kill_after(pid, seconds)
        ended = self._hear()
        counted = log.with_suffix(".changes")
        changes = int(counted.read_text()) if ended["code"] >= 0 and counted.exists() else None
        counted.unlink(missing_ok=True)
        return Ended(ended["code"], ended["seconds"], changes)

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the nursery is gone"
        heard: dict[str, Any] = json.loads(line)
        return heard


def _kill_after(pid: int, seconds: float) -> None:
    """SIGKILL, if it still lives then. A child that has ended stays a zombie until the nursery has told of it."""
    give_up = time.monotonic() + seconds
    while (left := give_up - time.monotonic()) > 0:
        if _ended(pid):
            return
        time.sleep(min(left, 0.02))
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _serve(imports: Sequence[str]) -> None:
    for name in imports:
        importlib.import_module(name)
    out = os.fdopen(os.dup(1), "w")
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.close(out.fileno())
            os._exit(_live(asked))
        print(json.dumps({"pid": pid}), file=out, flush=True)
        _, status = os.waitpid(pid, 0)
        ended = {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - began}
        print(json.dumps(ended), file=out, flush=True)


def _live(asked: Mapping[str, Any]) -> int:
    """The life of a child: the command, with what it says in a log. Returns its exit code."""
    with open(asked["log"], "ab") as log:  # noqa: PTH123  a plain file, before anything is watched
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(asked["environment"])
    counted = _watch(asked["watched"], asked["change"]) if asked["watched"] else None
    module, _, name = MAIN.partition(":")
    code = 70
    try:
        code = int(getattr(importlib.import_module(module), name)(asked["words"]))
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    if counted is not None:
        Path(asked["log"]).with_suffix(".changes").write_text(str(counted[0]))
    return code


def _watch(folder: str, last: int | None) -> list[int]:
    """Count what this process changes below a folder; with `last`, die before the change of that number."""
    count = [0]

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = given
            if not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event in CHANGES:
            path = given[0]
        else:
            return
        if isinstance(path, str | Path) and str(path).startswith(folder):
            count[0] += 1
            if count[0] == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count


if __name__ == "__main__":
    _serve(sys.argv[1:])
