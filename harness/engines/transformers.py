"""Language models on plain transformers: every architecture that it knows, encoder-decoders too, on CPU or GPU.

What makes it quick: requests sorted by length and packed by tokens, logits at the needed positions only, and a
prompt read once however many options follow it. What makes it safe: explicit positions under left padding,
log-softmax in float32, and a batch that does not fit into memory is halved instead of lost.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from harness.engines import Engine
from harness.engines.encode import Encoder, Ids, load_tokenizer
from harness.engines.text import Done, Job, LoadedModel, Probe, Probed, Spelling, TextEngine, Writing, context_of
from harness.engines.weights import load_adapters, load_weights
from harness.engines.writing import forward_with_positions, pad, spell, write
from harness.errors import BadModel, HarnessError
from harness.model import Adapter, Checkpoint, EngineOptions

CAPACITY = 512
"""Programs in flight: several batches' worth, so that sorting by length has something to sort."""
LOGITS = 1 << 26
"""Most logits that one pass over options may produce: 256 MiB in float32."""

Read = dict[Ids, Sequence[float]]


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


class TransformersBackend:
    """One view's queue of jobs. Nothing is computed before `collect`, one batch a time."""

    def __init__(self, owner: TransformersModel, adapter: str | None, encoder: Encoder) -> None:
        self._owner = owner
        self._adapter = adapter
        self._encoder = encoder
        self._jobs: dict[int, Job] = {}

    def submit(self, jobs: Sequence[tuple[int, Job]]) -> None:
        self._jobs.update(jobs)

    def collect(self) -> Sequence[tuple[int, Done]]:
        if not self._jobs:
            return []
        batch = self._next_batch()
        for number, _ in batch:
            del self._jobs[number]
        return self._run(batch)

    def abort(self) -> None:
        self._jobs.clear()

    def _next_batch(self) -> list[tuple[int, Job]]:
        """The longest job and those that fit beside it: the padding is small, and memory runs out early or never."""
        alike: dict[object, list[tuple[int, Job]]] = {}
        for number, job in self._jobs.items():
            alike.setdefault(_kind(number, job), []).append((number, job))
        group = max(alike.values(), key=len)
        group.sort(key=lambda pair: (-_size(pair[1]), pair[0]))
        return group[: max(1, self._owner.budget // _size(group[0][1]))]

    def _run(self, batch: list[tuple[int, Job]]) -> list[tuple[int, Done]]:
        """Answer a batch, in halves if it does not fit into memory."""
        try:
            done = self._forward([job for _, job in batch])
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
        else:
            return [(number, answer) for (number, _), answer in zip(batch, done, strict=True)]
        free_memory()  # only here: while the exception lives, so do the tensors of its frames
        if len(batch) == 1:
            size = _size(batch[0][1])
            # Another machine could answer it, so it must not go on record as this model's failure.
            raise HarnessError(
                f"out of memory on a single request of {size} tokens; use a smaller --dtype, a larger device or vllm:"
            )
        self._owner.budget = max(1, min(self._owner.budget, len(batch) * _size(batch[0][1])) // 2)
        middle = len(batch) // 2
        return self._run(batch[:middle]) + self._run(batch[middle:])

    def _forward(self, jobs: Sequence[Job]) -> Sequence[Done]:
        probes = [job for job in jobs if isinstance(job, Probe)]
        writings = [job for job in jobs if isinstance(job, Writing)]
        spellings = [job for job in jobs if isinstance(job, Spelling)]
        with self._owner.using(self._adapter) as model:
            if writings:
                return write(model, writings, self._encoder)
            if spellings:
                return spell(model, spellings)
            return [Probed(read) for read in _probe(model, probes, self._owner.budget)]


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


def _read(logits: Any, wanted: Sequence[Ids]) -> list[list[float]]:
    """From logits (rows, vocabulary) the log-probabilities of each row's wanted tokens."""
    width = max(map(len, wanted))
    index = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in wanted], device=logits.device)
    values = logits.float().log_softmax(-1).gather(1, index).tolist()
    return [row[: len(ids)] for row, ids in zip(values, wanted, strict=True)]


def _probe(model: Any, probes: Sequence[Probe], budget: int) -> list[Read]:
    """All nodes of each probe: one pass over the prompts, then the paths of longer options behind their cache."""
    ids, mask = pad([probe.prompt for probe in probes], model.device, left=not model.config.is_encoder_decoder)
    tails = [(row, chain) for row, probe in enumerate(probes) for chain in probe.trie.chains() if chain]
    prompts = _read_prompts(model, ids, mask, keep=bool(tails))
    roots = _read(prompts.logits[:, -1], [probe.trie.nodes[0].wanted for probe in probes])
    reads: list[Read] = [{(): root} for root in roots]
    tails.sort(key=lambda tail: -len(tail[1]))
    while tails:
        width = len(tails[0][1])
        fits = min(LOGITS // (width * prompts.logits.shape[-1]), budget // (ids.shape[1] + width))
        chunk, tails = tails[: max(1, fits)], tails[max(1, fits) :]
        rows = torch.tensor([row for row, _ in chunk], device=model.device)
        tail_ids, tail_mask = pad([chain for _, chain in chunk], model.device, left=False)
        logits = _read_tails(model, prompts, mask, rows, tail_ids, tail_mask)
        _read_chains(logits, chunk, probes, reads)
    return reads


def _read_prompts(model: Any, ids: Any, mask: Any, keep: bool) -> Any:
    """Logits behind each prompt, and with `keep` the cache that further tokens go on from. An encoder reads its prompt
    once, and the decoder makes keys and values of it once, however many options are asked about."""
    if not model.config.is_encoder_decoder:
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        return forward_with_positions(model, ids, mask, positions, use_cache=keep, logits_to_keep=1)
    start = torch.full((len(ids), 1), model.generation_config.decoder_start_token_id, device=model.device)
    return model(input_ids=ids, attention_mask=mask, decoder_input_ids=start, use_cache=keep)


def _read_tails(model: Any, prompts: Any, mask: Any, rows: Any, ids: Any, tail_mask: Any) -> Any:
    """Logits (tails, positions, vocabulary) of further tokens, each behind the prompt in one of the rows."""
    cache = _selected(prompts.past_key_values, rows)
    if model.config.is_encoder_decoder:
        encoded = BaseModelOutput(last_hidden_state=prompts.encoder_last_hidden_state[rows])
        more = model(
            encoder_outputs=encoded,
            attention_mask=mask[rows],
            decoder_input_ids=ids,
            past_key_values=cache,
            use_cache=True,
        )
        return more.logits
    positions = mask[rows].sum(-1, keepdim=True) + torch.arange(ids.shape[1], device=model.device)
    whole = torch.cat([mask[rows], tail_mask], dim=1)
    return forward_with_positions(model, ids, whole, positions, past_key_values=cache, use_cache=True).logits


def _selected(cache: Any, rows: Any) -> Any:
    """A copy of a key-value cache with these rows of the batch; the original stays as it is."""
    if isinstance(cache, EncoderDecoderCache):
        return EncoderDecoderCache(
            _selected(cache.self_attention_cache, rows), _selected(cache.cross_attention_cache, rows)
        )
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(rows)
    return chosen


def _read_chains(logits: Any, chunk: Sequence[tuple[int, Ids]], probes: Sequence[Probe], reads: list[Read]) -> None:
    """From logits (chains, positions, vocabulary) all nodes on the chains but the roots."""
    places: dict[tuple[int, Ids], tuple[int, int]] = {}
    for place, (row, chain) in enumerate(chunk):
        for depth in range(1, len(chain) + 1):
            places.setdefault((row, chain[:depth]), (place, depth - 1))
    wanted = [dict(probes[row].trie.nodes)[path] for row, path in places]
    index = torch.tensor(list(places.values()), device=logits.device)
    for (row, path), values in zip(places, _read(logits[index[:, 0], index[:, 1]], wanted), strict=True):
        reads[row][path] = values


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)


def free_memory() -> None:
    """Of models that nobody holds any more, on the device too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
