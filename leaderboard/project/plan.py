"""What the project's leaderboard is made of: every step is one `harness` command, in the order in which they run.

Language models are made from nothing, small enough for a core and minutes each, then asked beside simple baselines and
RecBole's. Conventional models are asked once for each way in which a language model is asked, since a table holds runs
of one protocol; each is trained once. Nothing here says what a digest is: `{name}` in a command is the digest of the
run of the step of that name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

SHOTS = (16, 64, 256)
SEEDS = (0, 1, 2)
RECBOLE = ("SASRec", "GRU4Rec")
PALR = ("candidates={candidates}", "top=20", "shown=10")
"""As the list model is made for short lists, so is it asked: ten films of a history, twenty candidates."""


@dataclass(frozen=True)
class Step:
    words: tuple[str, ...]
    """Of the command, after `harness`."""
    name: str = ""
    """By which later steps speak of this step's run."""

    @property
    def runs(self) -> bool:
        """Whether it evaluates, and does not tune."""
        return self.words[0] == "run"


def steps(models: str) -> tuple[Step, ...]:
    """All of them; `models` is the folder for what is tuned."""
    return (
        *_palr(f"{models}/project"),
        *_llm_trsr(f"{models}/project"),
        *_instructrec(f"{models}/project"),
        *_tallrec(models),
    )


def _tallrec(models: str) -> Iterator[Step]:
    """The quickstart's model, and what few shots make of one that has seen no label."""
    tiny, base = f"{models}/tiny", f"{models}/project/label-free"
    yield Step(("tune", "--task", "tallrec", "--from-scratch", "tiny", "--out", tiny))
    yield Step(("tune", "--task", "tallrec", "--from-scratch", "tiny", "--unlabelled", "--out", base))
    adapters = {(shots, seed): f"{models}/project/lora-{shots}-seed-{seed}" for shots, seed in product(SHOTS, SEEDS)}
    for (shots, seed), out in adapters.items():
        drawn = ("--shots", str(shots), "--seed", str(seed))
        yield Step(("tune", "--task", "tallrec", "--set", "budget=ci", "--model", base, *drawn, "--out", out))
    yield _run("tallrec", f"hf:{tiny}")
    yield _run("tallrec", f"hf:{base}")
    yield _run("tallrec", f"hf:{base}", *(word for out in adapters.values() for word in ("--adapter", out)))
    for simple in ("random", "constant", "like-rate", "recency", "popularity", "item-mean"):
        yield _run("tallrec", f"simple:{simple}")
    for model, shots, seed in product(RECBOLE, SHOTS, SEEDS):
        yield _run("tallrec", f"recbole:{model}", "--model-set", f"shots={shots}", "--model-set", f"seed={seed}")


def _palr(models: str) -> Iterator[Step]:
    """A list model, asked in three ways about what the first stage found."""
    model = f"{models}/palr"
    yield _run("retrieval", "recbole:GRU4Rec", *_set("k_core=5"), "--model-set", "budget=ci", name="candidates")
    texts = _set("users=1.0", "stride=8", "swaps=0", "recommend=0.2", "mixed=false", "negatives=10", "shown=10")
    yield Step(("tune", "--task", "palr", "--from-scratch", "tiny-list", *texts, "--out", model))
    for way in ((), ("decoding=constrained",), ("answer=score",)):
        yield from _beside(f"hf:{model}", "palr", *_set(*PALR, *way))


def _llm_trsr(models: str) -> Iterator[Step]:
    """A model that clicks, with the summaries that it wrote itself, and without."""
    model = f"{models}/llm-trsr"
    yield Step(("tune", "--task", "llm-trsr", "--from-scratch", "tiny", *_set("lessons=10"), "--out", model))
    asked = _set("method=recurrent", "max_tokens=32")
    yield _run("llm-trsr-summaries", f"hf:{model}", *asked, name="summaries")
    for way in ((), ("summaries={summaries}",)):
        yield from _beside(f"hf:{model}", "llm-trsr", *_set(*way))


def _instructrec(models: str) -> Iterator[Step]:
    """A small T5 that follows the sequential scenario's instructions, by the template that is best on validation."""
    model = f"{models}/instructrec"
    texts = _set("lessons=8", "forms=rank", "searched=0", "personalised=0")
    yield Step(("tune", "--task", "instructrec-data", "--from-scratch", "tiny-t5", *texts, "--out", model))
    yield _run("instructrec", f"hf:{model}", "--choose", "instruction", "--choose-sample", "200")
    yield from _conventional("instructrec")


def _beside(model: str, task: str, *options: str) -> Iterator[Step]:
    yield _run(task, model, *options)
    yield from _conventional(task, *options)


def _conventional(task: str, *options: str) -> Iterator[Step]:
    for simple in ("random", "popularity"):
        yield _run(task, f"simple:{simple}", *options)
    for model in RECBOLE:
        yield _run(task, f"recbole:{model}", *options, "--model-set", "budget=ci")


def _run(task: str, model: str, *options: str, name: str = "") -> Step:
    return Step(("run", "--task", task, *options, "--model", model), name)


def _set(*settings: str) -> tuple[str, ...]:
    return tuple(word for setting in settings for word in ("--set", setting))
