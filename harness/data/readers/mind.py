"""MIND, Microsoft's news recommendation data: `news.tsv` and `behaviors.tsv`.

Format, as the data set's page documents it: lines of columns between tabs, UTF-8, no header. `news.tsv` has id,
category, subcategory, title, abstract, address and two lists of entities; `behaviors.tsv` has impression, user, time,
history and impressions, where the history is the ids of the news that the user had clicked before, the oldest first,
between blanks.

An event is a click of a history. A user has one history here: that of his first line that has one, as MIND writes the
same history with every impression of a user. What was shown in an impression is not read. The official large training
part has every clicked news in its table; a sample may not, and such news stand at the end of the catalogue, with their
id as text and no category.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.data.catalog import Dataset
from harness.data.readers.columns import distinct, malformed, text_lines
from harness.types import Item

NAME = "mind"
NEWS = "news.tsv"
BEHAVIORS = "behaviors.tsv"
NEWS_LINE = "id\tcategory\tsubcategory\ttitle\tabstract..., eight columns"
BEHAVIORS_LINE = "impression\tuser\ttime\thistory\timpressions"


def read(folder: Path) -> Dataset:
    """From both files; items are in the order of `news.tsv`. BadData: a line is not of the documented form."""
    path = folder / NEWS
    items: list[Item] = []
    attributes: dict[str, list[tuple[str, ...]]] = {"category": [], "subcategory": [], "abstract": []}
    for number, line in enumerate(text_lines(path, "utf-8"), start=1):
        columns = line.split("\t")
        if len(columns) != 8 or not columns[0]:
            raise malformed(path, number, NEWS_LINE, line)
        items.append(Item(columns[0], columns[3] or columns[0]))
        for name, column in (("category", 1), ("subcategory", 2), ("abstract", 4)):
            attributes[name].append((columns[column],))
    distinct(path, items)
    places = {item.id: place for place, item in enumerate(items)}
    users, user, item = _histories(folder / BEHAVIORS, places)
    for unlisted in list(places)[len(items) :]:
        items.append(Item(unlisted, unlisted))
        for values in attributes.values():
            values.append(("",))
    return Dataset(
        name=NAME,
        items=tuple(items),
        users=tuple(users),
        user=np.asarray(user, dtype=np.int32),
        item=np.asarray(item, dtype=np.int32),
        rating=np.ones(len(item), dtype=np.float32),
        time=np.zeros(len(item), dtype=np.int64),
        attributes={name: tuple(values) for name, values in attributes.items()},
    )


def _histories(path: Path, places: dict[str, int]) -> tuple[list[str], list[int], list[int]]:
    """Users, and per event the places of its user and its item; news that are not listed get places behind the rest."""
    users: dict[str, int] = {}
    user: list[int] = []
    item: list[int] = []
    for number, line in enumerate(text_lines(path, "utf-8"), start=1):
        columns = line.split("\t")
        if len(columns) != 5 or not columns[1]:
            raise malformed(path, number, BEHAVIORS_LINE, line)
        clicked = columns[3].split()
        if not clicked or columns[1] in users:
            continue
        who = users.setdefault(columns[1], len(users))
        user.extend([who] * len(clicked))
        item.extend(places.setdefault(news, len(places)) for news in clicked)
    return list(users), user, item
