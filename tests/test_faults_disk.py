"""Real disks that are full or read-only, below real processes: one line and exit code 2, nothing half-written that
looks whole, and after some space is freed the same command ends as it would have."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import engine_models

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parent.parent
OWN_MOUNTS = ["unshare", "--map-root-user", "--mount"]
"""A process that may mount what only it sees, so that nothing is left behind whatever happens."""
FULL = """
mount -t tmpfs -o size="$1" tmpfs "$2"; disk=$2 kept=$3; shift 3
"$@" > "$kept/out" 2> "$kept/err"; echo $? > "$kept/code"; cp -a "$disk" "$kept/full"
mount -o remount,size=1g "$disk"
"$@" > "$kept/out2" 2> "$kept/err2"; echo $? > "$kept/code2"; cp -a "$disk" "$kept/freed"
"""
READ_ONLY = """
mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift
exec "$@"
"""
SMALL = ("max_steps=4", "epochs=4", "evaluate_steps=2", "valid_rows=8", "context=1024", "batch=8", "micro_batch=8")


class Ended(NamedTuple):
    code: int
    out: str
    said: str
    """The last line of its errors."""
    lines: int
    """How many lines of errors there are, without those of libraries' progress and the harness's own notes."""


class Tried(NamedTuple):
    """A command on a full disk, and again after some was freed."""

    full: Ended
    freed: Ended
    folder: Path
    """Holds what was on the disk then: `full` and `freed`."""


@pytest.fixture(scope="module", autouse=True)
def may_mount() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare, which mounts small disks here")
    tried = subprocess.run([*OWN_MOUNTS, "sh", "-c", "mount -t tmpfs tmpfs /mnt"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this user may not mount a disk: {tried.stderr.strip()}")


def harness(*words: object) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "harness.cli", *map(str, words)]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def on_a_full_disk(tmp_path: Path, size: str, words: list[object], **more: str) -> Tried:
    """Run a command with a disk of that size at `tmp_path/disk`, then with room; what lies there is kept."""
    kept = tmp_path / "kept"
    for folder in (kept, tmp_path / "disk"):
        folder.mkdir()
    command = ["sh", "-c", FULL, "sh", size, str(tmp_path / "disk"), str(kept), *harness(*words)]
    subprocess.run([*OWN_MOUNTS, *command], check=True, cwd=ROOT, env=environment(more), timeout=600)
    full, freed = (
        ended(int((kept / f"code{n}").read_text()), (kept / f"out{n}").read_text(), (kept / f"err{n}").read_text())
        for n in ("", "2")
    )
    return Tried(full, freed, kept)


def ended(code: int, out: str, err: str) -> Ended:
    lines = [line for line in err.splitlines() if line.startswith("harness:") or "Traceback" in line or "Error" in line]
    return Ended(code, out, lines[-1] if lines else "", len(lines))


def files(folder: Path) -> dict[str, str]:
    """Every file below a folder and its content; records in any order, and times left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("sessions.jsonl", ".lock", "curves.svg"):
            content = path.read_bytes()
            if path.name == "records.jsonl":
                content = b"".join(sorted(content.splitlines(keepends=True)))
            if path.name == "harness.json":
                content = json.dumps({k: v for k, v in json.loads(content).items() if k != "seconds"}).encode()
            found[str(path.relative_to(folder))] = sha256(content).hexdigest()[:12]
    return found


def undisturbed(*words: object, **more: str) -> None:
    subprocess.run(harness(*words), check=True, cwd=ROOT, env=environment(more), capture_output=True, timeout=600)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two complete runs."""
    runs = tmp_path_factory.mktemp("made") / "runs"
    for model in ("simple:like-rate", "simple:random"):
        undisturbed("run", "--task", "tallrec", "--model", model, "--sample", 200, "--runs", runs)
    return runs


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engine_models.llama(tmp_path_factory.mktemp("models") / "llama", width=64, layers=1, context=1024)


@pytest.mark.parametrize("size", ["4k", "40k"])
def test_the_disk_of_a_run(tmp_path: Path, runs: Path, size: str) -> None:
    """Full before anything is written of it, and among its answers."""
    words = ["run", "--task", "tallrec", "--model", "simple:random", "--sample", 200, "--runs", tmp_path / "disk"]
    tried = on_a_full_disk(tmp_path, size, words)
    assert (tried.full.code, tried.full.lines) == (2, 1)
    assert tried.full.said.startswith(f"harness: no space left for {tmp_path / 'disk' / 'tallrec'}")
    assert "scores.json" not in {Path(name).name for name in files(tried.folder / "full")}
    assert tried.freed.code == 0
    ours = files(tried.folder / "freed")
    assert ours.items() <= files(runs).items()
    assert len(ours) == 3


def test_the_disk_of_the_cache(tmp_path: Path, model: Path) -> None:
    """A run needs no cache to end."""
    words = ["run", "--task", "tallrec", "--model", f"hf:{model}", "--sample", 60, "--threads", 1, "--batch-tokens", 1]
    tried = on_a_full_disk(tmp_path, "100k", [*words, "--runs", tmp_path / "runs"], HARNESS_HOME=str(tmp_path / "disk"))
    assert (tried.full.code, tried.freed.code) == (0, 0)
    assert "going on without it: answers are not kept there" in (tried.folder / "err").read_text()
    undisturbed(*words, "--runs", tmp_path / "whole", "--no-cache")
    assert files(tmp_path / "runs") == files(tmp_path / "whole")


def test_the_disk_of_the_data(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    content = random.Random(0).randbytes(3 << 20).hex().encode()
    (given / "Video_Games.json").write_bytes(content)
    words: list[object] = ["data", "fetch", "amazon-games", "--from", given]
    tried = on_a_full_disk(tmp_path, "1m", words, HARNESS_HOME=str(tmp_path / "disk"))
    assert (tried.full.code, tried.full.lines) == (2, 1)
    assert "no space left to write" in tried.full.said
    assert not [name for name in files(tried.folder / "full") if not name.endswith(".lock")]
    assert tried.freed.code == 0
    assert (tried.folder / "freed/data/amazon-games/Video_Games.json").read_bytes() == content


@pytest.mark.parametrize("size", ["8k", "100k"])
def test_the_disk_of_a_report(tmp_path: Path, runs: Path, size: str) -> None:
    """No table that breaks off in the middle: all files of the report, or none."""
    words = ["leaderboard", "--runs", runs, "--out"]
    tried = on_a_full_disk(tmp_path, size, [*words, tmp_path / "disk" / "report"])
    assert (tried.full.code, tried.full.lines) == (2, 1)
    assert tried.full.said.startswith(f"harness: no space left for {tmp_path / 'disk' / 'report'}")
    assert files(tried.folder / "full") == {}
    assert tried.freed.code == 0
    undisturbed(*words, tmp_path / "whole")
    assert files(tried.folder / "freed" / "report") == files(tmp_path / "whole")


@pytest.mark.parametrize("size", ["60k", "200k"])
def test_the_disk_of_a_tuning(tmp_path: Path, model: Path, size: str) -> None:
    """Torch and safetensors have errors of their own for a full disk."""
    words = ["tune", "--task", "tallrec", "--model", model, "--shots", 8, "--set", "budget=ci", "--threads", 1]
    words += [word for setting in SMALL for word in ("--set", setting)]
    tried = on_a_full_disk(tmp_path, size, [*words, "--out", tmp_path / "disk" / "lora"])
    assert (tried.full.code, tried.full.lines) == (2, 1), tried.full
    assert tried.full.said.startswith(f"harness: no space left for {tmp_path / 'disk' / 'lora'}")
    assert not (tried.folder / "full" / "lora").exists()
    assert tried.freed.code == 0
    undisturbed(*words, "--out", tmp_path / "whole" / "lora")
    assert files(tried.folder / "freed") == files(tmp_path / "whole")


def test_the_disk_of_a_grid(tmp_path: Path, runs: Path) -> None:
    """The cell that found no room fails and says so; the next command has it."""
    words = ["grid", "--task", "tallrec", "--model", "simple:random", "--model", "simple:like-rate", "--sample", 200]
    tried = on_a_full_disk(tmp_path, "90k", [*words, "--runs", tmp_path / "disk"])
    assert tried.full.code == 1
    assert "no space left for" in tried.full.out + (tried.folder / "err").read_text()
    assert tried.freed.code == 0
    assert files(tried.folder / "freed") == files(runs)


READS = ("show", "leaderboard", "compare", "regress", "rescore")


def test_a_read_only_folder(tmp_path: Path, runs: Path) -> None:
    """What only reads works; what writes says that it cannot."""
    place = tmp_path / "archive"
    shutil.copytree(runs, place / "runs")
    ours, theirs = sorted((place / "runs" / "tallrec").iterdir())
    new: list[object] = ["run", "--task", "tallrec", "--model", "simple:recency", "--sample", 200]
    commands: dict[str, tuple[list[object], str]] = {
        "show": (["show", place / "runs"], ""),
        "leaderboard": (["leaderboard", "--runs", place / "runs"], ""),
        "compare": (["compare", ours, theirs], ""),
        "regress": (["regress", ours, "--against", theirs], ""),
        "rescore": (["rescore", ours], ""),
        "run": ([*new, "--runs", place / "runs"], f"harness: cannot write {place / 'runs' / 'tallrec'}"),
        "report": (["leaderboard", "--runs", place / "runs", "--out", place / "report"], "harness: cannot write"),
        "gate": (["regress", ours, "--against", theirs, "--out", place / "gate"], "harness: cannot write"),
        "fetch": (["data", "fetch", "amazon-games", "--from", place], "harness: "),
    }
    for name, (words, says) in commands.items():
        command = [*OWN_MOUNTS, "sh", "-euc", READ_ONLY, "sh", str(place), *harness(*words)]
        home = {"HARNESS_HOME": str(place / "home")}
        done = subprocess.run(command, cwd=ROOT, env=environment(home), capture_output=True, text=True, timeout=200)
        found = ended(done.returncode, done.stdout, done.stderr)
        if name in READS:
            assert (found.code in (0, 1, 3), found.lines) == (True, 0), (name, found)
            assert found.out
        else:
            assert (found.code, found.lines) == (2, 1), (name, found)
            assert found.said.startswith(says)
            assert "Read-only file system" in found.said
    assert files(place / "runs") == files(runs)
