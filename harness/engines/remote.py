"""Models behind a server that speaks as OpenAI's: `vllm serve` first of all.

With a tokenizer on this side, prompts go out as token ids, so templates, lengths and options are those of the other
engines, and a `Choose` is exact: the server is asked for the log-probabilities of the very tokens that are wanted.
Without one the server writes texts, and nothing else (`remote_text`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.engines import Engine
from harness.engines import remote_wire as wire
from harness.engines.adapters import prove_adapter
from harness.engines.encode import Encoder, Ids, load_tokenizer
from harness.engines.remote_http import Inbox, Line
from harness.engines.remote_look import line_to, still_the_same, vocabulary
from harness.engines.remote_text import RemoteTexts
from harness.engines.spelling import Walk
from harness.engines.text import (
    Done,
    Job,
    LoadedModel,
    Probe,
    Probed,
    Spelt,
    TextEngine,
    Writing,
    context_of,
)
from harness.engines.vllm_process import LOGPROBS
from harness.errors import BadModel, RequestFailed
from harness.model import Adapter, Checkpoint, EngineOptions, Served


def load(checkpoint: Checkpoint, adapters: Sequence[Adapter], options: EngineOptions) -> LoadedModel:
    """A line to the server of a checkpoint that `remote_look.look` found. Raises BadModel where it is another one."""
    if checkpoint.served is None:
        raise BadModel(f"{checkpoint.name} is no served model; give remote:NAME and --base-url")
    if adapters:
        raise BadModel(f"{checkpoint.served.url} serves each adapter under a name of its own; give remote:NAME")
    return RemoteModel(checkpoint, checkpoint.served, options)


def prove_served(loaded: LoadedModel, template: str, prompts: Sequence[str]) -> float:
    """The largest change that a served LoRA makes to a log-probability. Raises BadModel where it changes nothing, and
    TypeError for a model that is no served LoRA."""
    if not isinstance(loaded, RemoteModel) or loaded.served.parent is None:
        raise TypeError(f"{loaded.kind} has no served adapter")
    name = loaded.checkpoint.name
    # Base and adapter are asked one after the other, since vLLM's CPU kernels mix them up in one batch.
    adapter = Adapter(loaded.checkpoint.folder, name, loaded.checkpoint.digest, 0)
    return prove_adapter(_Tuned(loaded, loaded.served.parent), adapter, template, prompts)


class RemoteModel:
    """A line to a server, shared by its engines."""

    kind = "remote"

    def __init__(self, checkpoint: Checkpoint, served: Served, options: EngineOptions) -> None:
        self.checkpoint = checkpoint
        self.served = served
        self.version = f"remote {served.software or 'of unknown make'}"
        self._context = context_of(checkpoint, options)
        self._capacity = max(64, 4 * options.concurrency)
        self._tokenizer = load_tokenizer(checkpoint) if served.tokenizer is not None else None
        self._line: Line = line_to(served.url, options)
        self._line.check = lambda models: still_the_same(models, checkpoint)

    def engine(self, adapter: Adapter | None = None, template: str = "raw") -> Engine:
        if adapter is not None:
            raise BadModel(f"adapter {adapter.name} was not loaded with {self.checkpoint.name}")
        return self.named(self.checkpoint.name, template)

    def named(self, name: str, template: str) -> Engine:
        """An engine for any of the server's models that has this tokenizer."""
        if self._tokenizer is None:
            return RemoteTexts(self._line, name, template, self.served.software, self._capacity)
        encoder = Encoder(self._tokenizer, template, self.checkpoint.name)
        known = vocabulary(self.checkpoint.folder) or sys.maxsize  # then the server says what it does not know
        return TextEngine(RemoteBackend(self._line, name), encoder, self._context, self._capacity, known)

    def close(self) -> None:
        self._line.close()


class _Tuned:
    """A served LoRA and its base, as a base model with an adapter."""

    def __init__(self, loaded: RemoteModel, parent: str) -> None:
        self.kind, self.version = loaded.kind, loaded.version
        self._loaded = loaded
        self._parent = parent

    def engine(self, adapter: Adapter | None = None, template: str = "raw") -> Engine:
        return self._loaded.named(self._parent if adapter is None else adapter.name, template)

    def close(self) -> None:
        self._loaded.close()


@dataclass(slots=True)
class _Pending:
    """A probe's answers so far: token -> log-probability, by the path of the node."""

    probe: Probe
    left: set[int]
    """The parts that are open."""
    values: dict[Ids, dict[int, float]] = field(default_factory=dict)


class RemoteBackend:
    """One view's requests. A ticket is the job and the part of it."""

    def __init__(self, line: Line, model: str) -> None:
        self._model = model
        self._inbox: Inbox[Any] = Inbox(line)
        self._probes: dict[int, _Pending] = {}
        self._paths: dict[tuple[int, int], Ids] = {}
        """By ticket: the node that it asks about."""
        self._walks: dict[int, tuple[Ids, Walk]] = {}
        """By job: the prompt, and how far its option is spelt."""
        self._done: list[tuple[int, Done]] = []

    def submit(self, jobs: Sequence[tuple[int, Job]]) -> None:
        for number, job in jobs:
            if isinstance(job, Probe):
                self._probe(number, job)
            elif isinstance(job, Writing):
                body = wire.writing(self._model, job.prompt, job.request)
                read = wire.written(job.prompt, job.request.max_tokens)
                self._inbox.ask((number, 0), "completions", body, read)
            else:
                self._walks[number] = job.prompt, job.walk()
                self._go_on(number)

    def collect(self) -> Sequence[tuple[int, Done]]:
        while not self._done:
            if not self._inbox.waiting:
                return []
            self._take(*self._inbox.next())
        done, self._done = self._done, []
        return done

    def abort(self) -> None:
        self._inbox.clear()
        self._probes.clear()
        self._paths.clear()
        self._walks.clear()
        self._done.clear()

    def _take(self, ticket: tuple[int, int], answer: Any) -> None:
        number, part = ticket
        if isinstance(answer, RequestFailed):
            self._fail(number, answer)
        elif number in self._walks:
            self._walks[number][1].take(answer)
            self._go_on(number)
        elif number in self._probes:
            pending = self._probes[number]
            pending.values.setdefault(self._paths.pop(ticket), {}).update(answer)
            pending.left.discard(part)
            if not pending.left:
                del self._probes[number]
                self._done.append((number, _probed(pending)))
        else:
            self._done.append((number, answer))

    def _fail(self, number: int, why: RequestFailed) -> None:
        """The other parts of this job are of no use then."""
        self._walks.pop(number, None)
        if (pending := self._probes.pop(number, None)) is not None:
            tickets = [(number, part) for part in pending.left]
            self._inbox.drop(tickets)
            for ticket in tickets:
                self._paths.pop(ticket, None)
        self._done.append((number, why))

    def _probe(self, number: int, job: Probe) -> None:
        parts = list(job.parts(LOGPROBS))
        self._probes[number] = _Pending(job, set(range(len(parts))))
        for part, (path, wanted) in enumerate(parts):
            prompt = job.prompt + path
            self._paths[number, part] = path
            body, read = wire.scoring(self._model, prompt, wanted), wire.scored(prompt, wanted)
            self._inbox.ask((number, part), "completions", body, read)

    def _go_on(self, number: int) -> None:
        """Ask for the next token where there is a choice: one prefill, nearly all of it from the prefix cache."""
        prompt, walk = self._walks[number]
        if not walk.choices:
            del self._walks[number]
            self._done.append((number, Spelt(walk.option, len(walk.known))))
            return
        known = prompt + walk.known
        body, read = wire.choosing(self._model, known, walk.choices), wire.chosen(known, walk.choices)
        self._inbox.ask((number, 1 + len(walk.known)), "completions", body, read)


def _probed(pending: _Pending) -> Probed:
    return Probed(
        {path: [pending.values[path][token] for token in wanted] for path, wanted in pending.probe.trie.nodes}
    )
