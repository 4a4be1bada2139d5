"""The first stage of a two-stage recommender: the best `n` of the whole catalogue for each user.

Split, masking and deviations are those of the task `sequential`, and so are the ids of the instances. A run keeps the
first n items of every user, where `harness.stages` finds them for the stage that chooses among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from harness.errors import NotApplicable
from harness.knobs import knob
from harness.metrics import NDCG, HitRate, Metric
from harness.types import Instance, Prediction, Program
from tasks.sequential import LeaveOneOut


@dataclass(frozen=True)
class Retrieval(LeaveOneOut):
    name: ClassVar[str] = "retrieval"
    paper: ClassVar[str] = "none: a stage before others, on the split of Kang and McAuley, ICDM 2018, arXiv:1808.09781"
    metrics: ClassVar[tuple[Metric, ...]] = (HitRate(10), HitRate(20), HitRate(50), NDCG(10))

    n: int = knob(50, "how many items are found for each user", low=50)

    @cached_property
    def depth(self) -> int:
        return self.n

    def solve(self, instance: Instance) -> Program[Prediction]:
        raise NotApplicable(
            "a prompt cannot hold the whole catalogue; task 'sequential' asks language models with "
            "--set candidates=uniform"
        )
