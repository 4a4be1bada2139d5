"""Data sets by name: `load("ml-1m")` reads official files from this disk, verified, and never goes to the network.

`harness.data.fetch` puts those files in place, `harness.data.home` knows where they lie, `harness.data.sources` where
they come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from harness.data.catalog import Dataset, Statistics, Timelines
from harness.data.home import data_folder, embedded_folder, present, verified
from harness.data.readers import amazon_reviews
from harness.data.readers.amazon_reviews import Review
from harness.data.sources import Source, check, source
from harness.errors import MissingData, NotApplicable

__all__ = ["Dataset", "Review", "Statistics", "Timelines", "datasets", "load", "reviews"]

STAND_INS: Mapping[str, str] = {
    "ml-1m": "ml-1m-sequences",
    "amazon-games": "amazon-games-sequences",
    "amazon-cds": "amazon-cds-sequences",
}
"""What is read where the home has it and not the official files: the order alone. It keeps its own name."""


def datasets() -> tuple[str, ...]:
    """The names that `load` knows."""
    return (
        "ml-100k",
        "ml-1m",
        "ml-1m-sequences",
        "book-crossing",
        "amazon-beauty",
        "amazon-games",
        "amazon-games-sequences",
        "amazon-cds",
        "amazon-cds-sequences",
        "amazon-instruments",
        "mind",
        "amazon-m2",
    )


def load(name: str) -> Dataset:
    """Reads a data set from the home. Where the home does not have it, MovieLens 100K comes from an installed recbole,
    and for MovieLens 1M, Amazon Games and CDs a data set of `STAND_INS`, which has an order, but no ratings and times.

    UnknownName: there is no such data set. MissingData: a file is not there; the message has the command that gets it.
    BadData: a file is not the official one. NotApplicable: the source holds prompts, not ratings.
    """
    declared = _or_stand_in(source(name))
    name = declared.name
    if name == "ml-100k":
        return _movielens_100k(declared)
    if name in ("ml-1m", "ml-1m-sequences"):
        from harness.data.readers import movielens_1m

        return (movielens_1m.read if name == "ml-1m" else movielens_1m.read_sequences)(verified(name))
    if name == "book-crossing":
        from harness.data.readers import book_crossing

        return book_crossing.read(verified(name))
    if name == "amazon-beauty":
        from harness.data.readers import amazon_beauty

        return amazon_beauty.read(verified(name, *_there(declared)))
    if name in amazon_reviews.FILES:
        return amazon_reviews.read(name, verified(name, *_there(declared)))
    if name in ("amazon-games-sequences", "amazon-cds-sequences"):
        from harness.data.readers import inter

        return inter.read(name, verified(name))
    if name == "mind":
        from harness.data.readers import mind

        return mind.read(verified(name))
    if name == "amazon-m2":
        from harness.data.readers import amazon_m2

        return amazon_m2.read(verified(name))
    raise NotApplicable(f"{name} holds prompts, not ratings; data sets with ratings are {', '.join(datasets())}")


def reviews(name: str, wanted: Set[tuple[str, str]]) -> Mapping[tuple[str, str], Review]:
    """Reads what users wrote of items, by the ids of both, of those wanted that the data set has.

    Of several reviews by one user of one item, the first in time, and of one time the first in the file: that of the
    event that `harness.data.filters.without_repeats` keeps of all. The file is read once, line by line.

    UnknownName: there is no such data set. NotApplicable: it has no reviews. MissingData, BadData: as `load`, but
    nothing stands in.
    """
    files = amazon_reviews.FILES.get(source(name).name)
    if files is None:
        raise NotApplicable(f"{name} has no reviews; data sets with reviews are {', '.join(amazon_reviews.FILES)}")
    return amazon_reviews.first_reviews(name, verified(name, files.reviews), wanted)


def _or_stand_in(declared: Source) -> Source:
    """The data set, or what stands in for it where the home has that alone. MissingData: it has neither."""
    if declared.name not in STAND_INS or present(declared):
        return declared
    order = source(STAND_INS[declared.name])
    if present(order):
        return order
    try:
        verified(declared.name)
    except MissingData as error:
        raise MissingData(f"{error}; for the order without ratings and times, {order.remedy}") from error
    return declared


def _there(declared: Source) -> list[str]:
    """The files that are required, and the others that the home has: those are read as well, so they are verified."""
    folder = data_folder(declared.name)
    return [file.name for file in declared.files if file.required or (folder / file.name).is_file()]


def _movielens_100k(declared: Source) -> Dataset:
    from harness.data.readers import movielens_100k

    if present(declared):
        return movielens_100k.read(verified(declared.name))
    folder = embedded_folder(declared)
    if folder is None or declared.embedded is None:
        raise MissingData(
            f"{declared.name} is neither in the home nor in an installed recbole; "
            f"run `pip install recbole` or `harness data fetch {declared.name}`"
        )
    for file in declared.embedded.files:
        check(folder / file.name, file, f"install recbole again or run `harness data fetch {declared.name}`")
    return movielens_100k.read_copy(folder)
