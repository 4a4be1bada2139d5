"""Real processes: killed at random moments, two at one folder, and under a clock that goes back."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.campaigns import CAMPAIGNS, Campaign, contents, run_campaign

pytestmark = pytest.mark.slow  # processes and waits, many of them

ROOT = Path(__file__).parent.parent
SEED = 9


def harness(*words: object) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "harness.cli", *map(str, words)]


def start(command: list[str], **more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def until(true: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not true():
        assert time.monotonic() < give_up, "it never happened"
        time.sleep(0.01)


def campaign(name: str) -> Campaign:
    return next(one for one in CAMPAIGNS if one.name == name)


@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("run a baseline", 4),
        ("fetch", 4),
        pytest.param("run a language model", 3, marks=pytest.mark.slow),
        pytest.param("tune", 3, marks=pytest.mark.slow),
        pytest.param("grid", 3, marks=pytest.mark.slow),
    ],
)
def test_a_few_kills(tmp_path: Path, name: str, kills: int) -> None:
    """The short form of the campaigns below, by the same means."""
    report = run_campaign(campaign(name), kills, SEED, tmp_path)
    assert report.different == []
    assert report.kills >= kills
    assert report.trials >= 1


@pytest.mark.stress
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", [one.name for one in CAMPAIGNS])
def test_a_hundred_kills(tmp_path: Path, name: str) -> None:
    report = run_campaign(campaign(name), 100, 0, tmp_path)
    assert report.different == []
    assert report.kills >= 100


def test_a_campaign_sees_what_a_kill_has_spoilt(tmp_path: Path) -> None:
    """Files are compared by their bytes: a record or a file more or less would end a campaign."""
    run = tmp_path / "runs" / "tallrec" / "abc"
    run.mkdir(parents=True)
    (run / "records.jsonl").write_text('{"id":"a"}\n{"id":"b"}\n')
    whole = contents(tmp_path)
    (run / "records.jsonl").write_text('{"id":"b"}\n{"id":"a"}\n')
    assert contents(tmp_path) == whole
    (run / "records.jsonl").write_text('{"id":"b"}\n{"id":"a"}\n{"id":"a"}\n')
    assert contents(tmp_path) != whole
    (run / "records.jsonl").write_text('{"id":"a"}\n{"id":"b"}\n')
    (run / "left.partial").touch()
    assert contents(tmp_path).keys() - whole.keys() == {"runs/tallrec/abc/left.partial"}


HOLD = """
import sys, time
from pathlib import Path
from harness.runner import evaluate
from harness.signature import identify
from harness.store import SCHEMA, Run
from tests.fakes import Coins, noisy, text_engine

def slow(key, request):
    time.sleep(0.05)
    return noisy(key, request)

task = Coins(count=200)
identity = identify(task, "test", None, {"engine": "noisy"})
with Run.open(Path(sys.argv[1]), {"schema": SCHEMA, "task": task.name, "identity": identity._asdict()}) as run:
    evaluate(task, text_engine(slow, capacity=2), run)
"""


def test_the_second_of_two_processes_says_who_holds_the_run(tmp_path: Path) -> None:
    """And leaves the first alone; once that is killed, its lock is gone with it."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    first = start(command)
    until(lambda: (tmp_path / "run" / "records.jsonl").exists())
    second = start(command)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 1  # no command line around it: the error itself
    said = err.splitlines()[-1]
    assert f"{tmp_path / 'run'} is being written by process {first.pid} on " in said
    assert said.endswith("; wait for it, or end it")
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    third = start(command)
    third.communicate(timeout=60)
    assert third.returncode == 0
    ids = [json.loads(line)["id"] for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()]
    assert sorted(ids) == sorted(f"test-{n}" for n in range(200))


def test_commands_started_at_once_make_one_run(tmp_path: Path) -> None:
    """Four of them: each ends complete, or says that another one is at it; together they leave one correct run."""
    words = ["run", "--task", "tallrec", "--model", "simple:random", "--sample", 300, "--runs"]
    both = [start(harness(*words, tmp_path / "runs")) for _ in range(4)]
    said = [child.communicate(timeout=120)[1] for child in both]
    for child, err in zip(both, said, strict=True):
        assert child.returncode in (0, 2), err
        assert child.returncode == 0 or "is being written by" in err  # it may not have signed yet
    assert 0 in {child.returncode for child in both}
    alone = start(harness(*words, tmp_path / "alone"))
    alone.communicate(timeout=60)
    made, wanted = (contents(tmp_path / name) for name in ("runs", "alone"))
    assert made == wanted


BACK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

static long now = 2000000000;

int clock_gettime(clockid_t which, struct timespec *found) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(which, found);
    if (which == CLOCK_REALTIME) found->tv_sec = now -= 86400;
    return code;
}

int gettimeofday(struct timeval *restrict found, void *restrict zone) {
    found->tv_sec = now -= 86400;
    found->tv_usec = 0;
    return 0;
}

time_t time(time_t *found) {
    now -= 86400;
    if (found) *found = now;
    return now;
}
"""
"""Every look at the clock finds it a day earlier than the one before, from Python, SQLite or any other library."""


@pytest.fixture
def backwards(tmp_path: Path) -> dict[str, str]:
    """An environment in which time goes back."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler, which makes the clock that goes back")
    source, library = tmp_path / "back.c", tmp_path / "back.so"
    source.write_text(BACK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


def test_the_clock_of_the_next_test_goes_back(backwards: dict[str, str]) -> None:
    looks = "import time, datetime; print([time.time(), datetime.datetime.now().timestamp(), time.time()])"
    out, _ = start([sys.executable, "-c", looks], **backwards).communicate(timeout=60)
    first, second, third = json.loads(out)
    assert first > second > third > 0


@pytest.mark.slow
def test_a_clock_that_goes_back_changes_no_record_and_no_table(tmp_path: Path, backwards: dict[str, str]) -> None:
    """A grid, a leaderboard and a comparison; between them files get times of any year."""

    def told(folder: Path, environment: dict[str, str]) -> dict[str, str]:
        words = ["--sample", "200", "--runs", str(folder / "runs")]
        models = ["--model", "simple:like-rate", "--model", "simple:random"]
        out = {"grid": said(harness("grid", "--task", "tallrec", *models, *words), environment)}
        rng = random.Random(SEED)
        for path in folder.rglob("*"):
            os.utime(path, (rng.uniform(0, 4e9),) * 2)
        ours, theirs = sorted((folder / "runs" / "tallrec").iterdir())
        out["leaderboard"] = said(harness("leaderboard", "--runs", folder / "runs"), environment)
        out["compare"] = said(harness("compare", ours, theirs), environment)
        out["again"] = said(harness("run", "--task", "tallrec", *models[:2], *words), environment)
        texts = {name: timeless(text.replace(str(folder), "")) for name, text in out.items()}
        return {**texts, **contents(folder)}

    def said(command: list[str], environment: dict[str, str]) -> str:
        done = start(command, **environment)
        printed, err = done.communicate(timeout=120)
        assert done.returncode == 0, err
        return printed

    def timeless(text: str) -> str:
        """A table without how long things took, and without the width that this gives a column."""
        return re.sub(r"[ -]+", " ", re.sub(r"[\d.]+ (s|ms|min)\b", "", text))

    assert told(tmp_path / "wrong", backwards) == told(tmp_path / "right", {})
