"""One fine-tuning, from what was asked to a folder that any tool loads: what `harness tune` does.

DIR/adapter_config.json, adapter_model.safetensors     or a whole model folder with `method=full`
DIR/harness.json                                       the manifest: base, task, data, rows, recipe, curves, versions
DIR/curves.svg                                         loss and validation over steps
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.signature import describe
from harness.tuning.spec import Tuning, base_of, identity_on
from harness.tuning.team import Team
from harness.tuning.workshop import made_once
from harness.versions import versions


def tune(tuning: Tuning, out: Path, say: Callable[[str], None], threads: int | None = None) -> dict[str, Any]:
    """Make the model in `out` and return its manifest.

    Does nothing if `out` holds the same one already, and goes on from the last checkpoint if it was begun before.
    Under `accelerate launch` every process calls this; the first one writes and has the manifest, the others get
    an empty one. Raises the errors of `harness.errors` where base, rows and recipe do not go together, and where
    the result fails its proof.
    """
    base = base_of(tuning)
    asked = identity_on(tuning, base)
    team = Team.join()
    if not team.leads:
        if (work := team.hear()) is not None:
            from harness.tuning.making import train_and_save

            train_and_save(tuning, base, Path(work), threads, lambda line: None, leads=False)
        return {}

    def make(work: Path) -> dict[str, Any]:
        from harness.engines.transformers import free_memory
        from harness.tuning.curves import plot_curves
        from harness.tuning.making import prove, train_and_save

        team.tell(str(work))
        named = {
            "described": " + ".join(describe(task) for task in tuning.tasks),
            "base": base.checkpoint.name,
            "stage_before": base.adapter.name if base.adapter else None,
        }
        try:
            told = train_and_save(tuning, base, work, threads, say)
            made = {**named, **told, "proof": prove(tuning, base, work / "made", told), "versions": versions()}
        finally:
            free_memory()  # whatever comes next may need all of it
        plot_curves({**asked, **made}, work / "made" / "curves.svg")
        return {name: value for name, value in made.items() if name != "answers"}

    manifest = made_once(out, asked, make)
    team.tell(None)
    return manifest
