"""Workers on a real Ray on this machine: the records of a single process, whatever becomes of a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.errors import NothingAnswered
from harness.evaluation import perform
from harness.executors import HERE, Executor, Spread
from harness.executors.ray import LIVES, Crew
from harness.grid.cells import expand
from harness.grid.declared import Block, Grid
from harness.grid.run import Finished, How, run_grid
from harness.job import Job
from harness.model import EngineOptions, Model
from harness.signature import Sample
from harness.store import Record, read_scores, read_sessions, records
from harness.task import Task
from leaderboard.grid import markdown, sections
from tasks.sequential import Sequential
from tests import engine_models, watched
from tests.choices import Wording
from tests.fakes import Coins
from tests.watched import Lots

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]  # Ray leaves processes to init
WORDS = ["--executor", "ray", "--workers", "2"]


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Ray for all tests; its workers find what `tests.watched` registers."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        path = watched.install(tmp_path_factory.mktemp("site"))
        patch.setenv("PYTHONPATH", path)
        patch.syspath_prepend(path.split(os.pathsep)[0])
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init("local", num_cpus=8, include_dashboard=False, object_store_memory=1 << 27, logging_level="ERROR")
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def heard() -> list[str]:
    """What the crew says."""
    return []


@pytest.fixture(scope="module")
def ray(cluster: None, heard: list[str]) -> Iterator[Crew]:
    """Two workers."""
    with Crew(Spread("ray", 2), EngineOptions(), heard.append) as made:
        yield made


def run(task: Task, model: str, folder: Path, executor: Executor = HERE, **given: Any) -> Path:
    job = Job(task, Model.parse(model), runs=folder / "runs", cache=False, options=EngineOptions(threads=1), **given)
    (path,) = perform(job, lambda line: None, executor)
    return path


def lines(path: Path) -> list[str]:
    return sorted((path / "records.jsonl").read_text("utf-8").splitlines())


def by_id(path: Path) -> dict[str, Record]:
    return {record.id: record for record in records(path)}


def test_a_baseline_answers_with_the_same_bytes(ray: Crew, tmp_path: Path) -> None:
    task = Sequential(dataset="ml-100k")
    shared = run(task, "simple:popularity", tmp_path / "ray", ray)
    alone = run(task, "simple:popularity", tmp_path / "local")
    assert len(lines(alone)) == 943
    assert lines(shared) == lines(alone)
    assert shared.name == alone.name
    assert read_scores(shared) == read_scores(alone)
    (session,) = read_sessions(shared)
    assert (session["answered"], session["asked"], session["workers"], session["replaced"]) == (943, 943, 2, 0)


def test_sampled_texts_of_several_steps_are_the_same(ray: Crew, tmp_path: Path) -> None:
    """Their seeds come from the run, the instance and the step, and not from who asks."""
    model = watched.folder(tmp_path / "m")
    alone = run(Lots(), f"watched:{model}", tmp_path / "local")
    shared = run(Lots(), f"watched:{model}", tmp_path / "ray", ray)
    assert lines(shared) == lines(alone)
    assert len({record.top for record in records(alone)}) > 10
    here, one, other = [pid for (pid,) in watched.lines(model / "loads")]
    assert len({here, one, other}) == 3
    asked = Counter(pid for pid, _, _ in watched.lines(model / "asked"))
    assert asked == {here: 400, one: 256, other: 144} or asked == {here: 400, one: 144, other: 256}


def test_a_real_model_scores_within_its_tolerance(ray: Crew, tmp_path: Path) -> None:
    model = engine_models.llama(tmp_path / "llama")
    alone = by_id(run(Coins(), f"hf:{model}", tmp_path / "local"))
    shared = by_id(run(Coins(), f"hf:{model}", tmp_path / "ray", ray))
    assert shared.keys() == alone.keys()
    for name, record in alone.items():
        ours, theirs = shared[name].rows["AUC"], record.rows["AUC"]
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_a_killed_worker_costs_what_it_had_not_answered(ray: Crew, heard: list[str], tmp_path: Path) -> None:
    """A worker that is killed when some of its share is on record is replaced; that part is not asked again."""
    task, model = Lots(count=640), watched.folder(tmp_path / "m", pause="0.004")
    killed: list[str] = []

    path = tmp_path / "run"

    def kill() -> None:
        while not killed:
            kept = by_id(path)
            sent = [pid for pid, name, _ in watched.lines(model / "asked") if name in kept]
            if sent:
                killed.append(sent[0])
                os.kill(int(killed[0]), signal.SIGKILL)
            time.sleep(0.02)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert run(task, f"watched:{model}", tmp_path, ray, run_dir=path) == path
    killer.join(timeout=10)
    assert [line.split(" (")[0] for line in heard] == [heard[0][:8] + " died"]
    told = watched.lines(model / "asked")
    asked = {
        pid: {name for who, name, step in told if who == pid and step == "0"} for pid in {pid for pid, _, _ in told}
    }
    dead = asked.pop(killed[0])
    (new,) = [names for pid, names in asked.items() if names & dead]
    (other,) = [names for names in asked.values() if not names & dead]
    assert (len(dead | new), len(other), len(other & new)) == (320, 320, 0)
    assert 0 < len(dead & new) < len(dead) < 320
    assert len(told) <= 2 * (640 + len(dead & new))
    assert max(Counter((pid, name, step) for pid, name, step in told).values()) == 1

    alone = run(task, f"watched:{watched.folder(tmp_path / 'other')}", tmp_path / "local")
    assert lines(path) == lines(alone)
    (session,) = read_sessions(path)
    assert (session["answered"], session["replaced"]) == (640, 1)
    assert 1280 <= session["asked"] <= len(told)


def test_an_instance_that_kills_every_worker_stops_the_run_with_one_line_and_the_rest_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = watched.folder(tmp_path / "m", fatal="test-70")
    words = ["run", "--task", "lots", "--model", f"watched:{model}", "--run-dir", str(tmp_path / "run"), "--no-cache"]
    assert main([*words, *WORDS]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("harness: ")]
    assert line.startswith(f"harness: {LIVES} workers died of the same work")
    assert line.endswith("the same command goes on")
    pids = {pid for pid, name, _ in watched.lines(model / "asked") if name == "test-70"}
    assert len(pids) == LIVES
    kept = lines(tmp_path / "run")
    assert 128 <= len(kept) < 200

    (model / "fatal").unlink()
    (model / "asked").unlink()
    assert main([*words, *WORDS]) == 0
    assert set(kept) < set(lines(tmp_path / "run"))
    assert len(by_id(tmp_path / "run")) == 200
    again = [name for _, name, step in watched.lines(model / "asked") if step == "0"]
    assert len(again) == len(set(again)) == 200 - len(kept)


@pytest.mark.parametrize(
    ("task", "ways", "expected"),
    [
        ("lots", {"refuse": "no such weights here"}, "harness: no such weights here"),
        ("elsewhere", {}, " has other files than the process that it works for: data lots differ; give all machines"),
    ],
)
def test_what_a_worker_refuses_is_one_line(
    task: str, ways: dict[str, str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = watched.folder(tmp_path / "m", **ways)
    words = ["run", "--task", task, "--model", f"watched:{model}", "--runs", str(tmp_path / "runs"), "--no-cache"]
    assert main([*words, *WORDS]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("harness: ")]
    assert len(said) == 1
    assert expected in said[0]
    assert not list((tmp_path / "runs").rglob("records.jsonl"))


def test_a_model_that_answers_nothing_is_stopped_early(ray: Crew, tmp_path: Path) -> None:
    model = watched.folder(tmp_path / "m", mute="nothing to say")
    with pytest.raises(NothingAnswered, match="none of the first 128 instances could be answered: nothing to say"):
        run(Lots(count=20_000), f"watched:{model}", tmp_path, ray)
    assert not list((tmp_path / "runs").rglob("run.json"))


def test_what_does_not_apply_is_a_run_without_scores(ray: Crew, tmp_path: Path) -> None:
    model = watched.folder(tmp_path / "m")
    scores = read_scores(run(Wording(wording="off"), f"watched:{model}", tmp_path, ray))
    assert scores is not None
    assert scores["not_applicable"] == "no such wording for this model"


def test_one_worker_trains_and_answers_for_all(ray: Crew, tmp_path: Path) -> None:
    (tmp_path / "LEARNER").mkdir()
    path = run(Lots(), f"learner:{tmp_path / 'LEARNER'}", tmp_path, ray)
    ((pid,),) = watched.lines(tmp_path / "LEARNER" / "loads")
    assert int(pid) != os.getpid()
    assert len(by_id(path)) == 200


def test_each_worker_loads_once_for_all_that_is_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = watched.folder(tmp_path / "m")
    words = ["run", "--task", "lots", "--model", f"watched:{model}", "--no-cache", "--choose", "style=plain,loud"]
    printed = []
    for how in ([], WORDS):
        folder = tmp_path / f"runs{len(how)}"
        assert main([*words, "--runs", str(folder), *how, "--json"]) == 0
        printed.append(json.loads(capsys.readouterr().out.replace(str(folder), "runs")))
    assert printed[0] == printed[1]
    assert len(list((tmp_path / "runs4").glob("*/*/scores.json"))) == 3
    assert len(watched.lines(model / "loads")) == 1 + 2


def test_more_workers_than_ray_can_have_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--task", "lots", "--model", "simple:random", "--executor", "ray", "--workers", "9"]
    assert main(words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("harness: ")]
    assert line.startswith("harness: 9 CPUs and 0 GPUs are needed for 9 workers, and Ray has 8 CPUs and ")


def cells_of(base: Path) -> Grid:
    recipe = {"epochs": 1}
    tuned = Block("tallrec", model=(f"hf:{base}",), shots=(0, 4), seed=(0, 1, 2), recipe=recipe, name="tuned")
    return Grid("Both", (tuned, Block("tallrec", model=("simple:like-rate",), name="simple")))


def report(finished: Finished, how: How) -> str:
    return markdown("Both", sections(finished.outcomes, how.split, how.sample))


def test_a_grid_has_the_same_table(tmp_path: Path) -> None:
    """Two models for three workers: the cells of the one that has several are dealt out to two of them. Seeds 0 and 2
    come to the same adapter, and so to the same run."""
    base = engine_models.llama(tmp_path / "llama", context=1024, width=64, layers=1)
    for seed in (0, 1):
        engine_models.lora(tmp_path / f"lora-{seed}", base, seed=seed)
    made = {}
    for name in ("local", "ray"):
        options, folder = EngineOptions(threads=1), tmp_path / name
        how = How("test", Sample(12), options, folder / "runs", folder / "tuned", cache=False)
        with Crew(Spread("ray", 3), EngineOptions(), print) as crew:
            executor = crew if name == "ray" else HERE
            finished = run_grid(expand(cells_of(base)), how, print, watched.copy_adapter, executor)
        assert not finished.failed
        made[name] = finished, report(finished, how), watched.lines(tmp_path / "tuned")
        (tmp_path / "tuned").unlink()
    (alone, table, _), (shared, other, tuned) = made["local"], made["ray"]
    assert table == other
    assert [outcome.cell for outcome in shared.outcomes] == [outcome.cell for outcome in alone.outcomes]
    for ours, theirs in zip(shared.outcomes, alone.outcomes, strict=True):
        assert ours.run is not None
        assert theirs.run is not None
        assert ours.run.relative_to(tmp_path / "ray") == theirs.run.relative_to(tmp_path / "local")
    assert (alone.starts, shared.starts) == (1, 2)
    assert len(tuned) == len({name for _, name in tuned}) == 3
    assert str(os.getpid()) not in {pid for pid, _ in tuned}


def test_the_command_starts_a_ray_of_its_own_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """`--data-parallel` is workers on this machine."""
    model = watched.folder(tmp_path / "m")
    mark = f"MARK_{tmp_path.name}={os.getpid()}"
    name, _, value = mark.partition("=")
    words = [sys.executable, "-m", "harness.cli", "run", "--task", "lots", "--model", f"watched:{model}", "--no-cache"]
    command = [*words, "--run-dir", str(tmp_path / "run"), "--data-parallel", "2"]
    environment = {key: text for key, text in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=watched.ROOT, env={**environment, name: value}
    )
    assert done.returncode == 0, done.stderr
    assert "200 instances, failures: none" in done.stdout
    assert len({pid for pid, _, _ in watched.lines(model / "asked")}) == 2
    said = [line for line in done.stderr.splitlines() if "loading" not in line]
    assert said == []
    deadline = time.monotonic() + 30
    while left := _with(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _with(mark: str) -> list[str]:
    """Command lines of the processes that have this in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found
