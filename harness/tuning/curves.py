"""The curves of a training as a picture: loss, and the validation that selected the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

LOSS, VALIDATION = "#8a8a8a", "#0b6e99"


def plot_curves(manifest: dict[str, Any], file: Path) -> None:
    """Write an SVG with loss over steps and, if there was one, the validation metric with the selected step marked."""
    loss, validation, selected = manifest["loss"], manifest["validation"], manifest["selected"]
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    left = figure.subplots()
    left.plot([e["step"] for e in loss], [e["loss"] for e in loss], color=LOSS, linewidth=1.4)
    left.set_xlabel("optimiser step")
    left.set_ylabel("training loss", color=LOSS)
    if validation:
        metric = selected["metric"]
        right = left.twinx()
        right.plot(
            [e["step"] for e in validation], [e[metric] for e in validation], "o-", color=VALIDATION, markersize=3
        )
        right.plot(selected["step"], selected["value"], "o", color=VALIDATION, markersize=8, markerfacecolor="white")
        right.set_ylabel(f"validation {metric}", color=VALIDATION)
        right.spines["top"].set_visible(False)
    left.spines["top"].set_visible(False)
    left.set_title(f"{manifest['described']}, selected: step {selected['step']}", fontsize=9, loc="left")
    with mpl.rc_context({"svg.hashsalt": "harness", "svg.fonttype": "none"}):
        figure.savefig(file, metadata={"Date": None})
