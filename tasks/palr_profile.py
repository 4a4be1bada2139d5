"""PALR's first sub-task (arXiv:2305.07622, section 2.1 and Figure 2): a user's taste in two keywords, by any model.

A stage before the task `palr`, which reads a run of this one by its digest (`--set profile=DIGEST`) and is without it
otherwise: the paper's fine-tuning prompts have no profile, and its Table 2 reports none. The keywords of a film are its
genres; Amazon Beauty has none here, so it cannot be asked. The paper does not say which model wrote its profiles, how
it decoded, or how many items of the history it read.

There is nothing to get right, so the scores only say whether a profile can be read: `keywords` is how many it has in
the form that is asked for, and `grounded` the share of the titles under them that are in the history shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from harness.errors import NotApplicable
from harness.knobs import knob
from harness.metrics import MeanOf, Metric
from harness.types import Generate, Instance, ItemId, Prediction, Program, ask
from harness.written import Share
from tasks.prompts import load_texts
from tasks.sequential import LeaveOneOut

KEYWORD = re.compile(r'([^"{};:]+):((?:\s*,?\s*"[^"]*")+)')
TITLE = re.compile(r'"([^"]*)"')


@dataclass(frozen=True)
class PALRProfile(LeaveOneOut):
    name: ClassVar[str] = "palr-profile"
    paper: ClassVar[str] = "Yang et al. 2023, arXiv:2305.07622; a stage before others"
    metrics: ClassVar[tuple[Metric, ...]] = (MeanOf("keywords"), Share("grounded", "titles"))

    dataset: Literal["ml-100k", "ml-1m"] = knob("ml-100k", "which data set", instances=True)
    k_core: int = knob(5, "events that every user and item must have; 0 is no filter", instances=True, low=0)
    shown: int = knob(20, "how many items of the history are in the prompt", low=1)
    max_tokens: int = knob(128, "longest answer", low=1)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        return {"profile": load_texts("palr")["profile"]}

    @cached_property
    def _genres(self) -> Mapping[ItemId, str]:
        try:
            genres = self._data.attributes["genres"]
        except KeyError:
            raise NotApplicable(f"{self.dataset} has no genres, the keywords of its items") from None
        return {item.id: ", ".join(words) for item, words in zip(self._data.items, genres, strict=True)}

    def prompt(self, instance: Instance) -> str:
        """What a language model reads: the films, and their genres, one a line."""
        shown = [event.item for event in instance.history[-self.shown :]]
        lines = (f'"{item.text}": {self._genres[item.id]}' for item in shown)
        return self.texts["profile"].format(history="\n".join(lines))

    def solve(self, instance: Instance) -> Program[Prediction]:
        reply = yield from ask(Generate(self.prompt(instance), self.max_tokens))
        shown = {event.item.text for event in instance.history[-self.shown :]}
        titles = [title for _, told in KEYWORD.findall(reply.text) for title in TITLE.findall(told)]
        facts = {"keywords": len(KEYWORD.findall(reply.text)), "titles": len(titles)}
        facts["grounded"] = sum(title in shown for title in titles)
        return Prediction({}, {name: float(count) for name, count in facts.items()}, reply.text)
