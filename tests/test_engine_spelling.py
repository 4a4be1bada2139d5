"""One of many options, token by token: against brute force on ids, on texts, and on a real model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from harness.checkpoint import resolve
from harness.engines import FunctionEngine
from harness.engines.cache import Cached, ResponseCache
from harness.engines.encode import Encoder
from harness.engines.spelling import Lexicon, Lexicons, Walk
from harness.engines.text import LoadedModel
from harness.engines.transformers import load
from harness.errors import RequestFailed
from harness.model import EngineOptions, Model
from harness.testing.engines import answers
from harness.types import Generate, Key, Request, Text, Usage
from tests import engine_models
from tests.engine_models import PROMPTS, TITLES
from tests.test_engine_transformers import Hungry

pytestmark = pytest.mark.slow

Ids = tuple[int, ...]
CLOSED = tuple(f'{title}"' for title in TITLES)
QUOTED = [f'{prompt} "' for prompt in PROMPTS]


def greedily(options: dict[str, Ids], best: Callable[[Ids, set[int]], int]) -> str:
    """What spelling means: at every token the best one that still leads to an option."""
    path: Ids = ()
    while path not in options.values():
        allowed = {ids[len(path)] for ids in options.values() if ids[: len(path)] == path}
        path = (*path, best(path, allowed))
    return next(option for option, ids in options.items() if ids == path)


def prefix_free(ids: Sequence[Ids]) -> bool:
    return not any(a != b and b[: len(a)] == a for a in ids for b in ids)


ends = st.lists(st.integers(0, 2), min_size=1, max_size=5).map(lambda ids: (*ids, 9))
"""Ids closed by a mark, as options should be."""


@given(st.lists(ends, min_size=1, max_size=15, unique=True), st.data())
def test_a_walk_ends_where_brute_force_does(ids: list[Ids], data: st.DataObject) -> None:
    options = {str(place): spelt for place, spelt in enumerate(ids)}
    barred = data.draw(st.sets(st.sampled_from(list(options)), max_size=len(options) - 1))
    liking = data.draw(st.permutations(range(10)))

    def best(path: Ids, allowed: set[int]) -> int:
        return max(allowed, key=lambda token: liking[(token + sum(path)) % 10])

    lexicon = Lexicon(list(options), ids)
    walk = Walk(lexicon, lexicon.barred([*barred, "no option"]))
    while walk.choices:
        assert len(walk.choices) > 1, "there is something to choose"
        assert walk.choices == sorted(set(walk.choices))
        walk.take(best(walk.known, set(walk.choices)))
    free = {option: spelt for option, spelt in options.items() if option not in barred}
    assert walk.option == greedily(free, best)
    assert walk.known == options[walk.option]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple), min_size=1, max_size=8, unique=True))
def test_a_lexicon_refuses_exactly_the_beginnings(ids: list[Ids]) -> None:
    names = [str(place) for place in range(len(ids))]
    if prefix_free(ids):
        assert Lexicon(names, ids).longest(frozenset()) == max(map(len, ids))
    else:
        with pytest.raises(RequestFailed, match=r"is the beginning of .*; close every option with a mark"):
            Lexicon(names, ids)


def test_the_longest_option_is_the_longest_free_one() -> None:
    lexicon = Lexicon(["a", "b", "c"], [(1,), (2, 3, 4), (5, 6)])
    assert [lexicon.longest(lexicon.barred(barred)) for barred in ((), ("b",), ("c", "b"))] == [3, 2, 1]
    with pytest.raises(RequestFailed, match="every option is barred"):
        lexicon.longest(lexicon.barred(("a", "b", "c")))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tokenizers")
    pieces = engine_models.sentencepiece_llama(folder / "pieces")
    return {
        "bytes": engine_models.bpe_tokenizer(folder / "bytes"),
        "pieces": transformers.AutoTokenizer.from_pretrained(pieces),
    }


TEXTS = st.text('YesNo \n"Toyübé–電(19', min_size=1, max_size=9)


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
@given(prompt=TEXTS, options=st.lists(TEXTS, min_size=1, max_size=5, unique=True))
def test_ids_behind_a_prompt_decode_to_the_option(
    tokenizers: dict[str, Any], kind: str, prompt: str, options: list[str]
) -> None:
    encoder = Encoder(tokenizers[kind], "raw", "m")
    (ids,) = encoder.prompts([prompt])
    for option, spelt in zip(options, encoder.behind(encoder.tail(ids), options), strict=True):
        assert encoder.continuation(ids, spelt, ()) == (option, False)
        assert tokenizers[kind].decode([*ids, *spelt], skip_special_tokens=True).endswith(option)


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_options_that_do_not_merge_have_their_canonical_ids(tokenizers: dict[str, Any], kind: str) -> None:
    tokenizer = tokenizers[kind]
    encoder = Encoder(tokenizer, "raw", "m")
    for ending in (' "', "\n", ":\n1. ", " is:"):
        prompt = PROMPTS[0] + ending
        (ids,) = encoder.prompts([prompt])
        joined = [tuple(tokenizer(prompt + option)["input_ids"]) for option in CLOSED]
        for option, whole, spelt in zip(CLOSED, joined, encoder.behind(encoder.tail(ids), CLOSED), strict=True):
            if whole[: len(ids)] == ids:
                assert spelt == whole[len(ids) :], (ending, option)


def test_options_are_tokenised_once_for_all_prompts_that_end_alike(tokenizers: dict[str, Any]) -> None:
    encoder = Encoder(tokenizers["bytes"], "raw", "m")
    lexicons = Lexicons(encoder, kept=2 * len(CLOSED))
    quoted = encoder.prompts(QUOTED)
    (colon,) = encoder.prompts(["Next:"])
    made = lexicons.find(quoted[0], CLOSED)
    assert all(lexicons.find(prompt, tuple(f'{title}"' for title in TITLES)) is made for prompt in quoted)
    assert lexicons.find(colon, CLOSED) is not made
    assert lexicons.find(quoted[0], CLOSED) is made
    lexicons.find(quoted[0], CLOSED[:2])  # one too many: the one that was not used for longest is forgotten
    assert lexicons.find(quoted[0], CLOSED) is made
    refused = ("Heat", "Heat 2")
    for _ in range(2):
        with pytest.raises(RequestFailed, match="'Heat' is the beginning of 'Heat 2'"):
            lexicons.find(colon, refused)


def test_equal_options_count_once(tokenizers: dict[str, Any]) -> None:
    encoder = Encoder(tokenizers["bytes"], "raw", "m")
    lexicon = Lexicons(encoder).find(encoder.prompts(["Next:"])[0], ('a"', 'b"', 'a"'))
    assert lexicon.options == ['a"', 'b"']


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LoadedModel, Any, Any]]:
    yield from opened(engine_models.llama(tmp_path_factory.mktemp("m") / "llama"), transformers.AutoModelForCausalLM)


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LoadedModel, Any, Any]]:
    yield from opened(engine_models.t5(tmp_path_factory.mktemp("m") / "t5"), transformers.AutoModelForSeq2SeqLM)


def opened(folder: Path, kind: Any) -> Iterator[tuple[LoadedModel, Any, Any]]:
    made = load(resolve(Model("hf", str(folder))), [], EngineOptions(512, 700, threads=1))
    yield made, kind.from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)
    made.close()


def plainly(model: Any, tokenizer: Any, request: Generate) -> str:
    """Full forward passes, no cache and no padding, one prompt at a time."""
    encoder_decoder = model.config.is_encoder_decoder
    prompt = tokenizer(request.prompt)["input_ids"]

    def logits(path: Ids) -> Any:
        with torch.inference_mode():
            if encoder_decoder:
                start = model.generation_config.decoder_start_token_id
                ids = torch.tensor([[start, *path]])
                return model(input_ids=torch.tensor([prompt]), decoder_input_ids=ids).logits[0, -1]
            return model(torch.tensor([[*prompt, *path]])).logits[0, -1]

    def best(path: Ids, allowed: set[int]) -> int:
        table = logits(path)
        return max(sorted(allowed), key=lambda token: float(table[token]))

    def spelt(option: str) -> Ids:
        if encoder_decoder:
            return tuple(tokenizer(option)["input_ids"][:-1])
        whole = tokenizer(request.prompt + option)["input_ids"]
        assert whole[: len(prompt)] == prompt
        return tuple(whole[len(prompt) :])

    return greedily({option: spelt(option) for option in request.options if option not in request.barred}, best)


MANY = tuple(
    f'{first} {second} ({year})"'
    for first in ("The", "Toy", "Alien", "Aliens", "Heat", "A")
    for second in ("Story", "Matrix", "Story of Heat", "2", "Alien Story")
    for year in (1979, 1995, 1999)
)


@pytest.mark.parametrize("which", ["llama", "t5"])
def test_options_are_those_of_a_plain_greedy_loop(which: str, request: pytest.FixtureRequest) -> None:
    """Prompts of several lengths and trees of several depths in one batch, and every title barred that was written."""
    loaded, model, tokenizer = request.getfixturevalue(which)
    asked = [Generate(prompt, 1, options=MANY) for prompt in QUOTED]
    asked += [Generate(prompt, 1, options=CLOSED, barred=CLOSED[:place]) for place, prompt in enumerate(QUOTED)]
    for _ in range(5):
        replies = answers(loaded.engine(), asked)
        assert [r.text for r in replies if isinstance(r, Text)] == [plainly(model, tokenizer, r) for r in asked]
        texts = [reply.text for reply in replies if isinstance(reply, Text)]
        asked = [replace(r, barred=(*r.barred, text)) for r, text in zip(asked, texts, strict=True)]
        asked = [r for r in asked if len(r.barred) < len(r.options)]


def test_a_list_without_repetition_names_every_option(llama: tuple[LoadedModel, Any, Any]) -> None:
    written: tuple[str, ...] = ()
    while len(written) < len(MANY):
        (reply,) = answers(llama[0].engine(), [Generate(QUOTED[0], 1, options=MANY, barred=written)])
        assert isinstance(reply, Text)
        assert reply.usage.generated_tokens == len(llama[2](reply.text, add_special_tokens=False)["input_ids"])
        written += (reply.text,)
    assert sorted(written) == sorted(MANY)


def test_a_batch_of_options_that_does_not_fit_is_halved(llama: tuple[LoadedModel, Any, Any]) -> None:
    """A half begins its walks anew: what the batch had chosen before it ran out of memory is forgotten."""
    loaded: Any = llama[0]
    requests: list[Request] = [Generate(prompt, 1, options=MANY) for prompt in QUOTED]
    expected = answers(loaded.engine(), requests)
    budget, loaded.budget = loaded.budget, 8192
    with Hungry(loaded.model, 2) as hungry:
        assert answers(loaded.engine(), requests) == expected
    assert hungry.sizes[:2] == [5, 2]
    loaded.budget = budget


def test_the_context_holds_the_longest_free_option(llama: tuple[LoadedModel, Any, Any]) -> None:
    """512 tokens of context: 511 of the prompt leave room for `$`, not for three tokens. `max_tokens` says nothing."""
    loaded, _, tokenizer = llama
    prompt = "#" * (511 - len(tokenizer("")["input_ids"]))
    assert len(tokenizer(prompt)["input_ids"]) == 511
    options = ("$", "%&*")
    asked: list[Request] = [Generate(prompt, 999, options=options, barred=options[n:]) for n in (1, 2)]
    fits, too_long = answers(loaded.engine(), asked)
    assert isinstance(fits, Text)
    assert fits.text == "$"
    assert str(too_long) == (
        "prompt of 511 tokens and 3 of the longest option are longer than the model's context of 512"
    )


def test_an_option_beyond_the_embeddings_fails_its_request_alone(tmp_path: Path) -> None:
    folder = engine_models.llama(tmp_path / "llama", vocabulary=262)
    loaded = load(resolve(Model("hf", str(folder))), [], EngineOptions(threads=1))
    good, bad = answers(loaded.engine(), [Generate("#", 1, options=("$", "%")), Generate("#", 1, options=CLOSED)])
    assert isinstance(good, Text)
    assert "beyond the model's 262 embeddings" in str(bad)


class Asked:
    """Counts what reaches the engine behind a cache."""

    def __init__(self, folder: Path) -> None:
        self.count = 0
        self.store = ResponseCache(folder / "responses.sqlite")
        self.engine = Cached(FunctionEngine(self._answer, Generate), self.store, {"weights": "w"})

    def _answer(self, key: Key, request: Request) -> Text:
        self.count += 1
        return Text(str(self.count))

    def times(self, *requests: Generate) -> int:
        before = self.count
        self.engine.submit([(Key(str(place)), request) for place, request in enumerate(requests)])
        while self.engine.collect():
            pass
        return self.count - before


def test_options_and_what_is_barred_are_part_of_the_cache_s_key(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    plain = Generate("write", 8)
    titled = replace(plain, options=CLOSED)
    barred = replace(titled, barred=(CLOSED[0], CLOSED[1]))
    variants = [plain, titled, barred, replace(titled, options=CLOSED[:-1]), replace(barred, barred=CLOSED[:1])]
    variants += [replace(plain, barred=CLOSED[:1])]
    assert asked.times(*variants) == len(variants)
    assert asked.times(*variants, replace(barred, barred=(CLOSED[1], CLOSED[0]))) == 0


def test_plain_generations_keep_the_keys_that_they_had_before_there_were_options(tmp_path: Path) -> None:
    fields = {"prompt": "write", "max_tokens": 8, "stop": ["x"], "temperature": 0.0, "top_p": 1.0, "seed": None}
    said = json.dumps([json.dumps({"weights": "w"}), "generate", fields], sort_keys=True)
    asked = Asked(tmp_path)
    asked.store.put({sha256(said.encode()).digest(): Text("kept", "stop", Usage(1, 1))})
    assert asked.times(Generate("write", 8, ("x",))) == 0
    assert asked.times(Generate("write", 9, ("x",))) == 1


@given(st.lists(TEXTS, min_size=1, max_size=6, unique=True))
def test_every_closed_text_can_be_told_from_the_others(tokenizers: dict[str, Any], texts: list[str]) -> None:
    """A mark that is in no option, and merges with nothing, makes every set of options writable."""
    encoder = Encoder(tokenizers["bytes"], "raw", "m")
    closed = tuple(f"{text}|" for text in texts)
    lexicon = Lexicons(encoder).find(encoder.prompts(["Next:"])[0], closed)
    assert sorted(lexicon.options) == sorted(closed)
