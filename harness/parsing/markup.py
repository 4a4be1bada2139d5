"""What models put around a name: chat wrappers, list marks, bold, labels; and sentences that are no line of a list."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Literal, NamedTuple

Mark = Literal["number", "bullet", "table", "none"]

_THOUGHTS = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_TURN = re.compile(
    r"<\|(?:im_start|start_header_id)\|>\s*assistant\s*(?:<\|end_header_id\|>)?"
    r"|\[/INST\]|^\W{0,4}(?:response|assistant|output|answer)\s*:[\s*]*", re.IGNORECASE | re.MULTILINE,
)  # fmt: skip
_NEXT_TURN = re.compile(
    r"<\|(?:im_end|eot_id|end|endoftext|im_start|start_header_id)\|>|</s>|\[INST\]|<end_of_turn>"
    r"|^\W{0,4}(?:user|human|instruction|input|question)\s*:.*$", re.IGNORECASE | re.MULTILINE,
)  # fmt: skip
_TAGS = re.compile(r"</?(?:b|i|em|strong|ul|ol|p|code|answer|output|s|bos)\s*/?>", re.IGNORECASE)
_BREAKS = re.compile(r"<(?:br|li)\s*/?>|</li>", re.IGNORECASE)
_NUMBER = re.compile(
    r"^[\s>]*(?:#{1,6}\s+)?[*_`]{0,3}(?:no\.?\s*|nr\.?\s*)?"
    r"(?:[(\[](\d{1,3})[)\]]|#\s?(\d{1,3})\b[.):]?|(\d{1,3})(?:[.)](?!\d)|\s?[:\]](?!\d)|\s+[-–—]|\uFE0F?\u20E3))"
    r"[*_`]{0,3}[:.)]?\s*", re.IGNORECASE,
)  # fmt: skip
_BARE_NUMBER = re.compile(r"^\s*(\d{1,3})[\t ]+(?=\S)")
_BULLET = re.compile(r"^[\s>]*(?:[-•·▪◦‣●○►▶→–—✓✔☆★]+\s*|[*+]\s+|#{1,6}\s+)(?=\S)")
_LABEL = re.compile(
    r"^(?:(?:movie|film|item|product|recommendation)?\s*(?:title|name)|movie|film|item|product|recommendation|asin)"
    r"\s*#?\d{0,3}\s*:\s*(?=\S)", re.IGNORECASE,
)  # fmt: skip
_EMPHASIS = re.compile(r"(?<!\w)(\*{1,3}|_{1,3}|~~|`{1,2})(?=\S)(.{1,1000}?)(?<=\S)\1(?!\w)")
_LINK = re.compile(r"\[([^\]\[]+)\]\((?:https?:|/|#|www)[^()\s]*\)")
QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'"})

_OPENING = re.compile(
    r"^\W*(?:sure|certainly|of course|absolutely|okay|ok|here|based on|given|considering|i|i'd|i'll|i'm|these|the "
    r"following|below|my|recommend\w*|suggest\w*|top (?:\d+|ten)|great|thank\w*|thanks|you|to recommend|since|as|"
    r"looking at|after|let's|let|for (?:this|you|a) |the (?:user|list|ten|movies|films|products|items)|"
    r"ten|\d+ (?:movies|films|products|items|recommendations|titles)|this (?:list|user|is)|please|note|feel|enjoy|"
    r"hope\w*|happy|would|all|each|in (?:summary|conclusion|order)|if|they|it|any|remember|also|however|but|sorry|"
    r"unfortunately|just|with|we|output|answer|response|recommendations?|result|list|movies|titles|solution|"
    r"explanation|reason\w*)\b", re.IGNORECASE,
)  # fmt: skip
_TALK = re.compile(
    r"\b(?:you|your|i|i'm|i'd|we|these|this list|recommend\w*|suggest\w*|hope|enjoy\w*|here (?:is|are)|"
    r"is|are|was|were|would|will|should|might|based|includ\w+|reflects?|features?|watched|liked)\b", re.IGNORECASE,
)  # fmt: skip
_INTRO = re.compile(
    r"^\W*(?:(?:output|answer|response|assistant|recommendations?|results?|list|movies|films|titles|products|"
    r"solution)\s*:|[^:\n\"“]{0,300}?\b(?:here (?:are|is)|recommend\w*|suggest\w*|are|list|movies|films|products|"
    r"titles|follow\w*|enjoy|like|ones?|picks?)\b[^:\n\"“]{0,120}:)[*_]*\s*", re.IGNORECASE,
)  # fmt: skip
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:very |really |so )?sorry|sorry, (?:but )?i|i apologi[sz]e|as an? (?:ai|artificial|large "
    r"language|language)\b|i(?:'m| am) (?:just |only )?an? (?:ai|language)\b|i (?:can't|cannot|can not|am unable|won't|"
    r"do not have|don't have|am not able)|i'm (?:not able|unable)|unable to (?:provide|recommend)|"
    r"(?:cannot|can't) (?:provide|recommend|assist|help|fulfil))", re.IGNORECASE,
)  # fmt: skip


class Row(NamedTuple):
    """One line of the answer as it was written."""

    whole: str
    rest: str
    """Without its mark."""
    mark: Mark
    number: int | None
    indent: int
    closed: bool
    """Whether a line break follows."""


def unwrapped(text: str) -> str:
    """The first turn of the answer without thoughts, chat marks, tags and code fences."""
    text = _THOUGHTS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = re.split(r"</think(?:ing)?>", text)[-1]
    if thinking := re.search(r"<think(?:ing)?>", text):
        text = text[: thinking.start()]
    text = _BREAKS.sub("\n", _TAGS.sub("", text))
    while turn := _TURN.match(text.lstrip()):
        text = text.lstrip()[turn.end() :]
    for ending in _NEXT_TURN.finditer(text):
        if text[: ending.start()].strip():
            text = text[: ending.start()] + "\n"
            break
    text = re.sub(r"^[ \t]*```[\w ]*$\n?", "", text, flags=re.MULTILINE)
    return _LINK.sub(r"\1", text)


def without_intro(text: str) -> str:
    """The text behind an opening such as `Sure! Here are ten:`, if it has one and something follows."""
    found = _INTRO.match(text)
    if found is None or not text[found.end() :].strip() or re.match(r"[^\n]*\((?:18|19|20)\d\d\)", found[0]):
        return text
    return text[found.end() :]


def rows(text: str) -> list[Row]:
    """The lines that hold anything, with their marks."""
    lines = text.split("\n")
    made = [_row(line, place < len(lines) - 1) for place, line in enumerate(lines) if re.search(r"\w", line)]
    bare = [_BARE_NUMBER.match(row.whole) if row.mark == "none" else None for row in made]
    counted = [int(found[1]) for found in bare if found]
    # `1 Heat`, `2 Casino`: a number alone is a mark only where the lines count, else `12 Angry Men` would lose it.
    if len(counted) > 1 and counted == list(range(counted[0], counted[0] + len(counted))) and counted[0] < 3:
        made = [
            row._replace(rest=row.whole[found.end() :], mark="number", number=int(found[1])) if found else row
            for row, found in zip(made, bare, strict=True)
        ]
    return made


def _row(line: str, closed: bool) -> Row:
    indent = len(line) - len(line.lstrip())
    if found := _NUMBER.match(line):
        number = int(next(group for group in found.groups() if group))
        return Row(line, line[found.end() :], "number", number, indent, closed)
    if line.lstrip().startswith("|") and line.count("|") > 2:
        return Row(line, line.strip().strip("|"), "table", None, indent, closed)
    if found := _BULLET.match(line):
        return Row(line, line[found.end() :], "bullet", None, indent, closed)
    start = line.lstrip()
    symbols = "".join(c for c in set(start) if unicodedata.category(c) == "So") + "\ufe0f"
    if start[0] in symbols:
        return Row(line, start.lstrip(symbols).lstrip(), "bullet", None, indent, closed)
    return Row(line, start, "none", None, indent, closed)


def peeled(text: str) -> Iterator[str]:
    """The text, and what is left of it when markup, labels, quotes and closing stops are taken away, one by one."""
    text = text.strip()
    yield text
    for _ in range(4):
        before = text
        text = text[1:-1].strip() if re.fullmatch(r"[\"“„«].*[\"”“»]|['‘].*['’]|\[.*\]", text) else text
        yield text
        text = re.sub(r"^\[(?=[^\]]*$)|(?<=[^\[])\]$" if text.count("[") != text.count("]") else r"^$", "", text)
        text = re.sub(r"[,;.]$", "", _LABEL.sub("", text)).strip()
        yield text
        text = _EMPHASIS.sub(r"\2", text)
        text = re.sub(r"^[*_`~]+(?=\w)|(?<=[\w)])[*_`~]+$", "", text)
        text = re.sub(r"\\([*_.#&\"'()\[\]-])", r"\1", text).strip()
        yield text
        if text == before:
            return


def bold(text: str) -> str | None:
    """What a line that begins with emphasis emphasises, and the year behind it."""
    found = _EMPHASIS.match(text.strip())
    if found is None:
        return None
    year = re.match(r"[:,]?\s*(\((?:18|19|20)\d\d\))", text.strip()[found.end() :])
    return f"{found[2]} {year[1]}" if year else found[2]


def is_talk(text: str) -> bool:
    """Whether an unmarked line that names nothing is a sentence to the reader, not a line of the list."""
    text = text.strip().strip("*_")
    if re.search(r"\((?:18|19|20)\d\d\)\W*$", text):
        return False
    words = len(text.split())
    opens, ends = _OPENING.match(text) is not None, text[-1:] in list(".!?:…")
    if opens and (ends or words >= 8):
        return True
    return (text.endswith(":") and words <= 12) or (words >= 6 and _TALK.search(text) is not None and ends)


def is_cut_talk(text: str) -> bool:
    """The same of a line that was cut off, which has no end to tell by."""
    return is_talk(text) or (_OPENING.match(text) is not None and len(text.split()) >= 3)


def talks(text: str) -> bool:
    """Whether a line speaks to the reader, whatever else it holds: `I would recommend Heat (1995) and Fargo (1996)`."""
    return _OPENING.match(text) is not None and _TALK.search(text) is not None


def is_refusal(text: str) -> bool:
    """Whether the text begins by declining."""
    return _REFUSAL.search(text.translate(QUOTES)[:300]) is not None
