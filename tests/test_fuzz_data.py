"""No reader of data sets trips over a file, whatever is in it: it reads it, or says in one line what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data import Dataset
from harness.data.readers import (
    amazon_beauty,
    amazon_m2,
    amazon_reviews,
    book_crossing,
    inter,
    mind,
    movielens_1m,
    movielens_100k,
    tallrec_book,
)
from tests.mutations import Reader, attack


def used(read: Callable[[Path], Dataset]) -> Callable[[Path], object]:
    """Read it, and work out all that a data set is asked for: what was read must be fit for use."""

    def use(folder: Path) -> object:
        dataset = read(folder)
        json.dumps([[item.id, item.text] for item in dataset.items], ensure_ascii=False).encode()
        return dataset.digest, dataset.timelines, dataset.statistics()

    return use


def written(folder: Path) -> bytes:
    """What one user wrote of one product."""
    found = amazon_reviews.first_reviews("amazon-games", folder, {("u1", "B001")})
    return "".join(one.summary + one.text for one in found.values()).encode()


def rows(*lines: str) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


GENRES = "|".join("0001000000000000010")
MOVIES = rows("1::Toy Story (1995)::Animation|Comedy", "2::Heat (1995)::Action", "30::Élan::Drama")
GAMES = {
    "Games.item": rows("item_id:token\ttitle:token_seq", "1\tA &amp; B", "2\t<b>C</b>", "3\t", "4\tD"),
    "Games.test.inter": rows("user_id:token\titem_id_list:token_seq\titem_id:token", "1\t1 2\t3", "2\t3 1\t2"),
    "Games.valid.inter": rows("user_id:token\titem_id_list:token_seq\titem_id:token", "1\t1\t2", "2\t3\t1"),
}
LABELLED = rows(
    "item_id:token\ttitle:token_seq\tcategory:token_seq", "1\tA\tRock; Pop", "2\tB\t", "3\tC\tJazz", "4\tD\tX"
)
REVIEWS = rows(
    '{"reviewerID": "u1", "asin": "B001", "overall": 5, "unixReviewTime": 140000000, "summary": "s", "reviewText": ""}',
    '{"reviewerID": "u2", "asin": "B002", "overall": 1, "unixReviewTime": 0}',
    '{"reviewerID": "u1", "asin": "B002", "unixReviewTime": 1400000001, "summary": null}',
)
PRODUCTS = rows(
    '{"asin": "B001", "title": "A &amp; <b>B</b>", "category": ["Games", "PC", "</span>x"]}',
    "{'asin': 'B002', 'title': 'It\\'s', 'categories': [['Games', 'Wii'], ['x']]}",
)
HEADER = ";".join(f'"{name}"' for name in book_crossing.BOOKS)
BOOKS = rows(HEADER, *(f'"{n}";"Title, {n}";"Ann O\'Nym";"1999";"P";"s";"m";"l"' for n in range(5)))
STARS = rows('"User-ID";"ISBN";"Book-Rating"', '"7";"0";"5"', '"7";"1";"0"', '"8";"4";"10"')
PROMPTS = json.dumps(
    [{"instruction": "Given", "input": "Liked", "output": answer} for answer in ("Yes.", "No.")]
).encode()

READERS = (
    Reader(
        "movielens-100k",
        {
            "u.item": rows(f"1|Toy Story (1995)|01-Jan-1995||http://x|{GENRES}", f"2|Heat|||x|{GENRES}"),
            "u.data": rows("196\t1\t3\t881250949", "186\t2\t5\t891717742", "196\t2\t1\t881250950"),
        },
        used(movielens_100k.read),
    ),
    Reader(
        "movielens-100k copy",
        {
            "ml-100k.item": rows(
                movielens_100k.ITEM_HEADER, "1\tToy Story\t1995\tComedy", "2\tunkonwn\tunkonwn\tunknown"
            ),
            "ml-100k.inter": rows(movielens_100k.INTER_HEADER, "196\t1\t3\t881250949", "186\t2\t5\t891717742"),
        },
        used(movielens_100k.read_copy),
    ),
    Reader(
        "movielens-1m",
        {"movies.dat": MOVIES, "ratings.dat": rows("1::1::5::978300760", "1::30::3::978302109", "2::2::4::978301968")},
        used(movielens_1m.read),
    ),
    Reader(
        "movielens-1m sequences", {"movies.dat": MOVIES, "sequences.txt": rows("1 1 30 2", "2 2")},
        used(movielens_1m.read_sequences),
    ),
    Reader(
        "amazon-beauty",
        {
            "Beauty.txt": rows("1 1 2 3", "2 3 1", "3 2"),
            "items.jsonl": rows(*(f'{{"s3rec_id": {n}, "asin": "B{n}", "title": "T {n} "}}' for n in (1, 2, 3))),
        },
        used(amazon_beauty.read),
    ),
    Reader(
        "amazon-games",
        {"Video_Games.json": REVIEWS, "meta_Video_Games.json": PRODUCTS},
        used(lambda folder: amazon_reviews.read("amazon-games", folder)),
    ),
    Reader(
        "reviews",
        {"Video_Games.json": REVIEWS},
        written,
    ),
    Reader("amazon-games-sequences", GAMES, used(lambda folder: inter.read("amazon-games-sequences", folder))),
    Reader(
        "amazon-cds-sequences",
        {
            "CDs.item": LABELLED,
            "CDs-100-user-dense.test.inter": GAMES["Games.test.inter"],
            "CDs-100-user-dense.valid.inter": GAMES["Games.valid.inter"],
            "CDs-100-user-dense.train.inter": rows("\t".join(inter.NEXT), "1\t1\t2", "1\t1\t2"),
        },
        used(lambda folder: inter.read("amazon-cds-sequences", folder)),
    ),
    Reader(
        "mind",
        {
            "news.tsv": rows("N1\tsports\tgolf\tA title\tAn abstract\thttp://x\t[]\t[]", "N2\tnews\tx\t\t\t\t\t"),
            "behaviors.tsv": rows("1\tU1\t11/15/2019\tN1 N2 N9\tN1-0 N2-1", "2\tU2\t\t\tN1-0", "3\tU1\t\tN2\t"),
        },
        used(mind.read),
    ),
    Reader(
        "amazon-m2",
        {
            "products_train.csv": rows(
                "id,locale,title,price,brand,color,size,model,material,author,desc",
                'B1,UK,"A, B",1.0,x,,,,,,"long\ntext"', "B2,UK,,2.0,,,,,,,", "B1,DE,A,1.0,,,,,,,",
            ),
            "sessions_train.csv": rows("prev_items,next_item,locale", "['B1' 'B2'],B1,UK", "\"['B2'\n 'B1']\",B2,UK"),
        },
        used(amazon_m2.read),
    ),
    Reader("book-crossing", {"BX-Books.csv": BOOKS, "BX-Book-Ratings.csv": STARS}, used(book_crossing.read)),
    Reader("tallrec-book", {"test.json": PROMPTS}, lambda folder: tallrec_book.parse(folder / "test.json")),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_whatever_is_in_a_file(reader: Reader, tmp_path: Path) -> None:
    attack(reader, tmp_path, examples=60)


@pytest.mark.stress
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_whatever_is_in_a_file_many_times(reader: Reader, tmp_path: Path) -> None:
    attack(reader, tmp_path, examples=5000)
