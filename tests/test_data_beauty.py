"""What the reader makes of S3-Rec's sequences of Amazon Beauty, with titles and without."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from harness.data import load
from harness.data.fetch import fetch
from harness.data.filters import k_core
from harness.data.home import data_folder, verify
from harness.data.readers import amazon_beauty
from harness.errors import BadData, MissingData
from tests.real_data import real

SEQUENCES = "1 30 4\n7 4 30 4\n"
TITLES = {30: " Nail Lacquer, 0.5 Ounce ", 4: "", 99: "of nobody"}


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def entry(number: int, **changes: Any) -> str:
    return json.dumps({"s3rec_id": number, "asin": f"B{number}", "title": TITLES[number], **changes}) + "\n"


def folder(tmp_path: Path, sequences: str, items: str | None = None) -> Path:
    (tmp_path / "Beauty.txt").write_text(sequences)
    if items is not None:
        (tmp_path / "items.jsonl").write_text(items)
    return tmp_path


def test_a_small_file_with_titles(tmp_path: Path) -> None:
    dataset = amazon_beauty.read(folder(tmp_path, SEQUENCES, entry(99) + entry(30) + entry(4)))
    assert [(item.id, item.text) for item in dataset.items] == [("4", "4"), ("30", "Nail Lacquer, 0.5 Ounce")]
    assert dataset.attributes == {"asin": (("B4",), ("B30",))}
    assert dataset.users == ("1", "7")
    assert dataset.user.tolist() == [0, 0, 1, 1, 1]
    assert dataset.item.tolist() == [1, 0, 0, 1, 0]
    assert dataset.rating.tolist() == [1] * 5
    assert dataset.time.tolist() == [0] * 5
    order, starts = dataset.timelines
    assert (order.tolist(), starts.tolist()) == ([0, 1, 2, 3, 4], [0, 2, 5])


def test_without_titles_the_number_is_the_text(tmp_path: Path) -> None:
    dataset = amazon_beauty.read(folder(tmp_path, SEQUENCES))
    assert [(item.id, item.text) for item in dataset.items] == [("4", "4"), ("30", "30")]
    assert dataset.attributes == {}


@pytest.mark.parametrize(
    ("sequences", "items", "message"),
    [
        ("1 30\n2\n", None, r"Beauty\.txt, line 2: expected user item item \.\.\., in whole numbers, found '2'"),
        ("1 30 \n", None, r"Beauty\.txt, line 1: expected user"),
        ("1 30 x\n", None, r"Beauty\.txt, line 1: expected user"),
        ("1 30\n\n", None, r"Beauty\.txt, line 2: expected user"),
        ("1 30\n1 4\n", None, r"Beauty\.txt, line 2: expected a user that no earlier line has, found '1'"),
        ("", None, r"Beauty\.txt: expected lines, found an empty file"),
        ("1 é\n", None, r"Beauty\.txt: expected ascii text"),
        (SEQUENCES, entry(30) + "{", r"items\.jsonl, line 2: expected a JSON object with s3rec_id, asin and title"),
        (SEQUENCES, "[1]\n", r"items\.jsonl, line 1: expected a JSON object"),
        (SEQUENCES, entry(30, s3rec_id="30"), r"items\.jsonl, line 1: expected a JSON object"),
        (SEQUENCES, entry(30, title=None), r"items\.jsonl, line 1: expected a JSON object"),
        (SEQUENCES, entry(30) + entry(30), r"items\.jsonl, line 2: expected an s3rec_id that no earlier line has"),
        (SEQUENCES, entry(30), r"items\.jsonl, line 1: expected the item 4 of Beauty\.txt on some line"),
    ],
)
def test_malformed_lines(tmp_path: Path, sequences: str, items: str | None, message: str) -> None:
    with pytest.raises(BadData, match=message):
        amazon_beauty.read(folder(tmp_path, sequences, items))


def test_the_published_files() -> None:
    done = fetch("amazon-beauty", real("amazon-beauty-2014"))
    assert done.fetched == ("Beauty.txt", "items.jsonl")
    assert {state.state for state in verify("amazon-beauty")} == {"good"}
    dataset = load("amazon-beauty")
    numbers = dataset.statistics()
    assert (numbers.users, numbers.items_met, numbers.interactions) == (22_363, 12_101, 198_502)
    assert len(k_core(dataset, 5)) == 198_502
    assert sum(item.text == item.id for item in dataset.items) == 7
    first = dataset.items[dataset.item[0]]
    assert (first.id, first.text) == ("1", "OPI Nail Lacquer, Simmer and Shimmer, 0.5-Fluid Ounce")
    assert dataset.attributes["asin"][0] == ("B004756YJA",)
    assert dataset.digest == "1f8b3e6dec6f9ada"


def test_the_sequences_alone_will_do(tmp_path: Path) -> None:
    content = real("amazon-beauty-2014/sequences.txt.gz").read_bytes()
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "Beauty.txt").write_bytes(gzip.decompress(content))
    assert fetch("amazon-beauty", tmp_path / "given").absent == ("items.jsonl",)
    dataset = load("amazon-beauty")
    assert len(dataset) == 198_502
    assert all(item.text == item.id for item in dataset.items)


def test_titles_that_are_there_are_verified() -> None:
    fetch("amazon-beauty", real("amazon-beauty-2014"))
    with (data_folder("amazon-beauty") / "items.jsonl").open("ab") as titles:
        titles.write(b"{}\n")
    with pytest.raises(BadData, match=r"items\.jsonl is not the official items\.jsonl: expected 1,882,356 bytes"):
        load("amazon-beauty")


def test_load_tells_how_to_get_it() -> None:
    with pytest.raises(MissingData, match=r"Beauty\.txt is not there; run `harness data fetch amazon-beauty`"):
        load("amazon-beauty")
