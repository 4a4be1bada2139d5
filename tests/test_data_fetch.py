"""Files put in place: from folders, from a real server, through every way in which that can go wrong."""

from __future__ import annotations

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.data.fetch import Fetched, fetch_source
from harness.data.sources import Source, parse
from harness.errors import BadData, HarnessError, MissingData

RATINGS = b"1::1::5::9\n" * 5000
MOVIES = b"1::Heat (1995)::Crime\n"


class Site(ThreadingHTTPServer):
    """A loopback server whose pages say how they misbehave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.pages: dict[str, tuple[str, bytes]] = {}
        """Path -> (how, content)."""
        self.asked: list[str] = []
        self.go_on = threading.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Page(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        how, content = self.server.pages.get(self.path, ("missing", b""))
        if how == "drop":
            self.close_connection = True
            return
        if how == "missing":
            self.send_error(404)
            return
        if how == "moved":
            self.send_response(302)
            self.send_header("Location", content.decode())
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        if how == "truncated":
            self.close_connection = True
            return
        if how == "slow":
            self.wfile.flush()
            self.server.go_on.wait(20)
        self.wfile.write(content[half:])

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def handle(self) -> None:
        with suppress(OSError):  # the client was killed
            super().handle()


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "home"


def zipped(tmp_path: Path, members: dict[str, bytes]) -> bytes:
    place = tmp_path / "made.zip"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in members.items():
            package.writestr(name, content)
    return place.read_bytes()


def entry(name: str, content: bytes, **more: Any) -> dict[str, Any]:
    described = {"name": name, "path": f"toy/{name}", "size": len(content), "encoding": "ascii"}
    return {**described, "kind": "md5", "checksum": md5(content).hexdigest(), **more}


def table(address: str, archive: bytes | None = None, files: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """As in sources.toml: two files in a zip, or one by one."""
    described: dict[str, Any] = {"title": "Toy", "licence": "none", "citation": "none", "homepage": "none"}
    described["files"] = files or [entry("ratings.dat", RATINGS), entry("movies.dat", MOVIES)]
    if archive is None:
        for file in described["files"]:
            file["path"] = f"/{file['name']}"
        return {**described, "scheme": "http", "site": address}
    checked = {"kind": "md5", "checksum": md5(archive).hexdigest()}
    return {**described, "archive": {"scheme": "http", "site": address, "path": "/toy.zip", **checked}}


def in_place(folder: Path) -> dict[str, bytes]:
    """Everything under a folder, hidden and half-written files included."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


BOTH = {"ratings.dat": RATINGS, "movies.dat": MOVIES}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the toy data set is to lie."""
    return tmp_path / "home" / "data" / "toy"


@pytest.fixture
def package(tmp_path: Path) -> bytes:
    return zipped(tmp_path, {"toy/ratings.dat": RATINGS, "toy/movies.dat": MOVIES, "toy/README": b"?"})


class TestFromTheSite:
    def test_archive(self, site: Site, folder: Path, package: bytes) -> None:
        site.pages["/toy.zip"] = ("right", package)
        toy = parse("toy", table(site.address, package))
        assert fetch_source(toy, folder) == Fetched("toy", folder, ("ratings.dat", "movies.dat"), (), ())
        assert in_place(folder) == BOTH
        assert fetch_source(toy, folder) == Fetched("toy", folder, (), ("ratings.dat", "movies.dat"), ())
        assert site.asked == ["/toy.zip"]

    def test_single_files_behind_a_redirect(self, site: Site, folder: Path) -> None:
        site.pages = {"/ratings.dat": ("moved", b"/elsewhere"), "/elsewhere": ("right", RATINGS)}
        site.pages["/movies.dat"] = ("right", MOVIES)
        fetch_source(parse("toy", table(site.address)), folder)
        assert in_place(folder) == BOTH

    @pytest.mark.parametrize("how", ["truncated", "drop", "missing"])
    @pytest.mark.parametrize("by_archive", [True, False])
    def test_a_site_that_fails(self, site: Site, folder: Path, package: bytes, how: str, by_archive: bool) -> None:
        site.pages = {"/toy.zip": (how, package), "/ratings.dat": ("right", RATINGS), "/movies.dat": (how, MOVIES)}
        toy = parse("toy", table(site.address, package if by_archive else None))
        with pytest.raises(MissingData) as caught:
            fetch_source(toy, folder)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"http://{site.address}/{'toy.zip' if by_archive else 'movies.dat'} ")
        assert "harness data fetch toy --from FOLDER" in str(caught.value)
        assert not folder.exists()

    def test_nobody_listens(self, folder: Path, package: bytes) -> None:
        with pytest.raises(MissingData, match="could not be downloaded"):
            fetch_source(parse("toy", table("127.0.0.1:9", package)), folder)

    def test_another_archive(self, site: Site, folder: Path, package: bytes) -> None:
        site.pages["/toy.zip"] = ("right", b"<html>log in first</html>")
        message = rf"is not the official toy\.zip: expected md5 {md5(package).hexdigest()}, found \w+ \(25 bytes\)"
        with pytest.raises(BadData, match=message):
            fetch_source(parse("toy", table(site.address, package)), folder)
        assert not folder.exists()

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ({"toy/ratings.dat": RATINGS[:-1], "toy/movies.dat": MOVIES}, r"expected 55,000 bytes, found 54,999"),
            ({"toy/ratings.dat": RATINGS + b"1", "toy/movies.dat": MOVIES}, r"expected 55,000 bytes, found more"),
            ({"toy/ratings.dat": RATINGS, "toy/movies.dat": MOVIES[::-1]}, r"toy/movies\.dat in .*expected md5"),
            ({"toy/ratings.dat": RATINGS}, r"is damaged: expected a zip file with .*toy/movies\.dat"),
        ],
    )
    def test_an_archive_with_other_members(
        self, site: Site, folder: Path, tmp_path: Path, members: dict[str, bytes], message: str
    ) -> None:
        other = zipped(tmp_path, members)
        site.pages["/toy.zip"] = ("right", other)
        with pytest.raises(BadData, match=message):
            fetch_source(parse("toy", table(site.address, other)), folder)
        assert not folder.exists()

    def test_no_zip_at_all(self, site: Site, folder: Path) -> None:
        site.pages["/toy.zip"] = ("right", b"no zip")
        with pytest.raises(BadData, match=r"is damaged: .*File is not a zip file"):
            fetch_source(parse("toy", table(site.address, b"no zip")), folder)

    def test_a_wrong_file_is_replaced_and_a_right_one_is_left_alone(self, site: Site, folder: Path) -> None:
        site.pages = {"/ratings.dat": ("right", RATINGS), "/movies.dat": ("right", MOVIES)}
        folder.mkdir(parents=True)
        (folder / "ratings.dat").write_bytes(RATINGS[:-7])
        (folder / "movies.dat").write_bytes(MOVIES)
        assert fetch_source(parse("toy", table(site.address)), folder).fetched == ("ratings.dat",)
        assert site.asked == ["/ratings.dat"]
        assert in_place(folder) == BOTH

    def test_a_failure_leaves_what_was_there(self, site: Site, folder: Path) -> None:
        site.pages = {"/ratings.dat": ("truncated", RATINGS)}
        folder.mkdir(parents=True)
        (folder / "movies.dat").write_bytes(MOVIES)
        with pytest.raises(MissingData):
            fetch_source(parse("toy", table(site.address)), folder)
        assert in_place(folder) == {"movies.dat": MOVIES}

    def test_what_is_not_required_may_be_absent_but_not_wrong(self, site: Site, folder: Path) -> None:
        files = [entry("ratings.dat", RATINGS), entry("movies.dat", MOVIES, required=False)]
        toy = parse("toy", table(site.address, files=files))
        site.pages["/ratings.dat"] = ("right", RATINGS)
        assert fetch_source(toy, folder).absent == ("movies.dat",)
        assert in_place(folder) == {"ratings.dat": RATINGS}
        site.pages["/movies.dat"] = ("right", MOVIES[::-1])
        with pytest.raises(BadData, match=r"/movies\.dat is not the official movies\.dat"):
            fetch_source(toy, folder)


class TestFromAFolder:
    def official(self, address: str = "example.org") -> Source:
        return parse("toy", table(address, b"another archive"))

    @pytest.mark.parametrize(
        "lay",
        [
            lambda f: [(f / name).write_bytes(content) for name, content in BOTH.items()],
            lambda f: [(f / f"{name}.gz").write_bytes(gzip.compress(content)) for name, content in BOTH.items()],
            lambda f: [(f / "toy").mkdir(), *((f / "toy" / name).write_bytes(c) for name, c in BOTH.items())],
        ],
        ids=["plain", "gzipped", "unpacked zip"],
    )
    def test_files(self, tmp_path: Path, folder: Path, lay: Callable[[Path], object]) -> None:
        given = tmp_path / "given"
        given.mkdir()
        lay(given)
        fetch_source(self.official(), folder, given)
        assert in_place(folder) == BOTH

    @pytest.mark.parametrize("name_the_zip", [True, False])
    def test_the_zip(self, tmp_path: Path, folder: Path, package: bytes, name_the_zip: bool) -> None:
        given = tmp_path / "given"
        given.mkdir()
        (given / "toy.zip").write_bytes(package)
        fetch_source(parse("toy", table("example.org", package)), folder, given / "toy.zip" if name_the_zip else given)
        assert in_place(folder) == BOTH

    def test_an_alias(self, tmp_path: Path, folder: Path) -> None:
        (tmp_path / "toy-ratings.dat.gz").write_bytes(gzip.compress(RATINGS))
        toy = parse("toy", table("e.org", files=[entry("ratings.dat", RATINGS, aliases=["toy-ratings.dat"])]))
        fetch_source(toy, folder, tmp_path)
        assert in_place(folder) == {"ratings.dat": RATINGS}

    def test_a_folder_without_the_file_says_which(self, tmp_path: Path, folder: Path) -> None:
        (tmp_path / "movies.dat").write_bytes(MOVIES)
        message = r"does not have ratings\.dat, which toy needs.*toy\.zip; they come from http://example\.org/toy\.zip"
        with pytest.raises(MissingData, match=message):
            fetch_source(self.official(), folder, tmp_path)
        assert not folder.exists()

    def test_no_folder(self, tmp_path: Path, folder: Path) -> None:
        with pytest.raises(MissingData, match="nowhere does not exist; name the folder"):
            fetch_source(self.official(), folder, tmp_path / "nowhere")

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("ratings.dat", RATINGS[:-1], r"ratings\.dat is not the official .*expected 55,000 bytes, found 54,999"),
            ("ratings.dat", RATINGS[::-1], r"expected md5 \w+, found \w+ \(55,000 bytes\)"),
            ("ratings.dat.gz", gzip.compress(RATINGS)[:-20], r"ratings\.dat\.gz is damaged: expected a gzip file"),
            ("ratings.dat.gz", RATINGS, r"ratings\.dat\.gz is damaged: .*Not a gzipped file"),
            ("ratings.dat.gz", gzip.compress(RATINGS * 99), r"expected 55,000 bytes, found more"),
            ("toy.zip", b"PK", r"toy\.zip is not the official toy\.zip: expected md5"),
        ],
    )
    def test_wrong_files(self, tmp_path: Path, folder: Path, name: str, content: bytes, message: str) -> None:
        given = tmp_path / "given"
        given.mkdir()
        (given / "movies.dat").write_bytes(MOVIES)
        (given / name).write_bytes(content)
        with pytest.raises(BadData, match=message):
            fetch_source(self.official(), folder, given)
        assert not folder.exists()


CHILD = """
import json, resource, signal, sys
from pathlib import Path
from harness.data.fetch import fetch_source
from harness.data.sources import Source, parse
from harness.errors import HarnessError
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background may have switched it off
described, folder, limit = json.loads(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    print(json.dumps(fetch_source(parse("toy", described), Path(folder)).fetched))
except HarnessError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def start(described: dict[str, Any], folder: Path, limit: int = 0) -> subprocess.Popen[str]:
    """A fetch in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", CHILD, json.dumps([described, str(folder), limit])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(true: Callable[[], object]) -> None:
    give_up = time.monotonic() + 20
    while not true():
        assert time.monotonic() < give_up, "it never happened"
        time.sleep(0.01)


@pytest.mark.slow
class TestInterruptions:
    def test_two_processes_at_once_download_once(self, site: Site, folder: Path, package: bytes) -> None:
        site.pages["/toy.zip"] = ("slow", package)
        described = table(site.address, package)
        both = [start(described, folder), start(described, folder)]
        until(lambda: site.asked)
        time.sleep(0.4)  # for the second one to come to the lock, or to make the mistake
        site.go_on.set()
        ends = [child.communicate(timeout=20) for child in both]
        assert [child.returncode for child in both] == [0, 0], ends
        assert sorted(json.loads(out) for out, _ in ends) == [[], ["ratings.dat", "movies.dat"]]
        assert site.asked == ["/toy.zip"]
        assert in_place(folder) == BOTH

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
    def test_a_killed_fetch_leaves_no_file_and_the_next_one_clears_up(
        self, site: Site, folder: Path, package: bytes, how: signal.Signals
    ) -> None:
        site.pages["/toy.zip"] = ("slow", package)
        described = table(site.address, package)
        child = start(described, folder)
        until(lambda: list(folder.glob(".part-*/toy.zip")))
        child.send_signal(how)
        child.communicate(timeout=20)
        assert child.returncode == -how
        assert not BOTH.keys() & in_place(folder).keys()
        site.go_on.set()
        fetch_source(parse("toy", described), folder)
        assert in_place(folder) == BOTH
        assert sorted(p.name for p in folder.iterdir()) == sorted(BOTH)

    def test_control_c_leaves_nothing(self, site: Site, folder: Path, package: bytes) -> None:
        site.pages["/toy.zip"] = ("slow", package)
        child = start(table(site.address, package), folder)
        until(lambda: list(folder.glob(".part-*/toy.zip")))
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
        assert "KeyboardInterrupt" in err
        assert not folder.exists()

    def test_remains_are_cleared_even_when_nothing_is_wanted(self, folder: Path, tmp_path: Path) -> None:
        (folder / ".part-dead").mkdir(parents=True)
        (folder / ".part-dead" / "ratings.dat").write_bytes(b"half")
        for name, content in BOTH.items():
            (folder / name).write_bytes(content)
        fetch_source(parse("toy", table("example.org", b"")), folder)
        assert in_place(folder) == BOTH

    def test_a_file_that_the_system_refuses_to_grow(self, site: Site, folder: Path) -> None:
        site.pages = {"/ratings.dat": ("right", RATINGS), "/movies.dat": ("right", MOVIES)}
        _, err = start(table(site.address), folder, limit=1000).communicate(timeout=20)
        assert err == f"HarnessError: cannot fetch into {folder}: {folder}: File too large\n"
        assert not folder.exists()

    def test_a_full_disk(self, site: Site, folder: Path, package: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        site.pages["/toy.zip"] = ("right", package)

        def full(file: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(HarnessError, match=r"^no space left to write .*toy: free some, or let HARNESS_HOME name"):
            fetch_source(parse("toy", table(site.address, package)), folder)
        assert not folder.exists()
