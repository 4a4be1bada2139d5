"""Campaigns of kills: commands ended by SIGKILL at random moments, given again until they are through, and compared
with an undisturbed one.

Half of the moments are a time drawn from the length of the undisturbed command; the others are a change of the
command's folder, drawn from all that the undisturbed one makes (a file opened for writing, renamed or removed, a
folder made): the rare moments between two of them would hardly be hit by time. Every trial is killed one to six times
and then left alone, and must end with the same files as the undisturbed one: records byte by byte in any order, scores,
tables, weights.

    python -m tests.campaigns --kills 100 --out benchmarks/campaigns     all of them, with their results written there
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from harness.machine import machine
from harness.store import write_json
from harness.versions import versions
from tests.campaigns_nursery import HEAVY, LIGHT, Ended, Nursery

MOST = 6
"""Kills of one trial."""
VARYING = frozenset(
    {"sessions.jsonl", "responses.sqlite", "responses.sqlite-wal", "responses.sqlite-shm", "curves.svg"}
)
"""Files whose bytes hold times or the order of answers; that they are there is compared, and no more."""

Words = Callable[[Path, Path], list[str]]
"""From the folder of what all trials share, and the trial's own, to the command."""


@dataclass(frozen=True)
class Campaign:
    name: str
    words: Words
    phase: Callable[[Path], str]
    """How far a killed command had come, by what it left behind."""
    prepare: Callable[[Path], object]
    """Makes what all trials share."""
    imports: Sequence[str] = HEAVY


@dataclass
class Report:
    """What came out of a campaign."""

    name: str
    command: str
    seed: int
    kills: int = 0
    trials: int = 0
    by_change: int = 0
    """Kills at a change of the folder; the others are by time."""
    phases: Counter[str] = field(default_factory=Counter)
    different: list[str] = field(default_factory=list)
    """Trials that did not end like the undisturbed command, and how."""
    undisturbed_seconds: float = 0.0
    changes: int = 0
    """Of the folder, by the undisturbed command."""
    work_seconds: float = 0.0
    """Of all processes of all trials."""

    @property
    def kill_seconds(self) -> float:
        """What a kill cost: start-up and work that was done again."""
        return (self.work_seconds - self.trials * self.undisturbed_seconds) / max(1, self.kills)


def run_campaign(one: Campaign, kills: int, seed: int, folder: Path, say: Callable[[str], None] = print) -> Report:
    """At least so many kills; stops at the first trial that ends differently. `folder` is empty, or not there."""
    shared, rng = folder / "shared", random.Random(f"{one.name} {seed}")
    shared.mkdir(parents=True)
    one.prepare(shared)
    with Nursery(one.imports, {"HARNESS_HOME": str(shared / "home")}) as nursery:
        whole = folder / "trial"  # every trial has the same path: it stands in what some commands write
        ended = _run(nursery, one, shared, whole)
        assert ended.code == 0, _log(whole)
        assert ended.changes
        wanted = contents(whole)
        report = Report(one.name, _command(one.words(Path("MODELS"), Path())), seed)
        report.undisturbed_seconds, report.changes = round(ended.seconds, 2), ended.changes
        say(f"{one.name}: seed {seed}, undisturbed {ended.seconds:.1f} s, {ended.changes} changes")
        while report.kills < kills and not report.different:
            _discard(whole)
            _trial(nursery, one, shared, whole, rng, report)
            found = contents(whole)
            if found != wanted:
                changed = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
                report.different.append(f"trial {report.trials}: {', '.join(changed)}; see {whole}\n{_log(whole)}")
            report.trials += 1
            say(f"{one.name}: {report.kills} kills, {report.trials} trials")
    return report


def _trial(nursery: Nursery, one: Campaign, shared: Path, folder: Path, rng: random.Random, report: Report) -> None:
    for before in range(rng.randint(1, MOST)):
        at_change = rng.random() < 0.5
        change = rng.randint(1, report.changes) if at_change else None
        seconds = None if at_change else rng.uniform(0, report.undisturbed_seconds)
        ended = _run(nursery, one, shared, folder, seconds, change)
        report.work_seconds += ended.seconds
        if ended.code >= 0:
            if not before:  # nobody disturbed this one either, and the machine may have less to do by now
                report.undisturbed_seconds = min(report.undisturbed_seconds, round(ended.seconds, 2))
            break
        report.kills += 1
        report.by_change += at_change
        report.phases[one.phase(folder)] += 1
    else:
        ended = _run(nursery, one, shared, folder)
        report.work_seconds += ended.seconds
    if ended.code != 0:
        report.different.append(f"trial {report.trials} ended with code {ended.code}:\n{_log(folder)}")


def _run(
    nursery: Nursery,
    one: Campaign,
    shared: Path,
    folder: Path,
    seconds: float | None = None,
    change: int | None = None,
) -> Ended:
    folder.mkdir(exist_ok=True)
    own = {"HARNESS_HOME": str(folder / "home")}
    words, log = one.words(shared, folder), folder.with_suffix(".log")
    return nursery.run(words, log, seconds=seconds, change=change, watched=folder, environment=own)


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, with a digest of what must be the same after any number of kills."""
    return {str(path.relative_to(folder)): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _digest(path: Path) -> str:
    if path.name in VARYING:
        return "varies"
    content = path.read_bytes()
    if path.name == "records.jsonl":
        content = b"".join(sorted(content.splitlines(keepends=True)))
    if path.name in ("harness.json", "run.json"):
        content = json.dumps(_timeless(json.loads(content))).encode()
    return sha256(content).hexdigest()[:16]


def _timeless(made: dict[str, Any]) -> dict[str, Any]:
    """A manifest without the time that a training took, and without the checksum that covers it."""
    plain = {key: value for key, value in made.items() if key not in ("seconds", "sum")}
    return {key: _timeless(value) if isinstance(value, dict) else value for key, value in plain.items()}


def _log(folder: Path) -> str:
    return folder.with_suffix(".log").read_text()[-3000:]


def _discard(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.with_suffix(".log").unlink()


def _command(words: Sequence[str]) -> str:
    return " ".join(["harness", *words])


def lines(run: Path) -> int:
    """Whole records of a run directory."""
    file = run / "records.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _run_phase(folder: Path) -> str:
    runs = list(folder.glob("runs/*/*/"))
    if not runs:
        return "before anything is there"
    if not any(lines(run) for run in runs):
        return "before the first answer"
    if any(lines(run) and not (run / "scores.json").exists() for run in runs):
        return "among the answers"
    return "after the last answer of a run"


def _tune_phase(folder: Path) -> str:
    return _tuning_phase(folder, "lora") or "before anything is there"


def _tuning_phase(folder: Path, out: str) -> str | None:
    if list(folder.glob(f"{out}/harness.json")):
        return "tuned"
    work = f"{out}.partial/*"
    if list(folder.glob(f"{work}/made/harness.json")) or list(folder.glob(f"{work}/trained.json")):
        return "between the training and its end: proof, picture, manifest"
    if list(folder.glob(f"{work}/made")):
        return "while the weights are written"
    if found := list(folder.glob(f"{work}/checkpoints/checkpoint-*/trainer_state.json")):
        return "after a checkpoint" if found else ""
    return "before the first checkpoint" if list(folder.glob(work)) else None


def _grid_phase(folder: Path) -> str:
    tuned = len(list(folder.glob("tuned/*/*/harness.json")))
    if list(folder.glob("tuned/*/*.partial")):
        return f"in the tuning of adapter {tuned + 1}"
    runs = list(folder.glob("runs/*/*/"))
    if not runs:
        return "between two tunings, or before the first run" if tuned else "before anything is there"
    done = sum((run / "scores.json").exists() for run in runs)
    if list(folder.glob("report/*")):
        return "while the report is written"
    return f"in the evaluation, {done} runs complete"


def _fetch_phase(folder: Path) -> str:
    data = folder / "home" / "data"
    there = [path.name for path in data.glob("*/*.json")]
    if len(there) == 2:
        return "both files are in place"
    if there:
        return "one of two files is in place"
    if list(data.glob("*/.part-*/*")):
        return "while a file is written"
    return "before the first byte"


def _small_model(shared: Path) -> None:
    from tests import engine_models

    engine_models.llama(shared / "base", width=64, layers=1, context=1024)


def _reviews(shared: Path) -> None:
    """Some megabytes that are no data set, by the names of one that declares no checksums."""
    import gzip

    rng = random.Random(0)
    for name, count in (("Video_Games.json", 120_000), ("meta_Video_Games.json", 40_000)):
        rows = "".join(json.dumps({"n": n, "text": rng.randbytes(60).hex()}) + "\n" for n in range(count))
        (shared / "given").mkdir(exist_ok=True)
        (shared / "given" / f"{name}.gz").write_bytes(gzip.compress(rows.encode(), 1))


def _nothing(shared: Path) -> None:
    """Everything that is needed comes with the package."""


def _run_baseline(shared: Path, folder: Path) -> list[str]:
    words = ["run", "--task", "sequential", "--set", "dataset=ml-100k", "--model", "simple:item-mean"]
    return [*words, "--runs", str(folder / "runs")]


def _run_model(shared: Path, folder: Path) -> list[str]:
    # One prompt at a time: what shares a batch changes the last digits of a probability.
    words = ["run", "--task", "tallrec", "--model", f"hf:{shared / 'base'}", "--sample", "80", "--threads", "1"]
    words += ["--batch-tokens", "1", "--choose", "readout=paper,log_odds", "--choose-sample", "60"]
    return [*words, "--runs", str(folder / "runs")]


QUICK = ("budget=ci", "max_steps=6", "epochs=6", "evaluate_steps=2", "valid_rows=12", "context=1024", "batch=8")
SETTINGS = [word for setting in (*QUICK, "micro_batch=8") for word in ("--set", setting)]


def _tune(shared: Path, folder: Path) -> list[str]:
    words = ["tune", "--task", "tallrec", "--model", str(shared / "base"), "--shots", "8", "--seed", "1"]
    return [*words, *SETTINGS, "--threads", "1", "--out", str(folder / "lora")]


def _grid(shared: Path, folder: Path) -> list[str]:
    words = ["grid", "--task", "tallrec", "--model", f"hf:{shared / 'base'}", "--sample", "20", "--threads", "1"]
    words += ["--shots", "0", "--shots", "8", "--seed", "0", "--seed", "1", "--batch-tokens", "1", *SETTINGS]
    return [*words, *(f"--{name}={folder / name}" for name in ("runs", "tuned")), "--out", str(folder / "report")]


def _fetch(shared: Path, folder: Path) -> list[str]:
    return ["data", "fetch", "amazon-games", "--from", str(shared / "given")]


CAMPAIGNS = (
    Campaign("run a baseline", _run_baseline, _run_phase, _nothing, LIGHT),
    Campaign("run a language model", _run_model, _run_phase, _small_model),
    Campaign("tune", _tune, _tune_phase, _small_model),
    Campaign("grid", _grid, _grid_phase, _small_model),
    Campaign("fetch", _fetch, _fetch_phase, _reviews, LIGHT),
)


def table(reports: Sequence[Report]) -> str:
    """The results as Markdown."""
    made = ["| command | kills | by change | trials | ended differently | undisturbed | a kill costs |"]
    made.append("|---|---|---|---|---|---|---|")
    for one in reports:
        cells = (one.name, one.kills, one.by_change, one.trials, len(one.different))
        made.append(f"| {' | '.join(map(str, cells))} | {one.undisturbed_seconds:.1f} s | {one.kill_seconds:.1f} s |")
    made += ["", "| command | where the kills fell | kills |", "|---|---|---|"]
    for one in reports:
        made += [f"| {one.name} | {phase} | {count} |" for phase, count in sorted(one.phases.items())]
    return "\n".join(made) + "\n"


def write(report: Report, seconds: float, folder: Path) -> None:
    """The result of one campaign, and the table of all that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {one.name: getattr(report, one.name) for one in fields(Report)}
    told |= {"kill_seconds": round(report.kill_seconds, 2), "seconds": round(seconds)}
    write_json(_file(folder, report.name), {**told, "machine": machine(), "versions": versions()})
    files = [file for one in CAMPAIGNS if (file := _file(folder, one.name)).exists()]
    (folder / "kills.md").write_text(table([_read(file) for file in files]), "utf-8")


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '_')}.json"


def _read(file: Path) -> Report:
    told = json.loads(file.read_text())
    report = Report(told["name"], told["command"], told["seed"])
    for name in (one.name for one in fields(Report)):
        setattr(report, name, Counter(told[name]) if name == "phases" else told[name])
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns")
    parser.add_argument("--kills", type=int, default=100, help="of each campaign, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[one.name for one in CAMPAIGNS], action="append")
    parser.add_argument("--out", type=Path, help="folder for the results")
    given = parser.parse_args()
    reports = []
    for one in CAMPAIGNS:
        if given.only and one.name not in given.only:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            report = run_campaign(one, given.kills, given.seed, Path(folder), _say)
        if given.out:
            write(report, time.monotonic() - began, given.out)
        print(*report.different, sep="\n", file=sys.stderr)
        reports.append(report)
    print(table(reports))
    return 1 if any(one.different for one in reports) else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
