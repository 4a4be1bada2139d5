"""A beginning that many prompts share, read once: the same scores as without sharing, and fewer tokens read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkpoint import resolve
from harness.engines.encode import Ids, Trie
from harness.engines.probing import Read, can_share, probe, read_beginning
from harness.engines.text import Probe
from harness.engines.transformers import TransformersModel, load
from harness.model import EngineOptions, Model
from harness.testing.engines import FILMS, OPTIONS, answers, largest_gap, values
from harness.types import Choose, Generate, Key, Request, Scores
from tests import engine_models
from tests.test_engine_transformers import KINDS, SIZES, Hungry, plainly

pytestmark = pytest.mark.slow

NOISE = 2e-5
HISTORY = "The user liked " + ", ".join(engine_models.TITLES * 3) + ".\nWill the user enjoy "
PEOPLE = [f"{name}: {HISTORY}" for name in ("Ann", "Bob")]


def asked(people: Sequence[str] = PEOPLE) -> list[Request]:
    """Eight candidates for each, with rests of unequal length, one of them none at all, and two kinds of options."""
    films = [*(f"{film}?\n" for film in FILMS), ""]
    return [Choose(front + film, (OPTIONS, FILMS)[n % 2]) for front in people for n, film in enumerate(films)]


class Counted:
    """How many tokens each pass of a model reads, padding included: (rows, columns)."""

    def __init__(self, model: Any) -> None:
        self.passes: list[tuple[int, int]] = []
        self._model, self._forward = model, model.forward

    def __enter__(self) -> Counted:
        @wraps(self._forward)
        def forward(*args: Any, **more: Any) -> Any:
            self.passes.append(tuple(more["input_ids"].shape))
            return self._forward(*args, **more)

        self._model.forward = forward
        return self

    def __exit__(self, *_: object) -> None:
        self._model.forward = self._forward

    @property
    def tokens(self) -> int:
        return sum(rows * columns for rows, columns in self.passes)


def apart(loaded: TransformersModel, requests: Sequence[Request]) -> list[tuple[float, ...]]:
    """The scores without sharing."""
    loaded.shares = False
    try:
        return values(loaded.engine(), requests)
    finally:
        loaded.shares = True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engine_models.llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def llama(folder: Path) -> Iterator[TransformersModel]:
    loaded = load(resolve(Model("hf", str(folder))), [], EngineOptions(threads=1))
    assert isinstance(loaded, TransformersModel)
    assert loaded.shares
    yield loaded
    loaded.close()


def test_scores_are_those_of_the_plain_model_and_fewer_tokens_are_read(llama: TransformersModel, folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with Counted(llama.model) as together:
        found = values(llama.engine(), asked())
    with Counted(llama.model) as alone:
        assert largest_gap(apart(llama, asked()), found) < NOISE
    assert largest_gap([plainly(model, tokenizer, one) for one in asked() if isinstance(one, Choose)], found) < NOISE
    assert 2 * together.tokens < alone.tokens


def test_a_beginning_is_read_once_however_many_batches_follow(llama: TransformersModel) -> None:
    requests = [Choose(f"{HISTORY}{film}?\n", OPTIONS) for film in (*FILMS, *engine_models.TITLES)]
    encoder = llama.engine()._encoder  # type: ignore[attr-defined]  # of an Engine nobody else needs its tokens
    whole = max(len(one) for one in encoder.prompts([r.prompt for r in requests]))
    expected = apart(llama, requests)
    llama.budget = 3 * whole
    with Counted(llama.model) as counted:
        assert largest_gap(values(llama.engine(), requests), expected) < NOISE
    beginnings = [shape for shape in counted.passes if shape[1] > whole // 2]
    assert len(beginnings) == 1
    assert beginnings[0][0] == 1
    rows = [rows for rows, columns in counted.passes if columns <= whole // 2]
    assert rows == [3, 3, 3, 3, 1]


@pytest.mark.parametrize("budget", [1, 150, 700, 100_000])
def test_the_budget_changes_nothing(llama: TransformersModel, budget: int) -> None:
    expected = apart(llama, asked())
    llama.budget = budget
    assert largest_gap(values(llama.engine(), asked()), expected) < NOISE


def test_company_changes_nothing(llama: TransformersModel) -> None:
    """Other questions between them, other kinds of request, and some of a group handed over later."""
    mixed = [
        one for pair in zip(asked(), [Choose(f"{n} films", OPTIONS) for n in range(16)], strict=True) for one in pair
    ]
    expected = apart(llama, asked())
    assert largest_gap(values(llama.engine(), [*mixed, Generate("Seen:", 2)][:-1])[::2], expected) < NOISE
    engine = llama.engine()
    keyed = [(Key(f"{n}"), request) for n, request in enumerate(asked())]
    engine.submit([*keyed[:6], (Key("text"), Generate("Seen:", 2))])
    found = dict(engine.collect())
    engine.submit(keyed[6:])
    while more := engine.collect():
        assert not found.keys() & dict(more).keys()
        found |= dict(more)
    late = [reply.values for key, _ in keyed if isinstance(reply := found[key], Scores)]
    assert largest_gap(late, expected) < NOISE


def test_views_do_not_share_beginnings(folder: Path, tmp_path: Path) -> None:
    from harness.checkpoint import resolve_adapter

    checkpoint = resolve(Model("hf", str(folder)))
    adapter = resolve_adapter(engine_models.lora(tmp_path / "lora", folder, seed=1), checkpoint)
    loaded = load(checkpoint, [adapter], EngineOptions(threads=1, batch_tokens=700))
    assert isinstance(loaded, TransformersModel)
    views = [loaded.engine(), loaded.engine(adapter)]
    loaded.shares = False
    expected = [values(view, asked()) for view in views]
    loaded.shares = True
    found: list[dict[Key, Any]] = [{}, {}]
    for view in views:
        view.submit([(Key(f"{n}"), request) for n, request in enumerate(asked())])
    while any(more := [dict(view.collect()) for view in views]):
        found = [{**old, **new} for old, new in zip(found, more, strict=True)]
    for scores, one in zip(expected, found, strict=True):
        assert largest_gap([one[Key(f"{n}")].values for n in range(len(scores))], scores) < NOISE
    assert largest_gap(*expected) > 0.1
    loaded.close()


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_what_does_not_fit_is_halved(llama: TransformersModel, rows: int) -> None:
    expected = apart(llama, asked())
    with Hungry(llama.model, rows) as hungry:
        found = values(llama.engine(), asked())
    assert largest_gap(found, expected) < NOISE
    assert max(hungry.sizes) > rows


MORE: dict[str, Any] = {
    **KINDS,
    "qwen3 moe": lambda: transformers.Qwen3MoeConfig(
        **SIZES, intermediate_size=64, moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2,
        num_key_value_heads=2, head_dim=8,
    ),
    "phi3, long": lambda: transformers.Phi3Config(
        **SIZES,
        intermediate_size=64,
        max_position_embeddings=512,
        original_max_position_embeddings=100,
        rope_scaling={"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [3.0] * 4},
    ),
    "llama4, chunks": lambda: transformers.Llama4TextConfig(
        **SIZES, intermediate_size=64, intermediate_size_mlp=64, num_key_value_heads=2, head_dim=8, num_local_experts=2,
        attention_chunk_size=8,
    ),
    "neo": lambda: transformers.GPTNeoConfig(
        vocab_size=512, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]],
        window_size=8,
    ),
}  # fmt: skip
SHARING = {"qwen2": True, "gemma2": True, "mistral": True, "gpt2": True, "bloom": False, "qwen3 moe": True,
           "phi3, long": False, "llama4, chunks": False, "neo": True}  # fmt: skip
"""Those that cannot: Bloom is not told positions, longrope turns by the length of the whole, Llama 4 has chunks."""


@pytest.mark.parametrize("kind", MORE)
def test_other_architectures(kind: str, tmp_path: Path) -> None:
    """Sliding windows, absolute positions, experts; and where a cache does not tell, prompts are read as ever."""
    torch.manual_seed(0)
    engine_models.bpe_tokenizer(tmp_path)
    model = transformers.AutoModelForCausalLM.from_config(MORE[kind]()).eval()
    for weights in model.parameters():
        weights.data.mul_(3)
    model.save_pretrained(tmp_path)
    loaded = load(resolve(Model("hf", str(tmp_path))), [], EngineOptions(threads=1))
    assert isinstance(loaded, TransformersModel)
    assert loaded.shares is SHARING[kind]
    with Counted(loaded.model) as together:
        found = values(loaded.engine(), asked())
    if not loaded.shares:
        return
    with Counted(loaded.model) as alone:
        assert largest_gap(apart(loaded, asked()), found) < 5e-5
    assert 2 * together.tokens < alone.tokens


def test_encoder_decoders_do_not_share(tmp_path: Path) -> None:
    loaded = load(resolve(Model("hf", str(engine_models.t5(tmp_path / "t5")))), [], EngineOptions(1024, threads=1))
    assert isinstance(loaded, TransformersModel)
    assert not loaded.shares
    assert len(answers(loaded.engine(), asked())) == len(asked())


def test_code_that_is_not_the_library_s_is_not_trusted_with_a_cache() -> None:
    class Own(transformers.LlamaForCausalLM):  # type: ignore[misc]  # its library is untyped
        pass

    config = transformers.LlamaConfig(**SIZES, intermediate_size=64)
    assert can_share(transformers.LlamaForCausalLM(config))
    assert not can_share(Own(config))


@pytest.fixture(scope="module", params=["full", "sliding"])
def small(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    window = 8 if request.param == "sliding" else None
    config = transformers.MistralConfig(**SIZES, intermediate_size=64, num_key_value_heads=2, sliding_window=window)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for weights in model.parameters():
        weights.data.mul_(3)
    return model


tokens = st.lists(st.integers(3, 511), max_size=20).map(tuple)
tries = st.lists(st.lists(st.integers(3, 9), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4, unique=True)


@settings(max_examples=40, deadline=None)
@given(
    beginning=st.lists(st.integers(3, 511), min_size=1, max_size=30).map(tuple),
    rests=st.lists(st.tuples(tokens, tries), min_size=1, max_size=6),
    budget=st.integers(1, 400),
)
def test_any_rests_behind_any_beginning(
    small: Any, beginning: Ids, rests: list[tuple[Ids, list[Ids]]], budget: int
) -> None:
    """Rests much longer than the beginning, none at all, one prompt alone."""
    probes = [Probe((*beginning, *rest), Trie.of(options)) for rest, options in rests]
    with torch.inference_mode():
        plain = probe(small, probes, budget)
        found = probe(small, probes, budget, read_beginning(small, beginning))
    assert [one.keys() for one in found] == [one.keys() for one in plain]
    assert largest_gap(flat(found), flat(plain)) < 1e-4


def flat(reads: Sequence[Read]) -> list[list[float]]:
    return [[value for values in read.values() for value in values] for read in reads]
