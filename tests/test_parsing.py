"""Answers of language models, read: by hand-made answers and expectations, and by what holds for every answer."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.data import load
from harness.data.fetch import fetch
from harness.parsing import Line, Names, Outcome, Reading, normal, read
from harness.types import Item
from tests.real_data import real

ANSWERS: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent / "messy_answers.toml").read_text("utf-8")
)["answer"]  # fmt: skip
SHELF = ["Matrix, The (1999)", "Heat (1995)", "Lock, Stock and Two Smoking Barrels (1998)", "Lock (2000)"]
SHELF += ["Stock (2001)", "Alien (1979)"]
BEAUTY = {
    "B004756YJA": "OPI Nail Lacquer, Simmer and Shimmer, 0.5-Fluid Ounce",
    "B0020YLEYK": "Neutrogena Body Oil",
    "B000000003": "derma e Anti-Wrinkle Vitamin A Cr&egrave;me , 4-Ounce Jar",
    "B000000004": "OPI Nail Lacquer, Red, 0.5 oz",
    "B000000005": "#1 BEST Vitamin C+E Serum",
    "B000000006": "(1 oz / 30 ml) GLYCOLIC Acid 50% Peel",
}


def shelf(*texts: str) -> Names:
    return Names([Item(str(place), text) for place, text in enumerate(texts)])


@pytest.fixture(scope="module")
def catalogues() -> dict[str, tuple[Item, ...]]:
    return {
        "films": load("ml-100k").items,
        "shelf": tuple(Item(str(place), text) for place, text in enumerate(SHELF)),
        "beauty": tuple(Item(f"p{place}", text) for place, text in enumerate(BEAUTY.values())),
    }


@pytest.fixture(scope="module")
def indexes(catalogues: dict[str, tuple[Item, ...]]) -> dict[str, Names]:
    codes = {item.id: code for item, code in zip(catalogues["beauty"], BEAUTY, strict=True)}
    return {name: Names(items, codes if name == "beauty" else None) for name, items in catalogues.items()}


def shown(line: Line, items: Sequence[Item]) -> str:
    named = [item.text for item in items if item.id == line.item]
    return f"{line.outcome}: {named[0]}" if named else str(line.outcome)


@pytest.mark.parametrize("answer", ANSWERS, ids=[answer["name"] for answer in ANSWERS])
def test_a_messy_answer(
    answer: dict[str, Any], catalogues: dict[str, tuple[Item, ...]], indexes: dict[str, Names]
) -> None:
    on = answer.get("on", "films")
    ids = {item.text: item.id for item in catalogues[on]}
    candidates = [ids[text] for text in answer["candidates"]] if "candidates" in answer else None
    history = [ids[text] for text in answer.get("history", ())]
    reading = read(
        answer["says"], indexes[on], candidates=candidates, history=history,
        finish=answer.get("finish", "stop"), limit=answer.get("limit", 10),
    )  # fmt: skip
    assert [shown(line, catalogues[on]) for line in reading.lines] == answer["lines"], reading


def free(text: str, names: Names, limit: int = 10) -> Reading:
    """Read with nothing seen and everything a candidate."""
    return read(text, names, candidates=None, history=(), limit=limit)


def quoted(texts: Sequence[str]) -> str:
    return ", ".join(json.dumps(text, ensure_ascii=False) for text in texts)


FORMS = {
    "quoted": quoted,
    "JSON": lambda texts: json.dumps(texts, indent=1),
    "quoted lines": lambda texts: "\n".join(f'"{text}"' for text in texts),
    "numbered": lambda texts: "\n".join(f"{place}. {text}" for place, text in enumerate(texts, 1)),
    "numbered, quoted": lambda texts: "\n".join(f'{place}) "{text}"' for place, text in enumerate(texts, 1)),
    "bullets, bold": lambda texts: "\n".join(f"- **{text}**" for text in texts),
    "lines": "\n".join,
}


def assert_read_back(form: str, items: Sequence[Item], names: Names, every: int = 1) -> None:
    """Ten at a time, and of several items with one text the first; `every` 5 takes a fifth of the lists."""
    first = {item.text: item.id for item in reversed(items)}
    texts = list(first)
    for start in range(0, len(texts), 10 * every):
        some = texts[start : start + 10]
        reading = free(FORMS[form](some), names)
        assert [(line.item, line.outcome) for line in reading.lines] == [(first[text], "exact") for text in some], some
        assert reading.spelled == len(some)


@pytest.mark.parametrize("form", FORMS)
def test_every_film_is_read_back(form: str, catalogues: dict[str, tuple[Item, ...]], indexes: dict[str, Names]) -> None:
    assert_read_back(form, catalogues["films"], indexes["films"])


def test_every_film_is_read_back_from_commas_alone(
    catalogues: dict[str, tuple[Item, ...]], indexes: dict[str, Names]
) -> None:
    texts = list(dict.fromkeys(item.text for item in catalogues["films"]))
    for start in range(0, len(texts), 10):
        some = texts[start : start + 10]
        assert [line.text for line in free(", ".join(some), indexes["films"]).lines] == some


def test_every_film_is_found_with_its_article_in_front(
    catalogues: dict[str, tuple[Item, ...]], indexes: dict[str, Names]
) -> None:
    seen = 0
    for item in catalogues["films"]:
        head, found, year = item.text.partition(", The (")
        if found and "(" not in year:
            (line,) = free(f'"The {head} ({year}"', indexes["films"]).lines
            named = [other.text for other in catalogues["films"] if other.id == line.item]
            assert (line.outcome, named) == ("normalised", [item.text])
            seen += 1
    assert seen > 200


@pytest.fixture(scope="module")
def beauty(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[Item, ...], dict[str, str], Names]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(tmp_path_factory.mktemp("home")))
        fetch("amazon-beauty", real("amazon-beauty-2014"))
        data = load("amazon-beauty")
    codes = {item.id: code for item, (code,) in zip(data.items, data.attributes["asin"], strict=True)}
    return data.items, codes, Names(data.items, codes)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["quoted", "JSON", "quoted lines", "numbered", "numbered, quoted"])
def test_products_are_read_back(form: str, beauty: tuple[tuple[Item, ...], dict[str, str], Names]) -> None:
    items, _, names = beauty
    assert_read_back(form, items, names, every=1 if form == "quoted" else 8)


@pytest.mark.slow
def test_every_product_is_read_back_by_its_code(beauty: tuple[tuple[Item, ...], dict[str, str], Names]) -> None:
    items, codes, names = beauty
    assert (len(names.collisions.text), len(names.collisions.form)) == (27, 33)
    for start in range(0, len(items), 10):
        some = items[start : start + 10]
        texts = [f"{codes[item.id]} ({item.text})" for item in some]
        for form in ("quoted", "numbered")[: 1 if start % 100 else 2]:
            assert free(FORMS[form](texts), names).strict == tuple(item.id for item in some), texts


# What makes answers hard, in any order.
BITS = ["Toy Story (1995)", "Heat", "Matrix, The", "(1999)", "Lock", ", ", "; ", '"', "'", "“", "”", "[", "]", "{", "}"]
BITS += ["\n", "\n\n", "1. ", "2) ", "- ", "* ", "**", "`", "|", "\\", "<think>", "</think>", "```json\n", "Sure! "]
BITS += ["Here are ten movies:", "I'm sorry, but", " - a great film", "Stock and Two Smoking Barrels", "Alien", "and "]
MESS = st.one_of(st.text(max_size=120), st.lists(st.sampled_from(BITS), max_size=25).map("".join))
ALPHABET = st.characters(exclude_characters="<[", exclude_categories=["Cs"])
"""For titles: not what looks like a tag or a link."""
IDS = [str(place) for place in range(len(SHELF))]


def assert_sound(reading: Reading, limit: int) -> None:
    """What holds for every reading on the shelf."""
    assert 1 <= len(reading.lines) <= limit
    assert sum(reading.counts.values()) == len(reading.lines)
    assert set(reading.counts) == set(Outcome)
    assert {line.item for line in reading.lines} <= {None, *IDS}
    assert all((line.item is None) == (line.match is None) for line in reading.lines)
    assert len(set(reading.lenient)) == len(reading.lenient)
    assert [item for item in reading.lenient if item in reading.strict] == list(reading.strict)
    order = [line.item for line in reading.lines]
    assert [order.index(item) for item in reading.lenient] == sorted(order.index(item) for item in reading.lenient)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    text=MESS, limit=st.integers(1, 12), finish=st.sampled_from(["stop", "length"]),
    candidates=st.none() | st.sets(st.sampled_from(IDS)), history=st.sets(st.sampled_from(IDS)),
)  # fmt: skip
def test_any_text_is_read(text: str, limit: int, finish: Any, candidates: set[str] | None, history: set[str]) -> None:
    names = shelf(*SHELF)
    reading = read(text, names, candidates=candidates, history=history, finish=finish, limit=limit)
    assert_sound(reading, limit)
    assert not set(reading.lenient) & history
    assert candidates is None or set(reading.lenient) <= candidates
    if reading.strict:
        again = quoted([SHELF[int(item)] for item in reading.strict])
        lines = read(again, names, candidates=candidates, history=history, finish="length", limit=limit).lines
        assert [(line.item, line.outcome) for line in lines] == [(item, "exact") for item in reading.strict]


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(
        st.text(ALPHABET, max_size=15) | st.sampled_from(BITS[:20]), min_size=1, max_size=6, unique_by=str.strip
    )
)
def test_any_catalogue_can_be_named_exactly(texts: list[str]) -> None:
    texts = [text for text in texts if any(c.isalnum() for c in text)]
    names = shelf(*texts)
    if texts:
        reading = free(quoted(texts), names)
        assert [(line.item, line.outcome) for line in reading.lines] == [
            (str(place), "exact") for place in range(len(texts))
        ]


@example(places=[112], end=40)  # "Horseman on the Roof, The (Hussard sur l
@example(places=[815], end=25)  # "Candyman: Farewell to th
@settings(max_examples=60, deadline=None)
@given(places=st.lists(st.integers(0, 1681), min_size=1, max_size=8), end=st.integers(0, 300))
def test_a_cut_off_answer_names_what_the_whole_one_did(
    places: list[int], end: int, catalogues: dict[str, tuple[Item, ...]], indexes: dict[str, Names]
) -> None:
    """Cut anywhere, an answer as asked for loses lines at its end and never gains or changes one."""
    texts = [catalogues["films"][place].text for place in places]
    whole = quoted(texts)
    cut = whole[:end]
    lines = read(cut, indexes["films"], candidates=None, history=(), finish="length").lines
    full = free(whole, indexes["films"]).lines
    kept = [line for line in lines if line.outcome not in ("truncated", "empty")]
    assert kept == list(full[: len(kept)])
    assert len(lines) - len(kept) <= 1


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ("Candyman: Farewell to th", "truncated"),
        ("**Candyman - Farewell to th", "truncated"),
        ("Horseman on the Roof, The (Hussard sur l", "truncated"),
        ("Candyman (1992) - a film of th", "exact"),
        ("The Usual Suspects (1995) - a crime thriller that ", "normalised"),
        ("**The Usual Suspects (1995)** - a crime thriller that k", "normalised"),
        ("**The Usual Suspects** (1995) - a crime thriller that k", "normalised"),
        ("The Usual Suspects, 1995 - a crime thriller that k", "normalised"),
        ("The Usual Suspects [1995] - a crime thriller that k", "normalised"),
        ("The Usual Suspects - a crime thriller that k", "normalised"),
    ],
)
def test_a_line_that_was_cut_off_names_what_it_is_past(line: str, outcome: str, indexes: dict[str, Names]) -> None:
    answer = f"1. Heat (1995)\n2. {line}"
    lines = read(answer, indexes["films"], candidates=None, history=(), finish="length").lines
    assert [line.outcome for line in lines] == ["exact", outcome]


def test_a_cut_off_name_without_a_year_may_go_on() -> None:
    names = shelf("Candyman", "Candyman: Farewell to the Flesh", "Heat")
    for line, outcome in (("Candyman: Farewell to th", "truncated"), ("Candyman: a tale that is to be f", "exact")):
        lines = read(f"1. Heat\n2. {line}", names, candidates=None, history=(), finish="length").lines
        assert [line.outcome for line in lines] == ["exact", outcome]


def test_a_shared_text_is_a_candidate_then_unseen_then_the_first() -> None:
    names = shelf("Ice Storm, The (1997)", "Ice Storm, The (1997)", "The Ice Storm (1997)")
    assert names.collisions.text == (("0", "1"),)
    assert names.collisions.form == (("0", "1", "2"),)

    def taken(text: str, candidates: set[str] | None, history: set[str]) -> tuple[str | None, str]:
        (line,) = read(text, names, candidates=candidates, history=history).lines
        return line.item, line.outcome

    text = '"Ice Storm, The (1997)"'
    assert taken(text, None, set()) == ("0", "exact")
    assert taken(text, {"1"}, set()) == ("1", "exact")
    assert taken(text, {"2"}, {"0"}) == ("1", "out_of_candidates")
    assert taken(text, None, {"0"}) == ("1", "exact")
    assert taken(text, None, {"0", "1"}) == ("0", "in_history")
    assert taken('"the ice storm 1997"', {"2"}, set()) == ("2", "normalised")
    assert taken('"Ice Storm"', {"2"}, set()) == ("2", "fuzzy")


def test_normal_forms(catalogues: dict[str, tuple[Item, ...]]) -> None:
    assert normal("Horseman on the Roof, The (Hussard sur le toit, Le) (1995)") == (
        "the horseman on the roof le hussard sur le toit 1995"
    )
    assert normal("Vitamin C™ &amp; E – 1,000 mg / .5 oz.") == "vitamin c and e 1000 mg 0.5 oz"
    assert normal("Uomo delle stelle, L' (1995)") == normal("L’uomo delle stelle (1995)")
    assert normal("?!") == ""
    for item in catalogues["films"]:
        assert normal(normal(item.text)) == normal(item.text)


@pytest.mark.parametrize(("codes", "message"), [({"0": "B-1"}, "'B-1'"), ({"0": "12"}, "'12'")])
def test_codes_that_could_be_part_of_a_title(codes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Names([Item("0", "x")], codes)


def test_what_a_prompt_shows_is_a_name_beside_the_whole_title() -> None:
    items = [Item("1", "Hamlet (1990)"), Item("2", "Hamlet (1996)"), Item("3", "Usual Suspects, The (1995)")]
    names = Names(items, shown={"1": "Hamlet", "2": "Hamlet", "3": "Usual Suspects, The"})
    found = {
        text: names.find(text) for text in ("Hamlet", "Hamlet (1996)", "the usual suspects (1995)", "Hamlet (1948)")
    }
    assert {text: what and (what.items, what.match) for text, what in found.items()} == {
        "Hamlet": (("1", "2"), "exact"),
        "Hamlet (1996)": (("2",), "exact"),
        "the usual suspects (1995)": (("3",), "normalised"),
        "Hamlet (1948)": None,
    }
    assert names.collisions.text == (("1", "2"),)


def test_a_product_may_be_named_without_its_code() -> None:
    names = Names([Item("1", "Red Polish")], {"1": "B004ZT0SSG"}, {"1": "B004ZT0SSG (Red Polish)"})
    for text in ("B004ZT0SSG (Red Polish)", "Red Polish", "B004ZT0SSG"):
        what = names.find(text)
        assert what is not None
        assert (what.items, what.match) == (("1",), "exact")


def test_misuse() -> None:
    with pytest.raises(ValueError, match="same id"):
        Names([Item("0", "x"), Item("0", "y")])
    with pytest.raises(ValueError, match="limit is 0"):
        free("x", shelf("x"), limit=0)
