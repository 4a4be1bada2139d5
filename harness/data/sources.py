"""The declared sources of the data sets (`sources.toml`) as values, and the check that a file is the declared one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import md5, sha1, sha256
from importlib.resources import files as resources
from pathlib import Path
from typing import Any, Literal, get_args

from harness.errors import BadData, UnknownName

Kind = Literal["md5", "sha256", "git-blob"]
BLOCK = 1 << 20
"""Bytes read at once."""


@dataclass(frozen=True, slots=True)
class Checksum:
    kind: Kind
    value: str

    def of(self, path: Path) -> str:
        """The checksum of this kind that a file has, in hexadecimal. OSError: the file cannot be read."""
        if self.kind == "git-blob":
            content = sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        else:
            content = md5(usedforsecurity=False) if self.kind == "md5" else sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                content.update(block)
        return content.hexdigest()


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file, and how to recognise it."""

    name: str
    path: str
    """In the archive; on the site, where there is no archive."""
    size: int | None
    checksum: Checksum | None
    lines: int | None
    encoding: str
    required: bool
    aliases: tuple[str, ...]
    """Further names under which a local folder may hold it."""
    local: bool = False
    """Whether it is never downloaded, so that only a local folder can bring it."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip file on a site."""

    scheme: str
    site: str
    path: str
    checksum: Checksum | None

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def address(self) -> str:
        return f"{self.scheme}://{self.site}{self.path}"


@dataclass(frozen=True, slots=True)
class Embedded:
    """A copy that ships inside an installed Python package."""

    package: str
    folder: str
    files: tuple[DataFile, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a data set comes from and under which terms."""

    name: str
    title: str
    licence: str
    citation: str
    homepage: str
    files: tuple[DataFile, ...]
    archive: Archive | None = None
    scheme: str = "https"
    site: str = ""
    embedded: Embedded | None = None

    def file(self, name: str) -> DataFile:
        """One of its files. UnknownName: it has none of this name."""
        for file in self.files:
            if file.name == name:
                return file
        raise UnknownName(f"{self.name} has no file {name!r}; it has {', '.join(f.name for f in self.files)}")

    def address(self, file: DataFile) -> str:
        """Where this file, or the archive that holds it, can be downloaded; empty where it cannot."""
        if file.local:
            return ""
        return self.archive.address if self.archive else f"{self.scheme}://{self.site}{file.path}"

    @property
    def remedy(self) -> str:
        """The commands that put this data set in place."""
        fetch = f"`harness data fetch {self.name}`"
        from_disk = f"`harness data fetch {self.name} --from FOLDER`"
        by_hand = any(file.required and file.local for file in self.files)
        return f"run {from_disk}" if by_hand else f"run {fetch} or {from_disk}"


def sources() -> Mapping[str, Source]:
    """Every declared data set, by name."""
    text = (resources("harness.data") / "sources.toml").read_text(encoding="utf-8")
    return {name: parse(name, table) for name, table in tomllib.loads(text).items()}


def source(name: str) -> Source:
    """The declared data set of this name. UnknownName: there is none."""
    declared = sources()
    if name in declared:
        return declared[name]
    near = get_close_matches(name, declared, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(declared)}"
    raise UnknownName(f"no data set is called {name!r}; {hint}")


def parse(name: str, table: Mapping[str, Any]) -> Source:
    """A table of `sources.toml` as a value. KeyError, TypeError, ValueError: the table is not of that form."""
    archive, embedded = table.get("archive"), table.get("embedded")
    return Source(
        name=name,
        title=table["title"],
        licence=table["licence"],
        citation=table["citation"],
        homepage=table["homepage"],
        files=tuple(_file(entry) for entry in table["files"]),
        archive=Archive(archive["scheme"], archive["site"], archive["path"], _checksum(archive)) if archive else None,
        scheme=table.get("scheme", "https"),
        site=table.get("site", ""),
        embedded=Embedded(embedded["package"], embedded["folder"], tuple(_file(entry) for entry in embedded["files"]))
        if embedded
        else None,
    )


def _file(entry: Mapping[str, Any]) -> DataFile:
    return DataFile(
        name=entry["name"],
        path=entry.get("path", entry["name"]),
        size=entry.get("size"),
        checksum=_checksum(entry),
        lines=entry.get("lines"),
        encoding=entry["encoding"],
        required=entry.get("required", True),
        aliases=tuple(entry.get("aliases", ())),
        local=entry.get("local", False),
    )


def _checksum(entry: Mapping[str, Any]) -> Checksum | None:
    if "checksum" not in entry:
        return None
    if entry["kind"] not in get_args(Kind):
        raise ValueError(f"checksum of kind {entry['kind']!r}, expected one of {', '.join(get_args(Kind))}")
    return Checksum(entry["kind"], entry["checksum"])


def check(path: Path, file: DataFile, remedy: str, shown: object = None) -> None:
    """Nothing, if this is the declared file; `shown` is what the message calls it, where that is not the path.

    BadData: its size, checksum or number of lines is not the declared one; the message ends with `remedy`.
    """
    found = fault(path, file)
    if found:
        raise BadData(f"{shown or path} is not the official {file.name}: {found}; {remedy}")


def fault(path: Path, file: DataFile) -> str | None:
    """What tells this file from the declared one: `expected ..., found ...`; None if nothing does."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"expected {file.size:,} bytes, found {size:,}"
    if file.checksum is not None:
        checksum = file.checksum.of(path)
        return (
            f"expected {file.checksum.kind} {file.checksum.value}, found {checksum} ({size:,} bytes)"
            if checksum != file.checksum.value
            else None
        )
    if file.lines is not None and (lines := _lines(path)) != file.lines:
        return f"expected {file.lines:,} lines, found {lines:,}"
    return None


def fault_of_archive(path: Path, archive: Archive) -> str | None:
    """As `fault`, for a downloaded archive."""
    if archive.checksum is None or (found := archive.checksum.of(path)) == archive.checksum.value:
        return None
    expected = f"{archive.checksum.kind} {archive.checksum.value}"
    return f"expected {expected}, found {found} ({path.stat().st_size:,} bytes)"


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))
