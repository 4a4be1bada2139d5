"""The process of lm-evaluation-harness: loads a model by its own class, and evaluates the task at each line it reads.

What is timed is its `simple_evaluate` of a loaded model: the task read anew, requests made, answered and scored, with
every answer in the result. A line says the size of its batches. Its answers go to the standard output, a line of JSON
each; all else that is printed goes to the standard error. `benchmarks/peers.py` starts it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from typing import Any

TASK = "tallrec_prompts"


def main() -> None:
    settings = json.loads(sys.argv[1])
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        model = load(settings)
        tasks = import_module("lm_eval.tasks").TaskManager(include_path=settings["tasks"], include_defaults=False)
        print("{}", file=answers, flush=True)
        for line in sys.stdin:
            if settings["backend"] == "hf":
                batch = line.strip()
                model.batch_size_per_gpu = int(batch) if batch.isdigit() else batch
            print(json.dumps(evaluate(model, tasks)), file=answers, flush=True)
        if settings["backend"] == "vllm":
            # Left to the interpreter's exit, the engine's process is torn down in an order that aborts.
            model.model.llm_engine.engine_core.shutdown()


def load(settings: dict[str, Any]) -> Any:
    """Its model object, with the settings that the engine of ours has."""
    if settings["backend"] == "hf":
        import torch

        if settings["threads"] is not None:
            torch.set_num_threads(settings["threads"])
        return import_module("lm_eval.models.huggingface").HFLM(
            pretrained=settings["model"],
            dtype=settings["dtype"],
            device=settings["device"],
        )
    return import_module("lm_eval.models.vllm_causallms").VLLM(
        pretrained=settings["model"],
        dtype=settings["dtype"],
        batch_size="auto",
        gpu_memory_utilization=settings["gpu_memory"],
        enforce_eager=settings["device"] == "cpu",
        disable_log_stats=True,
    )


def evaluate(model: Any, tasks: Any) -> dict[str, Any]:
    if hasattr(model.model, "reset_prefix_cache"):
        model.model.reset_prefix_cache()
    began = time.perf_counter()
    found = import_module("lm_eval").simple_evaluate(model=model, tasks=[TASK], task_manager=tasks)
    seconds = time.perf_counter() - began
    samples = sorted(found["samples"][TASK], key=lambda sample: int(sample["doc_id"]))
    odds = [yes - no for (yes, _), (no, _) in (sample["filtered_resps"] for sample in samples)]
    return {"seconds": seconds, "log_odds": odds}


if __name__ == "__main__":
    main()
