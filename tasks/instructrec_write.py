"""InstructRec's teacher (arXiv:2305.07001, section 2.1): preferences (P2) and vague intentions (I1), by any model.

`what=preference`: one question for each user, with the titles before his last training event; the texts are the same
for every split, so no item of validation or test stands in one. `what=intention`: one for each question of a split,
with the review of its target: that of `--split train` is of the last training event, so what a model is tuned on never
shows a review of validation or test. The test's own intentions are made of the reviews of its targets, and tell of them
by design, as the paper's do.

The paper's teacher is text-davinci-003 and its prompts are not known; ours are in `prompts/instructrec.toml`, with
LC-Rec's decoding (temperature 0.4, 512 tokens). The paper has three preferences and two intentions of each user, here
it is one of each.

Nothing is right or wrong here, so the scores say what was written: answers that are empty, that ran into `max_tokens`
(overlong), or that are a refusal. `harness show --texts` prints them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.errors import InstanceFailed
from harness.knobs import knob
from harness.metrics import MeanOf, Metric
from harness.parsing.markup import is_refusal
from harness.types import Generate, Instance, Prediction, Program, Split, ask
from tasks.instructrec_data import Shopping
from tasks.instructrec_templates import listed, templates

FAULTS = ("empty", "overlong", "refused")


@dataclass(frozen=True)
class InstructRecWrite(Shopping):
    name: ClassVar[str] = "instructrec-write"
    paper: ClassVar[str] = "Zhang et al. 2023, arXiv:2305.07001; a stage before others"
    metrics: ClassVar[tuple[Metric, ...]] = (MeanOf("words"), *(MeanOf(fault) for fault in FAULTS))

    what: Literal["preference", "intention"] = knob("preference", "what is written", instances=True)
    max_tokens: int = knob(512, "longest answer", low=1)
    temperature: float = knob(0.4, "of the draws; 0 takes the most probable token", low=0)

    @property
    def texts(self) -> Mapping[str, str]:
        return {self.what: templates().teacher[self.what], "listed": listed(("first", "second"))}

    def data_digests(self) -> Mapping[str, str]:
        read = self.what == "intention" or self.items == "reviews"
        return {**super().data_digests(), **({"reviews": self.reviews_digest} if read else {})}

    @property
    def strata(self) -> Mapping[str, tuple[float, ...]]:
        return {}

    def traits(self, instance: Instance) -> Mapping[str, float]:
        return {}

    def size(self, split: Split = "test") -> int:
        return sum(1 for _ in self.asked("train" if self.what == "preference" else split))

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        """Of preferences the same in every split."""
        if self.what == "preference":
            for _, user, place in self.asked("train"):
                name = self._data.users[user]
                history = self._events(user, max(0, place - self.max_history), place)
                yield Instance(f"user-{name}", name, history, (), {})
            return
        for question, user, place in self.asked(split):
            yield Instance(question, self._data.users[user], (), (), {}, context=self.review(user, place))

    def solve(self, instance: Instance) -> Program[Prediction]:
        reply = yield from ask(Generate(self.prompt(instance), self.max_tokens, temperature=self.temperature))
        facts = dict.fromkeys(FAULTS, 0.0) | {"words": float(len(reply.text.split()))}
        if not re.search(r"\w", reply.text):
            facts["empty"] = 1.0
        elif is_refusal(reply.text):
            facts["refused"] = 1.0
        elif reply.finish == "length":
            facts["overlong"] = 1.0
        return Prediction({}, facts, " ".join(reply.text.split()))

    def prompt(self, instance: Instance) -> str:
        """What the teacher reads. InstanceFailed: there is no review."""
        wording = templates().teacher[self.what]
        if self.what == "preference":
            return wording.format(history=listed([event.item.text for event in instance.history]))
        if not instance.context:
            raise InstanceFailed("there is no review of the target")
        return wording.format(review=instance.context)
