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
        self._metrics = {metric.name: metric for metric in metrics}
        self._others = {name: metric for name, metric in self._metrics.items() if not isinstance(metric, HitMetric)}
        self._depth = max((metric.depth for metric in metrics if isinstance(metric, HitMetric)), default=0)
        self._known = lru_cache(maxsize=KEPT)(self._judged)

    def rows(self, answer: Answer) -> dict[str, tuple[float, ...] | None]:
        """What each metric measures, by its name, in the order of the metrics."""
        depth = self._depth
        rows = dict(self._known(tuple([hit for hit in answer.hits if hit[0] <= depth]), answer.relevant))
        for name, metric in self._others.items():
            rows[name] = metric.measure(answer)
        return rows

    def _judged(self, hits: tuple[Hit, ...], relevant: tuple[float, ...]) -> Mapping[str, tuple[float, ...] | None]:
        """With None in the places of the others, whose order it keeps."""
        return {
            name: (metric.judge(hits, relevant),) if isinstance(metric, HitMetric) else None
            for name, metric in self._metrics.items()
        }
