"""Archives that were made to harm: whatever their members are called, only declared files come out, into one folder."""

from __future__ import annotations

import gzip
import io
import json
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli import main
from harness.data.fetch import SWELLING, UNSUSPECTED, fetch_source
from harness.data.sources import Source, parse
from harness.errors import HarnessError

CONTENT = b"N1\tnews\tGood\tA title\t\t\t\t\n" * 40
EVIL = (
    "../evil",
    "../../evil",
    "toy/../../evil",
    "/tmp/evil-of-the-harness",
    "\\..\\evil",
    "C:\\evil",
    "C:/evil",
    "~/evil",
    "./.././evil",
    "evil\x00.dat",
    "evil\n.dat",
    "e" * 60_000,
    "toy/ratings.dat/evil",
    "CON",
    "-rf",
)
"""Names under which members ask to be put elsewhere."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders deep, so that there is something above it to write to."""
    place = tmp_path / "above" / "home"
    monkeypatch.setenv("HARNESS_HOME", str(place))
    return place


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() or p.is_symlink()}


def official(package: bytes, *, sized: bool = True) -> Source:
    """A data set of one file in an archive that is taken for the official one, so that its members are all that is
    left to distrust."""
    file: dict[str, Any] = {"name": "ratings.dat", "path": "toy/ratings.dat", "encoding": "ascii", "kind": "md5"}
    file["checksum"] = md5(CONTENT).hexdigest()
    if sized:
        file["size"] = len(CONTENT)
    archive = {"scheme": "http", "site": "127.0.0.1:9", "path": "/toy.zip", "kind": "md5"}
    archive["checksum"] = md5(package).hexdigest()
    described = {"title": "Toy", "licence": "none", "citation": "none", "homepage": "none"}
    return parse("toy", {**described, "files": [file], "archive": archive})


Member = tuple[str | zipfile.ZipInfo, bytes]


def packed(members: Sequence[Member]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in members:
            package.writestr(name, content)
    return made.getvalue()


def link(name: str, to: str) -> Member:
    """A member that is a symbolic link."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info, to.encode()


def fetched(package: bytes, tmp_path: Path, *, sized: bool = True) -> dict[str, bytes]:
    """What lies anywhere below the test's folder after a fetch, but for what was given."""
    (tmp_path / "given").mkdir(exist_ok=True)
    (tmp_path / "given" / "toy.zip").write_bytes(package)
    fetch_source(official(package, sized=sized), tmp_path / "above" / "home" / "data" / "toy", tmp_path / "given")
    return everything(tmp_path / "above")


def refused_or_right(package: bytes, tmp_path: Path) -> bool:
    """Whether nothing came out, with one line that says why, or the official file alone."""
    tmp_path.mkdir()
    try:
        return fetched(package, tmp_path) == THERE
    except HarnessError as error:
        return "\n" not in str(error) and everything(tmp_path / "above") == {"home/data/.toy.lock": b""}


THERE = {"home/data/toy/ratings.dat": CONTENT, "home/data/.toy.lock": b""}


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile warns of what is made here on purpose
@pytest.mark.parametrize("name", EVIL)
def test_only_declared_members_come_out(tmp_path: Path, name: str) -> None:
    package = packed([(name, b"evil"), ("toy/ratings.dat", CONTENT), (name, b"evil")])
    assert fetched(package, tmp_path) == THERE
    assert not Path("/tmp/evil-of-the-harness").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile warns of what is made here on purpose
def test_of_a_name_that_is_there_twice_only_the_official_content_counts(tmp_path: Path) -> None:
    assert fetched(packed([("toy/ratings.dat", b"evil"), ("toy/ratings.dat", CONTENT)]), tmp_path) == THERE
    (tmp_path / "above" / "home" / "data" / "toy" / "ratings.dat").unlink()
    with pytest.raises(HarnessError, match=r"ratings\.dat"):
        fetched(packed([("toy/ratings.dat", CONTENT), ("toy/ratings.dat", b"evil")]), tmp_path)


def test_a_link_is_never_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    for member in (link("toy/ratings.dat", str(tmp_path / "secret")), link("toy", str(tmp_path))):
        with pytest.raises(HarnessError):
            fetched(packed([member]), tmp_path)
    linked: list[Member] = [link("toy/ratings.dat", "../../../secret"), ("toy/ratings.dat/x", b"evil")]
    with pytest.raises(HarnessError):
        fetched(packed(linked), tmp_path)
    assert (tmp_path / "secret").read_bytes() == CONTENT
    assert everything(tmp_path / "above") == {"home/data/.toy.lock": b""}


def test_links_that_lie_in_the_home_are_replaced_and_not_written_through(tmp_path: Path) -> None:
    """Somebody who may write to the home could lead a later fetch elsewhere."""
    target, folder = tmp_path / "target", tmp_path / "above" / "home" / "data" / "toy"
    target.write_bytes(b"mine")
    folder.mkdir(parents=True)
    (folder / "ratings.dat").symlink_to(target)
    assert fetched(packed([("toy/ratings.dat", CONTENT)]), tmp_path) == THERE
    assert not (folder / "ratings.dat").is_symlink()
    assert target.read_bytes() == b"mine"


@pytest.mark.slow
def test_a_bomb_is_defused(tmp_path: Path) -> None:
    bomb = packed([("toy/ratings.dat", bytes(UNSUSPECTED + 2))])
    assert len(bomb) * SWELLING < UNSUSPECTED
    with pytest.raises(HarnessError, match="expected 1,000 bytes, found more"):
        fetched(bomb, tmp_path)
    with pytest.raises(HarnessError, match=f"expected at most {UNSUSPECTED:,} bytes in so small a file, found more"):
        fetched(bomb, tmp_path, sized=False)
    assert everything(tmp_path / "above") == {"home/data/.toy.lock": b""}


def test_declared_sizes_that_lie(tmp_path: Path) -> None:
    """The archive says that its member is small, or without end, and holds another."""
    whole = packed([("toy/ratings.dat", CONTENT)])
    at = whole.rindex(b"PK\x01\x02") + 24
    for lie in (0, 1, len(CONTENT) * 2, 0xFFFFFFFE):
        assert refused_or_right(whole[:at] + struct.pack("<I", lie) + whole[at + 4 :], tmp_path / str(lie))


def news(folder: Path, lay: Callable[[Path], object]) -> None:
    """What the public command is given: MIND, whose files have no declared size or checksum."""
    folder.mkdir()
    (folder / "behaviors.tsv").write_bytes(b"1\tU1\t11/11/2019 9:05:58 AM\tN1\tN1-1\n")
    lay(folder)


def in_a_zip(folder: Path) -> None:
    members = [(name, b"evil") for name in EVIL if "\x00" not in name]
    (folder / "news.zip").write_bytes(packed([*members, ("news.tsv", CONTENT), link("behaviors.tsv", "/etc/passwd")]))


def in_a_gz(folder: Path) -> None:
    with (folder / "news.tsv.gz").open("wb") as file, gzip.GzipFile("../../evil", "wb", fileobj=file) as out:
        out.write(CONTENT)


@pytest.mark.parametrize("lay", [in_a_zip, in_a_gz])
def test_the_command_takes_the_named_file_and_nothing_else(
    tmp_path: Path, home: Path, lay: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    news(tmp_path / "given", lay)
    assert main(["data", "fetch", "mind", "--from", str(tmp_path / "given")]) == 0
    capsys.readouterr()
    found = everything(tmp_path / "above")
    assert sorted(found) == ["home/data/.mind.lock", "home/data/mind/behaviors.tsv", "home/data/mind/news.tsv"]
    assert found["home/data/mind/news.tsv"] == CONTENT
    assert not any(path.is_symlink() for path in home.rglob("*"))


def tarred(folder: Path) -> None:
    """A tar file under the name of a zip, as of a compressed file: neither is taken for what it is not."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as package:
        info = tarfile.TarInfo("../../evil")
        info.size = 4
        package.addfile(info, io.BytesIO(b"evil"))
    (folder / "news.zip").write_bytes(made.getvalue())


def bomb(folder: Path) -> None:
    (folder / "news.tsv.gz").write_bytes(gzip.compress(bytes(UNSUSPECTED + 2)))


@pytest.mark.slow
@pytest.mark.parametrize(("lay", "says"), [(tarred, "is damaged: expected a zip file"), (bomb, "found more")])
def test_the_command_refuses_in_one_line(
    tmp_path: Path, lay: Callable[[Path], object], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    news(tmp_path / "given", lay)
    assert main(["data", "fetch", "mind", "--from", str(tmp_path / "given")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err
    assert sorted(everything(tmp_path / "above")) == ["home/data/.mind.lock"]


@pytest.mark.parametrize("name", ["../x", "/etc", "mind/../../x", ".", "", "a\nb", "x" * 5000, "-x/..", "%2e%2e"])
def test_a_data_set_is_a_name_and_never_a_path(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["fetch", "--from", str(tmp_path), "--", name], ["verify", "--", name], ["stats", "--", name]):
        if name == "" and command[0] == "verify":
            continue  # which is how all are verified
        assert main(["data", *command]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("harness: no data set is called ")
        assert err.count("\n") == 1
    assert everything(tmp_path) == {}


@pytest.mark.slow
@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_archive_is_one_line_or_the_right_file(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any few bytes of it changed, or its end cut off."""
    whole = bytearray(packed([("toy/ratings.dat", CONTENT), ("toy/README", b"words")]))
    for place, byte in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4)):
        whole[place] = byte
    package = bytes(whole[: data.draw(st.integers(0, len(whole)) | st.just(len(whole)))])
    assert refused_or_right(package, tmp_path_factory.mktemp("damaged") / "it")


def test_sources_name_files_and_not_places() -> None:
    """The names under which files are put come from the declaration alone, and are plain names."""
    from harness.data.sources import sources

    for name, declared in sources().items():
        for file in declared.files:
            assert Path(name).name == name
            assert Path(file.name).name == file.name
            assert ".." not in json.dumps(file.path)
