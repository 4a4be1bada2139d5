"""The leaderboard's page as text: whole, valid, the same every time, and with no way out."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.html import page
from leaderboard.sheet import Breakdown, Card, Cell, Column, Line, Part, Verdict
from tests.sample_sheets import NASTY, cards, reported, sequential, small, tallrec

VOID = {"meta", "input", "br", "img", "link"}


class Read(HTMLParser):
    """Every element's attributes, and the text of cells; it fails where elements are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {tag} {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data

    def all(self, name: str) -> list[str]:
        """The values of an attribute, wherever it is."""
        return [value or "" for _, attributes in self.elements for found, value in attributes.items() if found == name]


def whole() -> str:
    sheets = [tallrec(), sequential()]
    return page(sheets, cards(*sheets), "All")


def test_the_policy_names_the_page_s_own_style_and_script_and_nothing_else() -> None:
    text = whole()
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    named = [f"'sha256-{b64encode(sha256(part.encode()).digest()).decode()}'" for part in (style, script)]
    policy = next(attributes["content"] for _, attributes in Read(text).elements if "http-equiv" in attributes)
    assert policy == (
        f"default-src 'none'; style-src {named[0]}; script-src {named[1]}; base-uri 'none'; form-action 'none'"
    )


def test_nothing_leads_outside() -> None:
    read = Read(whole())
    assert not re.search(r"url\(|@import|https?:|import\(|fetch\(|XMLHttp", whole())
    assert all(link.startswith("#") for link in read.all("href"))
    assert not {"src", "srcset", "action", "style"} & {name for _, found in read.elements for name in found}
    assert not [name for _, found in read.elements for name in found if name.startswith("on")]


def test_names_of_places_are_unique_and_links_lead_to_them() -> None:
    read = Read(whole())
    ids = read.all("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in read.all("href")} <= set(ids)
    assert {name for label in read.all("aria-labelledby") for name in label.split()} <= set(ids)


def test_every_row_has_a_cell_for_every_column() -> None:
    text = whole()
    for table in re.findall(r"<table.*?</table>", text, re.DOTALL):
        *rows, none = Read(table).rows
        assert len({len(row) for row in rows}) == 1
        assert none == ["No row matches the filter."]


def test_columns_that_say_nothing_are_left_out() -> None:
    sheet = small(Line("a", "baseline", {"AUC": Cell(0.5)}, instances=7), Line("b", "baseline", {}, failure_rate=0.0))
    head, *rows, _ = Read(page([sheet], [])).rows
    assert [cell.removesuffix("higher is better") for cell in head] == ["model", "AUC", "n", "failed"]
    assert [row[1:] for row in rows] == [["0.5000", "7", ""], ["", "", "0.0 %"]]


def test_times_and_counts() -> None:
    seconds = [
        ("s", 119.94, False),
        ("min", 120.0, False),
        ("min", 7199.0, False),
        ("h", 7200.0, False),
        ("", 5.0, True),
    ]
    lines = [
        Line(str(n), "adapter", {}, tokens=(1_234_567, 0), seconds=spent, cached=cached, parse_rate=0.99949)
        for n, (_, spent, cached) in enumerate(seconds)
    ]
    _, *rows, _ = Read(page([small(*lines)], [])).rows
    assert rows[0][1:4] == ["99.9 %", "1,234,567", "0"]
    assert [row[4] for row in rows] == ["119.9 s", "2.0 min", "120.0 min", "2.0 h", "cached"]


def test_the_same_sheets_are_the_same_page() -> None:
    assert whole() == whole()


def said_everywhere(text: str) -> str:
    """A page that has this for every text."""
    line = Line(text, "baseline", {text: Cell(0.5, 0.4, 0.6)}, run=text, note=text)
    paper = reported(text, {}, Verdict("inconclusive", text), text)
    split = Breakdown(text, [Part(text, 3)], [(text, {text: Cell(None, why="undefined")})])
    sheet = replace(small(line, paper, title=text, notes=[text]), breakdowns=[split], badges=[text], paper=text)
    sheet = replace(sheet, columns=[Column(text, True, False)], headline=text)
    return page([sheet], [Card(text, {text: text})], text)


@pytest.mark.slow
@settings(max_examples=20)
@given(st.text(), st.text(st.sampled_from("<>&\"'/=- {}%#sctylepirom!")))
def test_no_text_changes_the_page_s_elements(some: str, marks: str) -> None:
    made, plain = (Read(said_everywhere(text)).elements for text in (f"x{some}{marks}", "x"))
    assert [(tag, list(found)) for tag, found in made] == [(tag, list(found)) for tag, found in plain]


def test_a_nasty_name_reads_as_it_is_written() -> None:
    _, row, _ = Read(page([small(Line(NASTY, "baseline", {"AUC": Cell(0.5)}))], [])).rows
    assert NASTY in row[0]
