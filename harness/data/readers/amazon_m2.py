"""Amazon-M2, the sessions of KDD Cup 2023: `products_train.csv` and `sessions_train.csv`, the British ones.

Format (Jin et al. 2023, arXiv:2307.09688): comma-separated, with header. Products have id, locale, title, price, brand,
color, size, model, material, author and desc; a product is listed once for each locale. Sessions have prev_items,
next_item and locale; prev_items is a list of ids as numpy prints it: `['B0A' 'B0B']`, over several lines where it is
long.

A user is a session, named by its place among the British ones, from 0; his last event is its next item. Items are the
British products, in the order of their file; a product without a title has its id as text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.data.catalog import Dataset
from harness.errors import BadData
from harness.types import Item

if TYPE_CHECKING:
    import pandas as pd

NAME = "amazon-m2"
PRODUCTS = "products_train.csv"
SESSIONS = "sessions_train.csv"
LOCALE = "UK"
FEATURES = {
    "price": "price",
    "brand": "brand",
    "color": "color",
    "size": "size",
    "model": "model",
    "material": "material",
    "author": "author",
    "description": "desc",
}
"""Attribute and column, in the order in which LLM-TRSR's sentences name them."""


def read(folder: Path) -> Dataset:
    """From both files. BadData: a column is missing, an id stands twice, or a product of a session is not listed."""
    products = _table(folder / PRODUCTS, ["id", "locale", "title", *FEATURES.values()])
    items = tuple(Item(key, title or key) for key, title in zip(products["id"], products["title"], strict=True))
    places = {item.id: place for place, item in enumerate(items)}
    if len(places) < len(items):
        raise BadData(
            f"{folder / PRODUCTS}: expected each {LOCALE} product once, found {len(items) - len(places)} again"
        )
    sessions = _table(folder / SESSIONS, ["prev_items", "next_item", "locale"])
    user: list[int] = []
    item: list[int] = []
    for place, (before, after) in enumerate(zip(sessions["prev_items"], sessions["next_item"], strict=True)):
        met = [*re.findall(r"'(.*?)'", before), after]
        unknown = [key for key in met if key not in places]
        if unknown:
            raise BadData(
                f"{folder / SESSIONS}, {LOCALE} session {place}: expected listed products, found {unknown[0]!r}"
            )
        user.extend([place] * len(met))
        item.extend(places[key] for key in met)
    return Dataset(
        name=NAME,
        items=items,
        users=tuple(map(str, range(len(sessions)))),
        user=np.asarray(user, dtype=np.int32),
        item=np.asarray(item, dtype=np.int32),
        rating=np.ones(len(item), dtype=np.float32),
        time=np.zeros(len(item), dtype=np.int64),
        attributes={name: tuple((value,) for value in products[column]) for name, column in FEATURES.items()},
    )


def _table(path: Path, columns: list[str]) -> pd.DataFrame:
    """The British rows, every value as text, empty where there is none."""
    import pandas as pd  # here, since it takes half a second to import, and no other reader needs it

    try:
        table = pd.read_csv(path, dtype=str, usecols=columns, keep_default_na=True, encoding="utf-8")
    except (ValueError, pd.errors.ParserError) as error:
        raise BadData(f"{path}: expected a table with the columns {', '.join(columns)}; {error}") from error
    british = table[table["locale"] == LOCALE].fillna("").reset_index(drop=True)
    if british.empty:
        raise BadData(f"{path}: expected rows of the locale {LOCALE}, found none")
    return british
