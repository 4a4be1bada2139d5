"""The leaderboard's page as its readers have it: opened from a file, in a real browser, without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from leaderboard.html import page
from leaderboard.sheet import Card, Cell, Line, Sheet, Verdict
from tests.programs import program
from tests.sample_sheets import (
    AUC,
    LOSS,
    NASTY,
    USER_AUC,
    cards,
    cell,
    reported,
    run,
    sequential,
    small,
    tallrec,
    value,
)

pytestmark = pytest.mark.slow

Open = Callable[..., Page]

CONTRASTS = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, part, n) => sum + part * linear(rgb[n] / 255), 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, alpha = 1] = parse(getComputedStyle(at).backgroundColor);
      if (alpha === 1) return [r, g, b];
    }
    throw new Error("nothing behind " + element.outerHTML);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = {};
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || element.closest("script") || !element.checkVisibility()) continue;
    const [ink, behind] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(ink, behind) + 0.05) / (Math.min(ink, behind) + 0.05);
    const name = element.tagName + "." + element.className;
    found[name] = Math.min(found[name] ?? 99, ratio);
  }
  return found;
}"""
"""By kind of element, the least contrast of its text with what is behind it, as WCAG 2 defines it."""


@dataclass(frozen=True)
class Heard:
    """What a browser said, and what it asked for."""

    said: list[str]
    asked: list[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = program("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sheets = [tallrec(), sequential()]
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page(sheets, cards(*sheets), "The leaderboard"), "utf-8")
    return path


def listen(context: BrowserContext) -> Heard:
    heard = Heard([], [])
    context.on("request", lambda request: heard.asked.append(request.url))
    context.on("console", lambda message: heard.said.append(f"{message.type}: {message.text}"))
    context.on("weberror", lambda error: heard.said.append(str(error.error)))
    return heard


@pytest.fixture
def show(browser: Browser, board: Path) -> Iterator[Open]:
    """Opens a page from its file. In the end no page may have said a word, or asked for anything but itself."""
    opened: list[tuple[BrowserContext, Heard, str]] = []

    def open_(path: Path = board, width: int = 1280, height: int = 900, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce", **options)
        context.set_default_timeout(5000)
        opened.append((context, listen(context), path.as_uri()))
        tab = context.new_page()
        tab.goto(path.as_uri())
        return tab

    yield open_
    for context, heard, address in opened:
        context.close()
        assert heard.said == []
        assert heard.asked == [address]


def written(folder: Path, sheets: Sequence[Sheet], known: Sequence[Card] = ()) -> Path:
    path = folder / "page.html"
    path.write_text(page(sheets, known), "utf-8")
    return path


def table(tab: Page, sheet: Sheet) -> Locator:
    return tab.locator(f"table[data-sheet='{sheet.key}']")


def rows(at: Locator) -> list[str]:
    """The names of the rows that are there to see, from the top."""
    visible = "[...table.tBodies[0].rows].filter((row) => row.checkVisibility())"
    found: list[str] = at.evaluate(f"table => {visible}.map((row) => row.querySelector('.model').textContent)")
    return found


def press(at: Locator, column: str) -> str | None:
    """Click on a column's head; what the head then says of the order."""
    head = at.locator("thead th").filter(has=at.page.get_by_role("button", name=column, exact=True))
    head.get_by_role("button").click()
    return head.get_attribute("aria-sort")


COLUMNS: dict[str, tuple[str, Callable[[Line], float | None]]] = {
    "AUC": ("descending", lambda line: value(line, AUC)),
    "UserAUC": ("descending", lambda line: value(line, USER_AUC)),
    "LogLoss": ("ascending", lambda line: value(line, LOSS)),
    "yes_no_mass": ("descending", lambda line: found.value if (found := line.cells.get("yes_no_mass")) else None),
    "n": ("descending", lambda line: line.instances),
    "failed": ("ascending", lambda line: line.failure_rate),
    "parsed": ("descending", lambda line: line.parse_rate),
    "tokens read": ("ascending", lambda line: line.tokens and line.tokens[0]),
    "tokens written": ("ascending", lambda line: line.tokens and line.tokens[1]),
    "time": ("ascending", lambda line: None if line.cached else line.seconds),
}


def test_every_column_sorts_both_ways_and_back(show: Open) -> None:
    """Blank cells last, whichever way; equal ones as they came; chance and reported rows among the others."""
    sheet = tallrec()
    at = table(show(), sheet)
    came = [line.name for line in sheet.lines]
    assert rows(at) == came
    for column, (first, key) in COLUMNS.items():
        known = [line for line in sheet.lines if key(line) is not None]
        blank = [line.name for line in sheet.lines if key(line) is None]
        up = [line.name for line in sorted(known, key=lambda line: key(line) or 0.0)] + blank
        down = [line.name for line in sorted(known, key=lambda line: -(key(line) or 0.0))] + blank
        order = {"ascending": up, "descending": down}
        second = "ascending" if first == "descending" else "descending"
        assert (press(at, column), rows(at)) == (first, order[first])
        assert (press(at, column), rows(at)) == (second, order[second])
        assert (press(at, column), rows(at)) == (None, came)


def test_names_sort_as_people_count(show: Open, tmp_path: Path) -> None:
    names = ["k=64", "Alpha", "k=8", "beta", "k=256"]
    sheet = small(*(Line(name, "baseline", {"AUC": Cell(0.5)}) for name in names))
    at = table(show(written(tmp_path, [sheet])), sheet)
    assert (press(at, "model"), rows(at)) == ("ascending", ["Alpha", "beta", "k=8", "k=64", "k=256"])
    assert (press(at, "model"), rows(at)) == ("descending", ["k=256", "k=64", "k=8", "beta", "Alpha"])


def test_numbers_sort_as_numbers_and_only_one_column_at_a_time(show: Open, tmp_path: Path) -> None:
    losses = {"a": 10.5, "b": 9.25, "c": -3.0, "d": 1e-9, "e": None, "f": 0.0}
    lines = [Line(name, "baseline", {"AUC": Cell(0.5), "LogLoss": Cell(loss)}) for name, loss in losses.items()]
    sheet = small(*lines)
    at = table(show(written(tmp_path, [sheet])), sheet)
    assert (press(at, "LogLoss"), rows(at)) == ("ascending", ["c", "f", "d", "b", "a", "e"])
    assert (press(at, "LogLoss"), rows(at)) == ("descending", ["a", "b", "d", "f", "c", "e"])
    press(at, "model")
    assert at.locator("[aria-sort]").count() == 1


def test_the_keyboard_sorts_too_and_other_tables_stay(show: Open) -> None:
    tab = show()
    first, second = table(tab, tallrec()), table(tab, sequential())
    first.get_by_role("button", name="LogLoss").focus()
    tab.keyboard.press("Enter")
    assert rows(first)[0] == "models/tiny + adapters/tallrec-64 (vllm, float32)"
    assert rows(first)[5] == "chance"
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Space")
    assert first.locator("[aria-sort]").inner_text().startswith("UserAUC")
    assert rows(second) == [line.name for line in sequential().lines]


def test_the_filter_takes_words_and_kinds(show: Open) -> None:
    tab, sheet = show(), tallrec()
    at, other = table(tab, sheet), table(tab, sequential())
    box, told = tab.get_by_role("searchbox", name="Filter rows by name"), tab.locator("#count")
    total = len(sheet.lines) + len(sequential().lines)
    assert told.inner_text() == f"{total} rows"
    box.fill("TALLREC-64 tiny")
    names = ["models/tiny + adapters/tallrec-64 (vllm, float32)", "models/tiny-2 + adapters/tallrec-64 (vllm, float32)"]
    assert (rows(at), rows(other)) == (names, [])
    assert other.get_by_text("No row matches the filter.").is_visible()
    assert not at.get_by_text("No row matches the filter.").is_visible()
    assert told.inner_text() == f"2 of {total} rows"
    box.fill("")
    for kind in ("baseline", "language model", "reported"):
        tab.get_by_role("checkbox", name=kind).uncheck()
    assert rows(at) == [line.name for line in sheet.lines if line.kind in ("adapter", "chance")]
    assert rows(other) == ["chance"]
    tab.get_by_role("checkbox", name="reported").check()
    press(at, "AUC")
    assert rows(at)[2:4] == ["TALLRec, K = 64", "models/tiny + adapters/tallrec-16 (vllm, float32)"]
    tab.get_by_text("AUC by history").click()
    split = tab.locator("details.split table").first
    assert rows(split) == [line.name for line in sheet.lines[:13] if line.kind == "adapter"]


def test_a_row_opens_its_run_card(show: Open) -> None:
    tab, sheet = show(), tallrec()
    name = "simple:like-rate"
    (card,) = (card for card in cards(sheet) if card.run == run("tallrec", name))
    link = table(tab, sheet).get_by_role("link", name=name, exact=True)
    link.focus()
    tab.keyboard.press("Enter")
    dialog = tab.get_by_role("dialog")
    assert dialog.get_by_role("heading").inner_text() == card.run
    shown = dict(zip(dialog.locator("dt").all_inner_texts(), dialog.locator("dd").all_inner_texts(), strict=True))
    assert shown == card.facts
    tab.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert link.evaluate("link => link === document.activeElement")
    link.click()
    tab.get_by_role("button", name="Close the run card").click()
    assert not dialog.is_visible()
    linked = {link.inner_text() for link in table(tab, sheet).locator("a.model").all()}
    assert linked == {line.name for line in sheet.lines if line.run}


def test_marks_badges_and_verdicts(show: Open) -> None:
    tab, sheet = show(), tallrec()
    at = table(tab, sheet)

    def score(name: str, column: int) -> Locator:
        return at.locator("tr").filter(has=tab.get_by_text(name, exact=True)).locator("td").nth(column)

    best, second = score(sheet.lines[0].name, 0), score("simple:like-rate", 0)
    assert best.inner_text().split() == ["0.7312", "best", "[0.6412,", "0.8212]"]
    assert second.inner_text().split() == ["0.7260", "second", "†", "[0.6390,", "0.8130]"]
    style = "(value, name) => getComputedStyle(value)[name]"
    assert int(best.locator(".value").evaluate(style, "fontWeight")) >= 700
    assert int(second.locator(".value").evaluate(style, "fontWeight")) == 400
    assert "underline" in second.locator(".value").evaluate(style, "textDecorationLine")
    assert score("search:bm25", 0).inner_text() == "n/a"
    assert score("models/tiny-2 + adapters/tallrec-64 (vllm, float32)", 1).inner_text() == "not complete"
    assert [score("recbole:SASRec", n).inner_text() for n in (2, 3)] == ["", ""]
    assert at.locator(".place").all_text_contents()[12:16] == ["place 13", "", "", ""]
    theirs = at.locator("tr[data-kind=reported]").filter(has_text="GRU4Rec")
    assert theirs.locator(".badge").all_inner_texts() == ["reported", "not reproduced"]
    why = theirs.get_by_text("recbole:GRU4Rec has 0.6018 [0.5410, 0.6626]; tolerance 0.02")
    assert not why.is_visible()
    theirs.locator("summary").click()
    assert why.is_visible()
    grounds = {row: at.locator(f"tr[data-kind='{row}'] td").first.evaluate(style, "backgroundColor")
               for row in ("adapter", "chance", "reported")}  # fmt: skip
    assert len(set(grounds.values())) == 3
    badges = tab.locator(f"#table-{sequential().key} .about .badge").all_inner_texts()
    assert badges == ["sampled metric: 100 candidates", "sample of 1000"]
    assert tab.locator(f"#table-{sheet.key} .notes li").all_inner_texts() == list(sheet.notes)


def test_bars_share_the_scale_of_their_column(show: Open, tmp_path: Path) -> None:
    lines = [Line("a", "baseline", {"AUC": cell(0.8, 0.1)}), Line("b", "baseline", {"AUC": cell(0.6, 0.05)})]
    sheet = small(*lines, Line("chance", "chance", {"AUC": Cell(0.5)}), reported("c", {"AUC": Cell(0.7)}))
    at = table(show(written(tmp_path, [sheet])), sheet)
    drawn = [
        (bar.locator("circle").get_attribute("cx"), [line.get_attribute("x2") for line in bar.locator("line").all()])
        for bar in at.locator("svg.bar").all()
    ]
    assert drawn == [
        ("75.0%", ["0.0%", "100.0%"]),
        ("25.0%", ["0.0%", "37.5%"]),
        ("0.0%", ["0.0%"]),
        ("50.0%", ["0.0%"]),
    ]
    left, wide = at.locator("svg.bar").first.bounding_box(), at.locator("svg.bar .reach").first.bounding_box()
    assert left
    assert wide
    assert wide["x"] - left["x"] == pytest.approx(left["width"] / 2, abs=2)
    assert wide["width"] == pytest.approx(left["width"] / 2, abs=4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read_in_both_themes(show: Open, scheme: str) -> None:
    """The system's theme and the button's look the same."""
    tab = show(color_scheme=scheme)
    other = {"light": "dark", "dark": "light"}[scheme]
    ground = "getComputedStyle(document.body).backgroundColor"
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    grounds = [tab.evaluate(ground)]
    for _ in range(2):
        contrasts = tab.evaluate(CONTRASTS)
        assert len(contrasts) > 30
        assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}
        tab.get_by_role("button", name=f"Switch to {other if len(grounds) == 1 else scheme}").click()
        grounds.append(tab.evaluate(ground))
    colours = {"light": "rgb(247, 247, 245)", "dark": "rgb(18, 20, 23)"}
    assert grounds == [colours[scheme], colours[other], colours[scheme]]


def test_a_telephone_shows_it_all(show: Open) -> None:
    """Nothing moves sideways but the tables, whose heads and names stay in sight."""
    tab = show(width=400, height=800)
    assert tab.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]") == [400, 400]
    at = table(tab, tallrec())
    scroll, name, head = at.locator(".."), at.locator("tbody th").first, at.locator("thead th").nth(1)
    before, above = name.bounding_box(), head.bounding_box()
    scroll.evaluate("box => { box.scrollLeft = 500; }")
    assert scroll.evaluate("box => box.scrollLeft") == 500
    assert name.bounding_box() == before
    scroll.evaluate("box => { box.scrollLeft = 0; box.scrollTop = 300; }")
    assert head.bounding_box() == above
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert tab.evaluate("document.documentElement.scrollWidth") == 400
    tab.get_by_role("link", name="simple:like-rate", exact=True).first.click()
    assert tab.evaluate("document.documentElement.scrollWidth") == 400


def test_the_list_of_tables_leads_to_them(show: Open) -> None:
    tab = show()
    listed = tab.get_by_role("navigation", name="Tables")
    listed.get_by_role("link", name=sequential().title).click()
    expect(listed.get_by_role("link", name=sequential().title)).to_have_attribute("aria-current", "true")
    assert tab.url.endswith("#table-77d0e9aa")
    assert listed.get_by_role("heading").all_inner_texts() == [tallrec().paper, sequential().paper]


def test_without_scripts_everything_is_there(show: Open) -> None:
    tab, sheet = show(java_script_enabled=False), tallrec()
    assert rows(table(tab, sheet)) == [line.name for line in sheet.lines]
    assert not tab.locator("#tools").is_visible()
    tab.get_by_role("link", name="simple:like-rate", exact=True).first.click()
    assert tab.locator("dd").get_by_text("simple:like-rate", exact=True).first.is_visible()


def test_no_text_becomes_markup_and_the_policy_stops_the_rest(browser: Browser, tmp_path: Path) -> None:
    hostile = f'</script><script>document.title="x"</script><img src=x onerror="document.title=1"> {NASTY}'
    line = replace(reported(hostile, {hostile: Cell(0.5)}, Verdict("inconclusive", hostile), hostile), run=hostile)
    sheet = small(line, title=hostile, notes=[hostile])
    sheet = replace(sheet, columns=[replace(AUC, name=hostile)], headline=hostile, badges=[hostile], paper=hostile)
    path = written(tmp_path, [sheet], [Card(hostile, {hostile: hostile})])
    context = browser.new_context()
    heard = listen(context)
    tab = context.new_page()
    tab.goto(path.as_uri())
    assert tab.locator("tbody .model").inner_text() == hostile
    assert tab.locator(".notes li").inner_text() == hostile
    tab.locator("a.model").click()
    assert tab.locator("dialog dd").inner_text() == hostile
    assert heard == Heard([], [path.as_uri()])
    assert tab.title() == "Leaderboard"
    blocked = [
        "document.body.append(Object.assign(new Image(), {src: 'https://example.org/a.png'}))",
        "fetch('https://example.org/').catch(() => 0)",
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title = 2'}))",
        "document.body.setAttribute('style', 'color: red')",
    ]
    for attempt in blocked:
        tab.evaluate(f"() => {{ {attempt}; }}")
    assert tab.title() == "Leaderboard"
    assert tab.locator("body").evaluate("body => getComputedStyle(body).color") == "rgb(27, 29, 33)"
    for kind in ("img-src", "connect-src", "script-src", "style-src"):
        assert any(kind in said and "Content Security Policy" in said for said in heard.said), kind
    context.close()


def test_an_empty_leaderboard_is_a_page_too(show: Open, tmp_path: Path) -> None:
    assert show(written(tmp_path, [])).get_by_role("heading", name="Leaderboard").is_visible()
    nobody = small()
    assert table(show(written(tmp_path, [nobody])), nobody).is_visible()
