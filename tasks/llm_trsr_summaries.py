"""LLM-TRSR's first stage (Zheng et al. 2024, arXiv:2403.13325): a long history in a few sentences, by any model.

The history is cut into blocks of five items. `method=hierarchical`: every block is summarised by itself, all at once,
and one more question makes one summary of them. `method=recurrent`: the first block is summarised, and each further
block changes the summary so far. The task `llm-trsr` reads a run of this one by its digest, so summaries are made once,
whatever is asked with them later; make one of each split that is needed (`--split train`, too, to tune).

Reference: zhengzhi-1997/LLM-TRSR at commit 4708223d, preprocess/*/summary_generation.py: llama-30b-instruct in 8 bits,
sampled (`do_sample=True`), 2,048 tokens with the prompt; the smaller summarisers 150 tokens. `temperature=1` and
`max_tokens=150` are that; the run seeds every draw, which the authors' one seed per process does not.

Nothing is right or wrong here, so the scores say what was written: summaries that are empty, that ran into
`max_tokens` (overlong), or that are a refusal, each as a share of all that were written, blocks and merges alike. What
was written is used all the same, as the authors use it. `harness show --texts` prints the summaries.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from harness.knobs import knob
from harness.metrics import MeanOf, Metric
from harness.parsing.markup import is_refusal
from harness.types import Generate, Instance, Item, Prediction, Program, Split, Text, ask, ask_all
from harness.written import Share
from tasks.llm_trsr_data import LongHistories
from tasks.prompts import load_texts

FAULTS = ("empty", "overlong", "refused")


@dataclass(frozen=True)
class LLMTRSRSummaries(LongHistories):
    name: ClassVar[str] = "llm-trsr-summaries"
    paper: ClassVar[str] = "Zheng et al. 2024, arXiv:2403.13325; a stage before others"
    metrics: ClassVar[tuple[Metric, ...]] = (
        MeanOf("summaries"),
        *(Share(fault, "summaries") for fault in FAULTS),
        *(MeanOf(fact) for fact in ("words", "block_tokens", "merge_tokens")),
    )

    method: Literal["hierarchical", "recurrent"] = knob("hierarchical", "merge summaries of blocks, or go on with one")
    block: int = knob(5, "items that are summarised at once", low=1)
    max_tokens: int = knob(150, "longest summary", low=1)
    temperature: float = knob(1.0, "of the draws; 0 takes the most probable token", low=0)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        names = ("wrapper", "merge", "merge_part", *(f"{self.kind}_{what}" for what in STEPS))
        return {name: text for name, text in load_texts("llm_trsr").items() if name in names}

    def instances(self, split: Split = "test") -> Iterator[Instance]:
        """The users of a split; nothing is asked for but their summary."""
        for chosen in self.chosen(split):
            name = f"{split}-{chosen.user}"
            yield Instance(name, chosen.user, self.question(name, chosen, slice(0)).history, (), {})

    def solve(self, instance: Instance) -> Program[Prediction]:
        items = [event.item for event in instance.history]
        blocks = [items[start : start + self.block] for start in range(0, len(items), self.block)]
        if self.method == "recurrent":
            written = yield from self._recurrent(blocks)
            block_tokens, merge_tokens = _tokens(written), 0
        else:
            written = yield from self._hierarchical(blocks)
            block_tokens, merge_tokens = _tokens(written[: len(blocks)]), _tokens(written[len(blocks) :])
        faults = Counter(fault for text in written for fault in [_fault(text)] if fault)
        final = written[-1].text.strip()
        facts = {"summaries": len(written), "words": len(final.split())}
        facts |= {"block_tokens": block_tokens, "merge_tokens": merge_tokens, **{f: faults[f] for f in FAULTS}}
        return Prediction({}, {name: float(count) for name, count in facts.items()}, final)

    def _hierarchical(self, blocks: Sequence[Sequence[Item]]) -> Program[Sequence[Text]]:
        parts = yield from ask_all([self._asked("block", self._items(block)) for block in blocks])
        made = [part for part in parts if isinstance(part, Text)]
        if len(made) == 1:
            return made
        told = (
            self.texts["merge_part"].format(number=number, summary=part.text.strip())
            for number, part in enumerate(made, 1)
        )
        whole = yield from ask(self._generate(self.texts["merge"], "\n".join(told)))
        return [*made, whole]

    def _recurrent(self, blocks: Sequence[Sequence[Item]]) -> Program[Sequence[Text]]:
        made: list[Text] = []
        for block in blocks:
            items = self._items(block)
            again = self._asked("update", items, made[-1].text.strip()) if made else self._asked("block", items)
            made.append((yield from ask(again)))
        return made

    def _items(self, block: Sequence[Item]) -> str:
        return "\n".join(self.sentence(item) for item in block)

    def _asked(self, step: str, items: str, summary: str = "") -> Generate:
        data = self.texts[f"{self.kind}_{step}_data"].format(items=items, summary=summary)
        return self._generate(self.texts[f"{self.kind}_{step}"], data)

    def _generate(self, instruction: str, data: str) -> Generate:
        prompt = self.texts["wrapper"].format(instruction=instruction, data=data)
        return Generate(prompt, self.max_tokens, temperature=self.temperature)


STEPS = ("block", "block_data", "update", "update_data")


def _fault(text: Text) -> str | None:
    """What is wrong with a summary; None where it is whole."""
    if not re.search(r"\w", text.text):
        return "empty"
    if is_refusal(text.text):
        return "refused"
    return "overlong" if text.finish == "length" else None


def _tokens(texts: Sequence[Text]) -> int:
    return sum(text.usage.prompt_tokens + text.usage.generated_tokens for text in texts)
