"""A small shop in the form of Amazon's official files of 2018, where every review has a word of its own."""

from __future__ import annotations

import json
from pathlib import Path

USERS, ITEMS, MET = 30, 40, 7
LABELS = (("Video Games", "PC", "Accessories"), ("Video Games", "Wii"))


def met(user: int) -> list[int]:
    """Items of a user, oldest first; all different."""
    return [(user * 3 + 5 * step) % ITEMS for step in range(MET)]


def word(user: int, step: int) -> str:
    """Stands in this review and nowhere else."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return f"zq{letters[user % 26]}{letters[user // 26]}{letters[step]}word"


def open_shop(home: Path) -> None:
    """Reviews in no order, each event of user 0 twice over, and one item without a title that everybody met last."""
    folder = home / "data" / "amazon-games"
    folder.mkdir(parents=True)
    lines = []
    for user in range(USERS):
        for step, item in enumerate(met(user)):
            said = {"summary": f"Number {step}", "reviewText": f"I wanted {word(user, step)} for item {item}."}
            entry = {"reviewerID": f"U{user}", "asin": f"B{item:03}", "overall": 5.0, "unixReviewTime": 86400 * step}
            lines.append({**entry, **said})
            if user == 0:
                lines.append(
                    {**entry, "unixReviewTime": 86400 * (step + 50), "summary": "Again", "reviewText": "Again"}
                )
        lines.append({"reviewerID": f"U{user}", "asin": "B999", "overall": 1.0, "unixReviewTime": 86400 * 99})
    lines = lines[::2][::-1] + lines[1::2]
    (folder / "Video_Games.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    products = [
        {"asin": f"B{item:03}", "title": f"Game {item}", "category": list(LABELS[item % 2])} for item in range(ITEMS)
    ]
    products.append({"asin": "B999", "title": "", "category": ["Video Games"]})
    (folder / "meta_Video_Games.json").write_text("".join(json.dumps(product) + "\n" for product in products))
