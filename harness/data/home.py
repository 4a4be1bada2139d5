"""Where data lies on this disk, and whether what lies there is what it should be.

Everything is under one home: the folder that the variable HARNESS_HOME names, else `~/.cache/harness`. The files of a
data set are in `data/NAME/` below it, under their official names, unpacked.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from harness.data.sources import DataFile, Source, check, fault, source
from harness.errors import MissingData

State = Literal["good", "bad", "missing"]


@dataclass(frozen=True, slots=True)
class FileState:
    """One file of a data set as it was found."""

    file: str
    path: Path
    state: State
    required: bool
    detail: str = ""
    """What is wrong with it: `expected ..., found ...`."""


def home() -> Path:
    """The folder that holds everything the harness keeps between runs."""
    chosen = os.environ.get("HARNESS_HOME")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".cache" / "harness"


def data_folder(name: str) -> Path:
    """Where the files of this data set lie, or would. UnknownName: there is no such data set."""
    return home() / "data" / source(name).name


def where(name: str, file: str) -> Path:
    """The path of one file of a data set, not verified.

    MissingData: it is not there; the message has the command that gets it. UnknownName: no such data set or file.
    """
    declared = source(name)
    path = data_folder(name) / declared.file(file).name
    if not path.is_file():
        raise MissingData(f"{path} is not there; {declared.remedy} with {file}")
    return path


def verify(name: str) -> tuple[FileState, ...]:
    """Reads every file of a data set and compares it with what is declared: those in the home, and, where the home has
    none of them and a copy is embedded in an installed package, that copy.

    UnknownName: there is no such data set.
    """
    declared = source(name)
    states = states_of(declared.files, data_folder(name))
    embedded = embedded_folder(declared)
    if declared.embedded and embedded and all(state.state == "missing" for state in states):
        return states_of(declared.embedded.files, embedded)
    return states


def states_of(files: Sequence[DataFile], folder: Path) -> tuple[FileState, ...]:
    """How these files lie in a folder."""
    return tuple(_state(file, folder / file.name) for file in files)


def _state(file: DataFile, path: Path) -> FileState:
    if not path.is_file():
        return FileState(file.name, path, "missing", file.required)
    found = fault(path, file)
    return FileState(file.name, path, "bad" if found else "good", file.required, found or "")


def present(declared: Source) -> bool:
    """Whether the home has every required file of a data set, right or wrong."""
    folder = home() / "data" / declared.name
    return all((folder / file.name).is_file() for file in declared.files if file.required)


def verified(name: str, *files: str) -> Path:
    """The folder of a data set, after its required files, or just those named, were found to be the official ones.

    MissingData: one is not there. BadData: one is truncated, altered or another file.
    """
    declared = source(name)
    chosen = [declared.file(file) for file in files] or [file for file in declared.files if file.required]
    for file in chosen:
        check(where(name, file.name), file, declared.remedy)
    return data_folder(name)


def embedded_folder(declared: Source) -> Path | None:
    """Where an installed package holds a copy of this data set; None where it is not installed.

    The package is only looked up, never imported: importing it would cost seconds.
    """
    if declared.embedded is None:
        return None
    found = find_spec(declared.embedded.package)
    for place in (found.submodule_search_locations if found else None) or ():
        folder = Path(place) / declared.embedded.folder
        if all((folder / file.name).is_file() for file in declared.embedded.files):
            return folder
    return None
