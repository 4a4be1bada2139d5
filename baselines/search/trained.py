"""Networks that are trained once: under the harness's home, named by everything that decides their weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from baselines.search.material import Material
from baselines.search.settings import Learning
from harness.data.home import home
from harness.knobs import settings
from harness.progress import late_bar
from harness.signature import describe, digest
from harness.task import Task
from harness.tuning.workshop import made_once
from harness.versions import versions

VERSION = 1
"""Raise it whenever the same settings and questions would give other weights or answers."""


def trained(model: str, task: Task, set_to: Learning, learned: Material) -> Path:
    """The folder of the trained network; trains it now if that has not been done."""
    # Two budgets that come to the same settings are the same training.
    chosen = {name: value for name, value in settings(set_to).items() if name != "budget"}
    asked = {"kind": "search", "version": VERSION, "model": model, "settings": chosen, "material": learned.digest}
    out = home() / "baselines" / f"{model}-{digest(asked)}"

    def make(work: Path) -> dict[str, Any]:
        told = {"task": describe(task), "data": dict(task.data_digests())}
        return {**told, **_train(model, set_to, learned, work), "versions": versions()}

    made_once(out, asked, make)
    return out


def _train(model: str, set_to: Learning, learned: Material, work: Path) -> dict[str, Any]:
    from baselines.search.fitting import STATE, fit

    name = f"training {model}"
    if (work / STATE).exists():
        print(f"{name}: going on where it was stopped", file=sys.stderr)
    with late_bar(name) as step:
        told = fit(model, set_to, learned, work, step)
    best = told["curve"][told["best_epoch"]]
    said = f", the best with MRR {best['score']:.4f} after {best['epoch'] + 1}" if "score" in best else ""
    print(f"{name}: {told['epochs']} epochs in {told['seconds']:.0f} s{said}", file=sys.stderr)
    return told
