"""MovieLens 1M without its ratings file: the same events in the same order, and another data set all the same."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from harness.cli.data import data
from harness.data import Dataset, load
from harness.data.fetch import fetch
from harness.data.filters import rated
from harness.data.home import data_folder, verify
from harness.data.readers import movielens_1m
from harness.errors import BadData, MissingData
from tests.real_data import real

MOVIES = "1::Heat (1995)::Crime\n73::Ran (1985)::Drama|War\n9::M (1931)::Crime\n4::Of nobody (1999)::Drama\n"
RATINGS = "7::73::5::20\n7::1::1::10\n7::9::3::10\n2::9::4::5\n"
SEQUENCES = "7 1 9 73\n2 9\n"


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def folder(tmp_path: Path, sequences: str = SEQUENCES) -> Path:
    (tmp_path / "movies.dat").write_text(MOVIES)
    (tmp_path / "ratings.dat").write_text(RATINGS)
    (tmp_path / "sequences.txt").write_text(sequences)
    return tmp_path


def in_time(dataset: Dataset, users: int) -> list[list[str]]:
    """The numbers of the items of the first users, oldest first."""
    order, starts = dataset.timelines
    lines = np.split(dataset.item[order], starts[1:-1])[:users]
    return [[dataset.items[code].id for code in line] for line in lines]


def test_a_small_file_has_the_order_of_the_official_ones(tmp_path: Path) -> None:
    dataset = movielens_1m.read_sequences(folder(tmp_path))
    official = movielens_1m.read(tmp_path)
    assert in_time(dataset, 2) == in_time(official, 2) == [["1", "9", "73"], ["9"]]
    assert (dataset.items, dataset.users) == (official.items, official.users)
    assert dataset.attributes == {"genres": (("Crime",), ("Drama", "War"), ("Crime",), ("Drama",))}
    assert (dataset.rating.tolist(), dataset.time.tolist()) == ([1] * 4, [0] * 4)
    assert (dataset.name, official.name) == ("ml-1m-sequences", "ml-1m")
    assert dataset.digest != official.digest
    assert (len(rated(dataset, 1)), len(rated(dataset, 1.5))) == (4, 0)


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ("7 1 9\n2 9 5\n", r"sequences\.txt, line 2: expected numbers of listed items, found '5'"),
        ("7 1 9\n2\n", r"sequences\.txt, line 2: expected user item item \.\.\., in whole numbers, found '2'"),
        ("7 1 9\n7 9\n", r"sequences\.txt, line 2: expected a user that no earlier line has, found '7'"),
        ("7 1  9\n", r"sequences\.txt, line 1: expected user"),
        ("", r"sequences\.txt: expected lines, found an empty file"),
    ],
)
def test_malformed_lines(tmp_path: Path, sequences: str, message: str) -> None:
    with pytest.raises(BadData, match=message):
        movielens_1m.read_sequences(folder(tmp_path, sequences))


class TestTheRealFile:
    @pytest.mark.slow
    def test_it_is_sorting_the_official_lines_by_time_that_makes_it(self, tmp_path: Path) -> None:
        """Users 1 to 533, of whom complete official lines are here; lines of one second keep their order."""
        text = gzip.decompress(real("ml-1m/sequences.txt.gz").read_bytes()).decode()
        (tmp_path / "movies.dat").symlink_to(real("ml-1m/movies.dat"))
        (tmp_path / "ratings.dat").symlink_to(real("ml-1m/ratings.users-1-533.dat"))
        (tmp_path / "sequences.txt").write_text(text)
        official, dataset = movielens_1m.read(tmp_path), movielens_1m.read_sequences(tmp_path)
        order, starts = official.timelines
        assert len(official) == starts[533] == dataset.timelines.starts[533] == 80_496
        times = official.time[order]
        assert np.count_nonzero(times[1:] == times[:-1]) > 40_000  # so ties are what this test is about
        assert in_time(dataset, 533) == in_time(official, 533)
        assert dataset.users[:533] == official.users

    @pytest.mark.slow
    def test_load_takes_it_where_the_official_files_are_not(self) -> None:
        done = fetch("ml-1m-sequences", real("ml-1m"))
        assert done.fetched == ("sequences.txt", "movies.dat")
        assert {state.state for state in verify("ml-1m-sequences")} == {"good"}
        dataset = load("ml-1m")
        assert dataset.digest == load("ml-1m-sequences").digest == "779f1164d70d2514"
        assert dataset.users == tuple(str(number) for number in range(1, 6041))
        assert (dataset.items[0].text, dataset.attributes["genres"][0]) == (
            "Toy Story (1995)",
            ("Animation", "Children's", "Comedy"),
        )

    @pytest.mark.slow
    def test_official_files_come_first_and_half_of_them_does_not_count(self) -> None:
        fetch("ml-1m-sequences", real("ml-1m"))
        official = data_folder("ml-1m")
        official.mkdir(parents=True)
        (official / "ratings.dat").write_text(RATINGS)
        assert load("ml-1m").name == "ml-1m-sequences"
        (official / "movies.dat").write_text(MOVIES)
        with pytest.raises(BadData, match=r"ratings\.dat is not the official ratings\.dat: expected 24,594,131 bytes"):
            load("ml-1m")
        assert len(load("ml-1m-sequences")) == 1_000_209

    def test_what_is_there_is_verified(self) -> None:
        fetch("ml-1m-sequences", real("ml-1m"))
        with (data_folder("ml-1m-sequences") / "sequences.txt").open("ab") as file:
            file.write(b"6041 1\n")
        with pytest.raises(BadData, match=r"expected 4,749,878 bytes, found 4,749,885; run `[^`]*--from FOLDER`$"):
            load("ml-1m")

    @pytest.mark.slow
    def test_the_commands(self) -> None:
        source = str(real("ml-1m"))
        for words in (["fetch", "ml-1m-sequences", "--from", source], ["verify", "ml-1m-sequences"]):
            assert CliRunner().invoke(data, words).exit_code == 0
        told = CliRunner().invoke(data, ["stats", "ml-1m-sequences", "--json"])
        numbers = json.loads(told.output)
        assert (numbers["users"], numbers["items"], numbers["items_met"]) == (6040, 3883, 3706)
        assert (numbers["interactions"], numbers["ratings"]) == (1_000_209, [[1.0, 1_000_209]])
        assert numbers["first_time"] is None
        rows = {row["name"]: row for row in json.loads(CliRunner().invoke(data, ["list", "--json"]).output)}
        assert (rows["ml-1m-sequences"]["status"], rows["ml-1m-sequences"]["address"]) == ("present", "")


class TestWithoutIt:
    def test_it_cannot_be_downloaded(self) -> None:
        with pytest.raises(
            MissingData, match=r"^sequences\.txt, movies\.dat of ml-1m-sequences cannot be downloaded; run"
        ):
            fetch("ml-1m-sequences")

    def test_a_folder_that_has_only_half(self, tmp_path: Path) -> None:
        given = tmp_path / "given"
        given.mkdir()
        with pytest.raises(MissingData, match=r"does not have sequences\.txt, movies\.dat, .*cannot be downloaded$"):
            fetch("ml-1m-sequences", given)

    def test_another_file_of_that_name(self, tmp_path: Path) -> None:
        with pytest.raises(BadData, match=r"expected 4,749,878 bytes, found 13; give the official one$"):
            fetch("ml-1m-sequences", folder(tmp_path))

    def test_load_asks_for_a_folder(self) -> None:
        with pytest.raises(
            MissingData, match=r"is not there; run `harness data fetch ml-1m-sequences --from FOLDER` with"
        ):
            load("ml-1m-sequences")
