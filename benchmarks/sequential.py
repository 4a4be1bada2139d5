"""Full ranking by a sequential model: the harness against RecBole's own evaluation of the same weights.

Both rank the whole catalogue for every test user with two threads, in turn. The harness's seconds run from the loaded
model to the last record on disk; RecBole's are those of its `Trainer.evaluate`, which keeps nothing.

    python -m benchmarks.sequential [--dataset amazon-beauty] [--rounds 2]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from harness.data.home import home
from harness.store import read_scores, read_sessions

TRAINING = ("form=windows", "train_batch_size=256", "epochs=1")
"""Speed does not depend on how good a model is."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", default="amazon-beauty", help="`harness data fetch` it first")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    settings = [f"dataset={given.dataset}", "masking=recbole"]
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    with TemporaryDirectory() as name:
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(given.rounds):
            path, whole, peak = _run(settings, Path(name) / str(number), given.threads)
            (session,) = read_sessions(path)
            ours.append(session["seconds"])
            scores = read_scores(path)
            assert scores is not None
            users = scores["instances"]
            told, _ = _json("benchmarks.recbole_evaluator", str(_trained()), *settings)
            theirs.append(told["seconds"])
            gap = abs(scores["metrics"]["NDCG@10"]["value"] - told["scores"]["ndcg@10"])
            print(f"round {number + 1}: harness {ours[-1]:.2f} s (the whole command {whole:.1f} s), ", end="")
            print(f"RecBole {theirs[-1]:.2f} s, NDCG@10 differs by {gap:.1e}")
    print(f"{users:,} users: harness {users / min(ours):,.0f}/s, RecBole {users / min(theirs):,.0f}/s, ", end="")
    print(f"{min(theirs) / min(ours):.2f} times as fast; ", end="")
    print(f"largest process of the harness {peak:.0f} MiB, RecBole {told['peak_mib']:.0f} MiB")


def _run(settings: list[str], runs: Path, threads: int) -> tuple[Path, float, float]:
    """A fresh run's directory, seconds of the whole command, and MiB of its largest process. The first one trains."""
    words = ["run", "--task", "sequential", "--model", "recbole:SASRec", "--threads", str(threads)]
    words += [word for setting in settings for word in ("--set", setting)]
    words += [word for setting in TRAINING for word in ("--model-set", setting)]
    began = time.perf_counter()
    found, peak = _json("harness.cli", *words, "--runs", str(runs), "--json")
    return Path(found[0]["run"]), time.perf_counter() - began, peak


def _trained() -> Path:
    """The newest SASRec of the home."""
    return max((home() / "baselines").glob("SASRec-*"), key=lambda folder: folder.stat().st_mtime)


def _json(module: str, *words: str) -> tuple[Any, float]:
    """What a module prints, and MiB of the largest among its process and those that it started."""
    with TemporaryFile("w+") as out:
        process = subprocess.Popen([sys.executable, "-m", module, *words], stdout=out)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"{module} ended with exit code {process.returncode}")
        out.seek(0)
        return json.load(out), used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
