"""Training a sequential model on MovieLens-100K: RecBole as it ships, the harness in RecBole's form, and in windows.

Each way trains for so many seconds with two threads, one after another, and notes when its validation NDCG@10 first
reached the best that RecBole as it ships came to in its time.

    python -m benchmarks.recbole_training [--model SASRec] [--length 20] [--seconds 240]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from baselines.recbole.job import Form, Recipe
from baselines.recbole.material import material
from tasks.sequential import Sequential


class Way(NamedTuple):
    name: str
    form: Form
    batch: int
    shipped: bool


WAYS = (
    Way("RecBole as it ships", "prefixes", 2048, True),
    Way("harness, prefixes, the same batches", "prefixes", 2048, False),
    Way("harness, prefixes, batches of 512", "prefixes", 512, False),
    Way("harness, windows", "windows", 64, False),
)


class Enough(Exception):
    """The time is over."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=("SASRec", "GRU4Rec"), default="SASRec")
    parser.add_argument("--length", type=int, default=20, help="events that a history can have")
    parser.add_argument("--seconds", type=float, default=240, help="for each way")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--way", type=int, help="this one only, in this process; prints JSON")
    given = parser.parse_args()
    if given.way is not None:
        print(json.dumps(train(given.model, WAYS[given.way], given.length, given.seconds, given.threads)))
        return
    words = ["--model", given.model, "--length", str(given.length), "--seconds", str(given.seconds)]
    words += ["--threads", str(given.threads)]
    curves = []
    for place in range(len(WAYS)):
        command = [sys.executable, "-m", "benchmarks.recbole_training", *words, "--way", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        curves.append(json.loads(done.stdout.splitlines()[-1]))
    goal = max(score for _, score in curves[0])
    base, base_epoch = _reached(curves[0], goal), curves[0][-1][0] / len(curves[0])
    print(f"{given.model}, histories of {given.length}; the goal is validation NDCG@10 {goal:.4f}")
    for way, curve in zip(WAYS, curves, strict=True):
        epoch, reached = curve[-1][0] / len(curve), _reached(curve, goal)
        when = f"goal after {reached:6.1f} s ({base / reached:4.1f} x)" if base and reached else "goal not reached"
        best = max(score for _, score in curve)
        print(f"  {way.name:<36} {epoch:6.2f} s an epoch ({base_epoch / epoch:4.1f} x), {when}, best {best:.4f}")


def train(model: str, way: Way, length: int, seconds: float, threads: int) -> list[tuple[float, float]]:
    """Seconds since the start and validation NDCG@10, after each epoch."""
    import torch

    from baselines.recbole.compat import import_recbole

    torch.set_num_threads(threads)
    import_recbole()
    from recbole.data import data_preparation
    from recbole.model.layers import FeedForward
    from recbole.utils import get_model, get_trainer, init_seed

    from baselines.recbole.fitting import configuration
    from baselines.recbole.forms import model_class
    from baselines.recbole.rows import dataset

    if way.shipped:
        torch.autograd.set_detect_anomaly(True)
        FeedForward.gelu = lambda self, x: x * 0.5 * (1.0 + torch.erf(x / 2**0.5))
    options = {"seed": 1, "train_batch_size": way.batch, "stopping_step": 1000, "epochs": 1000}
    recipe = Recipe(model, way.form, "bce", options)
    learned = material(Sequential(max_history=length), labelled=False, likes=False, shots=None, seed=1)
    with TemporaryDirectory() as folder:
        config = configuration(recipe, length, Path(folder))
        init_seed(1, True)
        rows, valid, _ = data_preparation(config, dataset(config, learned, way.form))
        kind: Any = get_model(model) if way.shipped else model_class(model, way.form, "bce")
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, kind(config, rows._dataset))
        curve: list[tuple[float, float]] = []
        began = time.monotonic()

        def after(epoch: int, score: float) -> None:
            curve.append((time.monotonic() - began, float(score)))
            if curve[-1][0] > seconds:
                raise Enough

        with suppress(Enough):
            trainer.fit(rows, valid, saved=False, show_progress=False, callback_fn=after)
    return curve


def _reached(curve: list[tuple[float, float]], goal: float) -> float | None:
    return next((seconds for seconds, score in curve if score >= goal), None)


if __name__ == "__main__":
    main()
