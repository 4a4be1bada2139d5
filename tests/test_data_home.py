"""Where data lies, whether it is the official data, and the commands that tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import md5, sha1, sha256
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from harness.data.fetch import fetch
from harness.data.home import data_folder, embedded_folder, home, verified, verify, where
from harness.data.sources import Checksum, DataFile, fault, parse, source, sources
from harness.errors import BadData, HarnessError, MissingData, UnknownName


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def toy(**described: Any) -> DataFile:
    """A file `f` as sources.toml could describe it."""
    terms = {"title": "Toy", "licence": "none", "citation": "none", "homepage": "none"}
    (file,) = parse("toy", {**terms, "files": [{"name": "f", "encoding": "ascii", **described}]}).files
    return file


class TestHome:
    def test_where_it_is(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        assert home() == tmp_path / "home"
        monkeypatch.setenv("HARNESS_HOME", "~/elsewhere")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert home() == tmp_path / "elsewhere"
        monkeypatch.delenv("HARNESS_HOME")
        assert data_folder("ml-1m") == tmp_path / ".cache" / "harness" / "data" / "ml-1m"

    def test_where_a_file_is(self, empty_home: Path) -> None:
        with pytest.raises(MissingData, match=r"movies\.dat is not there; run `harness data fetch ml-1m` or `harness"):
            where("ml-1m", "movies.dat")
        with pytest.raises(UnknownName, match=r"ml-1m has no file 'u\.data'; it has ratings\.dat"):
            where("ml-1m", "u.data")
        place = empty_home / "data" / "ml-1m" / "movies.dat"
        place.parent.mkdir(parents=True)
        place.write_bytes(b"short")
        assert where("ml-1m", "movies.dat") == place
        with pytest.raises(BadData, match="expected 171,308 bytes, found 5; run `harness data fetch ml-1m`"):
            verified("ml-1m", "movies.dat")

    def test_verify_tells_every_file(self, empty_home: Path) -> None:
        place = empty_home / "data" / "ml-1m" / "movies.dat"
        place.parent.mkdir(parents=True)
        place.write_bytes(b"short")
        states = {state.file: (state.state, state.required, state.detail) for state in verify("ml-1m")}
        assert states == {
            "ratings.dat": ("missing", True, ""),
            "movies.dat": ("bad", True, "expected 171,308 bytes, found 5"),
            "users.dat": ("missing", False, ""),
        }

    def test_a_home_that_is_a_file(self, empty_home: Path, tmp_path: Path) -> None:
        empty_home.write_text("")
        with pytest.raises(HarnessError, match=r"^cannot fetch into .*Not a directory"):
            fetch("ml-1m", tmp_path)


class TestSources:
    def test_all_are_declared_in_full(self) -> None:
        assert tuple(sources()) == (
            "ml-100k",
            "ml-1m",
            "ml-1m-sequences",
            "book-crossing",
            "tallrec-book",
            "amazon-beauty",
            "amazon-games",
            "amazon-games-sequences",
            "amazon-cds",
            "amazon-cds-sequences",
            "amazon-instruments",
            "mind",
            "amazon-m2",
        )
        unpublished = ("amazon-games", "amazon-cds", "mind", "amazon-m2")
        for declared in sources().values():
            assert declared.licence
            assert declared.citation
            # Of these no checksum is published, nor of a file that nobody has to have; and nothing downloads them.
            assert all(
                file.checksum or (file.local and (declared.name in unpublished or not file.required))
                for file in declared.files
            )
        assert source("tallrec-book").address(source("tallrec-book").file("valid.json")).startswith("https://raw.")

    def test_no_address_is_spelled_in_one_string(self) -> None:
        assert "://" not in (resources("harness.data") / "sources.toml").read_text(encoding="utf-8")

    def test_an_unknown_kind_of_checksum(self) -> None:
        with pytest.raises(ValueError, match="checksum of kind 'crc', expected one of md5, sha256, git-blob"):
            toy(kind="crc", checksum="0")

    def test_the_hash_of_git(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"")
        assert Checksum("git-blob", "").of(tmp_path / "f") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"

    def test_lines_are_counted_where_there_is_no_checksum(self, tmp_path: Path) -> None:
        two_lines = toy(lines=2)
        (tmp_path / "f").write_bytes(b"a\nb\n")
        assert fault(tmp_path / "f", two_lines) is None
        (tmp_path / "f").write_bytes(b"a\nb")
        assert fault(tmp_path / "f", two_lines) == "expected 2 lines, found 1"


@given(st.binary(min_size=1), st.sampled_from(["md5", "sha256", "git-blob"]), st.data())
def test_every_checksum_finds_every_changed_byte(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: str, data: st.DataObject
) -> None:
    makers: dict[str, Callable[[bytes], Any]] = {
        "md5": md5,
        "sha256": sha256,
        "git-blob": lambda content: sha1(b"blob %d\0" % len(content) + content),
    }
    file = toy(kind=kind, checksum=makers[kind](content).hexdigest())
    path = tmp_path_factory.getbasetemp() / "changed"
    path.write_bytes(content)
    assert fault(path, file) is None
    place = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert "found" in (fault(path, file) or "")


class TestCommandLine:
    def call(self, *arguments: str) -> Any:
        from harness.cli.data import data

        result = CliRunner().invoke(data, list(arguments), standalone_mode=False)
        if result.exception:
            raise result.exception
        return json.loads(result.output) if "--json" in arguments else result.output

    def test_list(self) -> None:
        table = self.call("list")
        assert table.splitlines()[0].split() == ["name", "status", "licence", "homepage"]
        rows = {row["name"]: row for row in self.call("list", "--json")}
        assert rows["ml-1m"]["status"] == "missing"
        assert rows["ml-1m"]["address"].endswith("/ml-1m.zip")
        assert rows["ml-100k"]["status"] in ("embedded", "missing")

    def test_fetch_from_a_folder_without_the_files(self, tmp_path: Path) -> None:
        with pytest.raises(MissingData, match=r"does not have ratings\.dat, movies\.dat, which ml-1m needs"):
            self.call("fetch", "ml-1m", "--from", str(tmp_path))

    def test_verify(self, empty_home: Path) -> None:
        assert {row["state"] for row in self.call("verify", "--json")} <= {"missing", "good"}
        with pytest.raises(MissingData, match=r"ratings\.dat is not there; run `harness data fetch ml-1m`"):
            self.call("verify", "ml-1m")
        place = empty_home / "data" / "ml-1m" / "users.dat"
        place.parent.mkdir(parents=True)
        place.write_bytes(b"short")
        with pytest.raises(BadData, match=r"users\.dat is not the official file: expected 134,368 bytes, found 5"):
            self.call("verify")
        with pytest.raises(UnknownName, match="did you mean 'ml-1m'"):
            self.call("verify", "ml1m")

    def test_stats(self) -> None:
        assert embedded_folder(source("ml-100k")) is not None, "recbole holds the embedded default; install it"
        numbers = self.call("stats", "ml-100k", "--json")
        assert (numbers["users"], numbers["items"], numbers["interactions"]) == (943, 1682, 100_000)
        assert "first_time      1997-09-20" in self.call("stats", "ml-100k")
        with pytest.raises(MissingData, match=r"valid\.json is not there"):
            self.call("stats", "tallrec-book")
