"""What the readers make of Amazon's review files of 2018 and 2014, and of the published splits of 2018."""

from __future__ import annotations

import gzip
import json
import re
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.cli.data import data
from harness.data import Review, load, reviews
from harness.data.fetch import fetch
from harness.data.filters import k_core, without_repeats
from harness.data.home import verify
from harness.data.readers import amazon_reviews, inter
from harness.data.readers.amazon_reviews import readable, title_of
from harness.errors import BadData, MissingData, NotApplicable
from tests.real_data import real

SPAN = '<span id="parentalAdvisory" class="a-size-medium a-color-secondary a-text-normal"'


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def review(user: str, item: str, time: int, overall: float | None = 5.0, **more: Any) -> str:
    """A line as the files of 2018 have it."""
    rated = {} if overall is None else {"overall": overall}
    entry = {"reviewerID": user, "asin": item, "unixReviewTime": time, "verified": True, "vote": "3", **rated, **more}
    return json.dumps(entry) + "\n"


def product(asin: str, title: str, *category: str) -> str:
    return json.dumps({"category": list(category), "asin": asin, "title": title, "brand": "b", "also_buy": []}) + "\n"


REVIEWS = (
    review("U2", "0700", 200, 3.0, summary="Late", reviewText="second &amp; last")
    + review("U1", "B00X", 150, 1)
    + review("U2", "0700", 100, 4.0, summary="Early", reviewText='Saw it.<br />\nIt is  "fine" &lt;3')
    + review("U2", "0700", 100, 4.0, summary="Early again", style={"Format:": " Game"}, image=["i.jpg"])
    + review("U1", "B00A", 50, None, summary="no stars")
)
METADATA = (
    product(
        "B00A", "  Pok&eacute;mon <b>Red</b>\n&amp; Blue ", "Video Games", "Games &amp; More", "</span> 24 levels", "x"
    )
    + product("0700", SPAN, "Video Games")
    + product("B00A", "listed again", "Other")
    + product("B00Z", "var aPageStart = (new Date()).getTime();")
)


def given_2018(folder: Path, reviews: str = REVIEWS, metadata: str | None = METADATA) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "Video_Games.json").write_text(reviews)
    if metadata is not None:
        (folder / "meta_Video_Games.json").write_text(metadata)
    return folder


class TestReviews2018:
    @pytest.mark.parametrize("packed", [True, False])
    def test_a_small_file(self, tmp_path: Path, packed: bool) -> None:
        folder = given_2018(tmp_path / "given")
        for file in list(folder.iterdir()) if packed else []:
            (folder / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
        assert fetch("amazon-games", folder).fetched == ("Video_Games.json", "meta_Video_Games.json")
        dataset = load("amazon-games")
        assert dataset.name == "amazon-games"
        assert [(item.id, item.text) for item in dataset.items] == [
            ("B00A", "Pokémon Red & Blue"),
            ("0700", "0700"),
            ("B00Z", "B00Z"),
            ("B00X", "B00X"),
        ]
        assert dataset.attributes == {"category": (("Video Games", "Games & More"), ("Video Games",), (), ())}
        assert dataset.users == ("U2", "U1")
        assert dataset.user.tolist() == [0, 1, 0, 0]
        assert dataset.item.tolist() == [1, 3, 1, 1]
        assert dataset.rating.tolist() == [3, 1, 4, 4]
        assert dataset.time.tolist() == [200, 150, 100, 100]
        assert dataset.skipped == {
            "products listed again": 1,
            "titles that are nothing but HTML": 2,
            "reviews without a rating": 1,
        }
        once = without_repeats(dataset)
        assert (once.item.tolist(), once.rating.tolist(), once.time.tolist()) == ([3, 1], [1, 4], [150, 100])

    def test_without_metadata_the_asin_is_the_text(self, tmp_path: Path) -> None:
        dataset = amazon_reviews.read("amazon-games", given_2018(tmp_path / "given", metadata=None))
        assert [(item.id, item.text) for item in dataset.items] == [("0700", "0700"), ("B00X", "B00X")]
        assert dataset.attributes == {}
        assert dataset.skipped == {"reviews without a rating": 1}

    def test_the_reviews_that_are_wanted(self, tmp_path: Path) -> None:
        fetch("amazon-games", given_2018(tmp_path / "given"))
        wanted = {("U2", "0700"), ("U1", "B00X"), ("U1", "B00A"), ("U9", "0700")}
        assert reviews("amazon-games", wanted) == {
            ("U2", "0700"): Review("Early", 'Saw it. It is "fine" <3'),
            ("U1", "B00X"): Review("", ""),
        }
        assert reviews("amazon-games", set()) == {}

    @pytest.mark.parametrize(
        "line",
        [
            *("{\n", "\n", "[1]\n", "3\n", review("U1", "B00A", 7)[:-20]),
            *(review("U1", "B00A", 7, overall) for overall in (5.5, float("nan"), True)),
            *(review(user, item, 7) for user, item in (("", "B00A"), ("U 1", "B00A"), ("U1", "é"))),
            *(review("U1", "B00A", 7, unixReviewTime=time) for time in (-1, "7", None, 10**30)),
            '{"reviewerID": "U1", "asin": "B00A", "overall": 5.0}\n',
        ],
    )
    def test_malformed_reviews(self, tmp_path: Path, line: str) -> None:
        folder = given_2018(tmp_path / "given", review("U1", "B00A", 7) + line)
        found = re.escape(repr(line.rstrip("\n"))[:60].rstrip("'"))
        message = rf"Video_Games\.json, line 2: expected a JSON object with reviewerID, asin, overall.*found {found}"
        with pytest.raises(BadData, match=message):
            amazon_reviews.read("amazon-games", folder)
        with pytest.raises(BadData, match=message):
            amazon_reviews.first_reviews("amazon-games", folder, set())

    @pytest.mark.parametrize(
        ("metadata", "message"),
        [
            (METADATA + "{'asin': f()}\n", r"meta_Video_Games\.json, line 5: expected an object with asin, title"),
            (METADATA + "nonsense\n", r"line 5: expected an object with asin, title and a list of labels, found 'nons"),
            ("[]\n", "line 1: expected an object"),
            ('{"title": "no asin"}\n', "line 1: expected an object"),
            ('{"asin": "B1", "title": 3}\n', "line 1: expected an object"),
            ('{"asin": "B1", "category": [3]}\n', "line 1: expected an object"),
            ('{"asin": "B1", "categories": ["Games"]}\n', "line 1: expected an object"),
            ("", r"meta_Video_Games\.json: expected lines, found an empty file"),
        ],
    )
    def test_malformed_metadata(self, tmp_path: Path, metadata: str, message: str) -> None:
        with pytest.raises(BadData, match=message):
            amazon_reviews.read("amazon-games", given_2018(tmp_path / "given", metadata=metadata))

    def test_no_reviews_at_all_and_words_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(BadData, match=r"Video_Games\.json: expected lines, found an empty file"):
            amazon_reviews.read("amazon-games", given_2018(tmp_path / "given", ""))
        folder = given_2018(tmp_path / "given", review("U1", "B00A", 7, summary=3))
        with pytest.raises(BadData, match=r"line 1: expected text or nothing as summary, found '3'"):
            amazon_reviews.first_reviews("amazon-games", folder, {("U1", "B00A")})

    def test_the_words_of_reviews_are_not_kept(self, tmp_path: Path) -> None:
        long = "word " * 2000
        with (tmp_path / "Video_Games.json").open("w") as file:
            file.writelines(review(f"U{n}", f"B{n % 7}", n, reviewText=long) for n in range(1500))
        size = (tmp_path / "Video_Games.json").stat().st_size
        tracemalloc.start()
        try:
            assert len(amazon_reviews.read("amazon-games", tmp_path)) == 1500
            found = amazon_reviews.first_reviews("amazon-games", tmp_path, {("U8", "B1")})
            assert tracemalloc.get_traced_memory()[1] < size / 10
        finally:
            tracemalloc.stop()
        assert found["U8", "B1"].text == long.strip()


class TestReviews2014:
    LITERAL = (
        r"{'asin': 'B1', 'title': 'Musician\'s Gear 7\" \d Stand', 'price': 9.5, 'related': {'also_viewed': ['B2']}, "
        r"'categories': [['Musical Instruments', 'Stands &amp; Mounts'], ['Other']]}" + "\n"
    )

    def test_a_small_file_with_python_literals(self, tmp_path: Path) -> None:
        (tmp_path / "reviews_Musical_Instruments_5.json").write_text(review("U1", "B2", 9) + review("U1", "B1", 9))
        metadata = self.LITERAL + '{"asin": "B2", "categories": []}\n' + "{'asin': 'B3', 'title': None}\n"
        (tmp_path / "meta_Musical_Instruments.json").write_text(metadata)
        dataset = amazon_reviews.read("amazon-instruments", tmp_path)
        assert [item.text for item in dataset.items] == [r"Musician's Gear 7" + r'" \d Stand', "B2", "B3"]
        assert dataset.attributes["category"] == (("Musical Instruments", "Stands & Mounts"), (), ())
        assert dataset.item.tolist() == [1, 0]

    def test_the_official_file_alone_in_a_zip(self) -> None:
        done = fetch("amazon-instruments", real("amazon-reviews-2014"))
        assert (len(done.fetched), done.absent) == (1, ("meta_Musical_Instruments.json",))
        dataset = load("amazon-instruments")
        numbers = dataset.statistics()
        assert (numbers.users, numbers.items, numbers.items_met, numbers.interactions) == (1429, 900, 900, 10_261)
        assert [count for _, count in numbers.ratings] == [217, 250, 772, 2084, 6938]
        assert (dataset.attributes, dataset.digest) == ({}, "acdff579dc1273e6")
        wanted = {(dataset.users[u], dataset.items[i].id) for u, i in zip(dataset.user, dataset.item, strict=True)}
        found = reviews("amazon-instruments", wanted)
        assert found.keys() == wanted
        assert sum(not each.text for each in found.values()) == 7
        assert found["A2IBPI20UZIR0U", "1384719342"].summary == "good"
        assert found["A2IBPI20UZIR0U", "1384719342"].text.startswith("Not much to write about here, but it does exac")

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ({"other.json": "{}"}, r"Musical_Instruments\.zip is damaged: expected a zip file that holds reviews_Mus"),
            (None, r"Musical_Instruments\.zip is damaged: .*File is not a zip file"),
            ({"Musical_Instruments.json": "{}"}, r"is not the official .*expected 7,445,886 bytes, found 2"),
        ],
    )
    def test_a_zip_with_something_else(self, tmp_path: Path, members: dict[str, str] | None, message: str) -> None:
        given = tmp_path / "given"
        given.mkdir()
        (given / "Musical_Instruments.zip").write_text("no zip")
        if members is not None:
            with zipfile.ZipFile(given / "Musical_Instruments.zip", "w") as package:
                for name, content in members.items():
                    package.writestr(name, content)
        with pytest.raises(BadData, match=message):
            fetch("amazon-instruments", given)


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        ("Plain", "Plain"),
        ("Marvel&rsquo;s Spider-Man&nbsp;&#40;2&#41;", "Marvel’s Spider-Man (2)"),
        ("<b>Bold</b><br/>move", "Bold move"),
        ('Torn <span class="a', "Torn"),
        ('Jimi Hendrix,Axis: Bold As Love Mini Lp Cd" />', "Jimi Hendrix,Axis: Bold As Love Mini Lp Cd"),
        ("Tyranny &gt;For You&lt;", "Tyranny >For You<"),
        ("Shake It Up: I <3 Dance", "Shake It Up: I <3 Dance"),
        ("&lt;b&gt; is a tag", "<b> is a tag"),
        ("half \ud83d of a pair", "half ? of a pair"),
        (SPAN, ""),
        ("<style>.a{}</style> x getTime", ""),
        (" \n", ""),
    ],
)
def test_titles(raw: str, title: str) -> None:
    assert title_of(raw) == title


EVENT = st.tuples(
    st.integers(0, 3), st.integers(0, 3), st.sampled_from([None, 1.0, 2, 5.0]), st.integers(0, 4), st.text(max_size=5)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(EVENT, min_size=1, max_size=20))
@example([(0, 0, None, 0, "")])
def test_every_rated_review_is_an_event_and_the_first_of_a_pair_is_the_review(tmp_path: Path, events: Any) -> None:
    """Against the rows themselves; words are told apart by the number of their line."""
    lines = [review(f"U{u}", f"B{i}", t, r, reviewText=f"{n} {words}") for n, (u, i, r, t, words) in enumerate(events)]
    folder = given_2018(tmp_path / "given", "".join(lines), None)
    dataset = amazon_reviews.read("amazon-games", folder)
    kept = [(f"U{u}", f"B{i}", r, t) for u, i, r, t, _ in events if r is not None]
    rows = zip(dataset.user, dataset.item, dataset.rating.tolist(), dataset.time.tolist(), strict=True)
    assert [(dataset.users[u], dataset.items[i].id, r, t) for u, i, r, t in rows] == kept
    assert sum(dataset.skipped.values()) == len(events) - len(kept)
    found = amazon_reviews.first_reviews("amazon-games", folder, {(user, item) for user, item, _, _ in kept})
    once = without_repeats(dataset)
    assert len(found) == len(once)
    for u, i, rating, time in zip(once.user, once.item, once.rating, once.time, strict=True):
        user, item = once.users[u], once.items[i].id
        line = int(found[user, item].text.split()[0])
        assert (user, item, rating, time) == (f"U{events[line][0]}", f"B{events[line][1]}", *events[line][2:4])
        same = [n for n, (a, b, r, t, _) in enumerate(events) if (f"U{a}", f"B{b}", t) == (user, item, time) and r]
        assert line == same[0]
        assert found[user, item].text == readable(f"{line} {events[line][4]}")


NEXT = "\t".join(inter.NEXT) + "\n"
LISTED = (
    "item_id:token\ttitle:token_seq\tcategory:token_seq\n0\tA &amp; B\tPop; R&B\n7\t" + SPAN + "\tRock\nx\tC \tPop\n"
)
TEST = NEXT + "9\t0 x 0\t7\n2\tx 0\tx\n"
VALID = NEXT + "2\tx\t0\n9\t0 x\t0\n"
TRAIN = NEXT + "9\t0\tx\n"


def given_cds(folder: Path, items: str = LISTED, test: str = TEST, valid: str = VALID, train: str = TRAIN) -> Path:
    (folder / "CDs.item").write_text(items)
    for split, content in (("test", test), ("valid", valid), ("train", train)):
        (folder / f"CDs-100-user-dense.{split}.inter").write_text(content)
    return folder


@pytest.mark.slow
class TestSequences:
    def test_a_small_file(self, tmp_path: Path) -> None:
        dataset = inter.read("amazon-cds-sequences", given_cds(tmp_path))
        assert [(item.id, item.text) for item in dataset.items] == [("0", "A & B"), ("7", "7"), ("x", "C")]
        assert dataset.attributes == {"category": (("Pop", "R&B"), ("Rock",), ("Pop",))}
        assert dataset.users == ("9", "2")
        assert dataset.user.tolist() == [0, 0, 0, 0, 1, 1, 1]
        assert dataset.item.tolist() == [0, 2, 0, 1, 2, 0, 2]
        assert (dataset.rating.tolist(), dataset.time.tolist()) == ([1] * 7, [0] * 7)
        assert dataset.skipped == {"titles that are nothing but HTML": 1}

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"test": "user\titems\titem\n"}, r"dense\.test\.inter, line 1: expected user_id:token<tab>item_id_list:t"),
            ({"items": "item_id:token\ttitle:token_seq\n"}, r"CDs\.item, line 1: .*<tab>category:token_seq, found"),
            ({"items": LISTED + "0\tD\tPop\n"}, r"CDs\.item, line 5: expected an id that no earlier line has"),
            ({"test": TEST + "9\t0\tx\n"}, r"test\.inter, line 4: expected a user that no earlier line has, found '9'"),
            ({"test": TEST + "3 0\tx\n"}, r"test\.inter, line 4: expected user_id<tab>item_id_list<tab>item_id, found"),
            ({"test": TEST.replace("\t7", "\t8")}, r"test\.inter, line 2: expected numbers of listed items, found '8'"),
            (
                {"valid": VALID.replace("x\t0", "x\t7")},
                r"valid\.inter, line 2: expected the history of user 2 in CDs.*",
            ),
            ({"valid": NEXT + "9\tx\t0\n2\tx\t0\n"}, r"valid\.inter, line 2: expected the history of user 9 .*'x 0'"),
            ({"valid": VALID + "2\tx\t0\n"}, r"valid\.inter, line 4: expected a user of CDs-.* that no earlier line"),
            ({"valid": VALID + "1\tx\t0\n"}, r"valid\.inter, line 4: expected a user of CDs-100.*, found '1'"),
            ({"valid": NEXT + "2\tx\t0\n"}, r"valid\.inter, line 2: expected the user 9 of CDs.* on some line, found "),
            ({"train": TRAIN + "9\tx\t0\n"}, r"train\.inter, line 3: expected a beginning of the history of user 9 in"),
            ({"train": TRAIN + "9\t0 x 0\t7\n"}, r"train\.inter, line 3: expected a beginning of the history of user"),
            ({"train": TRAIN + "1\t0\tx\n"}, r"train\.inter, line 3: expected a user of CDs-100.*inter, found '1'"),
        ],
    )
    def test_malformed_lines(self, tmp_path: Path, changed: dict[str, str], message: str) -> None:
        with pytest.raises(BadData, match=message):
            inter.read("amazon-cds-sequences", given_cds(tmp_path, **changed))

    def test_the_published_games(self) -> None:
        fetch("amazon-games-sequences", real("amazon-games-2018"))
        assert {state.state for state in verify("amazon-games-sequences")} == {"good"}
        dataset = load("amazon-games")
        assert (dataset.name, dataset.digest) == ("amazon-games-sequences", "b31c45c155a39fd9")
        numbers = dataset.statistics()
        assert (numbers.users, numbers.items, numbers.items_met) == (50_546, 16_859, 16_859)
        lengths = np.bincount(dataset.user).tolist()
        assert (min(lengths), max(lengths), lengths.count(50)) == (5, 50, 371)
        # What InstructRec prints as the interactions of Games is the sum of the last 20 of each user.
        assert (numbers.interactions, sum(min(length, 20) for length in lengths)) == (440_264, 410_907)
        assert without_repeats(dataset) is dataset
        cut = k_core(dataset, 5).statistics()  # the cut to 50 left 388 items with fewer than five events
        assert (cut.users, cut.items, cut.interactions) == (50_335, 16_428, 437_772)
        assert dataset.items[dataset.item[0]].text == "Fire Emblem: The Sacred Stones"
        assert not any("&amp;" in item.text or item.text == item.id for item in dataset.items)
        assert (dataset.attributes, dataset.skipped) == ({}, {})

    def test_the_published_sample_of_cds(self) -> None:
        fetch("amazon-cds-sequences", real("amazon-cds-2018"))
        dataset = load("amazon-cds")
        assert (dataset.name, dataset.digest) == ("amazon-cds-sequences", "fa2826391ce7f8d7")
        numbers = dataset.statistics()
        assert (numbers.users, numbers.items, numbers.items_met, numbers.interactions) == (100, 64_031, 269, 800)
        assert numbers.skipped == {"titles that are nothing but HTML": 1729}
        assert sum(item.text == item.id for item in dataset.items) == 1729
        assert (dataset.items[1].text, dataset.attributes["category"][1]) == (
            "Neil Young Archives, Vol. 1",
            ("Pop", "Singer-Songwriters"),
        )
        assert not any("span" in item.text and "<" in item.text for item in dataset.items)

    def test_official_reviews_come_first(self, tmp_path: Path) -> None:
        fetch("amazon-games-sequences", real("amazon-games-2018"))
        fetch("amazon-games", given_2018(tmp_path / "given", metadata=None))
        assert (load("amazon-games").name, len(load("amazon-games"))) == ("amazon-games", 4)

    def test_the_commands(self) -> None:
        for name, folder in (
            ("amazon-games-sequences", "amazon-games-2018"),
            ("amazon-cds-sequences", "amazon-cds-2018"),
        ):
            for words in (["fetch", name, "--from", str(real(folder))], ["verify", name]):
                assert CliRunner().invoke(data, words).exit_code == 0
        numbers = json.loads(CliRunner().invoke(data, ["stats", "amazon-games-sequences", "--json"]).output)
        assert (numbers["users"], numbers["interactions"], numbers["first_time"]) == (50_546, 440_264, None)
        rows = {row["name"]: row["status"] for row in json.loads(CliRunner().invoke(data, ["list", "--json"]).output)}
        assert (rows["amazon-games-sequences"], rows["amazon-games"]) == ("present", "missing")


class TestWithoutThem:
    @pytest.mark.parametrize(("name", "file"), [("amazon-games", "Video_Games"), ("amazon-cds", "CDs_and_Vinyl")])
    def test_load_names_both_remedies(self, name: str, file: str) -> None:
        with pytest.raises(
            MissingData,
            match=rf"{file}\.json is not there; run `harness data fetch {name} --from FOLDER` with {file}\.json; for "
            rf"the order without ratings and times, run `harness data fetch {name}-sequences --from FOLDER`$",
        ):
            load(name)

    @pytest.mark.parametrize("name", ["amazon-games-sequences", "ml-1m", "tallrec-book"])
    def test_data_sets_without_reviews(self, name: str) -> None:
        with pytest.raises(
            NotApplicable, match=rf"^{name} has no reviews; data sets with reviews are amazon-games, amazon-cds, amaz"
        ):
            reviews(name, set())

    def test_nothing_stands_in_for_reviews(self) -> None:
        with pytest.raises(MissingData, match=r"Video_Games\.json is not there; run `harness data fetch amazon-games"):
            reviews("amazon-games", set())
