"""How plain transformers reads log-probabilities off: prompts in one pass, the paths of longer options behind them.

Prompts that begin alike need not be read in full: the keys and values of their common beginning are computed once and
copied to where each row has them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import groupby
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from harness.engines.encode import Ids
from harness.engines.text import Probe
from harness.engines.writing import forward_with_positions, pad

LOGITS = 1 << 26
"""Most logits that one pass over options may produce: 256 MiB in float32."""

Read = dict[Ids, Sequence[float]]


@dataclass(frozen=True)
class Beginning:
    """Tokens that several prompts begin with, and the key-value cache behind them, one row of it."""

    ids: Ids
    cache: Any


def can_share(model: Any) -> bool:
    """Whether a prompt may be read on from the cache of another's beginning, with the same result.

    It may where the library's own code keeps plain keys and values, which depend on the token's place and on those
    before it. Not where the length of the whole prompt decides (dynamic RoPE), nor where places are counted in chunks
    or cannot be told.
    """
    if model.config.is_encoder_decoder or not type(model).__module__.startswith("transformers."):
        return False
    if not {"position_ids", "past_key_values"} <= signature(model.forward).parameters.keys():
        return False
    config = model.config.get_text_config(decoder=True)
    if not set(getattr(config, "layer_types", None) or ()) <= {"full_attention", "sliding_attention"}:
        return False
    if getattr(config, "attention_chunk_size", None) or getattr(config, "num_kv_shared_layers", None):
        return False
    ropes = {str(getattr(module, "rope_type", "default")) for module in model.modules()}
    return not any("dynamic" in rope or "longrope" in rope for rope in ropes)


def read_beginning(model: Any, ids: Ids) -> Beginning:
    """Read a beginning by itself. A sliding window's layers keep all of it: shorter rows need more of what is old."""
    row = torch.tensor([ids], device=model.device)
    mask, positions = torch.ones_like(row), torch.arange(len(ids), device=model.device)[None]
    out = forward_with_positions(
        model, row, mask, positions, past_key_values=DynamicCache(), use_cache=True, logits_to_keep=1
    )
    return Beginning(ids, out.past_key_values)


def _read(logits: Any, wanted: Sequence[Ids]) -> list[list[float]]:
    """From logits (rows, vocabulary) the log-probabilities of each row's wanted tokens."""
    width = max(map(len, wanted))
    index = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in wanted], device=logits.device)
    values = logits.float().log_softmax(-1).gather(1, index).tolist()
    return [row[: len(ids)] for row, ids in zip(values, wanted, strict=True)]


def probe(model: Any, probes: Sequence[Probe], budget: int, beginning: Beginning | None = None) -> list[Read]:
    """All nodes of each probe: one pass over the prompts, then the paths of longer options behind their cache.

    `beginning` is one that all prompts have. `budget` is for tokens in one pass, those in the cache included.
    """
    ids, mask = pad([one.prompt for one in probes], model.device, left=not model.config.is_encoder_decoder)
    tails = [(row, chain) for row, one in enumerate(probes) for chain in one.trie.chains() if chain]
    if beginning is None:
        prompts = _read_prompts(model, ids, mask, keep=bool(tails))
    else:
        prompts = _read_on(model, beginning, ids, mask)
    roots = _read(prompts.logits[:, -1], [one.trie.nodes[0].wanted for one in probes])
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


def _read_on(model: Any, beginning: Beginning, ids: Any, mask: Any) -> Any:
    """What `_read_prompts` gives for prompts that all have this beginning.

    The rows are padded on the left as ever. Columns up to the longest rest come out of the cache, moved to where each
    row has them; the others are read. So a shorter row reads the end of the beginning again, where it would else have
    padding: a gap in it would be counted as distance by models with a sliding window.
    """
    known = min(len(beginning.ids), ids.shape[1] - 1)
    padding = (1 - mask).sum(-1).tolist()
    cache = DynamicCache()
    cache.layers = [_Behind(layer, known, padding) for layer in beginning.cache.layers]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, known:]
    return forward_with_positions(
        model, ids[:, known:], mask, positions, past_key_values=cache, use_cache=True, logits_to_keep=1
    )


class _Behind(DynamicLayer):  # type: ignore[misc]  # its library is untyped
    """Keys and values of a beginning, copied to where each row has them once a model adds its own: one copy, no more.

    Every row has `columns` of them, of which the first `padding` are hidden by the mask.
    """

    def __init__(self, beginning: DynamicLayer, columns: int, padding: Sequence[int]) -> None:
        super().__init__()
        self._beginning = beginning
        self._columns = columns
        self._padding = padding

    def get_seq_length(self) -> int:
        return super().get_seq_length() if self.is_initialized else self._columns

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if self.is_initialized:
            grown: tuple[Any, Any] = super().update(key_states, value_states, *args, **kwargs)
            return grown
        self.lazy_initialization(key_states, value_states)
        self.keys = self._moved(self._beginning.keys, key_states)
        self.values = self._moved(self._beginning.values, value_states)
        return self.keys, self.values

    def _moved(self, old: Any, new: Any) -> Any:
        """States (rows, heads, columns, size): old ones moved for each row, which come as one row, then new ones."""
        rows, heads, width, size = new.shape
        made = new.new_empty(rows, heads, self._columns + width, size)
        made[:, :, self._columns :] = new
        start = 0
        for padding, alike in groupby(self._padding):
            end = start + len(list(alike))
            hidden = min(padding, self._columns)
            made[start:end, :, :hidden] = 0
            made[start:end, :, hidden : self._columns] = old[:, :, : self._columns - hidden]
            start = end
        return made


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
