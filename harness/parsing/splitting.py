"""An answer cut into what each line of its list says. The catalogue helps only to find where a name ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from harness.parsing.lookup import look
from harness.parsing.markup import QUOTES, Row, is_cut_talk, is_talk, rows, talks, without_intro
from harness.parsing.names import Found, Names
from harness.parsing.normal import ends_with_year
from harness.parsing.objects import Piece, listed

# Where a model writes nothing but blanks, `\s*` would begin anew at each of them.
_SEPARATOR = re.compile(r"\s{0,99}[,;|]\s*|\s{1,99}[/•·]\s+|\t+|\s{0,99}→\s*|(?<=\([12]\d\d\d\))\s+(?=[\"\w])")
_AND = re.compile(r"^(?:and|&|or|plus)\s+", re.IGNORECASE)
_BEHIND = re.compile(r"\s*(?:[,;.!?:|)\]}\"]|$|[-–—(/]|and\b|or\b|&|by\b)")
_FIRMLY = re.compile(r"\s*(?:[,;\])]|$)")
_YEARS = re.compile(r"\s*[,–-]?\s*\(?((?:18|19|20)\d\d)(?![\w:])\)?")
_REASONS = re.compile(r"\W*(?:reason\w*|explanations?|why|rationale|notes?|analysis)\b[^:]{0,60}:\W*$", re.IGNORECASE)
_COLUMN = re.compile(
    r"#|no\.?|nr\.?|rank|title|movies?|films?|items?|products?|names?|asin|year|movie title|product name", re.IGNORECASE
)
MOST = 400
"""Parts of one line that are looked at; more than any list of ten titles has."""


def split(text: str, names: Names) -> list[Piece]:
    """The lines of the list, in order; introductions, explanations and closing remarks are none.

    `text` is the answer without its wrappers (`markup.unwrapped`).
    """
    if "\n" not in text.strip() and text.lstrip()[:1] not in list('"[{') and look(text, names):
        return [Piece(text.strip(), closed=text[-1:] in list('\n"”»]'))]
    body = _body(text, names)
    found = listed(body)
    if found is None:
        found = list(_of_rows(rows(body), names)) or spotted(body, names)
    return [piece for piece in found if re.search(r"\w", piece.text)]


def spotted(text: str, names: Names) -> list[Piece]:
    """What running text names: a piece for every code, else for every year in brackets and the title before it."""
    codes = [word for word in re.findall(r"\w+", text) if names.by_code(word)]
    if codes:
        return [Piece(code) for code in codes]
    pieces, done = [], 0
    for year in re.finditer(r"\((?:18|19|20)\d\d\)", text):
        words = [word.start() + done for word in re.finditer(r"(?<!\S)\S", text[done : year.start()])][-15:]
        title = next((text[n : year.end()] for n in words if names.find(text[n : year.end()])), None)
        pieces.append(Piece((title or text[done : year.end()]).strip(" ,;.\n")))
        done = year.end()
    return pieces


def _body(text: str, names: Names) -> str:
    """The answer without its opening."""
    while not look(text.strip().split("\n")[0], names):
        behind = without_intro(text)
        if behind == text:
            break
        text = behind
    return text


def _of_rows(lines: Sequence[Row], names: Names) -> Iterator[Piece]:
    kind = _kind(lines)
    indent = min((row.indent for row in lines if row.mark == kind), default=0)
    alone = sum(not is_talk(row.rest) for row in lines) == 1
    begun = False
    for place, row in enumerate(lines):
        if begun and _REASONS.match(row.rest) and not look(row.rest, names):
            return
        begun = begun or row.mark == kind
        if kind == "table" and row.mark == kind:
            if cell := _cell(row, names):
                yield Piece(cell)
        elif kind != "none" and row.mark == kind and row.indent < indent + 2:
            yield from _item(row, names)
        elif names.exact(row.whole) or look(row.rest, names):
            yield Piece(row.rest, row.closed, row.whole)
        elif kind == "none":
            last = place == len(lines) - 1 and not row.closed
            talk = (is_cut_talk if last else is_talk)(row.rest)
            if not (row.rest.rstrip().endswith(":") and talk):
                yield from _plain(row, names, alone, talk)
        elif _leads(lines, place):
            yield from _item(row, names)


def _kind(lines: Sequence[Row]) -> str:
    """The mark that makes a line one of the list: what is under another mark is explanation."""
    marks = [row.mark for row in lines]
    for mark in ("table", "number", "bullet"):
        if marks.count(mark) > 1 or (mark in marks and marks[-1] == mark):
            return mark
    return next((mark for mark in ("number", "bullet") if mark in marks), "none")


def _leads(lines: Sequence[Row], place: int) -> bool:
    """Whether this unmarked line is the first of a list whose number 1 stood at the end of the prompt."""
    after = lines[place + 1] if place + 1 < len(lines) else None
    return place == 0 and after is not None and after.number == 2 and not is_talk(lines[0].rest)


def _cell(row: Row, names: Names) -> str | None:
    """What a row of a table says of an item; None of the row that names the columns."""
    cells = [cell.strip(" *`") for cell in row.rest.split("|")]
    year = next((cell for cell in cells if re.fullmatch(r"(?:18|19|20)\d\d", cell)), None)
    worded = [cell for cell in cells if re.search(r"[^\W\d]", cell)]
    both = [f"{cell} ({year})" for cell in worded if year and not ends_with_year(cell)]
    known = next((cell for cell in (*both, *worded) if look(cell, names)), None)
    if known is None and any(_COLUMN.fullmatch(cell) for cell in cells):
        return None
    return known or next(iter((*both, *worded)), None)


def _item(row: Row, names: Names) -> Iterator[Piece]:
    """A marked line: one item, unless the numbers go on in it, or it is a list of nothing but names."""
    if names.exact(row.whole) is None and look(row.rest, names) is None:
        if row.number is not None and (parts := _counted(row)):
            yield from parts
            return
        parts = _parts(row.rest, names, row.closed)
        if len(parts) > 1 and all(part.known for part in parts):
            yield from parts
            return
    if re.search(r"\w", row.rest):
        yield Piece(row.rest, row.closed, row.whole)


def _counted(row: Row) -> list[Piece]:
    """`1. Heat (1995) 2. Casino (1995) 3. ...`, on one line."""
    cuts, number, start = [0], (row.number or 0) + 1, 0
    before, behind = re.split(r"\d+", row.whole, maxsplit=1)
    # In the dress of the first number only: `4.` is not followed by the 4) of `(Pack of 4)`.
    before, behind = re.escape(before.strip()[-1:]), re.escape(behind.strip()[:1])
    while found := re.compile(rf"[\s,;]+{before}{number}{behind}\s*(?=\D)").search(row.rest, start):
        cuts += [found.start(), found.end()]
        number, start = number + 1, found.end()
    if len(cuts) < 3:
        return []
    ends = [*cuts[1::2], len(row.rest)]
    return [
        Piece(row.rest[begin:end], closed=row.closed or end < len(row.rest))
        for begin, end in zip(cuts[::2], ends, strict=True)
    ]


def _plain(row: Row, names: Names, alone: bool, talk: bool) -> Iterator[Piece]:
    """An unmarked line that is no name by itself: quoted names, a comma list, one unknown name, or talk."""
    if quoted := _quoted(row.rest, names, row.closed):
        yield from quoted
        return
    if talks(row.rest) and (found := spotted(row.rest, names)) and not talk:
        yield from found
        return
    parts = _parts(row.rest, names, row.closed)
    known = sum(part.known for part in parts)
    dated = sum(ends_with_year(part.text) for part in parts)
    if len(parts) > 1 and not talk:
        short = all(len(part.text.split()) <= 8 for part in parts)
        if (known > 1 and 2 * known >= len(parts)) or dated > 1 or (alone and short and len(parts) >= 5):
            yield from parts
            return
    if not talk:
        yield Piece(row.rest, row.closed, row.whole)


def _quoted(text: str, names: Names, closed: bool) -> list[Piece]:
    """The quoted names of a line. A quote ends where a known name does, else at the first place where it can."""
    plain = text.translate(QUOTES)
    # An apostrophe opens a quote only in a line that begins with one, or in brackets: `['Heat', "Schindler's List"]`.
    either = re.match(r"\s*[\[(]\s*[\"']|\s*'.*'", plain)
    opener = re.compile(r"(?:(?<=[\[(,;])|^)\s*([\"'])(?=\S)" if either else r"(?:(?<!\w)|^\s*)(\")(?=\S)")
    pieces: list[Piece] = []
    place = 0
    while len(pieces) < MOST and (found := opener.search(plain, place)):
        start = found.end()
        span = _span(text, plain, start, found[1], names)
        if span is None:
            if pieces or not plain[:start].strip(" \"'[("):
                pieces.append(Piece(_unescaped(text[start:]), closed))
            break
        pieces.append(Piece(_inside(text, start, span), known=True))
        place = span[0] + 1 + len(span[1])
    leading = plain.lstrip(" [(")[:1] in list("\"'" if either else '"')
    known = [look(piece.text, names) is not None for piece in pieces]
    if leading or (any(known) and (len(pieces) > 1 or all(known))):
        return pieces
    return []


def _span(text: str, plain: str, start: int, quote: str, names: Names) -> tuple[int, str] | None:
    """Where the quote that opens at `start` ends, and the year behind it."""
    ends = [end.start() for end in islice(re.compile(rf"(?<!\\){quote}").finditer(plain, start), 8)]
    spans = [(end, _year_behind(text, end + 1)) for end in ends]
    firm = [span for span in spans if _FIRMLY.match(text, span[0] + 1 + len(span[1]))]
    for span in (*firm, *spans):
        if look(_inside(text, start, span), names):
            return span
    likely = [span for span in spans if _BEHIND.match(plain, span[0] + 1)]
    return next(iter((*likely, *spans)), None)


def _year_behind(text: str, place: int) -> str:
    found = _YEARS.match(text, place)
    return found[0] if found else ""


def _inside(text: str, start: int, span: tuple[int, str]) -> str:
    end, year = span
    found = _YEARS.match(year)
    return _unescaped(text[start:end]) + (f" ({found[1]})" if found else "")


def _unescaped(text: str) -> str:
    return re.sub(r"\\([\"'\\])", r"\1", text.replace('""', '"')).strip()


def _parts(text: str, names: Names, closed: bool) -> list[Piece]:
    """A list with separators, some of which belong to names: the cut that finds names in most of its parts, and
    among those the one with the fewest, longest names."""
    marks = list(_SEPARATOR.finditer(text))[:MOST]
    starts = [0, *(mark.end() for mark in marks)]
    ends = [*(mark.start() for mark in marks), len(text)]
    count = len(starts)
    best: list[tuple[int, int, int, Found | None]] = [(0, 0, count, None)] * (count + 1)
    for first in range(count - 1, -1, -1):
        best[first] = (best[first + 1][0], best[first + 1][1] - 1, first + 1, None)
        for last in range(first, min(count, first + names.pieces)):
            found = _named(text[starts[first] : ends[last]], names)
            score = (best[last + 1][0] + last - first + 1, best[last + 1][1] - 1)
            if found and score >= best[first][:2]:
                best[first] = (*score, last + 1, found)
    pieces: list[Piece] = []
    strange: list[int] = []
    place = 0
    while place < count:
        _, _, after, found = best[place]
        if found:
            pieces += _glued(text, starts, ends, strange)
            strange = []
            pieces.append(Piece(_AND.sub("", text[starts[place] : ends[after - 1]]), known=True))
        else:
            strange.append(place)
        place = after
    pieces += _glued(text, starts, ends, strange)
    pieces = [piece for piece in pieces if re.search(r"\w", piece.text)]
    if pieces and ends[-1] - starts[-1] > 0:
        pieces[-1] = pieces[-1]._replace(closed=closed)
    return pieces


def _named(text: str, names: Names) -> Found | None:
    if not re.search(r"\w", text):
        return None
    return look(text, names) or (look(_AND.sub("", text), names) if _AND.match(text) else None)


def _glued(text: str, starts: Sequence[int], ends: Sequence[int], strange: Sequence[int]) -> list[Piece]:
    """Parts that name nothing: each is a name by itself, unless years or semicolons show where names end."""
    dated = any(ends_with_year(text[starts[n] : ends[n]]) for n in strange)
    strong = any(";" in text[ends[n] : starts[n + 1]] for n in strange if n + 1 < len(starts))
    pieces: list[Piece] = []
    first: int | None = None
    for n in strange:
        first = n if first is None else first
        after = text[ends[n] : starts[n + 1]] if n + 1 < len(starts) else ";"
        done = ends_with_year(text[starts[n] : ends[n]]) if dated else (";" in after if strong else True)
        if done or n == strange[-1]:
            pieces.append(Piece(_AND.sub("", text[starts[first] : ends[n]])))
            first = None
    return pieces
