"""Language models on plain transformers: every architecture that it knows, encoder-decoders too, on CPU or GPU.

What makes it quick: requests sorted by length and packed by tokens, logits at the needed positions only, and a
prompt read once however many options follow it, as is a long beginning that many prompts share. What makes it safe:
explicit positions under left padding, log-softmax in float32, and a batch that does not fit into memory is halved
instead of lost.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from harness.engines import Engine
from harness.engines.beginnings import group
from harness.engines.encode import Encoder, Ids, load_tokenizer
from harness.engines.probing import Beginning, can_share, probe, read_beginning
from harness.engines.text import Done, Job, LoadedModel, Probe, Probed, Spelling, TextEngine, Writing, context_of
from harness.engines.weights import load_adapters, load_weights
from harness.engines.writing import spell, write
from harness.errors import BadModel, HarnessError
from harness.model import Adapter, Checkpoint, EngineOptions

CAPACITY = 512
"""Programs in flight: several batches' worth, so that sorting by length has something to sort."""

Numbered = tuple[int, Job]


def load(checkpoint: Checkpoint, adapters: Sequence[Adapter], options: EngineOptions) -> LoadedModel:
    """Load weights and adapters, onto the GPU if there is one. Raises `BadModel` in one line where that fails."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    tokenizer = load_tokenizer(checkpoint)
    model = load_weights(checkpoint, tokenizer)
    names = {adapter.digest: f"adapter{place}" for place, adapter in enumerate(adapters)}
    wrapped = load_adapters(model, checkpoint, adapters, names)
    return TransformersModel(checkpoint, options, tokenizer, model, wrapped, names)


class TransformersModel:
    """Weights in memory, with the adapters side by side."""

    kind = "hf"

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: EngineOptions,
        tokenizer: Any,
        model: Any,
        wrapped: Any = None,
        adapters: Mapping[str, str] | None = None,
    ) -> None:
        """`model` may be one that is being tuned; `wrapped` is peft's switchboard of `adapters`, digest to name."""
        self.version = f"transformers {version('transformers')} peft {version('peft')} torch {version('torch')}"
        self.budget = options.batch_tokens
        """Tokens in one pass; halved whenever a batch did not fit into memory."""
        self.shares = can_share(model)
        """Whether prompts that begin alike are read on from one cache."""
        self.model = model
        self._checkpoint = checkpoint
        self._context = context_of(checkpoint, options)
        self._tokenizer = tokenizer
        self._adapters = adapters or {}
        self._peft = wrapped

    def engine(self, adapter: Adapter | None = None, template: str = "raw") -> Engine:
        if adapter is not None and adapter.digest not in self._adapters:
            raise BadModel(f"adapter {adapter.name} was not loaded with {self._checkpoint.name}")
        encoder_decoder = self._checkpoint.encoder_decoder
        encoder = Encoder(self._tokenizer, template, self._checkpoint.name, encoder_decoder)
        backend = TransformersBackend(self, self._adapters[adapter.digest] if adapter else None, encoder)
        vocabulary: int = self.model.get_input_embeddings().num_embeddings
        return TextEngine(backend, encoder, self._context, CAPACITY, vocabulary)

    @contextmanager
    def using(self, adapter: str | None) -> Iterator[Any]:
        """The model with this adapter switched on and all others off."""
        with torch.inference_mode():
            if self._peft is None:
                yield self.model
            elif adapter is None:
                with self._peft.disable_adapter():
                    yield self.model
            else:
                self._peft.set_adapter(adapter)
                yield self.model

    def close(self) -> None:
        self.model = self._peft = None
        free_memory()


@dataclass
class _Alike:
    """Jobs, the longest first, whose prompts all have this beginning."""

    beginning: Ids
    jobs: list[Numbered]


class TransformersBackend:
    """One view's queue of jobs. Nothing is computed before `collect`, one batch a time."""

    def __init__(self, owner: TransformersModel, adapter: str | None, encoder: Encoder) -> None:
        self._owner = owner
        self._adapter = adapter
        self._encoder = encoder
        self._new: list[Numbered] = []
        """Jobs that were not looked at yet."""
        self._alike: list[_Alike] = []
        self._jobs: dict[int, Job] = {}
        """Jobs that stand for themselves."""
        self._beginning: Beginning | None = None
        """The one that was read last, while jobs behind it are waiting."""

    def submit(self, jobs: Sequence[Numbered]) -> None:
        self._new += jobs

    def collect(self) -> Sequence[tuple[int, Done]]:
        if not self._alike:
            self._sort_out()
        if self._alike:
            return self._run_alike(self._alike[-1])
        if not self._jobs:
            return []
        batch = self._next_batch()
        for number, _ in batch:
            del self._jobs[number]
        return self._run(batch)

    def abort(self) -> None:
        self._new.clear()
        self._alike.clear()
        self._jobs.clear()
        self._beginning = None

    def _sort_out(self) -> None:
        """Find out which of the new jobs begin alike; each job is looked at once, however many are in hand."""
        new, self._new = self._new, []
        self._jobs.update(new)
        if not self._owner.shares:
            return
        probes = [(number, job) for number, job in new if isinstance(job, Probe)]
        for found in group([job.prompt for _, job in probes]):
            jobs: list[Numbered] = [probes[place] for place in found.members]
            for number, _ in jobs:
                del self._jobs[number]
            _longest_first(jobs)
            self._alike.append(_Alike(probes[found.members[0]][1].prompt[: found.shared], jobs))

    def _run_alike(self, alike: _Alike) -> list[tuple[int, Done]]:
        """Answer as many jobs behind a beginning as fit, its copies in each row counted."""
        fits = self._fits(alike.jobs)
        batch, alike.jobs = alike.jobs[:fits], alike.jobs[fits:]
        if not alike.jobs:
            self._alike.pop()
        done = self._run(batch, alike.beginning)
        if not alike.jobs:
            self._beginning = None
        return done

    def _next_batch(self) -> list[Numbered]:
        """The longest job and those that fit beside it: the padding is small, and memory runs out early or never."""
        alike: dict[object, list[Numbered]] = {}
        for number, job in self._jobs.items():
            alike.setdefault(_kind(number, job), []).append((number, job))
        jobs = max(alike.values(), key=len)
        _longest_first(jobs)
        return jobs[: self._fits(jobs)]

    def _fits(self, jobs: Sequence[Numbered]) -> int:
        """How many jobs, the longest first, fit into one pass."""
        return max(1, self._owner.budget // _size(jobs[0][1]))

    def _run(self, batch: list[Numbered], beginning: Ids = ()) -> list[tuple[int, Done]]:
        """Answer a batch, in halves if it does not fit into memory."""
        try:
            done = self._forward([job for _, job in batch], beginning)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
        else:
            return [(number, answer) for (number, _), answer in zip(batch, done, strict=True)]
        self._beginning = None
        free_memory()  # only here: while the exception lives, so do the tensors of its frames
        if len(batch) == 1 and beginning:
            return self._run(batch)
        if len(batch) == 1:
            size = _size(batch[0][1])
            # Another machine could answer it, so it must not go on record as this model's failure.
            raise HarnessError(
                f"out of memory on a single request of {size} tokens; use a smaller --dtype, a larger device or vllm:"
            )
        self._owner.budget = max(1, min(self._owner.budget, len(batch) * _size(batch[0][1])) // 2)
        middle = len(batch) // 2
        return self._run(batch[:middle], beginning) + self._run(batch[middle:], beginning)

    def _forward(self, jobs: Sequence[Job], beginning: Ids) -> Sequence[Done]:
        probes = [job for job in jobs if isinstance(job, Probe)]
        writings = [job for job in jobs if isinstance(job, Writing)]
        spellings = [job for job in jobs if isinstance(job, Spelling)]
        with self._owner.using(self._adapter) as model:
            if writings:
                return write(model, writings, self._encoder)
            if spellings:
                return spell(model, spellings)
            known = self._read(model, beginning) if beginning else None
            return [Probed(read) for read in probe(model, probes, self._owner.budget, known)]

    def _read(self, model: Any, beginning: Ids) -> Beginning:
        """The cache behind a beginning; read once for all batches behind it."""
        if self._beginning is None or self._beginning.ids != beginning:
            self._beginning = None
            self._beginning = read_beginning(model, beginning)
        return self._beginning


def _longest_first(jobs: list[Numbered]) -> None:
    jobs.sort(key=lambda pair: (-_size(pair[1]), pair[0]))


def _kind(number: int, job: Job) -> object:
    """Jobs of one kind may share a batch. Sampled texts stand alone: their random numbers depend on nobody else."""
    if not isinstance(job, Writing):
        return type(job)
    request = job.request
    return number if request.temperature > 0 else (request.max_tokens, request.stop)


def _size(job: Job) -> int:
    if isinstance(job, Probe):
        return len(job.prompt)
    return len(job.prompt) + (job.request.max_tokens if isinstance(job, Writing) else job.longest)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "DefaultCPUAllocator: can't allocate memory" in str(error)


def free_memory() -> None:
    """Of models that nobody holds any more, on the device too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
