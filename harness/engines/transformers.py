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
from inspect import signature
from typing import Any

import torch
import transformers
from transformers.modeling_outputs import BaseModelOutput

from harness.engines import Engine
from harness.engines.encode import Encoder, Ids, load_tokenizer
from harness.engines.text import Done, Job, LoadedModel, Probe, Probed, TextEngine, Writing, Written, context_of
from harness.engines.weights import load_adapters, load_weights
from harness.errors import BadModel, HarnessError
from harness.model import Adapter, Checkpoint, EngineOptions
from harness.types import Generate

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
        with self._owner.using(self._adapter) as model:
            if writings:
                return _write(model, writings, self._encoder)
            if model.config.is_encoder_decoder:
                return [Probed(read) for read in _probe_encoder_decoder(model, probes)]
            return [Probed(read) for read in _probe(model, probes, self._owner.budget)]


def _kind(number: int, job: Job) -> object:
    """Jobs of one kind may share a batch. Sampled texts stand alone: their random numbers depend on nobody else."""
    if isinstance(job, Probe):
        return "probe"
    request = job.request
    return number if request.temperature > 0 else (request.max_tokens, request.stop)


def _size(job: Job) -> int:
    return len(job.prompt) + (job.request.max_tokens if isinstance(job, Writing) else 0)


def _pad(rows: Sequence[Ids], device: Any, *, left: bool) -> tuple[Any, Any]:
    """Ids and mask, each (rows, longest). Padding is id 0: the mask hides it."""
    width = max(map(len, rows))
    blanks = [[0] * (width - len(row)) for row in rows]
    ids = [[*blank, *row] if left else [*row, *blank] for row, blank in zip(rows, blanks, strict=True)]
    ones = [[1] * len(row) for row in rows]
    mask = [[*blank, *one] if left else [*one, *blank] for one, blank in zip(ones, blanks, strict=True)]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _read(logits: Any, wanted: Sequence[Ids]) -> list[list[float]]:
    """From logits (rows, vocabulary) the log-probabilities of each row's wanted tokens."""
    width = max(map(len, wanted))
    index = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in wanted], device=logits.device)
    values = logits.float().log_softmax(-1).gather(1, index).tolist()
    return [row[: len(ids)] for row, ids in zip(values, wanted, strict=True)]


def _forward_with_positions(model: Any, ids: Any, mask: Any, positions: Any, **more: Any) -> Any:
    """A forward pass with those of the arguments that this architecture knows."""
    known = signature(model.forward).parameters
    if "position_ids" in known:
        more["position_ids"] = positions
    if "logits_to_keep" not in known:
        more.pop("logits_to_keep", None)
    return model(input_ids=ids, attention_mask=mask, **more)


def _probe(model: Any, probes: Sequence[Probe], budget: int) -> list[Read]:
    """All nodes of each probe: one pass over the prompts, then the paths of longer options behind their cache."""
    ids, mask = _pad([probe.prompt for probe in probes], model.device, left=True)
    tails = [(row, chain) for row, probe in enumerate(probes) for chain in probe.trie.chains() if chain]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    out = _forward_with_positions(model, ids, mask, positions, use_cache=bool(tails), logits_to_keep=1)
    roots = _read(out.logits[:, -1], [probe.trie.nodes[0].wanted for probe in probes])
    reads: list[Read] = [{(): root} for root in roots]
    tails.sort(key=lambda tail: -len(tail[1]))
    while tails:
        width = len(tails[0][1])
        fits = min(LOGITS // (width * out.logits.shape[-1]), budget // (ids.shape[1] + width))
        chunk, tails = tails[: max(1, fits)], tails[max(1, fits) :]
        rows = torch.tensor([row for row, _ in chunk], device=model.device)
        tail_ids, tail_mask = _pad([chain for _, chain in chunk], model.device, left=False)
        more = _forward_with_positions(
            model,
            tail_ids,
            torch.cat([mask[rows], tail_mask], dim=1),
            mask[rows].sum(-1, keepdim=True) + torch.arange(width, device=model.device),
            past_key_values=_selected(out.past_key_values, rows),
            use_cache=True,
        )
        _read_chains(more.logits, 1, chunk, probes, reads)
    return reads


def _selected(cache: Any, rows: Any) -> Any:
    """A copy of a key-value cache with these rows of the batch; the original stays as it is."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(rows)
    return chosen


def _probe_encoder_decoder(model: Any, probes: Sequence[Probe]) -> list[Read]:
    """All nodes of each probe: the encoder reads each prompt once, the decoder walks every chain of tokens."""
    ids, mask = _pad([probe.prompt for probe in probes], model.device, left=False)
    encoded = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    start = model.generation_config.decoder_start_token_id
    chains = [(row, chain) for row, probe in enumerate(probes) for chain in probe.trie.chains()]
    chains.sort(key=lambda chain: -len(chain[1]))
    reads: list[Read] = [{} for _ in probes]
    while chains:
        fits = max(1, LOGITS // ((len(chains[0][1]) + 1) * model.config.vocab_size))
        fits = min(fits, 4 * len(probes))
        chunk, chains = chains[:fits], chains[fits:]
        rows = torch.tensor([row for row, _ in chunk], device=model.device)
        decoder_ids, _ = _pad([(start, *chain) for _, chain in chunk], model.device, left=False)
        out = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded[rows]),
            attention_mask=mask[rows],
            decoder_input_ids=decoder_ids,
            use_cache=False,
        )
        _read_chains(out.logits, 0, chunk, probes, reads)
    return reads


def _read_chains(
    logits: Any, first: int, chunk: Sequence[tuple[int, Ids]], probes: Sequence[Probe], reads: list[Read]
) -> None:
    """From logits (chains, positions, vocabulary) all nodes on the chains; position 0 belongs to depth `first`."""
    places: dict[tuple[int, Ids], tuple[int, int]] = {}
    for place, (row, chain) in enumerate(chunk):
        for depth in range(first, len(chain) + 1):
            places.setdefault((row, chain[:depth]), (place, depth - first))
    wanted = [dict(probes[row].trie.nodes)[path] for row, path in places]
    index = torch.tensor(list(places.values()), device=logits.device)
    for (row, path), values in zip(places, _read(logits[index[:, 0], index[:, 1]], wanted), strict=True):
        reads[row][path] = values


class _Stop(transformers.StoppingCriteria):  # type: ignore[misc]  # its library is untyped
    """Ends each row of a batch once its text holds a stop string, and remembers how long the row was then."""

    def __init__(self, encoder: Encoder, prompts: Sequence[Ids], stop: tuple[str, ...], start: int) -> None:
        self.lengths: dict[int, int] = {}
        self._encoder = encoder
        self._prompts = prompts
        self._stop = stop
        self._start = start
        self._window = max((len(text.encode()) for text in stop), default=0) + 8

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        for row, ids in enumerate(input_ids[:, self._start :].tolist()):
            if row not in self.lengths and self._stop and self._stopped(self._prompts[row], ids):
                self.lengths[row] = len(ids)
        done = [row in self.lengths for row in range(len(input_ids))]
        return torch.tensor(done, device=input_ids.device)

    def _stopped(self, prompt: Ids, ids: list[int]) -> bool:
        """A look at the last few tokens, and at the whole text only where they seem to hold a stop string."""
        recent = self._encoder.continuation((*prompt, *ids[: -self._window]), ids[-self._window :], self._stop)
        return recent[1] and self._encoder.continuation(prompt, ids, self._stop)[1]


def _write(model: Any, writings: Sequence[Writing], encoder: Encoder) -> list[Done]:
    """Generate for writings that share their parameters; sampled ones come alone."""
    request = writings[0].request
    decoder_only = not model.config.is_encoder_decoder
    prompts = [writing.prompt for writing in writings]
    ids, mask = _pad(prompts, model.device, left=decoder_only)
    start = ids.shape[1] if decoder_only else 1
    stop = _Stop(encoder, prompts, request.stop, start)
    with torch.random.fork_rng(enabled=request.temperature > 0 and request.seed is not None):
        if request.temperature > 0 and request.seed is not None:
            torch.manual_seed(request.seed)
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=_generation(model, request),
            stopping_criteria=transformers.StoppingCriteriaList([stop]),
        )
    ends = set(model.generation_config.eos_token_id or ())
    done: list[Done] = []
    for row, made in enumerate(out[:, start:].tolist()):
        made = made[: stop.lengths.get(row)]
        end = next((place for place, token in enumerate(made) if token in ends), None)
        done.append(Written(made if end is None else made[: end + 1], end is not None))
    return done


def _generation(model: Any, request: Generate) -> Any:
    """The request's parameters and nothing else; `top_k=0`, since the library's default is 50."""
    ends = model.generation_config.eos_token_id or None
    config = transformers.GenerationConfig(
        max_new_tokens=request.max_tokens,
        do_sample=request.temperature > 0,
        eos_token_id=ends,
        pad_token_id=ends[0] if ends else 0,
        decoder_start_token_id=model.generation_config.decoder_start_token_id,
    )
    if request.temperature > 0:
        config.update(temperature=request.temperature, top_p=request.top_p, top_k=0)
    return config


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)


def free_memory() -> None:
    """Of models that nobody holds any more, on the device too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
