"""Which items of a catalogue a text could name. Never which of them would be right."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from harness.parsing.normal import NUMBERS, normal, numbers, variants
from harness.types import Item, ItemId

Match = Literal["exact", "normalised", "fuzzy"]
THRESHOLD = 88.0
"""A close name shares this many per cent of its characters at least (`rapidfuzz.fuzz.ratio`)."""
MARGIN = 3.0
"""And so many points more than the runner-up, else nobody knows which one was meant."""
SHORTEST = 8
"""Letters. One wrong letter makes `Heat` another film, so short names are never guessed."""
CODE_LENGTH = 6
"""Shorter codes would be found in titles, as the 2 in `Terminator 2` is."""
LONGEST = 1000
"""Characters. A longer text is no name, and is not compared with any."""
SMALL = frozenset(["the", "a", "an", "of", "and", "in"])


class Found(NamedTuple):
    """What a text names."""

    items: tuple[ItemId, ...]
    """In the order of the catalogue; several where they share the name."""
    match: Match
    rest: str = ""
    """What stands behind the name: an explanation, or the title behind a code."""


class Collisions(NamedTuple):
    """Groups of two or more items that nothing in an answer can tell apart, each in the order of the catalogue."""

    text: tuple[tuple[ItemId, ...], ...]
    """They share their text, to the character."""
    form: tuple[tuple[ItemId, ...], ...]
    """They share their normal form; all groups of `text` with a normal form are within these."""


class Names:
    """The names of a catalogue, indexed once and shared by all answers; it never changes."""

    def __init__(
        self,
        items: Sequence[Item],
        codes: Mapping[ItemId, str] | None = None,
        shown: Mapping[ItemId, str] | None = None,
    ) -> None:
        """`codes` are second names, such as ASINs; `shown` is how a prompt writes an item, where that is not its text,
        which remains a name of it. ValueError: two items have one id, or a code is not of six or more ASCII letters
        and digits."""
        if len({item.id for item in items}) != len(items):
            raise ValueError("two items of the catalogue have the same id")
        asked = [(text.strip(), item.id) for item in items if (text := (shown or {}).get(item.id, item.text))]
        known = [*asked, *((item.text.strip(), item.id) for item in items)]
        self._texts = _grouped(known)
        forms = {text: normal(text) for text in self._texts}
        self._forms = _grouped((forms[text], item) for text, item in known if text)
        self._variants = _unique_variants(forms, self._forms)
        self._codes = _grouped((codes[item.id], item.id) for item in items if item.id in codes) if codes else {}
        for code in self._codes:
            if not re.fullmatch(rf"[A-Za-z0-9]{{{CODE_LENGTH},}}", code):
                raise ValueError(f"code {code!r} is not of {CODE_LENGTH} or more letters and digits")
        self._folded = {code.casefold(): owners for code, owners in self._codes.items()}
        self._lengths = frozenset(len(code) for code in self._codes)
        self._by_numbers = _buckets([*self._forms, *self._variants])
        same = _grouped((forms[text], item) for text, item in asked if text)
        self.collisions = Collisions(_shared(_grouped(asked)), _shared(same))
        self.pieces = min(12, 1 + max((len(re.findall(r"[,;|/]", text)) for text in self._texts), default=0))
        """How many parts, between commas and the like, the longest name has; at most twelve."""

    def exact(self, text: str) -> Found | None:
        """The items whose text this is, to the character; blanks at its ends aside."""
        owners = self._texts.get(text.strip())
        return Found(owners, "exact") if owners else None

    def by_code(self, text: str, alone: bool = True) -> Found | None:
        """The items of the first code that stands in the text; `alone` asks that no other code does."""
        known = None
        for word in re.finditer(rf"[A-Za-z0-9]{{{CODE_LENGTH},}}", text) if self._codes else ():
            owners = self._codes.get(word[0]) or self._folded.get(word[0].casefold())
            if alone and known and (owners or self._shaped(word[0])):
                return None
            if owners and known is None:
                known = Found(owners, "exact" if word[0] in self._codes else "normalised", text[word.end() :])
        return known

    def strange_code(self, text: str) -> re.Match[str] | None:
        """Where the text begins with what looks like a code and is nobody's."""
        found = re.match(r"\W*([A-Z0-9]+)(?=\s*(?:$|[(:,\-–—]))", text) if self._codes else None
        code = found[1] if found else ""
        return found if self._shaped(code) and code.casefold() not in self._folded else None

    def _shaped(self, word: str) -> bool:
        """Whether a word looks like one of the codes."""
        return len(word) in self._lengths and word == word.upper() and any(c.isdigit() for c in word)

    def same(self, text: str) -> Found | None:
        """The items whose normal form this text has, or whose second name it is and nobody else's."""
        if len(text) > LONGEST:
            return None
        form = normal(text)
        if not form:
            return None
        if owners := self._forms.get(form):
            return Found(owners, "normalised")
        return self._variants.get(form)

    def begins(self, text: str) -> bool:
        """Whether a longer name begins with this text, as it stands or in its normal form."""
        if len(text) > LONGEST:
            return False
        for start in filter(None, (text.strip().casefold(), normal(text))):
            place = bisect_right(self._sorted, start)
            if place < len(self._sorted) and self._sorted[place].startswith(start):
                return True
        return False

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted({*map(str.casefold, self._texts), *self._forms})

    def find(self, text: str) -> Found | None:
        """By text, by code, by normal form, in this order."""
        return self.exact(text) or self.by_code(text) or self.same(text)

    def close(self, text: str) -> Found | None:
        """The one name that is like this text, if its numbers are the same and no other name is nearly as like."""
        form = normal(text[:LONGEST])
        if len(text) > LONGEST or sum(c.isalpha() for c in form) < SHORTEST:
            return None
        choices = self._by_numbers.get(numbers(form), ())
        best = process.extract(form, choices, scorer=fuzz.ratio, score_cutoff=THRESHOLD - MARGIN, limit=4)
        if not best or best[0][1] < THRESHOLD or not _alike(form, best[0][0]):
            return None
        owners = self._owners(best[0][0])
        rivals = [name for name, score, _ in best[1:] if best[0][1] - score < MARGIN]
        if not owners or any(self._owners(rival) != owners for rival in rivals):
            return None
        return Found(owners, "fuzzy")

    def _owners(self, form: str) -> tuple[ItemId, ...]:
        if owners := self._forms.get(form):
            return owners
        variant = self._variants[form]
        return variant.items if variant else ()


def _grouped(pairs: Iterable[tuple[str, ItemId]]) -> dict[str, tuple[ItemId, ...]]:
    groups: dict[str, dict[ItemId, None]] = {}
    for name, item in pairs:
        if name:
            groups.setdefault(name, {})[item] = None
    return {name: tuple(items) for name, items in groups.items()}


def _shared(groups: Mapping[str, tuple[ItemId, ...]]) -> tuple[tuple[ItemId, ...], ...]:
    return tuple(items for items in groups.values() if len(items) > 1)


def _unique_variants(forms: Mapping[str, str], owners: Mapping[str, tuple[ItemId, ...]]) -> dict[str, Found | None]:
    """By form; None where several names could be meant, which is worth knowing when a close one is sought."""
    meant: dict[str, dict[str, Match]] = {}
    for text, form in forms.items():
        for variant in variants(text):
            if variant.form and variant.form not in owners:
                by_owner = meant.setdefault(variant.form, {})
                by_owner[form] = max(by_owner.get(form, variant.match), variant.match)
    return {
        name: Found(owners[next(iter(by_owner))], next(iter(by_owner.values()))) if len(by_owner) == 1 else None
        for name, by_owner in meant.items()
    }


def _buckets(names: Iterable[str]) -> dict[tuple[str, ...], tuple[str, ...]]:
    buckets: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        buckets.setdefault(numbers(name), []).append(name)
    return {key: tuple(names) for key, names in buckets.items()}


def _alike(form: str, name: str) -> bool:
    """Whether two normal forms differ by slips of the hand only: colours, sizes and other words do not."""
    ours, theirs = _words(form), _words(name)
    first, second = "".join(_without(ours, theirs)), "".join(_without(theirs, ours))
    if first == second:
        return True
    shorter = min(len(first), len(second))
    allowed = 0 if shorter < 5 else 1 if shorter < 8 else 2
    return shorter > 0 and first[0] == second[0] and OSA.distance(first, second) <= allowed


def _words(form: str) -> list[str]:
    return [word for word in form.split() if word not in SMALL and word not in NUMBERS and not word.isdigit()]


def _without(words: Sequence[str], others: Sequence[str]) -> list[str]:
    left = list(others)
    kept = []
    for word in words:
        if word in left:
            left.remove(word)
        else:
            kept.append(word)
    return kept
