"""TALLRec's published book prompts: JSON lists of records with an instruction, an input and the right output.

Format: `data/book/*.json` of the repository SAI990323/TALLRec at commit c1db29c, made by its `preprocess_book.py`. They
are prompts, not ratings, so they are no `Dataset`: users and books stand in them only as text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from harness.data.home import verified
from harness.errors import BadData
from harness.types import Split

NAME = "tallrec-book"
OUTPUTS = ("Yes.", "No.")


class Record(NamedTuple):
    """One prompt; the fields are called as in the files."""

    instruction: str
    input: str
    output: str
    """`Yes.` or `No.`"""


def read(split: Split = "test") -> tuple[Record, ...]:
    """The records of a split, in file order, after the file was verified.

    MissingData: the file is not in the home (the training split is not required, so a fetch may leave it out).
    BadData: it is not the published file.
    """
    file = f"{split}.json"
    return parse(verified(NAME, file) / file)


def parse(path: Path) -> tuple[Record, ...]:
    """The records of any file of this form. BadData: it is not of this form; the message names the record."""
    try:
        records = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadData(f"{path}: expected a JSON list of records, found: {error}") from error
    if not isinstance(records, list):
        raise BadData(f"{path}: expected a JSON list of records, found {type(records).__name__}")
    return tuple(_record(path, number, record) for number, record in enumerate(records, start=1))


def _record(path: Path, number: int, record: object) -> Record:
    if isinstance(record, dict) and record.keys() == set(Record._fields) and record["output"] in OUTPUTS:
        return Record(str(record["instruction"]), str(record["input"]), record["output"])
    found = sorted(map(str, record)) if isinstance(record, dict) else type(record).__name__
    raise BadData(f"{path}, record {number}: expected {', '.join(Record._fields)} with Yes. or No., found {found}")
