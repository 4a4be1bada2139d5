"""What the readers make of Book-Crossing and of TALLRec's published book prompts."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.data import load
from harness.data.fetch import fetch
from harness.data.readers import book_crossing, tallrec_book
from harness.errors import BadData, MissingData, NotApplicable
from tests.real_data import real


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


BOOKS_HEADER = ";".join(f'"{name}"' for name in book_crossing.BOOKS) + "\r\n"
RATINGS_HEADER = '"User-ID";"ISBN";"Book-Rating"\r\n'


def book(isbn: str, title: str, author: str) -> str:
    return f'"{isbn}";"{title}";"{author}";"1999";"Publisher";"s";"m";"l"\r\n'


class TestBookCrossing:
    def folder(self, tmp_path: Path, books: str, ratings: str) -> Path:
        (tmp_path / "BX-Books.csv").write_bytes((BOOKS_HEADER + books).encode("latin-1"))
        (tmp_path / "BX-Book-Ratings.csv").write_bytes((RATINGS_HEADER + ratings).encode("latin-1"))
        return tmp_path

    def test_a_small_file(self, tmp_path: Path) -> None:
        books = (
            book("000X", "A &amp; B", "Köhler")
            + book("0002", r"Called \"It\": One Child", "Pelzer")
            + book("000X", "again", "again")
            + "".join(book(f"1{n:03}", "Filler", "Nobody") for n in range(200))
            + '"0003";"torn \\"title\\";"x";"1999";"Publisher";"s";"m";"l";"more"\r\n'
        )
        ratings = '"8";"0002";"0"\r\n"3";"9999";"7"\r\n"3";"000X";"10"\r\n"8";"000X";"5"\r\n'
        dataset = book_crossing.read(self.folder(tmp_path, books, ratings))
        assert [item.text for item in dataset.items[:2]] == ["A &amp; B", r"Called \It\": One Child" + '"']
        assert dataset.attributes["author"][:2] == (("Köhler",), ("Pelzer",))
        assert dataset.users == ("8", "3")
        assert dataset.rating.tolist() == [0, 10, 5]
        assert dataset.item.tolist() == [1, 0, 0]
        assert dataset.skipped == {
            "ratings of books that are not listed": 1,
            "books listed again": 1,
            "unreadable lines of books": 1,
        }
        assert dataset.statistics().first_time is None

    @pytest.mark.slow
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.text('ab"\\ é&', max_size=8), min_size=1, max_size=6))
    def test_titles_are_read_as_pandas_reads_them(self, tmp_path: Path, titles: list[str]) -> None:
        import pandas as pd

        books = "".join(book(str(number), title, "x") for number, title in enumerate(titles))
        books += "".join(book(f"filler {number}", "filler", "x") for number in range(800))
        folder = self.folder(tmp_path, books, '"8";"filler 1";"0"\r\n')
        dataset = book_crossing.read(folder)
        frame: Any = pd.read_csv(
            folder / "BX-Books.csv", sep=";", encoding="latin-1", on_bad_lines="skip", dtype=str, keep_default_na=False
        )
        known = dict(zip(frame["ISBN"], frame["Book-Title"], strict=True))
        assert {item.id: item.text for item in dataset.items} == {item.id: known[item.id] for item in dataset.items}

    @pytest.mark.parametrize(
        ("books", "ratings", "message"),
        [
            (book("1", "T", "A"), '"8";"1";"11"\r\n', r"Ratings\.csv: .*found 1 that are not and 0 that are"),
            (book("1", "T", "A"), "", r"Ratings\.csv: .*found 0 that are not and 0 that are"),
            ("1;2\r\n", '"8";"1";"1"\r\n', r"Books\.csv: .*found 1 that are not"),
            (book("1", "T" * 140_000, "A"), '"8";"1";"1"\r\n', r"Books\.csv, line 2: expected quoted fields"),
        ],
    )
    def test_files_that_are_something_else(self, tmp_path: Path, books: str, ratings: str, message: str) -> None:
        with pytest.raises(BadData, match=message):
            book_crossing.read(self.folder(tmp_path, books, ratings))

    def test_another_header(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path, book("1", "T", "A"), '"8";"1";"1"\r\n')
        (folder / "BX-Books.csv").write_text("isbn,title\n")
        with pytest.raises(BadData, match=r"BX-Books\.csv, line 1: expected ISBN;Book-Title.*found 'isbn,title'"):
            book_crossing.read(folder)


class TestTallrecBook:
    @pytest.mark.parametrize(("split", "yes"), [("valid", 1011), ("test", 1054)])
    def test_published_files(self, split: Any, yes: int) -> None:
        fetch("tallrec-book", real("book-crossing/tallrec-book-test.json.gz").parent)
        records = tallrec_book.read(split)
        assert (len(records), sum(record.output == "Yes." for record in records)) == (2427, yes)
        assert all(record.input.startswith("User Preference: ") for record in records)

    def test_the_training_split_may_be_absent(self) -> None:
        done = fetch("tallrec-book", real("book-crossing/tallrec-book-test.json.gz").parent)
        assert (done.fetched, done.absent) == (("valid.json", "test.json"), ("train.json",))
        with pytest.raises(MissingData, match=r"train\.json is not there; run `harness data fetch tallrec-book`"):
            tallrec_book.read("train")

    def test_a_truncated_file_is_found_when_it_is_read(self, empty_home: Path) -> None:
        content = gzip.decompress(real("book-crossing/tallrec-book-test.json.gz").read_bytes())
        folder = empty_home / "data" / "tallrec-book"
        folder.mkdir(parents=True)
        (folder / "test.json").write_bytes(content[:-1])
        with pytest.raises(BadData, match="expected 2,003,057 bytes, found 2,003,056"):
            tallrec_book.read("test")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[{", "expected a JSON list of records, found: "),
            ("{}", "expected a JSON list of records, found dict"),
            (
                '[{"instruction": "a", "input": "b", "output": "Maybe"}]',
                "record 1: expected instruction, input, output",
            ),
            ("[3]", "record 1: .*found int"),
        ],
    )
    def test_other_files(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "f.json").write_text(text)
        with pytest.raises(BadData, match=message):
            tallrec_book.parse(tmp_path / "f.json")

    def test_it_is_no_data_set_with_ratings(self) -> None:
        with pytest.raises(NotApplicable, match="holds prompts, not ratings"):
            load("tallrec-book")
