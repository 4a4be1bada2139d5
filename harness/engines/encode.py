"""Where text becomes token ids: one place, so that every engine receives identical ids.

A prompt is written raw, through the tokenizer's chat template, or through a template in a file. The special
tokens that a tokenizer puts in front (BOS) come exactly once; what it would append (EOS) is left out for models
that continue their prompt and kept for encoders.

Options are tokenised *in context*: prompt and option as one text, since tokens may merge across the boundary.
Where one does, the prompt that the model is conditioned on is cut back to what all readings share, so that every
probability is exact for the canonical tokenisation of the joined text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import BadModel, RequestFailed
from harness.model import Checkpoint

FRONTS = ("\n", "a", "")
"""What an option is tokenised behind where it merges with the end of its prompt."""
Ids = tuple[int, ...]
Asked = tuple[str, tuple[str, ...], bool]
"""Prompt, options, and whether the text must end behind the option."""
TODAY = datetime(2024, 7, 26)
"""The date that chat templates are told: a prompt that reads the clock would be another prompt tomorrow. It is the
date that Llama 3's own template falls back on."""


class Node(NamedTuple):
    """A question about the next token: after the prompt and `path`, how probable is each token of `wanted`?"""

    path: Ids
    wanted: Ids


@dataclass(frozen=True, slots=True)
class Trie:
    """The tokens of all options as a tree; each node with children is one question about the next token.

    Options with distinct first tokens of length one make a single node, so one pass over the prompt answers them.
    """

    options: tuple[Ids, ...]
    nodes: tuple[Node, ...]
    """Parents before children; the first is the root with the empty path."""

    @classmethod
    def of(cls, options: Sequence[Ids]) -> Trie:
        """Build the tree of non-empty options. An option may be the beginning of another."""
        children: dict[Ids, dict[int, None]] = {(): {}}
        for option in options:
            for depth, token in enumerate(option):
                children.setdefault(option[:depth], {})[token] = None
        nodes = tuple(Node(path, tuple(wanted)) for path, wanted in children.items())
        return cls(tuple(options), nodes)

    @property
    def depth(self) -> int:
        """Tokens of the longest option."""
        return max(map(len, self.options))

    def chains(self) -> list[Ids]:
        """The fewest paths that pass every node: those that are not the beginning of another."""
        paths = sorted(node.path for node in self.nodes)
        beginnings = {path for path, following in pairwise(paths) if following[: len(path)] == path}
        return [path for path in paths if path not in beginnings]

    def totals(self, answers: Mapping[Ids, Sequence[float]]) -> tuple[float, ...]:
        """Log-probability of each option: the sum along its path, given each node's answers in its `wanted` order.

        It says how probable the text is as the *next* text, whatever follows; so an option that is the beginning
        of another ("No", "No way") is never less probable than that other.
        """
        steps = {
            (node.path, token): value
            for node in self.nodes
            for token, value in zip(node.wanted, answers[node.path], strict=True)
        }
        return tuple(sum(steps[o[:depth], token] for depth, token in enumerate(o)) for o in self.options)


@dataclass(frozen=True, slots=True)
class Choice:
    """A `Choose` in tokens."""

    prompt: Ids
    """What the model is conditioned on; for encoder-decoders what the encoder reads."""
    trie: Trie


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer of a checkpoint, by transformers. Raises `BadModel` where its files cannot be read."""
    from transformers import AutoTokenizer

    try:
        # Said, for if it were not, transformers would ask the terminal whether a stranger's code may run.
        trust = checkpoint.trust.trust_remote_code
        return AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=trust)
    except Exception as error:  # any of the many libraries beneath may refuse
        raise BadModel(f"the tokenizer of {checkpoint.name} cannot be read: {one_line(error)}") from error


def one_line(error: BaseException, longest: int = 200) -> str:
    """What an exception of another library says, fit for a message of one line."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= longest else said[: longest - 1] + "…"


class Encoder:
    """Turns the texts of requests into token ids, and generated ids into text.

    `template` is `raw`, `chat` (the tokenizer's own) or the path of a jinja chat template. Raises `BadModel` where
    that template does not exist or cannot be rendered.
    """

    def __init__(self, tokenizer: Any, template: str, name: str, encoder_decoder: bool = False) -> None:
        self._tokenizer = tokenizer
        self._name = name
        self._encoder_decoder = encoder_decoder
        self._chat: str | None = None
        """The jinja text of the template; None where prompts are raw."""
        self._own_template = template == "chat"
        """A model's own template says its special tokens itself; one from a file may leave BOS to us."""
        self._core = _core(tokenizer)
        self._prefix, suffix = self._specials()
        self._suffix = suffix if encoder_decoder else ()
        self._special = frozenset(tokenizer.all_special_ids)
        if template != "raw":
            self._chat = self._find_template(template)
            self._render(["Hello"])

    def prompts(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids of each prompt, as the model will read it."""
        return [self._whole(ids) for ids in self._tokens(self._render(texts))]

    def choices(self, asked: Sequence[Asked]) -> list[Choice | RequestFailed]:
        """Each (prompt, options, whether the text must end behind them) in tokens, or why it cannot be asked."""
        rendered = self._render([prompt for prompt, _, _ in asked])
        texts: list[str] = []
        for text, (_, options, _) in zip(rendered, asked, strict=True):
            texts += [text, *(options if self._encoder_decoder else (text + option for option in options))]
        tokens = iter(self._tokens(texts))
        made: list[Choice | RequestFailed] = []
        for _, options, ended in asked:
            prompt, continued = next(tokens), [next(tokens) for _ in options]
            try:
                _check_options(options)
                made.append(self._choice(prompt, continued, options, self._end() if ended else ()))
            except RequestFailed as failure:
                made.append(failure)
        return made

    def tail(self, prompt: Ids) -> Ids:
        """The end of a prompt that decides how a text behind it is tokenised: its last token that is not special."""
        if self._encoder_decoder:
            return ()
        size = 1
        while size < min(len(prompt), 8) and prompt[-size] in self._special:
            size += 1
        return prompt[-size:]

    def behind(self, tail: Ids, texts: Sequence[str]) -> list[Ids]:
        """Ids that spell each of some distinct texts behind the tail of a prompt, whose own ids stay.

        They decode to the text, unless the tokenizer cannot write it: then they are what it makes of it. Raises
        `RequestFailed` where that is nothing.
        """
        before = self._decode(tail)
        own: str = self._tokenizer.decode(list(tail), clean_up_tokenization_spaces=False)
        exact: dict[str, Ids] = {}
        near: dict[str, Ids] = {}
        for front in dict.fromkeys((own, *FRONTS)):
            left = [text for text in texts if text not in exact]
            first, *whole = self._tokens([front, *(front + text for text in left)])
            for text, ids in zip(left, whole, strict=True):
                spelt = ids[len(first) :]
                if not spelt or ids[: len(first)] != first:
                    continue
                near.setdefault(text, spelt)
                if self._decode((*tail, *spelt)) == before + text:
                    exact[text] = spelt
            if len(exact) == len(texts):
                break
        for text in texts:
            if text not in near:
                raise RequestFailed(f"option {text!r} adds no token to the prompt")
        return [exact.get(text, near[text]) for text in texts]

    def continuation(self, prompt: Ids, generated: Sequence[int], stop: Sequence[str]) -> tuple[str, bool]:
        """The text of generated ids, cut before the first stop string; and whether there was one.

        Decoded behind the end of its prompt: on its own, a SentencePiece tokenizer would drop a leading space.
        """
        behind = () if self._encoder_decoder else prompt[-8:]
        before = self._decode(behind)
        text = self._decode((*behind, *generated))
        text = text[len(before) :] if text.startswith(before) else self._decode(generated)
        found = [place for place in map(text.find, stop) if place >= 0]
        return (text[: min(found)], True) if found else (text, False)

    def _end(self) -> Ids:
        """What a text ends with: RequestFailed where the tokenizer has no such token."""
        if self._tokenizer.eos_token_id is None:
            raise RequestFailed(f"the tokenizer of {self._name} has no end of sequence, so no text of it can end")
        return (self._tokenizer.eos_token_id,)

    def _choice(self, prompt: Ids, continued: Sequence[Ids], options: Sequence[str], end: Ids) -> Choice:
        if self._encoder_decoder:
            return Choice(self._whole(prompt), _trie(continued, options, end))
        wholes = [self._whole(ids) for ids in continued]
        whole = self._whole(prompt)
        shared = _shared((whole, *wholes))
        if not shared:
            raise RequestFailed("the prompt has no tokens that the model could be conditioned on")
        return Choice(whole[:shared], _trie([ids[shared:] for ids in wholes], options, end))

    def _tokens(self, texts: Sequence[str]) -> list[Ids]:
        if not texts:
            return []
        if self._core is not None:
            # Without the offsets of every token, which take half of the time and which nobody reads.
            return [tuple(found.ids) for found in self._core.encode_batch_fast(texts, add_special_tokens=False)]
        encoded = self._tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False
        )
        return [tuple(ids) for ids in encoded["input_ids"]]

    def _whole(self, ids: Ids) -> Ids:
        """With what the tokenizer adds around a text, unless the text or its template has already said it."""
        front = () if self._own_template or ids[: len(self._prefix)] == self._prefix else self._prefix
        back = () if self._suffix and ids[-len(self._suffix) :] == self._suffix else self._suffix
        return front + ids + back

    def _specials(self) -> tuple[Ids, Ids]:
        """What the tokenizer puts before and after a text."""
        bare = tuple(self._tokenizer("a", add_special_tokens=False)["input_ids"])
        full = tuple(self._tokenizer("a")["input_ids"])
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return full[:start], full[start + len(bare) :]
        raise BadModel(f"the tokenizer of {self._name} reads a text differently when it adds its special tokens")

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _find_template(self, template: str) -> str:
        if template == "chat":
            try:
                chat: str = self._tokenizer.get_chat_template()
            except ValueError as error:
                raise BadModel(
                    f"{self._name} has no chat template; use --template raw, or give a jinja file"
                ) from error
            return chat
        try:
            return Path(template).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadModel(
                f"--template {template!r} is neither raw, chat nor a readable jinja file: {one_line(error)}"
            ) from error

    def _render(self, texts: Sequence[str]) -> list[str]:
        if self._chat is None or not texts:
            return list(texts)
        messages = [[{"role": "user", "content": text}] for text in texts]
        try:
            rendered: list[str] = self._tokenizer.apply_chat_template(
                messages,
                chat_template=self._chat,
                add_generation_prompt=True,
                tokenize=False,
                strftime_now=TODAY.strftime,
            )
        except Exception as error:  # a template is a program and may raise what it likes
            raise BadModel(
                f"the chat template of {self._name} fails on a user message: {one_line(error)}; use --template raw"
            ) from error
        return rendered


def _core(tokenizer: Any) -> Any:
    """The tokenizer of the library below, where there is one. Its file may say that it cuts or pads: not here, and
    transformers says both anew whenever it is called."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    core = tokenizer.backend_tokenizer
    core.no_truncation()
    core.no_padding()
    return core


def _check_options(options: Sequence[str]) -> None:
    if not options:
        raise RequestFailed("a choice needs options")
    if "" in options:
        raise RequestFailed("an option is empty")
    if len(set(options)) < len(options):
        twice = next(option for option in options if options.count(option) > 1)
        raise RequestFailed(f"option {twice!r} is given twice")


def _trie(ids: Sequence[Ids], options: Sequence[str], end: Ids) -> Trie:
    seen: dict[Ids, str] = {}
    for tokens, option in zip(ids, options, strict=True):
        if not tokens:
            raise RequestFailed(f"option {option!r} adds no token to the prompt")
        if tokens in seen:
            raise RequestFailed(f"options {seen[tokens]!r} and {option!r} are the same tokens to this model")
        seen[tokens] = option
    return Trie.of([tokens + end for tokens in ids])


def _shared(sequences: Iterable[Ids]) -> int:
    """How many tokens all sequences begin with in common."""
    first, *rest = sequences
    shared = len(first)
    for ids in rest:
        limit = min(shared, len(ids))
        if ids[:limit] == first[:limit]:  # the usual case, decided without a loop in Python
            shared = limit
        else:
            shared = next(place for place in range(limit) if ids[place] != first[place])
    return shared
