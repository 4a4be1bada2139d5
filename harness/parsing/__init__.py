"""What a language model said, read as items of a catalogue: `read(text, Names(items), ...)`.

Outcomes are counted before any repair: nothing is padded or filled up, nothing names an item outside the catalogue,
and nothing here knows what is right. Requests that failed in the engine are failed instances and never come here.
"""

from __future__ import annotations

from harness.parsing.names import Collisions, Found, Match, Names
from harness.parsing.normal import RULES, normal
from harness.parsing.reading import Line, Outcome, Reading, read

__all__ = ["RULES", "Collisions", "Found", "Line", "Match", "Names", "Outcome", "Reading", "normal", "read"]
