"""One of many texts, token by token: the options of a `Generate` as token ids, and the way to one of them.

The ids of all options, sorted, are the prefix tree: a node is a run of neighbours that begin alike, so barring some
options changes nothing but which neighbours count. A walk stops only where there is something to choose; where every
option left goes on alike, and as soon as one is left, the model is not asked.

Options are tokenised behind the last token of the prompt, not the whole prompt, so that a catalogue is tokenised once
for all prompts that end alike. The prompt's own ids stay as they are: where a tokenizer would merge across the
boundary, an option is spelt with the ids that it has after something that it does not merge with.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from harness.engines.encode import Encoder, Ids
from harness.errors import RequestFailed

KEPT = 1 << 17
"""Options that are kept in tokens, over all tuples: ten catalogues of 12,000 titles, or 2,600 lists of 50; 130 MB."""
CLOSE = "close every option with a mark that none contains, such as a quote"


class Lexicon:
    """Options in tokens, none the beginning of another. Raises `RequestFailed` where one is."""

    def __init__(self, options: Sequence[str], ids: Sequence[Ids]) -> None:
        """Distinct options, and the non-empty ids that spell each."""
        both = sorted(zip(ids, options, strict=True))
        self.ids = [spelt for spelt, _ in both]
        """Sorted; the place of an option is its place here."""
        self.options = [option for _, option in both]
        self.largest = max(map(max, ids))
        """The largest token id of all."""
        self._places = {option: place for place, option in enumerate(self.options)}
        self._by_length = sorted(range(len(both)), key=lambda place: -len(self.ids[place]))
        self._groups: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        for (one, short), (other, long) in pairwise(both):
            if other[: len(one)] == one:
                raise RequestFailed(f"option {short!r} is the beginning of {long!r} in the model's tokens; {CLOSE}")

    def barred(self, texts: Sequence[str]) -> frozenset[int]:
        """The places of those texts that are options."""
        return frozenset(place for text in texts if (place := self._places.get(text)) is not None)

    def longest(self, barred: frozenset[int]) -> int:
        """Tokens of the longest option that is not barred; raises `RequestFailed` if all are."""
        for place in self._by_length:
            if place not in barred:
                return len(self.ids[place])
        raise RequestFailed("every option is barred, so there is nothing to write")

    def run(self, prefix: Ids) -> tuple[int, int]:
        """The places from and to that begin so."""
        return bisect_left(self.ids, prefix), bisect_left(self.ids, (*prefix, self.largest + 1))

    def groups(self, prefix: Ids) -> list[tuple[int, int, int]]:
        """What may follow a prefix of several options: each next token, and the places from and to that have it."""
        depth = len(prefix)
        start, end = self.run(prefix)
        found = self._groups.get((start, depth))
        if found is None:
            found = []
            while start < end:
                token = self.ids[start][depth]
                after = bisect_left(self.ids, (*prefix, token + 1), start, end)
                found.append((token, start, after))
                start = after
            self._groups[found[0][1], depth] = found
        return found


class Walk:
    """A way through a lexicon to an option that is not barred; at least one must be free."""

    def __init__(self, lexicon: Lexicon, barred: frozenset[int]) -> None:
        self._lexicon = lexicon
        self._barred = barred
        self.known: Ids = ()
        """The tokens that are settled: those taken, and those that every option left has in common."""
        self.choices: list[int] = []
        """What the next token may be, in ascending order: two or more; none once the option is settled."""
        self._first, self._last = 0, len(lexicon.ids) - 1
        self._settle()

    @property
    def option(self) -> str:
        """The option of a walk without further choices."""
        return self._lexicon.options[self._first]

    def take(self, token: int) -> None:
        """Choose one of `choices`."""
        start, end = self._lexicon.run((*self.known, token))
        self._first, self._last = start, end - 1
        self._settle()

    def _settle(self) -> None:
        """Narrow the run to its free ends and go as far as these agree: being sorted, so do all between them."""
        while self._first in self._barred:
            self._first += 1
        while self._last in self._barred:
            self._last -= 1
        one, other = self._lexicon.ids[self._first], self._lexicon.ids[self._last]
        if self._first == self._last:
            self.known, self.choices = one, []
            return
        shared = next(place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
        self.known = one[:shared]
        self.choices = [token for token, start, end in self._lexicon.groups(self.known) if self._free(start, end)]

    def _free(self, start: int, end: int) -> bool:
        return any(place not in self._barred for place in range(start, end))


class Lexicons:
    """The lexicons of one encoder, each made once for all prompts that end alike."""

    def __init__(self, encoder: Encoder, kept: int = KEPT) -> None:
        self._encoder = encoder
        self._limit = kept
        self._made: OrderedDict[tuple[Ids, tuple[str, ...]], Lexicon | RequestFailed] = OrderedDict()
        self._kept = 0

    def find(self, prompt: Ids, options: tuple[str, ...]) -> Lexicon:
        """The options in tokens, behind this prompt. Raises `RequestFailed` where they cannot be told apart."""
        key = self._encoder.tail(prompt), options
        if key in self._made:
            self._made.move_to_end(key)
        else:
            self._made[key] = self._make(*key)
            self._kept += len(options)
            while self._kept > self._limit and len(self._made) > 1:
                self._kept -= len(self._made.popitem(last=False)[0][1])
        found = self._made[key]
        if isinstance(found, RequestFailed):
            raise RequestFailed(str(found))  # anew, lest one exception gather the traces of all requests
        return found

    def _make(self, tail: Ids, options: tuple[str, ...]) -> Lexicon | RequestFailed:
        distinct = list(dict.fromkeys(options))
        try:
            if "" in distinct:
                raise RequestFailed(f"an option is empty; {CLOSE}")
            return Lexicon(distinct, self._encoder.behind(tail, distinct))
        except RequestFailed as failure:
            return failure
