"""What in a stranger's model folder would run rather than be read: found before anything is loaded, and refused
unless a person has said otherwise (`harness.model.Trust`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import BadModel
from harness.model import Trust

CODED = (
    "config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
"""Files whose `auto_map` names classes in Python files."""
KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
"""Settings by which transformers takes compiled code from the hub, where their value is an address."""


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file. BadModel: it holds something else, or cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadModel(f"{path} is not readable JSON: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadModel(f"{path} is not a JSON object")
    return content


def code_of(folder: Path, name: str, trust: Trust) -> list[Path]:
    """The Python files that a model runs, so that its digest follows them; none for a model that is only data.

    Raises BadModel, in one line, where it has code and nobody has said that it may run, where that code lies in another
    repository, where its configuration asks for compiled code of the hub, or where an adapter lies in its folder.
    """
    if (folder / "adapter_config.json").is_file():
        # transformers puts an adapter that lies in a model's folder on the model without a word.
        raise BadModel(f"{folder} holds a model and an adapter; move adapter_* to a folder of its own, for --adapter")
    coded = {file: read_object(folder / file) for file in CODED if (folder / file).is_file()}
    for file, content in coded.items():
        for key, value in _kernels(content):
            raise BadModel(f"{file} of {name} takes code from the hub ({key} is {value!r}); delete {key} from it")
    mapped = {file: content["auto_map"] for file, content in coded.items() if content.get("auto_map")}
    if "config.json" in mapped and not trust.trust_remote_code and _is_known(coded["config.json"]):
        del mapped["config.json"]
    if not mapped:
        return []
    if not trust.trust_remote_code:
        raise BadModel(
            f"{name} has Python code of its own (auto_map in {next(iter(mapped))}), which could do anything; read it, "
            "then say --trust-remote-code"
        )
    for file, classes in mapped.items():
        if abroad := next((said for said in _texts(classes) if "--" in said), None):
            where = abroad.partition("--")[0]
            raise BadModel(f"{file} of {name} takes its code from {where}; put that code into {folder}, and name it so")
    return sorted(path for path in folder.rglob("*.py") if path.is_file())


def _is_known(config: dict[str, Any]) -> bool:
    """Whether transformers has this kind of model itself, and so leaves code beside it alone where none may run."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return config.get("model_type") in CONFIG_MAPPING_NAMES


def _kernels(content: Any) -> Iterator[tuple[str, str]]:
    """Settings that name code elsewhere, at any depth."""
    if isinstance(content, list):
        for part in content:
            yield from _kernels(part)
    elif isinstance(content, dict):
        for key, value in content.items():
            if key in KERNELS:
                yield from ((key, said) for said in _texts(value) if "/" in said or ":" in said)
            yield from _kernels(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
