"""Text becomes token ids in one place: BOS once, options in context, tries of next-token questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engines.encode import Choice, Encoder, Node, Trie
from harness.errors import BadModel, RequestFailed
from tests.engine_models import PROMPTS, bpe_tokenizer, sentencepiece_llama

pytestmark = pytest.mark.slow

Ids = tuple[int, ...]


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return bpe_tokenizer(tmp_path_factory.mktemp("bpe"), chat=True)


@pytest.fixture(scope="module")
def ending(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return bpe_tokenizer(tmp_path_factory.mktemp("t5"), end=True)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(sentencepiece_llama(tmp_path_factory.mktemp("pieces")))


def choice(encoder: Encoder, prompt: str, *options: str) -> Choice:
    (made,) = encoder.choices([(prompt, options, False)])
    assert isinstance(made, Choice), made
    return made


def failure(encoder: Encoder, prompt: str, *options: str) -> str:
    (made,) = encoder.choices([(prompt, options, False)])
    assert isinstance(made, RequestFailed)
    return str(made)


def test_raw_is_what_the_tokenizer_says(bpe: Any) -> None:
    texts = [*PROMPTS, "", "a", "  two spaces "]
    assert Encoder(bpe, "raw", "m").prompts(texts) == [tuple(bpe(text)["input_ids"]) for text in texts]


def test_a_tokenizer_whose_file_cuts_and_pads_does_neither_here(tmp_path: Path) -> None:
    import transformers

    plain = bpe_tokenizer(tmp_path)
    plain.backend_tokenizer.enable_truncation(3)
    plain.backend_tokenizer.enable_padding(length=9)
    plain.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    cutting = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(cutting.backend_tokenizer.encode(PROMPTS[0]).ids) != len(cutting(PROMPTS[0])["input_ids"])
    texts = [*PROMPTS, "a", ""]
    assert Encoder(cutting, "raw", "m").prompts(texts) == [tuple(cutting(text)["input_ids"]) for text in texts]


def test_bos_is_never_doubled(bpe: Any, pieces: Any) -> None:
    for tokenizer in (bpe, pieces):
        (once, said) = Encoder(tokenizer, "raw", "m").prompts(["Hello", "<s>Hello"])
        assert once.count(tokenizer.bos_token_id) == said.count(tokenizer.bos_token_id) == 1
        assert said[0] == tokenizer.bos_token_id


def test_an_appended_eos_is_kept_for_encoders_only(ending: Any) -> None:
    (prompt,) = Encoder(ending, "raw", "m").prompts(["Hello"])
    (read,) = Encoder(ending, "raw", "m", encoder_decoder=True).prompts(["Hello"])
    assert (*prompt, ending.eos_token_id) == read == tuple(ending("Hello")["input_ids"])
    assert Encoder(ending, "raw", "m", encoder_decoder=True).prompts(["Hello</s>"]) == [read]


def test_chat_is_the_template_and_no_further_special_tokens(bpe: Any) -> None:
    (ids,) = Encoder(bpe, "chat", "m").prompts(["Hello"])
    assert bpe.decode(list(ids)) == "<s>[user] Hello\n[assistant] "
    message = [{"role": "user", "content": "Hello"}]
    assert list(ids) == bpe.apply_chat_template(message, add_generation_prompt=True)["input_ids"]


def test_a_template_may_come_from_a_file(bpe: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("Q: {{ messages[0]['content'] }}\nA:")
    (ids,) = Encoder(bpe, str(tmp_path / "mine.jinja"), "m").prompts(["Hello"])
    assert bpe.decode(list(ids)) == "<s>Q: Hello\nA:"
    (tmp_path / "mine.jinja").write_text("<s>Q: {{ messages[0]['content'] }}\nA:")
    assert Encoder(bpe, str(tmp_path / "mine.jinja"), "m").prompts(["Hello"]) == [ids]


def test_a_template_that_asks_for_the_date_is_told_the_same_one_every_day(bpe: Any, tmp_path: Path) -> None:
    (tmp_path / "dated.jinja").write_text("{{ strftime_now('%d %b %Y') }}: {{ messages[0]['content'] }}")
    (ids,) = Encoder(bpe, str(tmp_path / "dated.jinja"), "m").prompts(["Hello"])
    assert bpe.decode(list(ids)) == "<s>26 Jul 2024: Hello"


def test_templates_that_cannot_be_used_are_one_line(bpe: Any, ending: Any, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"^m has no chat template; use --template raw"):
        Encoder(ending, "chat", "m")
    with pytest.raises(BadModel, match=r"^--template 'chatt' is neither raw, chat nor a readable jinja file"):
        Encoder(bpe, "chatt", "m")
    (tmp_path / "broken.jinja").write_text("{% if %}")
    with pytest.raises(BadModel, match=r"^the chat template of m fails on a user message"):
        Encoder(bpe, str(tmp_path / "broken.jinja"), "m")


def test_options_are_single_pieces_after_a_newline(pieces: Any) -> None:
    made = choice(Encoder(pieces, "raw", "m"), "### Response:\n", "Yes", "No")
    assert made.prompt == tuple(pieces("### Response:\n")["input_ids"])
    assert made.trie.nodes == (Node((), (5613, 2501)),)


def test_a_merge_at_the_boundary_cuts_the_prompt_back(pieces: Any) -> None:
    """`Answer: ` ends in a lone space piece, which `Yes` swallows: the joined text has `▁Yes`."""
    made = choice(Encoder(pieces, "raw", "m"), "Answer: ", "Yes", "No")
    assert len(made.prompt) == len(pieces("Answer: ")["input_ids"]) - 1
    for option, ids in zip(("Yes", "No"), made.trie.options, strict=True):
        assert made.prompt + ids == tuple(pieces("Answer: " + option)["input_ids"])


@given(st.lists(st.text("YesNo \nabü(1", min_size=1, max_size=8), min_size=1, max_size=5, unique=True))
def test_prompt_and_option_are_the_canonical_tokens_of_the_joined_text(bpe: Any, options: list[str]) -> None:
    prompt = "The user liked Toy S"
    made = choice(Encoder(bpe, "raw", "m"), prompt, *options)
    whole = tuple(bpe(prompt)["input_ids"])
    assert whole[: len(made.prompt)] == made.prompt
    for option, ids in zip(options, made.trie.options, strict=True):
        assert made.prompt + ids == tuple(bpe(prompt + option)["input_ids"])


def test_an_encoder_decoder_writes_options_on_the_other_side(ending: Any) -> None:
    made = choice(Encoder(ending, "raw", "m", encoder_decoder=True), "Enjoy?", "Yes", "No")
    assert made.prompt == tuple(ending("Enjoy?")["input_ids"])
    assert [(*ids, 1) for ids in made.trie.options] == [tuple(ending(o)["input_ids"]) for o in ("Yes", "No")]


def test_options_that_cannot_be_told_apart_fail(bpe: Any) -> None:
    encoder = Encoder(bpe, "raw", "m")
    assert failure(encoder, "Enjoy?", "Yes", "Yes") == "option 'Yes' is given twice"
    assert failure(encoder, "Enjoy?", "Yes", "") == "an option is empty"
    assert failure(encoder, "Enjoy?") == "a choice needs options"
    good, bad, also = encoder.choices([("a", ("b", "c"), False), ("a", ("b", "b"), False), ("d", ("e", "f"), False)])
    assert isinstance(good, Choice)
    assert isinstance(bad, RequestFailed)
    assert isinstance(also, Choice)


def test_generated_text_keeps_its_leading_space_and_loses_what_follows_a_stop(pieces: Any) -> None:
    encoder = Encoder(pieces, "raw", "m")
    prompt = tuple(pieces("Answer:")["input_ids"])
    made = pieces("Answer: Yes, it is.\nNext")["input_ids"][len(prompt) :]
    assert encoder.continuation(prompt, made, ()) == (" Yes, it is.\nNext", False)
    assert encoder.continuation(prompt, made, ("zzz", "\n", "is.")) == (" Yes, it ", True)
    assert encoder.continuation(prompt, [*made, pieces.eos_token_id], ()) == (" Yes, it is.\nNext", False)


def test_distinct_first_tokens_are_one_question() -> None:
    assert Trie.of([(5,), (6,)]).nodes == (Node((), (5, 6)),)
    assert Trie.of([(5,), (6,)]).chains() == [()]


def test_a_beginning_of_another_option_is_a_plain_sum() -> None:
    trie = Trie.of([(1,), (1, 2), (3,)])
    assert trie.nodes == (Node((), (1, 3)), Node((1,), (2,)))
    assert trie.totals({(): [-1.0, -2.0], (1,): [-0.5]}) == (-1.0, -1.5, -2.0)


tokens = st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple)


@given(st.lists(tokens, min_size=1, max_size=12, unique=True))
def test_a_trie_asks_what_it_needs_and_no_more(options: list[Ids]) -> None:
    trie = Trie.of(options)
    needed = {(option[:depth], token) for option in options for depth, token in enumerate(option)}
    assert {(path, token) for path, wanted in trie.nodes for token in wanted} == needed
    assert len({node.path for node in trie.nodes}) == len(trie.nodes)
    ones = {node.path: [1.0] * len(node.wanted) for node in trie.nodes}
    assert trie.totals(ones) == tuple(float(len(option)) for option in options)


@given(st.lists(tokens, min_size=1, max_size=12, unique=True))
def test_chains_pass_every_node_and_none_lies_on_another(options: list[Ids]) -> None:
    trie = Trie.of(options)
    chains = trie.chains()
    assert {chain[:depth] for chain in chains for depth in range(len(chain) + 1)} == {n.path for n in trie.nodes}
    assert not any(a != b and b[: len(a)] == a for a in chains for b in chains)
