"""A real vLLM with LoRA, one for the whole module: the contract, and agreement with transformers and peft."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from harness.checkpoint import resolve, resolve_adapter
from harness.engines import Engine
from harness.engines import transformers as hf
from harness.engines.adapters import prove_adapter
from harness.engines.text import LoadedModel
from harness.engines.vllm import load, supports
from harness.errors import BadModel, RequestFailed
from harness.model import Adapter, Checkpoint, EngineOptions, Model
from harness.testing.engines import EngineContract, answers, largest_gap, questions, values
from harness.types import Choose, Generate, Key, Request, Scores, Text
from tests import engine_models

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # vLLM and what it imports
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
OPTIONS = EngineOptions(threads=2, kv_cache_gib=1)


SCRIPT = """
import sys
from pathlib import Path
from harness.checkpoint import resolve
from harness.engines.vllm import load
from harness.errors import BadModel
from harness.model import EngineOptions, Model
from harness.types import Choose, Key

if __name__ == "__main__":
    loaded = load(resolve(Model("vllm", sys.argv[1])), [], EngineOptions(threads=2, kv_cache_gib=1))
    engine = loaded.engine()
    engine.submit([(Key("a"), Choose("Hello", ("Yes", "No")))])
    print(len(engine.collect()))
    engine.submit([(Key("b"), Choose("Hello", ("Yes", "No")))])  # left unanswered
    engine.close()
    loaded.close()
    loaded.close()
"""


def test_the_process_ends_quietly_with_zero(tmp_path: Path) -> None:
    """First of all, since two of vLLM at once would fight for the cores."""
    folder = engine_models.llama(tmp_path / "llama")
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[1])
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert "Traceback" not in done.stderr


class Pair:
    """The same checkpoint and adapters on both engines."""

    def __init__(self, folder: Path) -> None:
        base = engine_models.llama(folder / "llama", chat=True)
        made = [engine_models.lora(folder / name, base, seed=seed) for seed, name in enumerate(("one", "two"))]
        self.checkpoint: Checkpoint = resolve(Model("vllm", str(base)))
        self.adapters: list[Adapter] = [resolve_adapter(path, self.checkpoint) for path in made]
        self.hf: LoadedModel = hf.load(self.checkpoint, self.adapters, OPTIONS)
        self.vllm: LoadedModel = load(self.checkpoint, self.adapters, OPTIONS)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("models"))
    yield made
    made.vllm.close()
    made.hf.close()


class TestVllm(EngineContract):
    @pytest.fixture
    def engine(self, pair: Pair) -> Engine:
        return pair.vllm.engine()


class TestVllmWithAdapter(EngineContract):
    @pytest.fixture
    def engine(self, pair: Pair) -> Engine:
        return pair.vllm.engine(pair.adapters[1], "chat")


def asked() -> list[Request]:
    long: list[Request] = [Choose(prompt, engine_models.TITLES) for prompt in engine_models.PROMPTS]
    nested = ("No", "No way", " no")
    return [*questions(16), *long, Choose("No", nested), Choose("No", nested, ended=True)]


@pytest.mark.parametrize("template", ["raw", "chat"])
@pytest.mark.parametrize("place", [None, 0, 1])
def test_scores_agree_with_transformers(pair: Pair, place: int | None, template: str) -> None:
    adapter = None if place is None else pair.adapters[place]
    ours = values(pair.vllm.engine(adapter, template), asked())
    theirs = values(pair.hf.engine(adapter, template), asked())
    print("largest gap", largest_gap(ours, theirs))
    assert largest_gap(ours, theirs) < 1e-3


def test_adapters_agree_with_peft_directly(pair: Pair) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(pair.checkpoint.folder)
    base = transformers.AutoModelForCausalLM.from_pretrained(pair.checkpoint.folder, dtype=torch.float32)
    tuned = peft.PeftModel.from_pretrained(base, pair.adapters[0].folder).eval()
    requests: list[Request] = [Choose(prompt, ("\nYes", "\nNo")) for prompt in engine_models.PROMPTS]
    expected = []
    for request in requests:
        assert isinstance(request, Choose)
        ids = tokenizer(request.prompt)["input_ids"]
        row = []
        for option in request.options:
            joined = tokenizer(request.prompt + option)["input_ids"]
            assert joined[: len(ids)] == ids
            with torch.inference_mode():
                table = tuned(torch.tensor([joined])).logits[0].log_softmax(-1)
            row.append(sum(table[n - 1, joined[n]].item() for n in range(len(ids), len(joined))))
        expected.append(tuple(row))
    assert largest_gap(values(pair.vllm.engine(pair.adapters[0]), requests), expected) < 1e-3


@pytest.mark.parametrize("template", ["raw", "chat"])
def test_both_engines_receive_identical_ids(pair: Pair, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen at the libraries' own doors: vLLM's `add_request` and the forward pass of the transformers model."""
    requests: list[Request] = [Choose(prompt, ("Yes", "No")) for prompt in engine_models.PROMPTS]
    given: set[tuple[int, ...]] = set()
    vllm: Any = pair.vllm
    add_request = vllm._engine.add_request

    def seen_by_vllm(name: str, prompt: Any, *rest: Any, **more: Any) -> Any:
        given.add(tuple(prompt["prompt_token_ids"]))
        return add_request(name, prompt, *rest, **more)

    monkeypatch.setattr(vllm._engine, "add_request", seen_by_vllm)
    values(pair.vllm.engine(None, template), requests)
    passed: set[tuple[int, ...]] = set()

    def seen_by_transformers(_: Any, __: Any, more: dict[str, Any]) -> None:
        for row, mask in zip(more["input_ids"].tolist(), more["attention_mask"].tolist(), strict=True):
            passed.add(tuple(token for token, real in zip(row, mask, strict=True) if real))

    hf: Any = pair.hf
    handle = hf.model.register_forward_pre_hook(seen_by_transformers, with_kwargs=True)
    try:
        values(pair.hf.engine(None, template), requests)
    finally:
        handle.remove()
    assert len(given) == len(requests)
    assert given == passed


def test_texts_agree_with_transformers(pair: Pair) -> None:
    requests: list[Request] = [Generate(prompt, 8) for prompt in engine_models.PROMPTS]
    requests += [Generate(prompt, 8, stop=("e", "Yes")) for prompt in engine_models.PROMPTS]
    assert answers(pair.vllm.engine(), requests) == answers(pair.hf.engine(), requests)


CLOSED = tuple(f'{title}"' for title in engine_models.TITLES)
QUOTED = [f'{prompt} "' for prompt in engine_models.PROMPTS]


@pytest.mark.parametrize("place", [None, 0])
def test_options_agree_with_transformers(pair: Pair, place: int | None) -> None:
    adapter = None if place is None else pair.adapters[place]
    requests: list[Request] = [
        Generate(prompt, 1, options=CLOSED, barred=CLOSED[:n]) for prompt in QUOTED for n in range(len(CLOSED))
    ]
    assert answers(pair.vllm.engine(adapter), requests) == answers(pair.hf.engine(adapter), requests)


def any_spelling(model: Any, tokenizer: Any, prompt: str, options: Sequence[str]) -> str:
    """What structured outputs are: at every token the most probable one whose text still leads to an option."""
    ids, text = tokenizer(prompt)["input_ids"], ""
    pieces = [tokenizer.decode([token]) for token in range(len(tokenizer))]
    while True:
        allowed = [token for token, piece in enumerate(pieces) if token > 2 and any(
            option.startswith(text + piece) for option in options)]  # fmt: skip
        allowed += [tokenizer.eos_token_id] * (text in options)
        with torch.inference_mode():
            table = model(torch.tensor([ids])).logits[0, -1]
        token = max(allowed, key=lambda token: float(table[token]))
        if token == tokenizer.eos_token_id:
            return text
        ids, text = [*ids, token], text + pieces[token]


@pytest.fixture
def structured(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Leaves options to vLLM's structured outputs; of each request how long it is, and whether it is such a one."""
    vllm: Any = pair.vllm
    monkeypatch.setattr(vllm, "structured", len(CLOSED))
    seen: list[tuple[int, bool]] = []
    add_request = vllm._engine.add_request

    def watched(name: str, prompt: Any, params: Any, **more: Any) -> Any:
        seen.append((len(prompt["prompt_token_ids"]), params.structured_outputs is not None))
        return add_request(name, prompt, params, **more)

    monkeypatch.setattr(vllm._engine, "add_request", watched)
    return seen


def test_structured_outputs_write_options_too(pair: Pair, structured: list[tuple[int, bool]]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(pair.checkpoint.folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(pair.checkpoint.folder, dtype=torch.float32)
    requests = [Generate(prompt, 1, options=CLOSED, barred=CLOSED[:n]) for n, prompt in enumerate(QUOTED)]
    replies = answers(pair.vllm.engine(), requests)
    assert [grammar for _, grammar in structured] == [True] * len(requests)
    for request, reply in zip(requests, replies, strict=True):
        assert isinstance(reply, Text)
        free = [option for option in CLOSED if option not in request.barred]
        assert reply.text == any_spelling(model, tokenizer, request.prompt, free)
        assert reply.finish == "stop"
        assert len(tokenizer(reply.text, add_special_tokens=False).input_ids) <= reply.usage.generated_tokens
        assert reply.usage.generated_tokens <= len(reply.text)


def test_where_structured_outputs_cannot_the_tree_is_walked(
    pair: Pair, structured: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the context ends before their many short tokens do, or vLLM does not take the grammar."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(pair.checkpoint.folder)
    longest = max(len(tokenizer(option, add_special_tokens=False).input_ids) for option in CLOSED)
    narrow = "#" * (512 - longest - len(tokenizer("").input_ids))
    requests: list[Request] = [Generate(prompt, 1, options=CLOSED) for prompt in (narrow, QUOTED[0])]
    expected = answers(pair.hf.engine(), requests)
    assert answers(pair.vllm.engine(), requests[:1]) == expected[:1]
    assert (512 - longest, True) in structured
    assert (512 - longest, False) in structured
    vllm: Any = pair.vllm
    add_request = vllm._engine.add_request

    def refusing(name: str, prompt: Any, params: Any, **more: Any) -> Any:
        if params.structured_outputs is not None:
            raise ValueError("no grammars today")
        return add_request(name, prompt, params, **more)

    monkeypatch.setattr(vllm._engine, "add_request", refusing)
    assert answers(pair.vllm.engine(), requests) == expected


def test_seeded_draws_of_more_prompts_than_one_step_reads(pair: Pair) -> None:
    """vLLM cannot set a generator of the CPU back, which it does when it reads a prompt in pieces."""
    asked: list[Request] = [Generate(f"{n} " + "Seen: Heat. " * 20, 4, temperature=1.0, seed=n) for n in range(60)]
    drawn = answers(pair.vllm.engine(), asked)
    assert all(isinstance(reply, Text) for reply in drawn)
    assert sum(reply.usage.prompt_tokens for reply in drawn if isinstance(reply, Text)) > 2 * 2048
    assert answers(pair.vllm.engine(), asked[:3]) == drawn[:3]


def test_views_with_other_adapters_share_the_engine_at_the_same_time(pair: Pair) -> None:
    views = [pair.vllm.engine(), *(pair.vllm.engine(adapter) for adapter in pair.adapters)]
    expected = [values(view, questions(8)) for view in views]
    for view in views:
        view.submit([(Key(f"{n}"), request) for n, request in enumerate(questions(8))])
    views[1].close()
    for view, before in zip((views[2], views[0]), (expected[2], expected[0]), strict=True):
        found: dict[str, tuple[float, ...]] = {}
        while answered := view.collect():
            found |= {key[0]: reply.values for key, reply in answered if isinstance(reply, Scores)}
        assert largest_gap([found[f"{n}"] for n in range(8)], before) < 1e-4
    assert list(views[1].collect()) == []


def test_more_options_than_vllm_reports_at_once(pair: Pair) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(pair.checkpoint.folder)
    pieces = [tokenizer.decode([token]) for token in range(3, len(tokenizer))]
    options = tuple(piece for piece in dict.fromkeys(pieces) if piece.isascii() and piece)
    assert len(options) > 150
    request = Choose("Seen: Heat.\nAnswer:", options)
    (ours,), (theirs,) = (values(loaded.engine(), [request]) for loaded in (pair.vllm, pair.hf))
    assert largest_gap([ours], [theirs]) < 1e-3


def test_a_long_prompt_fits_as_far_as_the_context_says(pair: Pair) -> None:
    """The two engines draw the same line: prompt and answer within 512 tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(pair.checkpoint.folder)
    prompt = "#" * 600
    for length, fits in ((511, True), (512, False), (513, False)):
        text = prompt[: length - len(tokenizer("")["input_ids"])]
        assert len(tokenizer(text)["input_ids"]) == length
        for loaded in (pair.hf, pair.vllm):
            scored, written = answers(loaded.engine(), [Choose(text, ("a", "b")), Generate(text, 1)])
            assert isinstance(scored, Scores if fits else RequestFailed)
            assert isinstance(written, Text if fits else RequestFailed)


def test_adapters_are_proved(pair: Pair) -> None:
    for adapter in pair.adapters:
        assert prove_adapter(pair.vllm, adapter, "raw", engine_models.PROMPTS) > 0.01
    with pytest.raises(BadModel, match="was not loaded with"):
        pair.vllm.engine(Adapter(Path("other"), "other", "ffff", 8))


def test_the_version_names_the_library(pair: Pair) -> None:
    assert pair.vllm.kind == "vllm"
    assert pair.vllm.version.startswith("vllm 0.")


def test_what_it_supports(pair: Pair, tmp_path: Path) -> None:
    assert supports(pair.checkpoint)
    assert not supports(resolve(Model("auto", str(engine_models.t5(tmp_path / "t5")))))


def test_what_it_cannot_load_is_one_line(pair: Pair, tmp_path: Path) -> None:
    folder = engine_models.llama(tmp_path / "llama")
    config = (folder / "config.json").read_text().replace("LlamaForCausalLM", "NoSuchForCausalLM")
    (folder / "config.json").write_text(config.replace('"llama"', '"no_such"'))
    checkpoint = resolve(Model("vllm", str(folder)))
    assert not supports(checkpoint)
    with pytest.raises(BadModel, match=r"^(vLLM cannot load|the tokenizer of)") as caught:
        load(checkpoint, [], OPTIONS)
    assert "\n" not in str(caught.value)
    steep = replace(pair.adapters[0], rank=1000)
    with pytest.raises(BadModel, match="LoRA ranks up to 512, not 1000"):
        load(pair.checkpoint, [steep], OPTIONS)
