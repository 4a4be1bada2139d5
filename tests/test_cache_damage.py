"""A response cache that is damaged, shared, locked or full: no wrong answer, no lost run, one clear line."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from harness.engines.cache import ResponseCache
from harness.engines.cache_care import clear, state, verify
from harness.errors import HarnessError
from harness.types import Reply, Text

ROOT = Path(__file__).parent.parent
WORKER = """
import random, sys
from pathlib import Path
from harness.engines.cache import ResponseCache
from tests.test_cache_damage import answer, key

cache = ResponseCache(Path(sys.argv[1]))
rng = random.Random(sys.argv[2])
for step in range(int(sys.argv[3])):
    some = [rng.randrange(500) for _ in range(8)]
    for n in some:
        found = cache.get(key(n))
        assert found is None or found == answer(n), (n, found)
    cache.put({key(n): answer(n) for n in some})
    print(step, flush=True)
"""
"""Reads and writes answers that every process knows, and stops at a wrong one."""


def key(number: int) -> bytes:
    return sha256(str(number).encode()).digest()


def answer(number: int) -> Text:
    return Text(f"answer {number}, " * (number % 50))


def answers(count: int) -> dict[bytes, Reply]:
    return {key(n): answer(n) for n in range(count)}


def made(path: Path, kept: Mapping[bytes, Reply]) -> bytes:
    """The bytes of a cache that holds these and is closed."""
    cache = ResponseCache(path)
    cache.put(kept)
    cache.close()
    return path.read_bytes()


def work(path: Path, name: str, steps: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WORKER, str(path), name, str(steps)]
    return subprocess.Popen(words, cwd=ROOT, text=True, stdout=subprocess.PIPE)


def steps_of(process: subprocess.Popen[str], count: int) -> None:
    """Wait until it has done so many steps."""
    assert process.stdout is not None
    for _ in range(count):
        assert process.stdout.readline()


@pytest.mark.slow
def test_processes_read_and_write_at_once_and_one_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    workers = [work(path, name, 60) for name in "ab"]
    killed = work(path, "killed", 10**6)
    steps_of(killed, 20)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    for worker in workers:
        worker.communicate(timeout=120)
        assert worker.returncode == 0
    found = verify(path)
    assert found.spoilt == 0
    cache = ResponseCache(path)
    kept = {n: cache.get(key(n)) for n in range(500)}
    cache.close()
    assert all(reply is None or reply == answer(n) for n, reply in kept.items())
    assert sum(reply is not None for reply in kept.values()) == found.checked > 300


@pytest.mark.stress
def test_a_hundred_kills_leave_nothing_wrong(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    steady = work(path, "steady", 10**6)
    for n in range(100):
        other = work(path, str(n), 10**6)
        steps_of(other, 1)
        time.sleep(random.Random(n).random() / 5)
        other.send_signal(signal.SIGKILL)
        other.communicate(timeout=60)
        assert steady.poll() is None
        assert verify(path).spoilt == 0
    steady.send_signal(signal.SIGKILL)
    steady.communicate(timeout=60)
    assert verify(path) == (500, 0)


@pytest.mark.slow
def test_it_is_cleared_and_verified_while_others_use_it(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    worker = work(path, "a", 400)  # so many that it still writes when all is cleared
    steps_of(worker, 10)
    removed = [clear(path), verify(path).spoilt, clear(path), state(path).kinds.keys() - {"Text"}]
    assert removed[0]
    assert removed[1:] == [0, removed[2], set()]
    worker.communicate(timeout=120)
    assert worker.returncode == 0
    assert verify(path).checked > 0


def damages(content: bytes, count: int) -> list[bytes]:
    """The content with bits flipped, most of all at its beginning, cut off, or with a page of another one."""
    found = []
    for seed in range(count):
        rng = random.Random(seed)
        spoilt = bytearray(content)
        for _ in range(rng.choice([1, 1, 3, 20])):
            place = rng.randrange(len(spoilt)) if rng.random() < 0.6 else rng.randrange(200)
            spoilt[place] ^= 1 << rng.randrange(8)
        if seed % 5 == 0:
            spoilt = spoilt[: rng.randrange(len(spoilt))]
        if seed % 5 == 1:
            start = 4096 * rng.randrange(len(spoilt) // 4096)
            spoilt[start : start + 4096] = rng.randbytes(4096)
        found.append(bytes(spoilt))
    return found


def fresh(path: Path, content: bytes) -> None:
    for file in path.parent.iterdir():
        file.unlink()
    path.write_bytes(content)


def refused(path: Path, use: Callable[[], object]) -> bool:
    """Whether it ends in one line that names the file."""
    try:
        use()
    except HarnessError as error:
        line = str(error)
    else:
        return False
    assert "\n" not in line
    assert str(path) in line
    return True


def survives(path: Path, content: bytes, kept: Mapping[bytes, Reply]) -> str:
    """Use a damaged file in every way; what became of it."""
    fresh(path, content)
    said: list[str] = []
    outcome = "refused"
    if not refused(path, lambda: ResponseCache(path, said.append, patience=5).close()):
        cache = ResponseCache(path, said.append, patience=5)
        found = {one: cache.get(one) for one in kept}
        cache.put(kept)
        found |= {one: cache.get(one) for one in kept} | {b"new": cache.get(b"new")}
        cache.close()
        assert all(reply is None or reply == kept[one] for one, reply in found.items())
        assert len(said) <= 1
        outcome = "given up" if said else "used"
    assert refused(path, lambda: verify(path)) or verify(path).spoilt == 0
    refused(path, lambda: state(path))
    clear(path)
    made(path, kept)
    assert verify(path) == (len(kept), 0)
    return outcome


@pytest.mark.slow
def test_whatever_happens_to_the_file_no_answer_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "c" / "r.sqlite"
    kept = answers(60)
    content = made(path, kept)
    outcomes = {survives(path, spoilt, kept) for spoilt in damages(content, 25)}
    assert outcomes >= {"used", "refused"}


@pytest.mark.stress
def test_whatever_happens_to_the_file_many_times(tmp_path: Path) -> None:
    path = tmp_path / "c" / "r.sqlite"
    kept = answers(300)
    content = made(path, kept)
    outcomes = [survives(path, spoilt, kept) for spoilt in damages(content, 1500)]
    assert set(outcomes) == {"used", "refused", "given up"}


def test_a_name_in_the_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    content = made(path, answers(1))
    fresh(path, content.replace(b"tableanswersanswers", b"table\xff\xfe\n\nersanswers"))
    with pytest.raises(HarnessError, match=r"cannot use the response cache .* \(malformed database schema\)"):
        ResponseCache(path)
    assert clear(path) is None
    assert state(path) == (0, 0, {})


def test_a_key_in_the_wrong_place_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    kept = answers(3)
    first = min(kept)
    fresh(path, made(path, kept).replace(first, b"\xff" + first[1:]))
    cache = ResponseCache(path)
    assert cache.get(first) is None
    assert cache.get(b"\xff" + first[1:]) is None
    cache.close()
    with pytest.raises(HarnessError, match=r"is damaged \(entries are out of order\); run `harness cache clear`"):
        verify(path)


def test_a_lock_that_lasts_costs_the_cache_and_not_the_run(tmp_path: Path) -> None:
    path, said = tmp_path / "r.sqlite", list[str]()
    cache = ResponseCache(path, said.append, patience=0.1)
    cache.put(answers(1))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        cache.put(answers(2))
        cache.put(answers(3))
    assert said == [
        f"the response cache {path} fails (database is locked); going on without it: answers are not kept there"
    ]
    assert cache.get(key(0)) is None
    cache.close()
    assert state(path).entries == 1


FULL = """
import resource, signal, sys
from pathlib import Path
from harness.engines import FunctionEngine
from harness.engines.cache import Cached, ResponseCache
from harness.types import Generate, Key, Text

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
cache = ResponseCache(Path(sys.argv[1]))
engine = Cached(FunctionEngine(lambda key, request: Text(request.prompt * 100), Generate), cache, {})
for n in range(200):
    engine.submit([(Key(str(n)), Generate(str(n), 8))])
    assert engine.collect() == [(Key(str(n)), Text(str(n) * 100))]
cache.close()
"""
"""Two hundred questions on a disk that has no room for all of the answers."""


def test_a_full_disk_costs_the_cache_and_not_the_run(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"the response cache {path} fails (")
    found = verify(path)
    assert found.spoilt == 0
    assert 0 < found.checked < 200


def test_a_folder_that_may_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HarnessError, match=r"cannot use the response cache .*; say --no-cache to do without it"):
        ResponseCache(tmp_path / "file" / "r.sqlite")
