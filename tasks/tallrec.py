"""TALLRec (Bao et al., RecSys 2023, arXiv:2305.00447): will this user like this item?

Few-shot AUC over one candidate per instance, movies (MovieLens-100K) and books (Book-Crossing). Reference:
SAI990323/TALLRec at commit c1db29c.

Data, paper section 3 and preprocess_movie.py: every user's interactions in time order, rating above 3 is liked,
history the ten interactions before the target, the last 10,000 windows of the concatenated users cut 8:1:1. The
slice is by position in the file, not by time: 108 users, of whom 16 make up the test split, and their windows
overlap, so an earlier target is history of a later prompt. Book: the JSON files that the authors published; their
training split cannot be made anew (its users were shuffled without a seed), so it must be had from them.

Read-out, evaluate.py: a softmax over the *probabilities* of Yes and No, which orders by P(Yes) - P(No)
(`readout=paper`); `readout=log_odds` orders by log P(Yes) - log P(No). Both AUCs stand in every result, with the
mean of P(Yes) + P(No), which says whether the model answers the question at all. For trained conventional models,
`cold` is the share of targets in no training row, nor in its history: they keep the weights that they started with.

Deviations, all named: probabilities are taken in at least float32 where the authors' softmax is in half precision;
the ids of Yes and No come from the tokenizer in context where the authors' are those of LLaMA, and an answer of
several tokens is scored whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp
from statistics import mode
from typing import Any, ClassVar, Literal

from harness.errors import BadSetting
from harness.knobs import knob
from harness.metrics import MeanOf, Metric
from harness.points import AUC, UserAUC
from harness.task import Task
from harness.types import Choose, Example, Instance, Prediction, Program, Split, ask
from tasks.prompts import load_texts
from tasks.recipes import load_recipes
from tasks.tallrec_data import Books, Movies


@dataclass(frozen=True)
class TALLRec(Task):
    name: ClassVar[str] = "tallrec"
    paper: ClassVar[str] = "Bao et al., RecSys 2023, arXiv:2305.00447"
    metrics: ClassVar[tuple[Metric, ...]] = (
        AUC(), UserAUC(), AUC(of="log_odds"), MeanOf("yes_no_mass"), MeanOf("cold"),
    )  # fmt: skip

    domain: Literal["movie", "book"] = knob("movie", "which of the paper's two data sets", instances=True)
    readout: Literal["paper", "log_odds"] = knob("paper", "score by P(Yes) - P(No), or by their log-odds")

    @cached_property
    def texts(self) -> Mapping[str, str]:
        return load_texts("tallrec")

    @cached_property
    def _data(self) -> Movies | Books:
        return Movies() if self.domain == "movie" else Books()

    def data_digests(self) -> Mapping[str, str]:
        return self._data.digests

    def size(self, split: Split = "test") -> int:
        return len(self._data.rows(split))

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        yield from self._data.rows(split)

    def solve(self, instance: Instance) -> Program[Prediction]:
        reply = yield from ask(Choose(self.prompt(instance), ("Yes", "No")))
        yes, no = reply.values
        score = exp(yes) - exp(no) if self.readout == "paper" else yes - no
        (target,) = instance.candidates or ()
        facts = {"log_yes": yes, "log_no": no, "log_odds": yes - no, "yes_no_mass": exp(yes) + exp(no)}
        return Prediction({target.id: score}, facts)

    def prompt(self, instance: Instance) -> str:
        """What the model reads, up to and including the line end after `### Response:`."""
        row = self.row(instance)
        return self.texts["wrapper"].format(instruction=row["instruction"], input=row["input"])

    def row(self, instance: Instance) -> dict[str, str]:
        """The instance as the authors' files have it: instruction, input, output."""
        (target,) = instance.candidates or ()
        # A book's text has its quotation marks already; as a target it gets another pair, as published.
        quote = '"{}"' if self.domain == "movie" else "{}"

        def listed(liked: bool) -> str:
            return ", ".join(quote.format(event.item.text) for event in instance.history if event.liked is liked)

        return {
            "instruction": self.texts["instruction"].format(domain=self.domain),
            "input": self.texts["input"].format(
                domain=self.domain, liked=listed(True), disliked=listed(False), target=f'"{target.text}"'
            ),
            "output": self.texts["yes" if instance.relevance[target.id] > 0 else "no"],
        }

    def examples(self, split: Split = "train") -> Iterator[Example]:
        for instance in self.instances(split):
            yield Example(self.prompt(instance), self.row(instance)["output"])

    @cached_property
    def recipes(self) -> Mapping[str, Mapping[str, Any]]:
        return load_recipes("tallrec")

    def paper_selection(self, places: Sequence[Sequence[int]]) -> Sequence[tuple[int, int]]:
        """Every third Yes or No token of eight texts in a row (finetune_rec.py, preprocess_logits_for_metrics).

        It is the answer as long as each text has three: two in the instruction, and the answer. One more in a title
        of a book shifts all that follow in the batch.
        """
        usual = mode(map(len, places))
        if usual != 3:
            raise BadSetting(
                f"selection=paper reads every third Yes or No token, but this tokenizer finds {usual} in most texts; "
                "use selection=correct"
            )
        found: list[tuple[int, int]] = []
        for start in range(0, len(places), 8):
            batch = [(row, place) for row in range(start, min(start + 8, len(places))) for place in places[row]]
            found += batch[2::3]
        return found

    def unlabelled(self) -> Iterator[str]:
        for instance in self._data.unlabelled():
            yield self.prompt(instance) + self.row(instance)["output"]

    def export(self, split: Split) -> tuple[str, bytes]:
        rows = [self.row(instance) for instance in self.instances(split)]
        return f"{split}.json", json.dumps(rows, indent=4).encode("ascii")
