"""What the readers make of official files, of small files in the same format, and of broken ones."""

from __future__ import annotations

import json
import re
from hashlib import md5, sha1
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import harness.data.home
from harness.data import Dataset, datasets, load
from harness.data.home import embedded_folder
from harness.data.readers import movielens_1m, movielens_100k
from harness.data.readers.columns import integers
from harness.data.sources import source
from harness.errors import BadData, MissingData, UnknownName
from tests.real_data import real


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def copy() -> Path:
    """The copy of MovieLens 100K inside recbole."""
    folder = embedded_folder(source("ml-100k"))
    assert folder is not None, "recbole holds the embedded default; install it"
    return folder


def write(folder: Path, **files: str) -> Path:
    """Files in latin-1; `u_data` stands for `u.data`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="latin-1", newline="")
    return folder


class TestMovieLens100K:
    def test_the_embedded_ratings_are_the_official_file(self, copy: Path) -> None:
        ratings = movielens_100k.ratings_of_copy(copy / "ml-100k.inter")
        official = source("ml-100k").file("u.data")
        assert len(ratings) == official.size
        assert official.checksum is not None
        assert md5(ratings).hexdigest() == official.checksum.value == "6e47046882bad158b0efbb84cd5cb987"

    def test_load(self, copy: Path) -> None:
        dataset = load("ml-100k")
        assert dataset.digest == "d830dc8af2a83042"
        assert (len(dataset.users), len(dataset.items), len(dataset)) == (943, 1682, 100_000)
        assert dataset.users[:3] == ("196", "186", "22")
        first = dataset.items[dataset.item[0]]
        assert (first.id, first.text) == ("242", "Kolya (1996)")
        assert (dataset.rating[0], dataset.time[0]) == (3.0, 881250949)

    @pytest.mark.parametrize(
        ("id", "text", "genres"),
        [
            ("1", "Toy Story (1995)", ("Animation", "Children's", "Comedy")),
            ("6", "Shanghai Triad (Yao a yao yao dao waipo qiao) (1995)", ("Drama",)),
            ("267", "unknown", ("unknown",)),
            ("543", "Misérables, Les (1995)", ("Drama", "Musical")),
            ("1201", "Marlene Dietrich: Shadow and Light (1996)", ("Documentary",)),
            (
                "1412",
                "Land Before Time III: The Time of the Great Giving (1995) (V)",
                ("Animation", "Children's"),
            ),
            ("1635", "Two Friends (1986)", ("Drama",)),
        ],
    )
    def test_odd_titles(self, copy: Path, id: str, text: str, genres: tuple[str, ...]) -> None:
        dataset = load("ml-100k")
        item = dataset.items[int(id) - 1]
        assert (item.id, item.text, dataset.attributes["genres"][int(id) - 1]) == (id, text, genres)

    def test_the_official_format_gives_the_same_data_set(self, copy: Path, tmp_path: Path) -> None:
        """`u.item` itself may not be kept here, so it is built from the copy, blanks at the end of titles included."""
        embedded = load("ml-100k")
        lines = []
        for item, genres in zip(embedded.items, embedded.attributes["genres"], strict=True):
            flags = "|".join("1" if genre in genres else "0" for genre in movielens_100k.GENRES)
            blank = " " if item.id in ("1201", "1635") else ""
            lines.append(f"{item.id}|{item.text}{blank}|01-Jan-1995||http://example.org/{item.id}|{flags}\n")
        write(tmp_path, u_item="".join(lines))
        (tmp_path / "u.data").write_bytes(movielens_100k.ratings_of_copy(copy / "ml-100k.inter"))
        assert movielens_100k.read(tmp_path).digest == embedded.digest

    def test_the_recipe_of_tallrec_gives_its_published_files(self, copy: Path) -> None:
        """Hashes of SAI990323/TALLRec data/movie/*.json at c1db29c, as `git hash-object` prints them."""
        windows = _tallrec_windows(load("ml-100k"))[-10_000:]
        splits = {"train": windows[:8000], "valid": windows[8000:9000], "test": windows[9000:]}
        hashes = {}
        for split, records in splits.items():
            text = json.dumps(records, indent=4).encode()
            hashes[split] = sha1(b"blob %d\0" % len(text) + text).hexdigest()
        assert hashes == {
            "train": "2bbe93bffecd30423606a6d8e78d22c9a6c5f64f",
            "valid": "d26599315557a9587cd74d83c1c565670361d215",
            "test": "ee8bb62c56a82d6f176b07d094cc39e8a13878bc",
        }

    def test_files_in_the_home_come_first_and_are_verified(self, copy: Path, empty_home: Path) -> None:
        write(empty_home / "data" / "ml-100k", u_data="1\t1\t5\t1\n", u_item="")
        with pytest.raises(
            BadData, match=r"u\.data .*expected 1,979,173 bytes, found 8; run `harness data fetch ml-100k`"
        ):
            load("ml-100k")

    def test_half_of_the_files_in_the_home_do_not_hide_the_copy(self, copy: Path, empty_home: Path) -> None:
        write(empty_home / "data" / "ml-100k", u_data="1\t1\t5\t1\n")
        assert len(load("ml-100k")) == 100_000

    def test_without_recbole_and_without_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(harness.data.home, "find_spec", lambda name: None)
        with pytest.raises(MissingData, match="`pip install recbole` or `harness data fetch ml-100k`"):
            load("ml-100k")

    def test_a_copy_that_is_another_file(self, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = write(tmp_path / "copy")
        for file in ("ml-100k.inter", "ml-100k.item"):
            (folder / file).write_bytes((copy / file).read_bytes()[:-1])
        monkeypatch.setattr("harness.data.embedded_folder", lambda declared: folder)
        with pytest.raises(BadData, match=r"ml-100k\.inter.*expected 1,979,230 bytes, found 1,979,229"):
            load("ml-100k")

    @pytest.mark.parametrize(
        ("ratings", "items", "message"),
        [
            (
                "1\t1\t5\t7\n1\t1\tgood\t7\n",
                None,
                r"u\.data, line 2: expected user<tab>item<tab>rating<tab>time, found",
            ),
            ("1\t1\t6\t7\n", None, r"u\.data, line 1: expected a rating from 1 to 5, found '6'"),
            ("1\t1\t5\t7\n1\t2\t5\t7\n", None, r"u\.data, line 2: expected the number of a listed item, found '2'"),
            ("1\t1\t5\t7\n", "1|Heat (1995)|0|1\n", r"u\.item, line 1: expected number\|title"),
            ("1\t1\t5\t7\n", "", r"u\.item: expected lines, found an empty file"),
            ("", None, r"u\.data: expected lines of user.*found no line"),
        ],
    )
    def test_malformed_lines(self, tmp_path: Path, ratings: str, items: str | None, message: str) -> None:
        film = "1|Heat (1995)||||" + "|".join("0" * 19) + "\n"
        write(tmp_path, u_data=ratings, u_item=film if items is None else items)
        with pytest.raises(BadData, match=message):
            movielens_100k.read(tmp_path)

    def test_an_id_listed_twice(self, tmp_path: Path) -> None:
        film = "1|Heat (1995)||||" + "|".join("0" * 19) + "\n"
        write(tmp_path, u_data="1\t1\t5\t7\n", u_item=film + film)
        with pytest.raises(BadData, match=r"u\.item, line 2: expected an id that no earlier line has, found '1'"):
            movielens_100k.read(tmp_path)


def _tallrec_windows(dataset: Dataset) -> list[dict[str, str]]:
    """The published recipe: ten events, the eleventh is asked; users by first appearance; liked is above 3."""
    question = 'identify whether the user will like the target movie by answering "Yes." or "No.".'
    order, starts = dataset.timelines
    titles = [f'"{item.text}"' for item in dataset.items]
    records = []
    for begin, end in pairwise(starts.tolist()):
        events = [(titles[dataset.item[place]], bool(dataset.rating[place] > 3)) for place in order[begin:end]]
        for target in range(10, len(events)):
            history, (title, liked) = events[target - 10 : target], events[target]
            records.append(
                {
                    "instruction": f"Given the user's preference and unpreference, {question}",
                    "input": f"User Preference: {', '.join(t for t, good in history if good)}\n"
                    f"User Unpreference: {', '.join(t for t, good in history if not good)}\n"
                    f"Whether the user will like the target movie {title}?",
                    "output": "Yes." if liked else "No.",
                }
            )
    return records


class TestMovieLens1M:
    MOVIES = "1::Toy Story (1995)::Animation|Comedy\n73::Misérables, Les (1995)::Drama\n9::Odd: Title\x85 (1990)::War\n"

    def test_a_small_file(self, tmp_path: Path) -> None:
        write(tmp_path, movies_dat=self.MOVIES, ratings_dat="6::73::5::978300760\n2::1::1::978302109\n6::1::3::5\n")
        dataset = movielens_1m.read(tmp_path)
        assert [item.text for item in dataset.items] == [
            "Toy Story (1995)",
            "Misérables, Les (1995)",
            "Odd: Title\x85 (1990)",
        ]
        assert dataset.users == ("6", "2")
        assert dataset.user.tolist() == [0, 1, 0]
        assert dataset.item.tolist() == [1, 0, 0]
        assert dataset.rating.tolist() == [5, 1, 3]
        assert dataset.time.tolist() == [978300760, 978302109, 5]
        assert dataset.attributes["genres"] == (("Animation", "Comedy"), ("Drama",), ("War",))

    def test_official_files(self, tmp_path: Path) -> None:
        (tmp_path / "movies.dat").symlink_to(real("ml-1m/movies.dat"))
        (tmp_path / "ratings.dat").symlink_to(real("ml-1m/ratings.users-1-533.dat"))
        dataset = movielens_1m.read(tmp_path)
        assert (len(dataset.items), len(dataset.users), len(dataset)) == (3883, 533, 80_496)
        assert dataset.users == tuple(str(number) for number in range(1, 534))
        assert (dataset.items[0].text, dataset.items[-1].id) == ("Toy Story (1995)", "3952")
        assert (dataset.items[dataset.item[0]].id, dataset.rating[0], dataset.time[0]) == ("1193", 5.0, 978300760)

    @pytest.mark.parametrize(
        ("ratings", "movies", "message"),
        [
            (
                "6::1::5::9\n6::1::5\n",
                MOVIES,
                r"ratings\.dat, line 2: expected user::item::rating::time, found '6::1::5'",
            ),
            ("6::1::5::9\n6::::5::9\n", MOVIES, r"ratings\.dat, line 2: expected user"),
            ("6::1::5::9::1\n", MOVIES, r"ratings\.dat, line 1: expected user"),
            ("6::1::5::9999999999999999999\n", MOVIES, r"ratings\.dat, line 1: expected user"),
            ("6::1::5::9\r\n", MOVIES, r"ratings\.dat, line 1: expected user"),
            ("6::1::5::9\n\n", MOVIES, r"ratings\.dat, line 2: expected user"),
            ("6::1::5::9\n", "1::Heat (1995)\n", r"movies\.dat, line 1: expected number::title::genres"),
            ("6::1::5::" + "9" * 5000 + "\n", MOVIES, r"ratings\.dat, line 1: expected user.*\.\.\.'$"),
            ("6::1::5::9\n", "9" * 30 + "::Heat (1995)::Crime\n", r"movies\.dat, line 1: expected number"),
            ("6::1::5::9\n", "x::Heat (1995)::Crime\n", r"movies\.dat, line 1: expected number"),
        ],
    )
    def test_malformed_lines(self, tmp_path: Path, ratings: str, movies: str, message: str) -> None:
        write(tmp_path, movies_dat=movies, ratings_dat=ratings)
        with pytest.raises(BadData, match=message):
            movielens_1m.read(tmp_path)

    def test_load_tells_how_to_get_it(self, empty_home: Path) -> None:
        with pytest.raises(
            MissingData,
            match=r"ratings\.dat is not there; run `harness data fetch ml-1m` or .*--from FOLDER` with ratings\.dat; "
            r"for the order without ratings and times, run `harness data fetch ml-1m-sequences --from FOLDER`$",
        ):
            load("ml-1m")


LINES = st.lists(st.text("0123456789:\n", max_size=12), max_size=5).map(lambda parts: "\n".join(parts))


@pytest.mark.slow
@given(LINES | st.from_regex(r"(?:[0-9]{1,3}::[0-9]{1,3}\n){1,4}", fullmatch=True))
@example(":0:")
@example("::\n::")
@example("1::2\n3::\n4::5::")
@example("1::02\n9999999999999999999999::1")
@settings(deadline=None, max_examples=300)
def test_fast_reading_accepts_exactly_what_the_form_says(text: str) -> None:
    lines = text.removesuffix("\n").split("\n")
    right = bool(text) and all(re.fullmatch(r"0*[0-9]{1,18}::0*[0-9]{1,18}", line) for line in lines)
    if right:
        rows = integers(Path("f"), text.encode(), b"::", "a::b")
        assert rows.tolist() == [[int(part) for part in line.split("::")] for line in lines]
    else:
        with pytest.raises(BadData, match=r"^f"):
            integers(Path("f"), text.encode(), b"::", "a::b")


def test_names() -> None:
    assert datasets() == (
        "ml-100k",
        "ml-1m",
        "ml-1m-sequences",
        "book-crossing",
        "amazon-beauty",
        "amazon-games",
        "amazon-games-sequences",
        "amazon-cds",
        "amazon-cds-sequences",
        "amazon-instruments",
        "mind",
        "amazon-m2",
    )
    with pytest.raises(UnknownName, match="no data set is called 'ml-10k'; did you mean 'ml-100k'"):
        load("ml-10k")


@pytest.mark.slow
def test_a_million_ratings_are_read_in_seconds_and_held_in_twenty_megabytes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = np.column_stack(
        [
            np.sort(generator.integers(1, 6041, 10**6)),
            generator.integers(1, 3884, 10**6),
            generator.integers(1, 6, 10**6),
        ]
    )
    text = "".join(f"{u}::{i}::{r}::97830{u:04}\n" for u, i, r in rows.tolist())
    write(tmp_path, ratings_dat=text, movies_dat="".join(f"{n}::Film {n} (1999)::Drama\n" for n in range(1, 3884)))
    dataset = movielens_1m.read(tmp_path)
    assert len(dataset) == 10**6
    assert sum(column.nbytes for column in (dataset.user, dataset.item, dataset.rating, dataset.time)) == 20 * 10**6
