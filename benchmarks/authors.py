"""The papers' own loops around a language model, written anew from what their scripts do; no code is theirs.

TALLRec (evaluate.py of SAI990323/TALLRec) pads batches of 32 prompts on the left, generates up to 128 tokens greedily,
and reads the first position: a softmax over P(Yes) and P(No). LLM-TRSR (test.py of zhengzhi-1997/LLM-TRSR) pads every
prompt on the right to 2,048 tokens, or cuts it there, takes one at a time, computes the logits of all positions, and
reads those of yes and no at the prompt's last token: a softmax over the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

TALLREC_BATCH = 32
WRITTEN = 128
"""Tokens that TALLRec's loop generates, at most, of which it reads one."""
SHORT = 3
"""Tokens of a model that answers `Yes.` and ends."""
PADDED = 2048


def tallrec(model: Any, tokenizer: Any, texts: Sequence[str], written: int = WRITTEN) -> list[float]:
    """The score of each text. A smaller `written` is what a model costs that ends after so many tokens."""
    tokenizer.padding_side = "left"
    answers = answer_ids(tokenizer, ("Yes", "No"))
    scores: list[float] = []
    for start in range(0, len(texts), TALLREC_BATCH):
        batch = tokenizer(list(texts[start : start + TALLREC_BATCH]), return_tensors="pt", padding=True)
        batch = batch.to(model.device)
        with torch.no_grad():
            made = model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                pad_token_id=tokenizer.pad_token_id,
                max_new_tokens=written,
                do_sample=False,
                return_dict_in_generate=True,
                output_scores=True,
            )
        likely = made.scores[0].float().softmax(-1)[:, answers]
        scores += likely.softmax(-1)[:, 0].tolist()
    return scores


def llm_trsr(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[float]:
    """The score of each text."""
    tokenizer.padding_side = "right"
    answers = answer_ids(tokenizer, ("yes", "no"))
    scores: list[float] = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", padding="max_length", max_length=PADDED, truncation=True).input_ids
        last = min(len(tokenizer(text).input_ids), PADDED) - 1
        with torch.no_grad():
            logits = model(ids.to(model.device)).logits
        scores.append(float(logits[0, last, answers].float().softmax(-1)[0]))
    return scores


def answer_ids(tokenizer: Any, words: Sequence[str]) -> list[int]:
    """The token of each word behind a line end. ValueError: it is no single one there."""
    found = [tokenizer("\n" + word, add_special_tokens=False).input_ids for word in words]
    before = tokenizer("\n", add_special_tokens=False).input_ids
    if any(ids[:-1] != before for ids in found):
        raise ValueError(f"one of {', '.join(words)} is not a single token behind a line end")
    return [ids[-1] for ids in found]
