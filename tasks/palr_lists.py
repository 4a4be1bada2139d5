"""Lists as PALR's prompts and answers write them: what may stand at a place, and which items that names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from harness.types import Item, ItemId


class Entries(NamedTuple):
    """What may be written, in the order of the items."""

    owners: Mapping[str, tuple[ItemId, ...]]
    """By text, the items that it names: films share titles."""
    inner: tuple[str, ...]
    """The same as entries of a list."""
    last: tuple[str, ...]
    """The same as the last entry."""

    @classmethod
    def of(cls, items: Iterable[Item], said: Callable[[Item], str]) -> Entries:
        owners: dict[str, tuple[ItemId, ...]] = {}
        for item in items:
            owners[said(item)] = (*owners.get(said(item), ()), item.id)
        return cls(owners, tuple(map(entry, owners)), tuple(entry(text, "") for text in owners))


def entry(text: str, close: str = ",") -> str:
    """One entry. A comma closes all but the last: many tokenizers join it to the quotation mark before it, so a model
    that was tuned on lists expects it there."""
    return f' "{text}"{close}'


def text_of(written: str) -> str:
    """What an entry is about."""
    return written.removesuffix(",")[2:-1]


def listed(texts: Sequence[str]) -> str:
    """A whole list."""
    return "".join(map(entry, texts)).removesuffix(",")
