"""What one line of an answer names, with whatever its writer put around the name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.parsing.markup import bold, peeled
from harness.parsing.names import LONGEST, SMALL, Found, Names
from harness.parsing.normal import ends_with_year
from harness.parsing.objects import Piece

_CUT = re.compile(
    r"\s{0,99}[–—]\s*|\s{1,99}[-~|→/]+\s+|-\s+|:\s+|\s{0,99}[(\[{]|,\s+|;\s+|[.!?]\s+|(?<=\))\s+|(?<=\))(?=:)|\s+(?=by\s)|\t|\s{2,}"
)
CUTS = 16
"""Places at which an explanation is sought to begin; a name is at the front of its line."""


def look(text: str, names: Names) -> Found | None:
    """What the text names as it stands, apart from markup around it; the most literal reading wins."""
    if len(text) > LONGEST + 100:
        return None
    forms = list(dict.fromkeys(peeled(text)))
    for form in forms:
        if found := names.exact(form):
            return found
    if (found := names.by_code(text)) and not _goes_on(found.rest):
        return found
    return names.same(forms[-1])


def _goes_on(rest: str) -> bool:
    """Whether the title behind a code was closed, and more of a list follows: `CODE (text), something`."""
    depth = 0
    for place, sign in enumerate(rest):
        depth += (sign == "(") - (sign == ")")
        if sign in ')"”' and depth <= 0 and re.match(r"[)\"”]*\s*[,;]\s*\S", rest[place:]):
            return True
    return False


def resolve(piece: Piece, names: Names) -> Found | None:
    """What a line of an answer names: the most literal reading first, the closest name last."""
    literal = (piece.text, piece.whole) if piece.known else (piece.whole, piece.text)
    for text in literal:
        if text is not None and (found := names.exact(text)):
            return found
    if found := look(piece.text, names):
        return found
    if strange := names.strange_code(piece.text):
        return _by_title(piece.text[strange.end() :], names)
    if found := names.by_code(piece.text, alone=False):
        return found
    heads = list(_heads(piece))
    for head, rest in heads:
        if found := look(head, names):
            return found._replace(rest=rest)
    for text, rest in [(piece.text, ""), *heads]:
        if found := names.close(list(peeled(text))[-1]):
            return found._replace(rest=rest)
    return None


def _by_title(text: str, names: Names) -> Found | None:
    """What stands behind a code that is nobody's. The code is what counts, so this is a guess at best."""
    title = re.sub(r"^[\W_]+|[\W_]+$", "", text)
    found = look(text.strip(" :-–—"), names) or look(title, names) or names.close(title)
    return found._replace(match="fuzzy") if found else None


def _heads(piece: Piece) -> Iterator[tuple[str, str]]:
    """What may be the name before an explanation, and the explanation; the longest first."""
    text = piece.text.strip()
    if stressed := bold(text):
        yield stressed, text[len(stressed) :]
    if piece.known:
        return
    for cut in reversed(list(_CUT.finditer(text))[:CUTS]):
        head, rest = text[: cut.start()], text[cut.start() :]
        if ends_with_year(list(peeled(head))[-1]) or _explains(head, rest):
            yield head, rest


def _explains(head: str, rest: str) -> bool:
    """Whether the rest is prose. A subtitle or a size would make it another name: `Batman: The Animated Series`."""
    words = [word for word in re.findall(r"[^\W_]+", rest) if word.casefold() not in SMALL]
    small = sum(word[0].islower() for word in words)
    return head != head.lower() and not re.search(r"\d", rest) and small >= 2 and 2 * small >= len(words)
