"""InstructRec's 39 templates: pinned, marked with their source, and filled as they say."""

from __future__ import annotations

import json
import re
from collections import Counter
from hashlib import sha256
from string import Formatter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.instructrec_templates import Filling, Template, listed, templates, without_history

TEXTS = "92166bc0"
"""sha256 over all texts as JSON, first eight digits."""
RANKING = ("A7", "A8", "A9", "A10", "A13", "B7", "B8", "B9", "C10", "C11", "C12", "C13")
EVERY = tuple(templates().by_code.values())
WHOLE = Filling(("Heat", "Alien"), "He prefers old films.", "Crime, Drama.", ("Fargo", "Seven"), "Fargo")


def slots(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_the_texts_are_pinned() -> None:
    text = json.dumps(dict(templates().texts), sort_keys=True)
    assert sha256(text.encode()).hexdigest()[:8] == TEXTS


def test_there_are_as_many_as_the_paper_counts() -> None:
    assert Counter(template.family for template in EVERY) == {"A": 17, "B": 9, "C": 13}
    assert [template.code for template in EVERY if template.form == "rank"] == list(RANKING)


def test_what_a_model_is_evaluated_with_is_marked_with_its_source() -> None:
    sources = {t.code: t.source for t in EVERY if t.form in ("rank", "pointwise")}
    assert {code for code, source in sources.items() if source == "re-implementation"} == {"C10", "C11", "C12", "C13"}
    assert {source for code, source in sources.items() if code[0] != "C"} == {"paper"}
    assert Counter(template.source for template in EVERY)["ours"] == 39 - 17


@pytest.mark.parametrize("template", EVERY, ids=lambda template: template.code)
def test_a_template_asks_with_what_its_code_says(template: Template) -> None:
    read, written = slots(template.text), slots(template.answer)
    assert ("candidates" in read) == (template.form == "rank")
    assert ("query" in read | written) == bool(template.query)
    assert not read & written, "an answer that stands in the prompt"
    if template.preference == "P0":
        assert "history" not in read | written
    elif template.preference == "P1":
        assert "history" in read | written
    assert ("preference" in read) == (template.optional or template.preference == "P2")
    if template.form in ("rank", "match"):
        assert template.answer == "{item}"


def test_the_codes_of_a_scenario() -> None:
    assert templates().ranking("A", None) == RANKING[:5]
    assert templates().ranking("B", "I2") == RANKING[5:8]
    assert templates().ranking("C", "P2") == templates().ranking("C", "I1") == RANKING[8:]


def test_titles_are_numbered() -> None:
    assert listed(["Heat (1995)", "Alien"]) == "1. Heat (1995), 2. Alien"
    assert listed([]) == ""


def test_filled_by_hand() -> None:
    seen = templates().by_code["A8"]
    assert seen.prompt(WHOLE) == (
        "You have observed that the user has clicked on the following items: 1. Heat, 2. Alien, indicating his "
        "personal tastes: He prefers old films. Based on this information, please select one item from the "
        "following options that you think would be suitable for the user: 1. Fargo, 2. Seven"
    )
    assert seen.target(WHOLE) == "Fargo"
    asked = templates().by_code["B7"].prompt(WHOLE)
    assert asked.startswith("You are a search engine and you meet a user's query Crime, Drama. Please respond to")
    pointwise = templates().by_code["A11"]
    assert pointwise.prompt(WHOLE).endswith("is it likely that the user will interact with Fargo next?")
    assert [pointwise.target(Filling(item="Fargo", yes=yes)) for yes in (True, False)] == ["Yes", "No"]


WITHOUT = {
    "A4": "infer the user's preference. Please",
    "A5": "the user's preferences. Then",
    "A6": "tells what he prefers. Now,",
    "A7": "the user's preferences. Then",
    "A8": "his personal tastes. Based",
    "A9": "is shown below: the user's historical",
    "A10": "the user's preferences. Now,",
    "A11": "personalized preferences. Based",
    "A12": "personalized preference. And",
    "A13": "about the user: the user's historical",
    "C10": "the user's preferences. Please",
    "C11": "his historical interactions. Please",
    "C12": "his personalized preference. Now",
    "C13": "the historical interactions. Now",
}


def test_a_preference_that_is_left_out_leaves_a_sentence() -> None:
    optional = [template.code for template in EVERY if template.optional]
    assert optional == list(WITHOUT)
    for code, part in WITHOUT.items():
        told = templates().by_code[code].prompt(Filling(("Heat",), "", "Crime", ("Fargo",), "Fargo"))
        assert part in told, told


titles = st.lists(st.text(min_size=1).filter(lambda t: t.strip()), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EVERY), titles, titles, st.text(), st.text())
def test_all_that_is_given_stands_in_the_text_as_it_is(
    template: Template, history: list[str], candidates: list[str], preference: str, query: str
) -> None:
    """Braces, percent signs and line ends in titles are text."""
    filling = Filling(history, preference, query, candidates, candidates[0])
    told, wanted = template.prompt(filling), slots(template.text)
    for name, text in (("history", listed(history)), ("candidates", listed(candidates)), ("query", query)):
        if name in wanted:
            assert text in told
    if preference and "preference" in wanted:
        assert preference in told


@pytest.mark.parametrize("template", EVERY, ids=lambda template: template.code)
def test_a_template_says_what_it_lacks(template: Template) -> None:
    assert template.can_fill(WHOLE)
    plain = Filling(WHOLE.history, "", "", WHOLE.candidates, "Fargo")
    needs = slots(template.text + template.answer) & {"preference", "query"}
    assert template.can_fill(plain) == (not needs - ({"preference"} if template.optional else set()))
    told = template.prompt(WHOLE)
    assert not re.search(r"\.\.|\{|\}", told), told


def test_the_oldest_titles_go_first() -> None:
    assert without_history(WHOLE, 1).history == ("Alien",)
