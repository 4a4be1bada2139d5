"""All metrics of a task for one answer at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from harness.metrics import Answer, Hit, HitMetric, Metric

KEPT = 1 << 14
"""Different findings that are remembered; an answer with one relevant item among k places is one of k + 1."""


class Meter:
    """Measures answers. What only hits decide is worked out once for all the answers that have the same hits."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        named = {metric.name: metric for metric in metrics}
        # One that measures in its own way may read more than hits.
        self._by_hits = {
            name: metric
            for name, metric in named.items()
            if isinstance(metric, HitMetric) and type(metric).measure is HitMetric.measure
        }
        self._others = {name: metric for name, metric in named.items() if name not in self._by_hits}
        self._order: dict[str, tuple[float, ...] | None] = dict.fromkeys(named)
        self._depth = max((metric.depth for metric in self._by_hits.values()), default=0)
        self._known = lru_cache(maxsize=KEPT)(self._judged)

    def rows(self, answer: Answer) -> dict[str, tuple[float, ...] | None]:
        """What each metric measures, by its name, in the order of the metrics."""
        depth = self._depth
        rows = dict(self._known(tuple([hit for hit in answer.hits if hit[0] <= depth]), answer.relevant))
        for name, metric in self._others.items():
            rows[name] = metric.measure(answer)
        return rows

    def _judged(self, hits: tuple[Hit, ...], relevant: tuple[float, ...]) -> Mapping[str, tuple[float, ...] | None]:
        """With None in the places of the others."""
        return self._order | {name: (metric.judge(hits, relevant),) for name, metric in self._by_hits.items()}
