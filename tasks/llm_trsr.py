"""LLM-TRSR (Zheng et al. 2024, arXiv:2403.13325): will this user, so summarised, click on this item?

Each of 21 candidates is asked about by itself: instruction, summary of the long history, the last `recent` items, the
candidate; and the softmax over the logits of `yes` and `no` behind that is its score. Recall and MRR at 3, 5 and 10 are
the paper's Table 2 (with one relevant item Recall is the hit rate), NDCG the authors' code prints as well. These are
sampled metrics: the next item among twenty that were drawn evenly, of one thousand users.

Reference: zhengzhi-1997/LLM-TRSR at commit 4708223d, train.py, validate.py, test.py. Whom it asks about is in
`tasks.llm_trsr_data`, the summaries come from runs of the task `llm-trsr-summaries`. The authors' `no_summary` control,
and a comparison with TALLRec's kind of prompt, is `summaries=none`, the default.

Deviations, all named: equal scores fall by hash, where the authors' unstable sort can favour the first candidate, which
is the right one. A prompt longer than `max_length` tokens loses the oldest of its recent items until it fits, and then
its summary, counted in `shortened`; the authors cut its end, the question with it, and read the answer there
(`truncation=paper`). The last items are items, where the authors take the last lines, and a description of several
lines shifts the window. For tuning one negative per positive, the first drawn. `ids=false` leaves the numbers of the
items out, as a control: they are in the texts of histories and candidates alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.errors import BadSetting, StaleRun, TooLong
from harness.knobs import knob, knobs
from harness.metrics import MRR, NDCG, MeanOf, Metric, Recall, Together, sigmoid
from harness.stages import Stage, agree, as_options, find_stage
from harness.types import Choose, Example, Instance, Item, Prediction, Program, Scores, Split, ask_all
from tasks.llm_trsr_data import LongHistories
from tasks.prompts import load_texts
from tasks.recipes import load_recipes

CUTS = (3, 5, 10)


@dataclass(frozen=True)
class LLMTRSR(LongHistories):
    name: ClassVar[str] = "llm-trsr"
    paper: ClassVar[str] = "Zheng et al. 2024, arXiv:2403.13325"
    metrics: ClassVar[tuple[Metric, ...]] = (
        *(Recall(k) for k in CUTS),
        *(MRR(k) for k in CUTS),
        *(NDCG(k) for k in CUTS),
        *(MeanOf(fact) for fact in ("yes_no_mass", "shortened", "without_summary", "cold")),
    )

    negatives: int = knob(20, "drawn items beside the next one", instances=True, low=1, high=100)
    summaries: str = knob("none", "digests of runs of 'llm-trsr-summaries', one for each split, or none")
    runs: str = knob("runs", "folder that holds these runs", hashed=False)
    recent: int = knob(5, "how many items of the history are in the prompt", low=0)
    max_length: int = knob(2048, "tokens of a prompt, at most", low=1)
    truncation: Literal["history", "paper"] = knob("history", "shorten what is before the question, or cut the end")
    lessons: int = knob(
        1, "last events of a training user that are asked about; the paper's is one", low=1, high=100, tuning=True
    )

    @cached_property
    def texts(self) -> Mapping[str, str]:
        names = (f"{self.kind}_click", "nothing", "yes", "no")
        return {name: text for name, text in load_texts("llm_trsr").items() if name in names}

    @property
    def selector(self) -> Metric:
        return Together(tuple(Recall(k) for k in CUTS))

    @cached_property
    def recipes(self) -> Mapping[str, Mapping[str, Any]]:
        return load_recipes("llm_trsr")

    @property
    def stages(self) -> Mapping[str, Stage]:
        return {f"summaries of {split}": stage for split, stage in self._summaries.items()}

    @cached_property
    def _summaries(self) -> Mapping[str, Stage]:
        """By the split whose users they are of."""
        if self.summaries == "none":
            return {}
        found: dict[str, Stage] = {}
        for digest in self.summaries.split(","):
            stage = find_stage(Path(self.runs), "llm-trsr-summaries", digest.strip(), self._command("test"))
            self._check(stage)
            if (split := stage.manifest["split"]) in found:
                raise BadSetting(f"summaries={self.summaries} names two runs of the {split} split; leave one out")
            found[split] = stage
        return found

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        if split == "train":
            yield from self._lessons()
            return
        for chosen in self.chosen(split):
            yield self.question(f"{split}-{chosen.user}", chosen, slice(self.negatives))

    def solve(self, instance: Instance) -> Program[Prediction]:
        candidates = instance.candidates or ()
        summary, shown = self.summary(instance), self._shown(instance)
        shortened = 0
        while True:
            asked = [self._ask(self.prompt(item, shown, summary)) for item in candidates]
            try:
                replies = yield from ask_all(asked)
                break
            except TooLong:
                if not shown and not summary:
                    raise
                shown, summary = (shown[1:], summary) if shown else ([], "")
                shortened += 1
        odds: dict[str, float] = {}
        mass = 0.0
        for item, reply in zip(candidates, replies, strict=True):
            assert isinstance(reply, Scores)
            yes, no = reply.values
            odds[item.id] = sigmoid(yes - no)
            mass += (exp(yes) + exp(no)) / len(candidates)
        facts = {"yes_no_mass": mass, "shortened": float(shortened), "without_summary": float(not summary)}
        return Prediction(odds, facts)

    def prompt(self, candidate: Item, shown: Sequence[Item], summary: str) -> str:
        """What the model reads about one candidate, up to the line end behind `### Assistant:`."""
        nothing = self.texts["nothing"]
        return self.texts[f"{self.kind}_click"].format(
            summary=summary or nothing,
            items="\n".join(map(self.sentence, shown)) or nothing,
            candidate=self.sentence(candidate),
        )

    def summary(self, instance: Instance) -> str:
        """That of the user; empty where there is none. StaleRun: no run is named that has this split."""
        if self.summaries == "none":
            return ""
        split = instance.id.partition("-")[0]
        stage = self._summaries.get(split)
        if stage is None:
            raise StaleRun(f"no run of {self.summaries} has the {split} split; make one with `{self._command(split)}`")
        if instance.id not in stage.texts:
            raise StaleRun(f"run {stage.name} has no summary for {instance.id}; make one of all instances")
        return stage.texts[instance.id].strip()

    def examples(self, split: Split = "train") -> Iterator[Example]:
        """Yes for the next item and no for the one that was drawn; for validation the one or the other."""
        for instance in self.instances(split):
            items = instance.candidates or ()
            for item in items if split == "train" else items[:1]:
                answer = self.texts["yes" if item.id in instance.relevance else "no"]
                yield Example(self.prompt(item, self._shown(instance), self.summary(instance)), answer)

    def _lessons(self) -> Iterator[Instance]:
        """The next items of the training users, each beside one that was drawn; and earlier ones in the same way."""
        if self.lessons > 1 and self.summaries != "none":
            raise BadSetting(
                "a summary tells of all events but the last, so earlier ones are no lessons; set lessons=1"
            )
        for chosen in self.chosen("train"):
            met = (*chosen.history, chosen.target)
            for back in range(min(self.lessons, len(chosen.history))):
                end = len(met) - 1 - back
                name = f"train-{chosen.user}" + (f"-{back}" if back else "")
                lesson = chosen._replace(history=met[:end], target=met[end])
                yield self.question(name, lesson, slice(back, back + 1))

    def _shown(self, instance: Instance) -> list[Item]:
        return [event.item for event in instance.history][-self.recent :] if self.recent else []

    def _ask(self, prompt: str) -> Choose:
        options = (self.texts["yes"], self.texts["no"])
        return Choose(prompt, options, self.max_length, cut=self.truncation == "paper")

    def _check(self, stage: Stage) -> None:
        """StaleRun: the summaries are of other users."""
        ours = {k.name: getattr(self, k.name) for k in knobs(LongHistories) if k.instances}
        agree(stage, {**ours, **self.data_digests()}, self._command(stage.manifest["split"]))

    def _command(self, split: str) -> str:
        changed = {k.name: getattr(self, k.name) for k in knobs(LongHistories) if getattr(self, k.name) != k.default}
        return f"harness run --task llm-trsr-summaries{as_options(changed)} --split {split} --model MODEL"
