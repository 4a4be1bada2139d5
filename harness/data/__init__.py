"""Data sets by name: `load("ml-1m")` reads official files from this disk, verified, and never goes to the network.

`harness.data.fetch` puts those files in place, `harness.data.home` knows where they lie, `harness.data.sources` where
they come from.
"""

from __future__ import annotations

from harness.data.catalog import Dataset, Statistics, Timelines
from harness.data.home import data_folder, embedded_folder, present, verified
from harness.data.sources import Source, check, source
from harness.errors import MissingData, NotApplicable

__all__ = ["Dataset", "Statistics", "Timelines", "datasets", "load"]


def datasets() -> tuple[str, ...]:
    """The names that `load` knows."""
    return ("ml-100k", "ml-1m", "ml-1m-sequences", "book-crossing", "amazon-beauty", "mind", "amazon-m2")


def load(name: str) -> Dataset:
    """Reads a data set from the home. Where the home does not have it, MovieLens 100K comes from an installed recbole,
    and for MovieLens 1M the data set `ml-1m-sequences` stands in, which has its order, but no ratings and times.

    UnknownName: there is no such data set. MissingData: a file is not there; the message has the command that gets it.
    BadData: a file is not the official one. NotApplicable: the source holds prompts, not ratings.
    """
    declared = source(name)
    if name == "ml-100k":
        return _movielens_100k(declared)
    if name in ("ml-1m", "ml-1m-sequences"):
        return _movielens_1m(declared)
    if name == "book-crossing":
        from harness.data.readers import book_crossing

        return book_crossing.read(verified(name))
    if name == "amazon-beauty":
        from harness.data.readers import amazon_beauty

        return amazon_beauty.read(verified(name, *_there(declared)))
    if name == "mind":
        from harness.data.readers import mind

        return mind.read(verified(name))
    if name == "amazon-m2":
        from harness.data.readers import amazon_m2

        return amazon_m2.read(verified(name))
    raise NotApplicable(f"{name} holds prompts, not ratings; data sets with ratings are {', '.join(datasets())}")


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


def _movielens_1m(declared: Source) -> Dataset:
    from harness.data.readers import movielens_1m

    order = source(movielens_1m.SEQUENCES)
    if declared == order or (present(order) and not present(declared)):
        return movielens_1m.read_sequences(verified(order.name))
    try:
        folder = verified(declared.name)
    except MissingData as error:
        raise MissingData(f"{error}; for the order without ratings and times, {order.remedy}") from error
    return movielens_1m.read(folder)
