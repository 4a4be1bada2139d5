"""Prompts a second on the 1,000 TALLRec movie prompts: the harness, the bare engine, and the authors' way.

Every way answers the same prompts with the same model in one run, one after the other, so that what counts is their
ratio and not the machine. The authors' way (evaluate.py of SAI990323/TALLRec, written anew) pads batches of 32 on
the left, generates up to 128 tokens greedily and keeps the first position's probabilities of Yes and No; it is timed
with a model that never ends a text and with one that ends at once.

    python -m benchmarks.throughput [--prompts 1000] [--loop-prompts 320] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.models import llama_58m, parameters
from harness.checkpoint import resolve
from harness.engines.encode import load_tokenizer
from harness.engines.transformers import load as load_transformers
from harness.engines.vllm import load
from harness.model import Checkpoint, EngineOptions, Model
from harness.runner import evaluate
from harness.signature import Sample, identify
from harness.store import SCHEMA, Run
from tasks.tallrec import TALLRec

REPEATS = 2
YES_NO = (5613, 2501)
"""`Yes` and `No` after a line end in the benchmark's tokenizer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--loop-prompts", type=int, default=320, help="of them, for the authors' slow loop")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = measure(Path(folder), given.prompts, given.loop_prompts)
    report(found)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


def measure(folder: Path, prompts: int, loop_prompts: int) -> dict[str, Any]:
    """Rates in prompts a second, and what they were measured on."""
    endless = resolve(Model("vllm", str(llama_58m(folder / "endless", can_end=False))))
    ending = resolve(Model("vllm", str(llama_58m(folder / "ending", can_end=True))))
    task = TALLRec()
    texts = [task.prompt(instance) for instance in task.instances("test")][:prompts]
    loaded = load(endless, [], EngineOptions())
    try:
        bare, whole = [], []
        for repeat in range(REPEATS + 1):
            # Alternating, so that a slow minute of the machine hits both; the first round warms up.
            bare.append(_rate(partial(_bare, loaded, endless, texts), len(texts)))
            whole.append(_rate(partial(_harness, loaded, folder / f"run {repeat}", task, prompts), len(texts)))
    finally:
        loaded.close()
    plain = load_transformers(endless, [], EngineOptions())
    some = texts[:loop_prompts]
    return {
        "parameters": parameters(endless.folder),
        "prompts": len(texts),
        "loop_prompts": len(some),
        "bare": bare[1:],
        "harness": whole[1:],
        "harness, transformers": _rate(lambda: _harness(plain, folder / "run hf", task, prompts), len(texts)),
        "authors, no early end": _rate(lambda: _authors(endless, some), len(some)),
        "authors, early end": _rate(lambda: _authors(ending, some), len(some)),
    }


def report(found: dict[str, Any]) -> None:
    bare, ours = max(found["bare"]), max(found["harness"])
    print(f"{found['parameters'] / 1e6:.0f}M parameters, bfloat16, {found['prompts']} TALLRec movie prompts, vLLM")
    print(f"harness run, vLLM                {ours:8.1f} prompts/s")
    print(f"bare engine, same prompts        {bare:8.1f} prompts/s   overhead of the harness {bare / ours - 1:+.1%}")
    print(f"harness run, transformers        {found['harness, transformers']:8.1f} prompts/s")
    for way in ("authors, no early end", "authors, early end"):
        print(f"{way:<32} {found[way]:8.1f} prompts/s   harness is {ours / found[way]:.1f} times as fast")


def _rate(work: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def _bare(loaded: Any, checkpoint: Checkpoint, texts: Sequence[str]) -> None:
    """What somebody writes who calls vLLM by hand: tokenise, one token each, read two log-probabilities."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    tokenizer = load_tokenizer(checkpoint)
    engine = loaded._engine
    engine.reset_prefix_cache()
    params = SamplingParams(
        max_tokens=1, temperature=0, logprob_token_ids=list(YES_NO), detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )  # fmt: skip
    for number, ids in enumerate(tokenizer(list(texts)).input_ids):
        engine.add_request(f"bare {number}", {"prompt_token_ids": ids}, params)
    done = 0
    while engine.has_unfinished_requests():
        for output in engine.step():
            first = output.outputs[0].logprobs[0]
            done += set(YES_NO) <= first.keys()
    assert done == len(texts)


def _harness(loaded: Any, path: Path, task: TALLRec, prompts: int) -> None:
    """All of `harness run` but loading the model: questions, read-outs, metrics, records on disk."""
    if loaded.kind == "vllm":
        loaded._engine.reset_prefix_cache()
    sample = None if prompts >= task.size("test") else Sample(prompts)
    identity = identify(task, "test", sample, {"bench": str(path)})
    with Run.open(path, {"schema": SCHEMA, "task": task.name, "identity": identity._asdict()}) as run:
        evaluate(task, loaded.engine(None, "raw"), run, sample=sample)
        assert len(run.done) == prompts


def _authors(checkpoint: Checkpoint, texts: Sequence[str]) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(checkpoint)
    tokenizer.padding_side = "left"
    model = AutoModelForCausalLM.from_pretrained(checkpoint.folder, dtype=torch.bfloat16).eval()
    for start in range(0, len(texts), 32):
        batch = tokenizer(list(texts[start : start + 32]), return_tensors="pt", padding=True)
        with torch.no_grad():
            written = model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=128,
                do_sample=False, return_dict_in_generate=True, output_scores=True,
            )  # fmt: skip
        torch.softmax(written.scores[0][:, list(YES_NO)].float(), dim=-1)


if __name__ == "__main__":
    main()
