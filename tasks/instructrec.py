"""InstructRec (Zhang et al. 2023, arXiv:2305.07001): recommendation as following an instruction, a list at a time.

An instruction is made of preference (P0 none, P1 history, P2 the teacher's sentence on it), intention (I0 none, I1
vague, I2 the labels of the target's category) and a list of candidates (the paper's T3). Each candidate's title is
scored by its likelihood as the answer; HR@1, 3, 5 and NDCG@3, 5 are means over all questions. These are sampled
metrics: the target among nine that were drawn. Which questions there are is in `tasks.instructrec_questions`, users and
items in `tasks.instructrec_data`, the teacher's texts in `tasks.instructrec_told`, the templates, with the source of
each, in `prompts/instructrec.toml`, what models are tuned on in `tasks.instructrec_tuning`.

Likelihood. Of the form of the loss in tuning, says the paper, so by default it is the sum over the tokens of the title
and the end of the sequence (`likelihood=sum`, `ended=true`). An unofficial re-implementation takes the mean
(`likelihood=mean`). A pointwise template (A11, A12) ranks by the odds of Yes.

More candidates than `group` play a tournament, as in section 3.3: groups are drawn, the best of each goes into a last
list, and what won no group is not ranked. Conventional models rank all at once.

Deviations, all named. Which template is used is chosen on validation, by `harness run --choose instruction`; without
that it is the first of its scenario. A prompt over `max_length` tokens loses the oldest titles of its history, counted
in `shortened`; what the authors cut is not known. Equal likelihoods fall by hash, and candidates of one title are
always equal. The paper's training settings are not known. No number of it is for ml-100k or amazon-instruments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from math import ceil
from typing import Any, ClassVar, Literal

from harness.errors import BadSetting, InstanceFailed, NotApplicable, TooLong
from harness.knobs import knob
from harness.metrics import NDCG, HitRate, MeanOf, Metric, sigmoid
from harness.types import Choose, Example, Instance, Item, ItemId, Prediction, Program, Scores, Split, ask_all
from tasks.instructrec_questions import FAMILIES, Questions
from tasks.instructrec_templates import Filling, Template, templates, without_history
from tasks.recipes import load_recipes

Code = Literal["auto", "A7", "A8", "A9", "A10", "A11", "A12", "A13", "B7", "B8", "B9", "C10", "C11", "C12", "C13"]
POINTWISE = ("A11", "A12")


@dataclass(frozen=True)
class InstructRec(Questions):
    name: ClassVar[str] = "instructrec"
    paper: ClassVar[str] = "Zhang et al. 2023, arXiv:2305.07001"
    metrics: ClassVar[tuple[Metric, ...]] = (
        *(HitRate(k) for k in (1, 3, 5)),
        *(NDCG(k) for k in (3, 5)),
        *(MeanOf(fact) for fact in ("shortened", "unknown", "cold")),
    )

    instruction: Code = knob("auto", "which template; auto: the first of the scenario")
    likelihood: Literal["sum", "mean"] = knob("sum", "of a title: over all of its tokens, or for each of them")
    ended: bool = knob(True, "count the end of the sequence behind the title")
    max_length: int = knob(512, "tokens of a prompt, at most", low=1)
    group: int = knob(10, "candidates in one prompt, at most; more play a tournament", low=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.instruction == "auto":
            object.__setattr__(self, "instruction", self._allowed[0])
        if self.instruction not in self._allowed:
            raise BadSetting(
                f"instruction={self.instruction} is no template of scenario={self.scenario}; "
                f"there is {', '.join(self._allowed)}"
            )

    @property
    def alternatives(self) -> Mapping[str, tuple[str, ...]]:
        return {"instruction": templates().ranking(FAMILIES[self.scenario], self.query)}

    @property
    def _allowed(self) -> tuple[str, ...]:
        return self.alternatives["instruction"] + (POINTWISE if self.scenario == "sequential" else ())

    @cached_property
    def template_used(self) -> Template:
        return templates().by_code[self.instruction]

    @property
    def texts(self) -> Mapping[str, str]:
        """Of all templates of the scenario: which of them is used is chosen for each model, and no other protocol."""
        names = ("between", "entry", "yes", "no", *self._allowed)
        return {name: templates().texts[name] for name in names}

    @cached_property
    def recipes(self) -> Mapping[str, Mapping[str, Any]]:
        return load_recipes("instructrec")

    def solve(self, instance: Instance) -> Program[Prediction]:
        if instance.candidates is None:
            raise NotApplicable("training questions have no candidates; ask a language model on --split valid or test")
        filling, shortened = self.filling(instance), 0
        while True:
            try:
                if self.template_used.form == "pointwise":
                    scores = yield from self._one_by_one(filling, instance.candidates)
                else:
                    scores = yield from self._tournament(instance.id, filling, instance.candidates)
                return Prediction(scores, {"shortened": float(shortened)})
            except TooLong:
                if not filling.history:
                    raise
                filling, shortened = without_history(filling, 1), shortened + 1

    def filling(self, instance: Instance) -> Filling:
        """The slots of the template but the candidates. InstanceFailed: a text that it needs is empty."""
        filling = self._told(instance)
        if self.query and not filling.query:
            raise InstanceFailed(f"there is no query for {instance.id}")
        if self.preference == "P2" and not (filling.preference or filling.query):
            raise InstanceFailed(f"there is no preference for {instance.id}")
        return filling

    def prompt(self, filling: Filling, items: Sequence[Item]) -> str:
        """What a language model reads: of a pointwise template, about the only one of the items."""
        titles = [item.text for item in items]
        if self.template_used.form == "pointwise":
            return self.ended_prompt(self.template_used.prompt(replace(filling, item=titles[0])))
        return self.ended_prompt(self.template_used.prompt(replace(filling, candidates=titles)))

    def examples(self, split: Split = "train") -> Iterator[Example]:
        """This one template, with the last training event of each user, or the training items of product search.

        A pointwise template asks by half about a candidate that is wrong; for training what has no query is left out.
        """
        for instance in self.offered(split):
            filling = self._told(instance)
            if split == "train" and self.query and not filling.query:
                continue
            items = instance.candidates or ()
            right = next(item for item in items if item.id in instance.relevance)
            shown, yes = items, True
            if self.template_used.form == "pointwise":
                yes = int(_draw(instance.id, 0, "yes")[0], 16) % 2 == 0
                shown = (right if yes else next(item for item in items if item.text != right.text),)
            answer = self.template_used.target(replace(filling, item=right.text, yes=yes))
            yield Example(self.prompt(filling, shown), answer)

    def _told(self, instance: Instance) -> Filling:
        """History, query, and the sentence on the preference where it is not the query."""
        told = ""
        if self.preference == "P2" and self.query != "P2":
            told = self.preference_of(self._codes[instance.user])
        return Filling([event.item.text for event in instance.history], told, instance.context or "")

    def _one_by_one(self, filling: Filling, items: Sequence[Item]) -> Program[Mapping[ItemId, float]]:
        yes_or_no = (templates().yes, templates().no)
        asked = [Choose(self.prompt(filling, [item]), yes_or_no, self.max_length) for item in items]
        odds: dict[ItemId, float] = {}
        for item, reply in zip(items, (yield from ask_all(asked)), strict=True):
            assert isinstance(reply, Scores)
            odds[item.id] = sigmoid(reply.values[0] - reply.values[1])
        return odds

    def _tournament(self, name: str, filling: Filling, items: Sequence[Item]) -> Program[Mapping[ItemId, float]]:
        """The best of each group go into the next round, until one list holds all that are left."""
        left, turn = list(items), 0
        while len(left) > self.group:
            left.sort(key=lambda item: _draw(name, turn, item.id))
            count = ceil(len(left) / self.group)
            groups = [left[start::count] for start in range(count)]
            scored = yield from self._compare(filling, groups)
            left = [max(group, key=lambda item: (found[item.id], _draw(name, turn, item.id)))
                    for group, found in zip(groups, scored, strict=True)]  # fmt: skip
            turn += 1
        (scores,) = yield from self._compare(filling, [left])
        return scores

    def _compare(self, filling: Filling, groups: Sequence[Sequence[Item]]) -> Program[Sequence[Mapping[ItemId, float]]]:
        """The likelihood of each item's title as the answer to a list of its group; equal titles are equal."""
        titles = [tuple(dict.fromkeys(item.text for item in group)) for group in groups]
        asked = [
            Choose(self.prompt(filling, group), options, self.max_length, ended=self.ended)
            for group, options in zip(groups, titles, strict=True)
        ]
        found: list[Mapping[ItemId, float]] = []
        replies = yield from ask_all(asked)
        for group, options, reply in zip(groups, titles, replies, strict=True):
            assert isinstance(reply, Scores)
            values = reply.values
            if self.likelihood == "mean":
                values = tuple(value / count for value, count in zip(values, reply.tokens, strict=True))
            by_title = dict(zip(options, values, strict=True))
            found.append({item.id: by_title[item.text] for item in group})
        return found


def _draw(name: str, turn: int, item: str) -> str:
    return sha256(f"{name}\0{turn}\0{item}".encode()).hexdigest()
