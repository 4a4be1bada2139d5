"""When two spellings are the same name: the rules, one by one, and the second names that a title has.

Whoever changes what a rule does raises RULES: scores of other rules are other scores.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

RULES = 2
"""The version of everything in this package that can change a reading; callers put it into their identities."""

ARTICLES = "the|a|an|la|le|les|l'|el|il|lo|los|las|der|die|das|den|det|un|une|una|o"
ROMAN = {"ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6", "vii": "7", "viii": "8", "ix": "9", "x": "10"}
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
NUMBERS = {**ROMAN, **{word: str(value) for value, word in enumerate(WORDS, 1)}}
LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "ı": "i"})

_YEAR = re.compile(r"(?P<head>\S.*?)\s*\((?P<year>(?:18|19|20)\d\d)\)(?:\s*\(\w{1,3}\))?$")
_AKA = re.compile(r"^(?P<base>[^()]*[^()\s])\s*\((?P<aka>[^()]{3,})\)$")


def _entities(text: str) -> str:
    return html.unescape(text) if "&" in text else text


def _ornaments(text: str) -> str:
    text = re.sub(r"[™®©℠★☆]", " ", text)
    return "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc") or c.isspace())


def _raised(text: str) -> str:
    return re.sub(r"(?<=\w)(?=[¼½¾⅐-⅞²³¹⁰-⁹])", " ", text)


def _compatible(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("\u2044", "/")


def _diacritics(text: str) -> str:
    bare = re.sub(r"[\u0300-\u036f]", "", unicodedata.normalize("NFKD", text).translate(LETTERS))
    return unicodedata.normalize("NFC", bare)


def _marks(text: str) -> str:
    return re.sub(r"[‐‑‒–—―−]", "-", re.sub(r"[’‘‛`´ʼ′]", "'", text))


def _articles(text: str) -> str:
    if "," not in text:
        return text
    return re.sub(rf"(^|\()([^()]+?),\s*({ARTICLES})(?=\s*(?:$|[():]))", _fronted, text)


def _fronted(found: re.Match[str]) -> str:
    opening, title, article = found.groups()
    return f"{opening}{article}{'' if article.endswith(chr(39)) else ' '}{title.strip()}"


def _numerals(text: str) -> str:
    return re.sub(r"(?<![\w.])\.(?=\d)", "0.", re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text))


def _punctuation(text: str) -> str:
    text = re.sub(r"(?<!\d)\.(?=\w)|(?<=\w)\.(?!\d)(?=\w)|['\"“”„«»*\\]", "", text)
    return re.sub(r"(?<!\d)[./](?!\d)|(?<=\d)[./](?!\d)|(?<!\d)[./](?=\d)|[^\w./]|_", " ", text)


class Rule(NamedTuple):
    """One way in which spellings differ that name the same thing."""

    name: str
    apply: Callable[[str], str]
    why: str


FORMS = (
    Rule("entities", _entities, "shops write `Cr&egrave;me`, models read it and write `Crème`"),
    Rule("ornaments", _ornaments, "`™`, `★` and invisible characters are decoration that models drop"),
    Rule("raised", _raised, "`8½` is `8 1/2` and `Alien³` is `Alien 3`, not 81/2 and Alien3"),
    Rule("NFKC", _compatible, "one character has several encodings; full-width letters are letters"),
    Rule("casefold", str.casefold, "models shout and whisper"),
    Rule("diacritics", _diacritics, "`Mepris` is `Mépris` on a keyboard without accents"),
    Rule("marks", _marks, "typographic apostrophes and dashes are the straight ones"),
    Rule("articles", _articles, "MovieLens sorts `Matrix, The (1999)` under M; people write `The Matrix (1999)`"),
    Rule("ampersand", lambda text: text.replace("&", " and "), "`Wallace & Gromit` is `Wallace and Gromit`"),
    Rule("numerals", _numerals, "`20,000` is `20000`, and `.5` is `0.5`"),
    Rule("punctuation", _punctuation, "colons, hyphens, brackets and full stops come and go; numbers keep theirs"),
    Rule("blanks", lambda text: " ".join(text.split()), "line breaks and double blanks mean nothing"),
)


@lru_cache(maxsize=1 << 14)
def normal(text: str) -> str:
    """The text after all rules, in order; empty where it is nothing but punctuation.

    Answers name the same few thousand titles again and again.
    """
    for rule in FORMS:
        text = rule.apply(text)
    return text


def numbers(form: str) -> tuple[str, ...]:
    """The numbers that a normal form speaks of, in digits, Roman numerals or words; sorted."""
    found = re.findall(r"\d+(?:[./]\d+)*", form)
    return tuple(sorted([*found, *(NUMBERS[word] for word in form.split() if word in NUMBERS)]))


class Variant(NamedTuple):
    """A second name of a title, good only where no other item could be meant."""

    form: str
    match: Literal["normalised", "fuzzy"]


def variants(text: str) -> Iterator[Variant]:
    """Second names of a title that ends with a year, as films' do: without the year, by one of its two names, or
    without its article. Titles of products have none, since what their brackets hold tells products apart."""
    found = _YEAR.match(text.strip())
    if found is None:
        return
    head, year = found["head"], found["year"]
    aka = _AKA.match(head)
    for name in (head, aka["base"], aka["aka"]) if aka else (head,):
        form = normal(name)
        yield Variant(normal(f"{name} ({year})"), "normalised")
        yield Variant(form, "normalised")
        bare = re.sub(r"^(?:the|a|an) (?=\w)", "", form)
        if bare != form:
            yield Variant(f"{bare} {year}", "normalised")
            yield Variant(bare, "fuzzy")


def ends_with_year(text: str) -> bool:
    """Whether the text names a work and the year of it."""
    return _YEAR.match(text.strip()) is not None
