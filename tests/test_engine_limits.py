"""A protocol's own limit on a prompt: what is too long fails, or loses its end as the authors' prompts did."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from harness.checkpoint import resolve
from harness.engines.transformers import load
from harness.errors import TooLong
from harness.model import EngineOptions, Model
from harness.testing.engines import OPTIONS, answers, questions
from harness.types import Choose, Scores
from tests import engine_models

pytestmark = pytest.mark.slow


def test_a_protocol_s_own_limit_cuts_or_fails(tmp_path: Path) -> None:
    """Cut, the options follow what is left of the prompt, as they were tokenised behind the whole of it."""
    folder = engine_models.llama(tmp_path / "llama")
    loaded = load(resolve(Model("hf", str(folder))), [], EngineOptions(threads=1))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    (asked,) = questions(1)
    assert isinstance(asked, Choose)
    prompt = asked.prompt
    whole = tokenizer(prompt)["input_ids"]
    spelt = [tokenizer(prompt + option)["input_ids"][len(whole) :] for option in OPTIONS]
    (cut,) = answers(loaded.engine(), [Choose(prompt, OPTIONS, 9, cut=True)])
    assert isinstance(cut, Scores)
    assert cut.usage.prompt_tokens == 9
    for value, ids in zip(cut.values, spelt, strict=True):
        logits = model(torch.tensor([[*whole[:9], *ids]])).logits[0, 8:-1].log_softmax(-1)
        assert value == pytest.approx(sum(row[token].item() for row, token in zip(logits, ids, strict=True)), abs=1e-4)
    (failed,) = answers(loaded.engine(), [Choose(prompt, OPTIONS, 9)])
    assert isinstance(failed, TooLong)
    assert str(failed) == f"prompt of {len(whole)} tokens is longer than the 9 of the protocol"
    (same,) = answers(loaded.engine(), [Choose(prompt, OPTIONS, len(whole))])
    assert same == answers(loaded.engine(), [Choose(prompt, OPTIONS)])[0]
