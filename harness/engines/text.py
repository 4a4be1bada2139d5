"""What all engines that read text share: from requests to token ids, and from log-probabilities to replies.

A *backend* knows tensors and nothing of prompts: it takes `Probe`s (which tokens are probable after these ids?),
`Writing`s (continue these ids) and `Spelling`s (write one of these options) and answers them as they finish. A *loaded
model* is a backend's weights in memory; its engines are light views of it, one for each adapter and template.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from harness.engines import Answered, Asked, Engine
from harness.engines.encode import Choice, Encoder, Ids, Trie
from harness.engines.spelling import Lexicon, Lexicons, Walk
from harness.errors import BadSetting, RequestFailed, TooLong
from harness.model import Adapter, Checkpoint, EngineOptions
from harness.types import Choose, Generate, Key, Reply, Request, Scores, Text, Usage

CHUNK = 64
"""Requests that are tokenised at once: enough for the tokenizer's threads, few enough that the model starts early."""


@dataclass(frozen=True, slots=True)
class Probe:
    """For every node of the trie: how probable is each wanted token after prompt and path?"""

    prompt: Ids
    trie: Trie

    def parts(self, most: int) -> Iterator[tuple[Ids, Ids]]:
        """Paths of nodes and the tokens wanted there, at most so many at once."""
        for path, wanted in self.trie.nodes:
            for start in range(0, len(wanted), most):
                yield path, wanted[start : start + most]


@dataclass(frozen=True, slots=True)
class Writing:
    """Continue the prompt as the request says."""

    prompt: Ids
    request: Generate


@dataclass(frozen=True, slots=True)
class Spelling:
    """Write one of the lexicon's options that are not barred, greedily; at least one is free."""

    prompt: Ids
    lexicon: Lexicon
    barred: frozenset[int]

    def walk(self) -> Walk:
        """A new walk to one of the options."""
        return Walk(self.lexicon, self.barred)

    def free(self, limit: int) -> tuple[str, ...]:
        """The options that are not barred, in a fixed order; none where there are more than `limit`."""
        if len(self.lexicon.options) - len(self.barred) > limit:
            return ()
        return tuple(option for place, option in enumerate(self.lexicon.options) if place not in self.barred)

    @property
    def longest(self) -> int:
        """Tokens of the longest free option."""
        return self.lexicon.longest(self.barred)


@dataclass(frozen=True, slots=True)
class Probed:
    """Natural log-probabilities by the path of a node, in the order of its wanted tokens."""

    answers: Mapping[Ids, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Written:
    """Generated ids, with the closing EOS where the model wrote one."""

    ids: Sequence[int]
    ended: bool
    """The model wrote an end, or a stop string; else it ran into `max_tokens`."""


@dataclass(frozen=True, slots=True)
class Spelt:
    """The option that was written, and how many tokens spell it."""

    option: str
    tokens: int


Job = Probe | Writing | Spelling
Done = Probed | Written | Spelt | RequestFailed


class Backend(Protocol):
    """One view's access to a model: it forgets nothing and mixes nothing up between views."""

    def submit(self, jobs: Sequence[tuple[int, Job]]) -> None:
        """Take jobs in hand; their numbers are unique within this view."""
        ...

    def collect(self) -> Sequence[tuple[int, Done]]:
        """Wait until one or more of this view's jobs are finished; empty only when none is in hand."""
        ...

    def abort(self) -> None:
        """Forget all of this view's jobs."""
        ...


class LoadedModel(Protocol):
    """Weights in memory, shared by the engines made of it. To be closed once, by whoever loaded it."""

    kind: str
    """The name of the engine: `vllm` or `hf`."""
    version: str
    """Engine and library versions, for the keys of caches."""

    def engine(self, adapter: Adapter | None = None, template: str = "raw") -> Engine:
        """A view with one of the adapters that it was loaded with, or none.

        Raises `BadModel` for another adapter, or a template that the tokenizer lacks.
        """
        ...

    def close(self) -> None:
        """Free the memory and end the processes. Its engines cannot be used any more."""
        ...


def context_of(checkpoint: Checkpoint, options: EngineOptions) -> int | None:
    """Longest prompt and answer in tokens; None where neither the model nor the options say."""
    if options.max_model_len is None or checkpoint.context is None:
        return options.max_model_len or checkpoint.context
    if options.max_model_len > checkpoint.context:
        raise BadSetting(
            f"max_model_len {options.max_model_len} is more than the {checkpoint.context} tokens of {checkpoint.name}"
        )
    return options.max_model_len


class TextEngine:
    """An engine that answers `Generate` and `Choose` with a backend."""

    answers: frozenset[type[Request]] = frozenset({Generate, Choose})

    def __init__(self, backend: Backend, encoder: Encoder, context: int | None, capacity: int, vocabulary: int) -> None:
        self.capacity = capacity
        self._vocabulary = vocabulary
        self._backend = backend
        self._encoder = encoder
        self._lexicons = Lexicons(encoder)
        self._context = context
        self._numbers = count()
        self._in_hand: dict[int, tuple[Key, Request, Job]] = {}
        self._failed: list[Answered] = []

    def submit(self, asked: Sequence[Asked]) -> None:
        for start in range(0, len(asked), CHUNK):
            self._submit(asked[start : start + CHUNK])

    def collect(self) -> Sequence[Answered]:
        if self._failed:
            failed, self._failed = self._failed, []
            return failed
        return [self._answer(number, done) for number, done in self._backend.collect()]

    def close(self) -> None:
        self._backend.abort()
        self._in_hand.clear()
        self._failed.clear()

    def _submit(self, asked: Sequence[Asked]) -> None:
        jobs: list[tuple[int, Job]] = []
        for (key, request), job in zip(asked, self._encode([request for _, request in asked]), strict=True):
            if isinstance(job, RequestFailed):
                self._failed.append((key, job))
                continue
            number = next(self._numbers)
            self._in_hand[number] = key, request, job
            jobs.append((number, job))
        if jobs:
            self._backend.submit(jobs)

    def _encode(self, requests: Sequence[Request]) -> list[Job | RequestFailed]:
        """One job for each request, in order; each kind is tokenised in one go."""
        chooses = [(r.prompt, r.options, r.ended) for r in requests if isinstance(r, Choose)]
        choices = iter(self._encoder.choices(chooses))
        prompts = iter(self._encoder.prompts([r.prompt for r in requests if isinstance(r, Generate)]))
        jobs: list[Job | RequestFailed] = []
        for request in requests:
            try:
                if isinstance(request, Choose):
                    jobs.append(self._probe(next(choices), request))
                elif isinstance(request, Generate):
                    prompt = next(prompts)
                    jobs.append(self._spelling(prompt, request) if request.options else self._writing(prompt, request))
                else:
                    raise RequestFailed("a language model does not answer Rank; ask a conventional model")
            except RequestFailed as failure:
                jobs.append(failure)
        return jobs

    def _probe(self, choice: Choice | RequestFailed, request: Choose) -> Probe:
        if isinstance(choice, RequestFailed):
            raise choice
        prompt = choice.prompt[: request.longest] if request.cut else choice.prompt
        if request.longest is not None and len(prompt) > request.longest:
            raise TooLong(f"prompt of {len(prompt)} tokens is longer than the {request.longest} of the protocol")
        self._check_length(len(prompt), choice.trie.depth, "of the longest option")
        self._check_known(prompt)
        for option in choice.trie.options:
            self._check_known(option)
        return Probe(prompt, choice.trie)

    def _writing(self, prompt: Ids, request: Generate) -> Writing:
        if request.max_tokens < 1:
            raise RequestFailed(f"max_tokens is {request.max_tokens}; it must be at least 1")
        if "" in request.stop:
            raise RequestFailed("a stop string is empty")
        if request.barred:
            raise RequestFailed("texts are barred, but there are no options that they could be barred from")
        self._check_prompt(prompt)
        self._check_length(len(prompt), request.max_tokens, "to generate")
        return Writing(prompt, request)

    def _spelling(self, prompt: Ids, request: Generate) -> Spelling:
        if request.temperature > 0 or request.stop:
            raise RequestFailed("one of several options is written at temperature 0 and without stop strings")
        self._check_prompt(prompt)
        lexicon = self._lexicons.find(prompt, request.options)
        job = Spelling(prompt, lexicon, lexicon.barred(request.barred))
        self._check_length(len(prompt), job.longest, "of the longest option")
        self._check_known((lexicon.largest,))
        return job

    def _check_prompt(self, prompt: Ids) -> None:
        if not prompt:
            raise RequestFailed("the prompt has no tokens that the model could be conditioned on")
        self._check_known(prompt)

    def _check_length(self, prompt: int, further: int, what: str) -> None:
        """Every engine has the same limit: prompt and answer together, in tokens. A prompt is never cut silently."""
        if self._context is None or prompt + further <= self._context:
            return
        if prompt > self._context:
            raise TooLong(f"prompt of {prompt} tokens is longer than the model's context of {self._context}")
        raise TooLong(
            f"prompt of {prompt} tokens and {further} {what} are longer than the model's context of {self._context}"
        )

    def _check_known(self, ids: Ids) -> None:
        """A tokenizer may hold tokens that were added after the model was made."""
        if ids and max(ids) >= self._vocabulary:
            raise RequestFailed(f"token {max(ids)} of the text is beyond the model's {self._vocabulary} embeddings")

    def _answer(self, number: int, done: Done) -> Answered:
        key, request, job = self._in_hand.pop(number)
        if isinstance(done, Probed) and isinstance(request, Choose) and isinstance(job, Probe):
            return key, _scores(request, job, done)
        if isinstance(done, Written) and isinstance(request, Generate):
            return key, self._text(request, job.prompt, done)
        if isinstance(done, Spelt):
            return key, Text(done.option, "stop", Usage(len(job.prompt), done.tokens))
        if isinstance(done, RequestFailed):
            return key, done
        raise TypeError(f"the backend answered {request!r} with {done!r}")

    def _text(self, request: Generate, prompt: Ids, done: Written) -> Text:
        text, stopped = self._encoder.continuation(prompt, done.ids, request.stop)
        return Text(text, "stop" if stopped or done.ended else "length", Usage(len(prompt), len(done.ids)))


def _scores(request: Choose, probe: Probe, done: Probed) -> Reply | RequestFailed:
    values = probe.trie.totals(done.answers)
    if not all(map(math.isfinite, values)):
        worst = next(o for o, value in zip(request.options, values, strict=True) if not math.isfinite(value))
        return RequestFailed(f"the model gives option {worst!r} no finite log-probability")
    return Scores(values, Usage(len(probe.prompt)), tokens=tuple(map(len, probe.trie.options)))
