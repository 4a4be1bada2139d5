"""Puts the files of a data set in place: from a folder of this disk, or from their official address.

Everything is made in a folder of its own beside the final files, checked there, and only then moved, each file in one
step. So a reader sees whole files or none, whatever interrupts a fetch; what a killed fetch left behind, the next one
removes. Only one process at a time works on a data set, the others wait for it and then find the files.
"""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, cast

from harness.data.download import download
from harness.data.home import data_folder, states_of
from harness.data.sources import BLOCK, Archive, DataFile, Source, check, fault_of_archive, source
from harness.errors import BadData, HarnessError, MissingData

PART = ".part-"
"""How the names of unfinished folders begin."""
BROKEN = (
    *(gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, KeyError, ValueError, RuntimeError),
)
"""What the standard library raises over a packed file that is damaged, or made to harm."""
SWELLING, UNSUSPECTED = 100, 64 << 20
"""How many times its packed size a file of no declared size may have, and how many bytes it may have in any case. Texts
swell by ten; what swells by more is there to fill the disk."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch did, by file."""

    name: str
    folder: Path
    fetched: tuple[str, ...]
    kept: tuple[str, ...]
    """Were there already, and are the official ones."""
    absent: tuple[str, ...]
    """Not required, and could not be had."""


def fetch(name: str, source_folder: Path | None = None) -> Fetched:
    """Puts a data set into the home; files that are there already and right are left alone.

    `source_folder` holds the official files, unpacked (`.gz` copies will do) or as the official zip, or is that zip.
    Without it they are downloaded. UnknownName: there is no such data set. MissingData: a required file is not in the
    folder, or the site does not give it. BadData: a file is not the official one. HarnessError: the disk is full or
    the home cannot be written.
    """
    return fetch_source(source(name), data_folder(name), source_folder)


def fetch_source(declared: Source, folder: Path, source_folder: Path | None = None) -> Fetched:
    """As `fetch`, for a source that need not be among the declared ones, into any folder."""
    if source_folder is not None and not source_folder.exists():
        raise MissingData(f"{source_folder} does not exist; name the folder that holds the files of {declared.name}")
    with _disk_errors(folder), _alone(folder):
        good = {state.file for state in states_of(declared.files, folder) if state.state == "good"}
        wanted = [file for file in declared.files if file.name not in good]
        fetched: list[str] = []
        if wanted:
            with _stage(folder) as stage:
                if source_folder is not None:
                    _from_disk(declared, wanted, source_folder, stage)
                elif declared.archive is None:
                    _from_site(declared, wanted, stage)
                elif any(file.required for file in wanted):
                    _from_archive_on_site(declared, wanted, stage)
                fetched = _settle([file for file in wanted if (stage / file.name).exists()], stage, folder)
        absent = tuple(file.name for file in wanted if file.name not in fetched)
        kept = tuple(file.name for file in declared.files if file.name in good)
        return Fetched(declared.name, folder, tuple(fetched), kept, absent)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the lock of a data set, which the system frees when its holder dies, and removes what a dead one left."""
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        for remains in folder.glob(f"{PART}*"):
            shutil.rmtree(remains, ignore_errors=True)
        yield


@contextmanager
def _stage(folder: Path) -> Iterator[Path]:
    """A new folder on the same file system as the final files, gone afterwards."""
    folder.mkdir(exist_ok=True)
    stage = Path(mkdtemp(prefix=PART, dir=folder))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        with suppress(OSError):  # there are files in it: the usual case
            folder.rmdir()


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turns what the file system refuses into one line for a person."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HarnessError(
                f"no space left to write {folder}: free some, or let HARNESS_HOME name a folder on another disk"
            ) from error
        place = error.filename or folder
        raise HarnessError(f"cannot fetch into {folder}: {place}: {error.strerror or error}") from error


def _settle(files: Sequence[DataFile], stage: Path, folder: Path) -> list[str]:
    """Moves checked files to their final place, each in one step."""
    for file in files:
        with (stage / file.name).open("rb") as staged:
            os.fsync(staged.fileno())  # else a power cut could leave the name with half of the content
        (stage / file.name).replace(folder / file.name)
    return [file.name for file in files]


def _from_disk(declared: Source, wanted: Sequence[DataFile], given: Path, stage: Path) -> None:
    places = {file.name: _locate(file, given) for file in wanted} if given.is_dir() else {}
    for file in wanted:
        place = places.get(file.name)
        if place is not None:
            _copy_plain(place, stage / file.name, file)
            advice = f"take the file from {declared.address(file)}"
            if file.local:
                advice = "give the official one" if file.required else "give the official one, or none"
            check(stage / file.name, file, advice, shown=place)
    owed = [file for file in wanted if not (stage / file.name).exists()]
    archive = declared.archive
    if given.is_file() and archive is None:
        raise MissingData(f"--from takes a folder for {declared.name}, and {given} is a file")
    package = given if given.is_file() else given / archive.name if archive else None
    if owed and archive and package and package.is_file():
        _unpack(declared, archive, package, owed, stage)
    missing = [file for file in owed if file.required and not (stage / file.name).exists()]
    if missing:
        names = ", ".join(file.name for file in missing)
        looked = f"plain, as .gz or in {archive.name}" if archive else "plain, as .gz or as .zip"
        address = declared.address(missing[0])
        raise MissingData(
            f"{given} does not have {names}, which {declared.name} needs; looked for them {looked}; "
            + (f"they come from {address}" if address else "they cannot be downloaded")
        )


def _from_site(declared: Source, wanted: Sequence[DataFile], stage: Path) -> None:
    nowhere = [file.name for file in wanted if file.required and file.local]
    if nowhere:
        raise MissingData(f"{', '.join(nowhere)} of {declared.name} cannot be downloaded; {declared.remedy}")
    for file in (file for file in wanted if not file.local):
        advice = f"or run `harness data fetch {declared.name} --from FOLDER` with a copy of {file.name}"
        try:
            download(declared.address(file), stage / file.name, advice)
        except MissingData:
            (stage / file.name).unlink(missing_ok=True)
            if file.required:
                raise
        else:
            check(stage / file.name, file, advice, shown=declared.address(file))


def _from_archive_on_site(declared: Source, wanted: Sequence[DataFile], stage: Path) -> None:
    archive = declared.archive
    assert archive is not None
    advice = f"or run `harness data fetch {declared.name} --from FOLDER` with a copy of {archive.name} or its files"
    download(archive.address, stage / archive.name, advice)
    _unpack(declared, archive, stage / archive.name, wanted, stage, shown=archive.address)


def _locate(file: DataFile, folder: Path) -> Path | None:
    """A file by any of its names, plain, gzipped or in a zip of its own, in the folder or where the official zip would
    have put it."""
    for base in (folder, folder / Path(file.path.lstrip("/")).parent):
        for name in (file.name, *file.aliases):
            for candidate in (base / name, base / f"{name}.gz", (base / name).with_suffix(".zip")):
                if candidate.is_file():
                    return candidate
    return None


def _copy_plain(place: Path, target: Path, file: DataFile) -> None:
    try:
        with _content(place, file) as content:
            _write(content, target, file, place, _most(file, place))
    except BROKEN as error:
        kind = place.suffix.removeprefix(".").replace("gz", "gzip")
        raise BadData(
            f"{place} is damaged: expected a {kind} file that holds {file.name}, found: {str(error).strip(chr(39))}"
        ) from error


@contextmanager
def _content(place: Path, file: DataFile) -> Iterator[IO[bytes]]:
    """The file itself, whatever it is packed in. KeyError: a zip does not hold it."""
    if place.suffix == ".gz":
        with gzip.open(place) as content:
            yield cast(IO[bytes], content)
    elif place.suffix == ".zip":
        with zipfile.ZipFile(place) as package:
            held = [member for member in package.namelist() if member in (file.name, *file.aliases)]
            with package.open(held[0] if held else file.name) as content:
                yield content
    else:
        with place.open("rb") as content:
            yield content


def _unpack(
    declared: Source, archive: Archive, package: Path, wanted: Sequence[DataFile], stage: Path, shown: object = None
) -> None:
    """Takes the wanted files out of the official zip, once it has proved to be that."""
    found = fault_of_archive(package, archive)
    if found:
        raise BadData(f"{shown or package} is not the official {archive.name}: {found}; take it from {archive.address}")
    try:
        with zipfile.ZipFile(package) as members:
            for file in wanted:
                with members.open(file.path) as content:
                    _write(content, stage / file.name, file, shown or package, _most(file, package))
                check(stage / file.name, file, declared.remedy, shown=f"{file.path} in {shown or package}")
    except BROKEN as error:
        raise BadData(
            f"{shown or package} is damaged: expected a zip file with {', '.join(f.path for f in wanted)}, "
            f"found: {str(error).strip(chr(39))}"
        ) from error


def _most(file: DataFile, packed: Path) -> int:
    """The bytes that a file may have, by its declaration or by what it is packed in."""
    return file.size if file.size is not None else max(UNSUSPECTED, SWELLING * packed.stat().st_size)


def _write(content: IO[bytes], target: Path, file: DataFile, shown: object, most: int) -> None:
    """Copies a stream, but no more of it than the file should have: a small .gz can hold a full disk."""
    written = 0
    with target.open("wb") as out:
        while block := content.read(BLOCK):
            written += len(block)
            if written > most:
                expected = f"{most:,} bytes" if file.size is not None else f"at most {most:,} bytes in so small a file"
                raise BadData(f"{shown} is not the official {file.name}: expected {expected}, found more")
            out.write(block)
