"""The transformers engine against plain transformers: one prompt at a time, no padding, the whole softmax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from harness.checkpoint import resolve, resolve_adapter
from harness.engines import Engine
from harness.engines.adapters import prove_adapter
from harness.engines.text import LoadedModel
from harness.engines.transformers import TransformersModel, load
from harness.errors import BadModel, BadSetting, HarnessError, RequestFailed
from harness.model import Adapter, EngineOptions, Model
from harness.testing.engines import FILMS, OPTIONS, EngineContract, answers, largest_gap, questions, values
from harness.types import Choose, Generate, Key, Request, Scores, Text
from tests import engine_models

pytestmark = pytest.mark.slow

QUICK = EngineOptions(threads=1, batch_tokens=600)
Loaded = tuple[TransformersModel, list[Adapter], Path]


def opened(folder: Path, *adapters: Path, options: EngineOptions = QUICK) -> Loaded:
    checkpoint = resolve(Model("hf", str(folder)))
    found = [resolve_adapter(path, checkpoint) for path in adapters]
    loaded = load(checkpoint, found, options)
    assert isinstance(loaded, TransformersModel)
    return loaded, found, folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp("models")
    base = engine_models.llama(folder / "llama", chat=True)
    one = engine_models.lora(folder / "one", base, seed=1)
    two = engine_models.lora(folder / "two", base, seed=2, rank=4)
    made = opened(base, one, two)
    yield made
    made[0].close()


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp("models")
    base = engine_models.t5(folder / "t5")
    made = opened(base, engine_models.lora(folder / "lora", base), options=EngineOptions(1024, 600, threads=1))
    yield made
    made[0].close()


def plainly(model: Any, tokenizer: Any, request: Choose) -> tuple[float, ...]:
    """Teacher forcing over the joined text, from the first token at which a reading differs from the prompt's."""
    prompt = tokenizer(request.prompt)["input_ids"]
    end = [tokenizer.eos_token_id] if request.ended else []
    joined = [tokenizer(request.prompt + option)["input_ids"] + end for option in request.options]
    shared = min(
        next((n for n, (a, b) in enumerate(zip(prompt, ids, strict=False)) if a != b), len(prompt)) for ids in joined
    )
    scores = []
    for ids in joined:
        with torch.inference_mode():
            table = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        scores.append(sum(table[place - 1, ids[place]].item() for place in range(shared, len(ids))))
    return tuple(scores)


def plainly_encoder_decoder(model: Any, tokenizer: Any, request: Choose) -> tuple[float, ...]:
    prompt = torch.tensor([tokenizer(request.prompt)["input_ids"]])
    scores = []
    for option in request.options:
        ids = tokenizer(option)["input_ids"]
        ids = ids if request.ended else ids[:-1]
        with torch.inference_mode():
            out = model(input_ids=prompt, decoder_input_ids=torch.tensor([[0, *ids[:-1]]]))
        table = out.logits[0].double().log_softmax(-1)
        scores.append(sum(table[place, token].item() for place, token in enumerate(ids)))
    return tuple(scores)


def asked(count: int = 16) -> list[Choose]:
    long = [Choose(prompt, engine_models.TITLES) for prompt in engine_models.PROMPTS]
    nested = ("No", "No way", " no")
    short = [q for q in questions(count) if isinstance(q, Choose)]
    return [*short, *long, Choose("No", nested), Choose("No", nested, ended=True), replace(long[1], ended=True)]


def folder_model(loaded: Loaded, kind: Any) -> tuple[Any, Any]:
    folder = loaded[2]
    return kind.from_pretrained(folder, dtype=torch.float32).eval(), transformers.AutoTokenizer.from_pretrained(folder)


class TestDecoderOnly(EngineContract):
    @pytest.fixture
    def engine(self, llama: Loaded) -> Engine:
        return llama[0].engine()


class TestWithAdapter(EngineContract):
    @pytest.fixture
    def engine(self, llama: Loaded) -> Engine:
        return llama[0].engine(llama[1][0], "chat")


class TestEncoderDecoder(EngineContract):
    @pytest.fixture
    def engine(self, t5: Loaded) -> Engine:
        return t5[0].engine()


def test_scores_are_those_of_the_plain_model(llama: Loaded) -> None:
    model, tokenizer = folder_model(llama, transformers.AutoModelForCausalLM)
    expected = [plainly(model, tokenizer, request) for request in asked()]
    assert largest_gap(values(llama[0].engine(), asked()), expected) < 2e-5


def test_encoder_decoder_scores_are_those_of_the_plain_model(t5: Loaded) -> None:
    model, tokenizer = folder_model(t5, transformers.AutoModelForSeq2SeqLM)
    expected = [plainly_encoder_decoder(model, tokenizer, request) for request in asked()]
    assert largest_gap(values(t5[0].engine(), asked()), expected) < 2e-5


@pytest.mark.parametrize("place", [0, 1])
def test_adapters_score_as_peft_does_and_do_not_mix(llama: Loaded, place: int) -> None:
    loaded, adapters, _ = llama
    model, tokenizer = folder_model(llama, transformers.AutoModelForCausalLM)
    tuned = peft.PeftModel.from_pretrained(model, adapters[place].folder).eval()
    expected = [plainly(tuned, tokenizer, request) for request in asked(6)]
    base = values(loaded.engine(), asked(6))
    assert largest_gap(values(loaded.engine(adapters[place]), asked(6)), expected) < 5e-5
    assert largest_gap(base, expected) > 0.1
    assert values(loaded.engine(), asked(6)) == base


def test_encoder_decoder_adapters_work_too(t5: Loaded) -> None:
    model, tokenizer = folder_model(t5, transformers.AutoModelForSeq2SeqLM)
    tuned = peft.PeftModel.from_pretrained(model, t5[1][0].folder).eval()
    expected = [plainly_encoder_decoder(tuned, tokenizer, request) for request in asked(6)]
    assert largest_gap(values(t5[0].engine(t5[1][0]), asked(6)), expected) < 5e-5


@pytest.mark.parametrize("which", ["llama", "t5"])
def test_texts_are_those_of_plain_greedy_generation(which: str, request: pytest.FixtureRequest) -> None:
    loaded: Loaded = request.getfixturevalue(which)
    kind = transformers.AutoModelForSeq2SeqLM if which == "t5" else transformers.AutoModelForCausalLM
    model, tokenizer = folder_model(loaded, kind)
    replies = answers(loaded[0].engine(), [Generate(prompt, 8) for prompt in engine_models.PROMPTS])
    for prompt, reply in zip(engine_models.PROMPTS, replies, strict=True):
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8)
        new = made[0, 1 if which == "t5" else ids.shape[1] :]
        assert isinstance(reply, Text)
        assert reply.text == tokenizer.decode(new, skip_special_tokens=True)


def test_an_end_of_text_is_a_stop(llama: Loaded) -> None:
    """The model is made to end after its second token."""
    loaded = llama[0]
    model = loaded.model
    ids = transformers.AutoTokenizer.from_pretrained(llama[2])("Seen: Heat.")["input_ids"]
    with loaded.using(None):
        made = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=6)
    second = made[0, len(ids) + 1].item()
    ends, model.generation_config.eos_token_id = model.generation_config.eos_token_id, [second]
    try:
        (cut, other) = answers(loaded.engine(), [Generate("Seen: Heat.", 6), Generate("Seen: Alien and Fargo.", 6)])
    finally:
        model.generation_config.eos_token_id = ends
    assert isinstance(cut, Text)
    assert isinstance(other, Text)
    assert (cut.finish, cut.usage.generated_tokens) == ("stop", 2)


class Hungry:
    """A model whose forward pass runs out of memory on more than `rows` rows."""

    def __init__(self, model: Any, rows: int) -> None:
        self.sizes: list[int] = []
        self._model, self._rows, self._forward = model, rows, model.forward

    def __enter__(self) -> Hungry:
        @wraps(self._forward)
        def forward(input_ids: Any = None, **more: Any) -> Any:
            self.sizes.append(len(input_ids))
            if len(input_ids) > self._rows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return self._forward(input_ids=input_ids, **more)

        self._model.forward = forward
        return self

    def __exit__(self, *_: object) -> None:
        self._model.forward = self._forward


@pytest.fixture
def roomy(llama: Loaded) -> Iterator[TransformersModel]:
    loaded = llama[0]
    before, loaded.budget = loaded.budget, 8192
    yield loaded
    loaded.budget = before


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved(roomy: TransformersModel) -> None:
    requests: list[Request] = [Choose(f"Seen: {film}.\n", OPTIONS) for film in FILMS * 4]
    expected = values(roomy.engine(), requests)
    with Hungry(roomy.model, 4) as hungry:
        assert largest_gap(values(roomy.engine(), requests), expected) < 1e-4
    assert hungry.sizes[:4] == [28, 14, 7, 3]
    assert roomy.budget < 8192
    again = Hungry(roomy.model, 4)
    with again:
        values(roomy.engine(), requests)
    assert max(again.sizes) <= 8, "the next batches should be small from the start"


@pytest.mark.slow
def test_generation_is_halved_too(roomy: TransformersModel) -> None:
    requests: list[Request] = [Generate(f"Seen: {film}.\n", 3) for film in FILMS]
    expected = answers(roomy.engine(), requests)
    with Hungry(roomy.model, 2):
        assert answers(roomy.engine(), requests) == expected


def test_what_does_not_fit_alone_stops_the_run_and_is_nobody_s_failure(roomy: TransformersModel) -> None:
    engine = roomy.engine()
    with Hungry(roomy.model, 0), pytest.raises(HarnessError, match="out of memory on a single request"):
        answers(engine, questions(3))
    engine.close()
    assert isinstance(answers(roomy.engine(), questions(3))[0], Scores)


def test_an_adapter_in_force_is_proved(llama: Loaded) -> None:
    loaded, adapters, _ = llama
    assert prove_adapter(loaded, adapters[0], "raw", engine_models.PROMPTS) > 0.01
    assert prove_adapter(loaded, adapters[1], "chat", engine_models.PROMPTS) > 0.01


class Deaf:
    """A loaded model that applies no adapter: what a silent failure looks like."""

    kind = version = "deaf"

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def engine(self, adapter: Adapter | None = None, template: str = "raw") -> Engine:
        return self._loaded.engine(None, template)

    def close(self) -> None: ...


def test_an_adapter_not_in_force_stops_the_run(llama: Loaded) -> None:
    loaded, adapters, _ = llama
    with pytest.raises(BadModel, match=r"^adapter .* changes nothing: "):
        prove_adapter(Deaf(loaded), adapters[0], "raw", engine_models.PROMPTS)
    with pytest.raises(BadModel, match="cannot be proved"):
        prove_adapter(loaded, adapters[0], "raw", ["word " * 5000])
    with pytest.raises(BadModel, match="cannot be proved"):
        prove_adapter(loaded, adapters[0], "raw", [])


def test_views_share_a_model_and_nothing_else(llama: Loaded) -> None:
    loaded, adapters, _ = llama
    one, two = loaded.engine(adapters[0]), loaded.engine()
    expected = values(two, questions(5))
    tuned = values(one, questions(5))
    one.submit([(Key(f"{n}"), request) for n, request in enumerate(questions(5))])
    two.submit([(Key(f"{n}"), request) for n, request in enumerate(questions(5))])
    two.close()
    assert two.collect() == []
    found = dict(one.collect())
    assert [reply.values for n in range(5) if isinstance(reply := found[Key(f"{n}")], Scores)] == tuned
    assert largest_gap(values(loaded.engine(), questions(5)), expected) < 1e-4
    with pytest.raises(BadModel, match="was not loaded with"):
        loaded.engine(Adapter(Path("other"), "other", "ffff", 8))


def test_weights_that_are_missing_are_never_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = engine_models.llama(tmp_path / "llama")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadModel, match=r"lack model\.layers\.1\.mlp\.up_proj\.weight"):
        opened(folder)


def test_a_failed_load_is_one_line(tmp_path: Path) -> None:
    folder = engine_models.llama(tmp_path / "llama")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"llama"', '"no_such_model"'))
    with pytest.raises(BadModel) as caught:
        opened(folder)
    assert "\n" not in str(caught.value)


def test_a_context_beyond_the_models_is_refused(llama: Loaded) -> None:
    with pytest.raises(BadSetting, match="max_model_len 4096 is more than the 512 tokens"):
        opened(llama[2], options=EngineOptions(max_model_len=4096))


def test_the_version_names_the_libraries(llama: Loaded) -> None:
    assert llama[0].kind == "hf"
    assert transformers.__version__ in llama[0].version


def test_a_token_beyond_the_embeddings_fails_its_request_alone(tmp_path: Path) -> None:
    folder = engine_models.llama(tmp_path / "llama", vocabulary=262)
    good: Sequence[Request] = [Choose("#", ("$", "%"))]
    replies = answers(opened(folder)[0].engine(), [*good, Choose("The user liked", ("$", "%")), *good])
    assert [type(reply) for reply in replies] == [Scores, RequestFailed, Scores]
    assert "beyond the model's 262 embeddings" in str(replies[1])


def test_a_text_ends_at_the_tokenizer_s_end_too(tmp_path: Path) -> None:
    """As in vLLM: chat models often keep the base model's generation config and end at a token of their own."""
    folder = engine_models.llama(tmp_path / "llama")
    loaded = load(resolve(Model("hf", str(folder))), [], EngineOptions())
    request = Generate("Seen: Heat.\n", 6)
    (before,) = answers(loaded.engine(), [request])
    assert isinstance(before, Text)
    assert before.finish == "length"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer(request.prompt, return_tensors="pt").input_ids
    third = int(model.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] + 2])
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(third)
    tokenizer.save_pretrained(folder)
    (after,) = answers(load(resolve(Model("hf", str(folder))), [], EngineOptions()).engine(), [request])
    assert isinstance(after, Text)
    assert after.finish == "stop"
    assert after.usage.generated_tokens <= 3


def test_models_with_a_recurrent_state_are_refused(tmp_path: Path) -> None:
    engine_models.bpe_tokenizer(tmp_path)
    config = transformers.MambaConfig(vocab_size=512, hidden_size=32, num_hidden_layers=1, state_size=4)
    transformers.MambaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(BadModel, match="MambaForCausalLM keeps a recurrent state"):
        load(resolve(Model("hf", str(tmp_path))), [], EngineOptions())


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 512, "pad_token_id": 0}
KINDS: dict[str, Any] = {
    "qwen2": lambda: transformers.Qwen2Config(**SIZES, intermediate_size=64, num_key_value_heads=2),
    "gemma2": lambda: transformers.Gemma2Config(
        **SIZES, intermediate_size=64, num_key_value_heads=2, head_dim=8, sliding_window=8
    ),
    "mistral": lambda: transformers.MistralConfig(
        **SIZES, intermediate_size=64, num_key_value_heads=2, sliding_window=8
    ),
    "gpt2": lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=512, bos_token_id=2),
    "bloom": lambda: transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=512),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_architectures_against_one_prompt_at_a_time(kind: str, tmp_path: Path) -> None:
    """Left padding, positions and branched caches must not change a score, whatever the kind of positions."""
    torch.manual_seed(0)
    engine_models.bpe_tokenizer(tmp_path)
    model = transformers.AutoModelForCausalLM.from_config(KINDS[kind]()).eval()
    for weights in model.parameters():
        weights.data.mul_(3)
    model.save_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    requests = [Choose(prompt, ("Yes", "No", "Toy Story", "The Matrix")) for prompt in engine_models.PROMPTS]
    found = values(load(resolve(Model("hf", str(tmp_path))), [], EngineOptions()).engine(), requests)
    for request, scores in zip(requests, found, strict=True):
        before = tokenizer(request.prompt).input_ids
        for option, score in zip(request.options, scores, strict=True):
            ids = tokenizer(request.prompt + option).input_ids
            shared = next(
                (n for n, pair in enumerate(zip(before, ids, strict=False)) if pair[0] != pair[1]), len(before)
            )
            if shared < len(before):
                continue  # merged across the boundary: the options share a shorter prompt
            with torch.inference_mode():
                table = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            exact = sum(table[n - 1, ids[n]].item() for n in range(len(before), len(ids)))
            assert score == pytest.approx(exact, abs=2e-5)
