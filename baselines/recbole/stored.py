"""A material on disk, beside the weights that were made from it. No torch.

material.safetensors   interactions, labelled and validation rows, in codes
vocabulary.json        users and items, in the order of their codes
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from baselines.recbole.material import Lists, Material, Rows

ARRAYS, WORDS = "material.safetensors", "vocabulary.json"


def save_material(folder: Path, material: Material) -> None:
    arrays = {name: np.ascontiguousarray(array) for name, array in _named(material).items()}
    save_file(arrays, folder / ARRAYS, {"longest": str(material.longest)})
    words = {"users": material.users, "items": material.items}
    (folder / WORDS).write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")


def load_material(folder: Path) -> Material:
    words = json.loads((folder / WORDS).read_text(encoding="utf-8"))
    with safe_open(folder / ARRAYS, "np") as content:
        arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118  # it is no mapping
        longest = int(content.metadata()["longest"])

    def lists(name: str) -> Lists:
        return Lists(arrays[f"{name}.values"], arrays[f"{name}.ends"])

    def rows(name: str) -> Rows | None:
        if f"{name}.user" not in arrays:
            return None
        label = arrays.get(f"{name}.label")
        return Rows(arrays[f"{name}.user"], lists(f"{name}.history"), arrays[f"{name}.item"], label)

    users, items = tuple(words["users"]), tuple(words["items"])
    return Material(users, items, lists("timelines"), rows("labelled"), rows("valid"), longest)


def _named(material: Material) -> dict[str, Any]:
    found: dict[str, Any] = {"timelines.values": material.timelines.values, "timelines.ends": material.timelines.ends}
    for name, rows in (("labelled", material.labelled), ("valid", material.valid)):
        if rows is None:
            continue
        found |= {f"{name}.user": rows.user, f"{name}.item": rows.item}
        found |= {f"{name}.history.values": rows.history.values, f"{name}.history.ends": rows.history.ends}
        if rows.label is not None:
            found[f"{name}.label"] = rows.label
    return found
