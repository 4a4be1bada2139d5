"""BM25 over the texts of the catalogue's items, with the query as it is in the question; by the library bm25s.

Lucene's variant: for each word of the query, repeated ones counted again,

    ln(1 + (N - n + 0.5) / (n + 0.5)) * f / (f + k1 * (1 - b + b * length / mean length))

where n of N texts have the word, and f is how often this text has it. Words are as `baselines.search.words.words` says:
lower case, single characters too, no stemming, and no stop words unless `stopwords=english` takes bm25s's own list out.
Scores are doubles. A text without a word of the query has 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.search.settings import Counting
from baselines.search.words import words
from harness.errors import BadModel
from harness.types import Item, Rank


class BM25:
    """Scores of requests, for the engine."""

    def __init__(self, items: Sequence[Item], set_to: Counting) -> None:
        """BadModel: the library is not installed."""
        try:
            import bm25s
            from bm25s.stopwords import STOPWORDS_EN
        except ImportError:
            raise BadModel("bm25s is not installed; pip install 'llmrec-harness[baselines]'") from None
        self._without = frozenset(STOPWORDS_EN if set_to.stopwords == "english" else ())
        self._count = len(items)
        texts = [self._words(item.text) for item in items]
        self._known = frozenset(word for text in texts for word in text)
        self._index: Any = bm25s.BM25(k1=set_to.k1, b=set_to.b, method="lucene", dtype="float64")
        if self._known:
            self._index.index(texts, show_progress=False)

    def __call__(self, asked: Sequence[Rank]) -> NDArray[np.float64]:
        """Of every item, in the catalogue's order; shape (questions, items)."""
        return np.stack([self._scores(rank.context or "") for rank in asked])

    def _scores(self, query: str) -> NDArray[np.float64]:
        known = [word for word in self._words(query) if word in self._known]
        if not known:
            return np.zeros(self._count)
        scores: NDArray[np.float64] = self._index.get_scores(known)
        return scores

    def _words(self, text: str) -> list[str]:
        return [word for word in words(text) if word not in self._without]
