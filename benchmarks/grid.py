"""What one engine start for a whole grid saves against one start per cell.

The same cells, once through `harness grid` and once through one `harness run` each, as whole processes, in turn: a
58M-parameter Llama with random LoRA adapters on the first prompts of TALLRec movie, nothing cached.

    python -m benchmarks.grid [--adapters 3] [--sample 200]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.models import llama_58m, random_lora


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--adapters", type=int, default=3)
    parser.add_argument("--sample", type=int, default=200, help="prompts in each cell")
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        base = llama_58m(folder / "base")
        adapters = [random_lora(folder / f"lora-{seed}", base, seed) for seed in range(given.adapters)]
        words = ["--task", "tallrec", "--model", f"vllm:{base}", "--sample", str(given.sample), "--no-cache"]
        named = [word for adapter in adapters for word in ("--adapter", str(adapter))]
        together, said = _timed(["grid", *words, *named, "--runs", str(folder / "together")])
        assert "1 engine start" in said, said
        apart = sum(
            _timed(["run", *words, "--adapter", str(adapter), "--runs", str(folder / "apart")])[0]
            for adapter in adapters
        )
    print(f"{given.adapters} adapters, {given.sample} prompts each, one engine start     {together:7.1f} s")
    print(f"the same cells, one engine start each                {apart:7.1f} s")
    print(f"saved {apart - together:.0f} s, {apart / together:.1f} times as fast")


def _timed(words: list[str]) -> tuple[float, str]:
    """Seconds of a whole process, and what it said."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "harness.cli", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return time.perf_counter() - began, done.stderr


if __name__ == "__main__":
    main()
