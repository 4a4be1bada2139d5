"""Amazon 2018 as sequences: leave-one-out splits in RecBole's atomic format, without ratings, times and reviews.

Format: columns separated by tabs, under a header of `name:type` each. An `.item` file has an item a line. A line of an
`.inter` file is a user, what he met (oldest first, blanks between) and the item that came next; there is one file for
each split, and one line for each user in the test file and in the validation file.

`amazon-games-sequences` is of the form that LLMRank's `data_process_amazon.py` writes from the metadata and the ratings
of 2018: items with a title, a user's first event with each item, the five-core of these, and of every user the last 50
events, cut before the split. So a history has at most 49 items in the test file and 48 in the validation file, and
validation history and target together are exactly the test history. The numbers of items count up to where a user with
50 begins and jump there, which they would not do if the first 50 were left. Events of one day come in any order.
`amazon-cds-sequences` is the sample of 100 users with 8 events each that AgentCF publishes, with training lines, and
with all items and their labels.

A user's sequence is his test history and his test target. All ratings are 1 and all times 0: the order of the file is
the order of the events. Texts of items are cleaned titles, as in `harness.data.readers.amazon_reviews`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.data.catalog import Dataset
from harness.data.readers.amazon_reviews import ONLY_HTML, readable, title_of
from harness.data.readers.columns import distinct, malformed, text_lines
from harness.types import Item

NEXT = ("user_id:token", "item_id_list:token_seq", "item_id:token")
TITLE = ("item_id:token", "title:token_seq")
LABELS = "category:token_seq"


class Files(NamedTuple):
    """What a data set consists of."""

    items: str
    item_columns: tuple[str, ...]
    test: str
    valid: str
    train: str | None


FILES: Mapping[str, Files] = {
    "amazon-games-sequences": Files("Games.item", TITLE, "Games.test.inter", "Games.valid.inter", None),
    "amazon-cds-sequences": Files(
        "CDs.item",
        (*TITLE, LABELS),
        "CDs-100-user-dense.test.inter",
        "CDs-100-user-dense.valid.inter",
        "CDs-100-user-dense.train.inter",
    ),
}


def read(name: str, folder: Path) -> Dataset:
    """From all files of the data set; users are in the order of the test file.

    Titles that are nothing but HTML are counted under `skipped`; as every item without a title, theirs have the id as
    text. BadData: a line is not of the documented form, an item is not listed, a user has two lines in the test file or
    in the validation file or is in one of them alone, or a line of another split is no beginning of his sequence.
    """
    files = FILES[name]
    rows = list(_rows(folder / files.items, files.item_columns))
    titles = [title_of(row[1]) for row in rows]
    items = tuple(Item(row[0], title or row[0]) for row, title in zip(rows, titles, strict=True))
    distinct(folder / files.items, items, line=2)
    only_html = sum(not title and bool(row[1].strip()) for row, title in zip(rows, titles, strict=True))
    sequences = _sequences(folder / files.test)
    _agree(folder / files.valid, files.test, sequences, last=True)
    if files.train:
        _agree(folder / files.train, files.test, sequences, last=False)
    item = _places(folder / files.test, sequences, items)
    lengths = [len(sequence) for sequence in sequences.values()]
    labels = tuple(tuple(map(readable, row[2].split("; "))) for row in rows) if LABELS in files.item_columns else None
    return Dataset(
        name=name,
        items=items,
        users=tuple(sequences),
        user=np.repeat(np.arange(len(sequences), dtype=np.int32), lengths),
        item=np.asarray(item, dtype=np.int32),
        rating=np.ones(len(item), dtype=np.float32),
        time=np.zeros(len(item), dtype=np.int64),
        attributes={} if labels is None else {"category": labels},
        skipped={ONLY_HTML: only_html} if only_html else {},
    )


def _sequences(path: Path) -> dict[str, list[str]]:
    """Every user's items, oldest first, the target last."""
    sequences: dict[str, list[str]] = {}
    for number, (user, history, target) in enumerate(_rows(path, NEXT), start=2):
        if user in sequences:
            raise malformed(path, number, "a user that no earlier line has", user)
        sequences[user] = [*history.split(" "), target]
    return sequences


def _agree(path: Path, test: str, sequences: Mapping[str, list[str]], last: bool) -> None:
    """BadData: a line is no beginning of its user's sequence; if `last`, it must be all but the last item, and every
    user must have one line."""
    seen: set[str] = set()
    number = 1
    for number, (user, history, target) in enumerate(_rows(path, NEXT), start=2):
        beginning = [*history.split(" "), target]
        whole = sequences.get(user)
        if whole is None or (last and user in seen):
            raise malformed(path, number, f"a user of {test}" + " that no earlier line has" * last, user)
        if beginning != (whole[:-1] if last else whole[:-1][: len(beginning)]):
            which = "the history" if last else "a beginning of the history"
            raise malformed(path, number, f"{which} of user {user} in {test}", " ".join(beginning))
        seen.add(user)
    missing = [user for user in sequences if user not in seen]
    if last and missing:
        raise malformed(path, number, f"the user {missing[0]} of {test} on some line", "the end of the file")


def _places(path: Path, sequences: Mapping[str, list[str]], items: Sequence[Item]) -> list[int]:
    places = {item.id: place for place, item in enumerate(items)}
    met: list[int] = []
    for number, sequence in enumerate(sequences.values(), start=2):
        for key in sequence:
            if key not in places:
                raise malformed(path, number, "numbers of listed items", key)
            met.append(places[key])
    return met


def _rows(path: Path, columns: Sequence[str]) -> Iterator[list[str]]:
    """The lines below the header; row 0 is line 2 of the file."""
    header, *lines = text_lines(path, "utf-8")
    if header != "\t".join(columns):
        raise malformed(path, 1, "\t".join(columns), header)
    form = "\t".join(column.split(":")[0] for column in columns)
    for number, line in enumerate(lines, start=2):
        row = line.split("\t")
        if len(row) != len(columns) or not row[0]:
            raise malformed(path, number, form, line)
        yield row
