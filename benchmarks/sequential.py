"""Full ranking by a sequential model: the harness against RecBole's own evaluation of the same weights.

Both rank the whole catalogue for every test user with two threads, in turn. The harness's seconds run from the loaded
model to the last record on disk; RecBole's are those of its `Trainer.evaluate`, which keeps nothing.

    python -m benchmarks.sequential [--dataset amazon-beauty] [--rounds 2]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
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
            path, whole = _run(settings, Path(name) / str(number), given.threads)
            (session,) = read_sessions(path)
            ours.append(session["seconds"])
            scores = read_scores(path)
            assert scores is not None
            users = scores["instances"]
            told = _json("benchmarks.recbole_evaluator", str(_trained()), *settings)
            theirs.append(told["seconds"])
            gap = abs(scores["metrics"]["NDCG@10"]["value"] - told["scores"]["ndcg@10"])
            print(f"round {number + 1}: harness {ours[-1]:.2f} s (the whole command {whole:.1f} s), ", end="")
            print(
                f"RecBole {theirs[-1]:.2f} s; its peak memory {told['peak_mib']:.0f} MiB, NDCG@10 differs by {gap:.1e}"
            )
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{users:,} users: harness {users / min(ours):,.0f}/s, RecBole {users / min(theirs):,.0f}/s, ", end="")
    print(f"{min(theirs) / min(ours):.2f} times as fast; largest process {largest:.0f} MiB")


def _run(settings: list[str], runs: Path, threads: int) -> tuple[Path, float]:
    """A fresh run's directory, and the seconds of the whole command; the training of the first is not in them."""
    words = ["run", "--task", "sequential", "--model", "recbole:SASRec", "--threads", str(threads)]
    words += [word for setting in settings for word in ("--set", setting)]
    words += [word for setting in TRAINING for word in ("--model-set", setting)]
    began = time.perf_counter()
    found = _json("harness.cli", *words, "--runs", str(runs), "--json")
    return Path(found[0]["run"]), time.perf_counter() - began


def _trained() -> Path:
    """The newest SASRec of the home."""
    return max((home() / "baselines").glob("SASRec-*"), key=lambda folder: folder.stat().st_mtime)


def _json(module: str, *words: str) -> Any:
    done = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
