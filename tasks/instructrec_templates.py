"""InstructRec's instruction templates: which there are, what each asks with, and how its slots are filled.

The texts are data, in `prompts/instructrec.toml`, with the source of each. Titles of a list are numbered and stand
between commas. An optional sentence on the preference that is not given takes the blank before it with it, and one of
the two marks that would meet then; a text that ends with a full stop meets no second one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

Preference = Literal["P0", "P1", "P2"]
Intention = Literal["I0", "I1", "I2"]
Form = Literal[
    "rank", "match", "pointwise", "preference", "query", "history", "query and item", "history and item", "reasoned"
]
EMPTY = re.compile(r"(?P<mark>[.:])?\s*\{preference\}(?P<behind>\s?[.,])?(?=(?P<blank>\s?))")


@dataclass(frozen=True)
class Filling:
    """What goes into the slots of a template; a text that is not there is empty."""

    history: Sequence[str] = ()
    """Titles, the oldest first."""
    preference: str = ""
    query: str = ""
    candidates: Sequence[str] = ()
    item: str = ""
    """Title of the target, or of the candidate that is asked about."""
    yes: bool = True
    """The right answer to a pointwise question."""


@dataclass(frozen=True)
class Template:
    """One of the 39."""

    code: str
    preference: Preference
    form: Form
    source: Literal["paper", "re-implementation", "ours"]
    text: str
    answer: str
    optional: bool = False
    """Whether the sentence on the preference may be left out."""
    query: tuple[str, ...] = ()
    """Of which kinds its query can be; none where it has no query."""

    @property
    def family(self) -> str:
        """A: of preferences; B: of intentions; C: of both."""
        return self.code[0]

    def prompt(self, filling: Filling) -> str:
        """What a model reads."""
        return _fill(self.text if filling.preference else EMPTY.sub(_without, self.text), filling)

    def target(self, filling: Filling) -> str:
        """What a model is tuned to write."""
        return _fill(self.answer, filling)

    def can_fill(self, filling: Filling) -> bool:
        """Whether all that text and answer need is there."""
        slots = {"history": filling.history, "query": filling.query, "candidates": filling.candidates}
        if not self.optional:
            slots["preference"] = filling.preference
        return all(value for name, value in slots.items() if f"{{{name}}}" in self.text + self.answer)


class Templates:
    """All of them, and the texts that they share."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        entries = [Template(**{**entry, "query": tuple(entry.get("query", ()))}) for entry in told["template"]]
        self.by_code: Mapping[str, Template] = {entry.code: entry for entry in entries}
        self.teacher: Mapping[str, str] = told["teacher"]
        self.yes: str = told["yes"]
        self.no: str = told["no"]

    def ranking(self, family: str, query: str | None) -> tuple[str, ...]:
        """Codes of the templates that ask to choose from a list of candidates, with a query of this kind or none."""
        return tuple(
            code
            for code, entry in self.by_code.items()
            if entry.family == family and entry.form == "rank" and (query is None or query in entry.query)
        )

    @property
    def texts(self) -> Mapping[str, str]:
        """Every text by name, for hashes and for the identity of a protocol."""
        prompts = {code: entry.text for code, entry in self.by_code.items()}
        answers = {f"{code} answer": entry.answer for code, entry in self.by_code.items()}
        teacher = {f"teacher {name}": text for name, text in self.teacher.items()}
        return {**prompts, **answers, **teacher, **_shared(), "yes": self.yes, "no": self.no}


@lru_cache(maxsize=1)
def templates() -> Templates:
    return Templates(_told())


def listed(titles: Sequence[str]) -> str:
    """`1. Heat (1995), 2. Alien (1979)`"""
    shared = _shared()
    entries = (shared["entry"].format(number=number, title=title) for number, title in enumerate(titles, 1))
    return shared["between"].join(entries)


def without_history(filling: Filling, count: int) -> Filling:
    """The same with that many of the oldest titles left out."""
    return replace(filling, history=filling.history[count:])


@lru_cache(maxsize=1)
def _told() -> Mapping[str, Any]:
    return tomllib.loads(files("tasks.prompts").joinpath("instructrec.toml").read_text("utf-8"))


def _shared() -> Mapping[str, str]:
    told = _told()
    return {"between": told["between"], "entry": told["entry"]}


def _fill(text: str, filling: Filling) -> str:
    for slot, said in (("query", filling.query), ("preference", filling.preference)):
        if said.endswith("."):
            text = text.replace(f"{{{slot}}}.", f"{{{slot}}}")
    return text.format(
        history=listed(filling.history),
        preference=filling.preference,
        query=filling.query,
        candidates=listed(filling.candidates),
        item=filling.item,
        yes_or_no=templates().yes if filling.yes else templates().no,
    )


def _without(found: re.Match[str]) -> str:
    """The marks that are left where the preference stood."""
    mark, behind = found["mark"] or "", (found["behind"] or "").strip()
    if (mark == ":" and behind != ",") or (not mark and behind == "."):
        mark = "."
    return mark if found["blank"] else f"{mark} "
