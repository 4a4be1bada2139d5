"""How plain transformers writes: free texts with the library's `generate`, one of several options in a loop of our own.

The loop is shorter than `generate` with a prefix function: it asks the model only where there is something to choose,
so a title of ten tokens takes as many passes as it has branchings, usually two to five.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
import transformers

from harness.engines.encode import Encoder, Ids
from harness.engines.spelling import Walk
from harness.engines.text import Done, Spelling, Spelt, Writing, Written
from harness.types import Generate


def pad(rows: Sequence[Ids], device: Any, *, left: bool) -> tuple[Any, Any]:
    """Ids and mask, each (rows, longest). Padding is id 0: the mask hides it."""
    width = max(map(len, rows))
    blanks = [[0] * (width - len(row)) for row in rows]
    ids = [[*blank, *row] if left else [*row, *blank] for row, blank in zip(rows, blanks, strict=True)]
    ones = [[1] * len(row) for row in rows]
    mask = [[*blank, *one] if left else [*one, *blank] for one, blank in zip(ones, blanks, strict=True)]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def forward_with_positions(model: Any, ids: Any, mask: Any, positions: Any, **more: Any) -> Any:
    """A forward pass with those of the arguments that this architecture knows."""
    known = signature(model.forward).parameters
    if "position_ids" in known:
        more["position_ids"] = positions
    if "logits_to_keep" not in known:
        more.pop("logits_to_keep", None)
    return model(input_ids=ids, attention_mask=mask, **more)


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


def write(model: Any, writings: Sequence[Writing], encoder: Encoder) -> list[Done]:
    """Generate for writings that share their parameters; sampled ones come alone."""
    request = writings[0].request
    decoder_only = not model.config.is_encoder_decoder
    prompts = [writing.prompt for writing in writings]
    ids, mask = pad(prompts, model.device, left=decoder_only)
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


def spell(model: Any, spellings: Sequence[Spelling]) -> list[Done]:
    """Walk to an option for each, in one batch."""
    walks = [spelling.walk() for spelling in spellings]
    rows = [row for row, walk in enumerate(walks) if walk.choices]
    if rows:
        _walk(_Reader(model, [spellings[row].prompt for row in rows]), [walks[row] for row in rows])
    return [Spelt(walk.option, len(walk.known)) for walk in walks]


def _walk(reader: _Reader, walks: Sequence[Walk]) -> None:
    """Take every walk to its end.

    All rows are fed the same number of tokens at once, as many as each has waiting: a gap in a row would be counted
    as distance by models with relative positions or a sliding window.
    """
    logits, fed = reader.start(), [0] * len(walks)
    while True:
        ready = [row for row, walk in enumerate(walks) if walk.choices and fed[row] == len(walk.known)]
        if ready:
            for row, token in zip(ready, _best(logits[ready], [walks[row].choices for row in ready]), strict=True):
                walks[row].take(token)
        waiting = [walk.known[done:] if walk.choices else () for walk, done in zip(walks, fed, strict=True)]
        width = min((len(ids) for ids in waiting if ids), default=0)
        if not width:
            return
        # A row that is finished reads zeros: nobody looks at it again, and taking it out would cost a copy.
        logits = reader.feed([ids[:width] or (0,) * width for ids in waiting])
        fed = [done + width for done in fed]


def _best(logits: Any, choices: Sequence[Sequence[int]]) -> list[int]:
    """The most probable of each row's choices; the lowest id where several are."""
    width = max(map(len, choices))
    index = torch.tensor([[*ids, *[ids[0]] * (width - len(ids))] for ids in choices], device=logits.device)
    best = logits.gather(1, index).argmax(1, keepdim=True)
    tokens: list[int] = index.gather(1, best)[:, 0].tolist()
    return tokens


class _Reader:
    """A batch of prompts that is read on, a few tokens in every row at a time."""

    def __init__(self, model: Any, prompts: Sequence[Ids]) -> None:
        self._model = model
        self._prompts = prompts
        self._cache: Any = None
        self._mask: Any = None
        self._encoded: Any = None

    def start(self) -> Any:
        """Logits (rows, vocabulary) of the first token behind each prompt."""
        if not self._model.config.is_encoder_decoder:
            return self._read(*pad(self._prompts, self._model.device, left=True))
        ids, self._mask = pad(self._prompts, self._model.device, left=False)
        self._encoded = self._model.get_encoder()(input_ids=ids, attention_mask=self._mask)
        return self.feed([(self._model.generation_config.decoder_start_token_id,)] * len(self._prompts))

    def feed(self, rows: Sequence[Ids]) -> Any:
        """Logits (rows, vocabulary) behind further tokens, equally many in each row."""
        ids = torch.tensor(rows, device=self._model.device)
        if self._encoded is None:
            return self._read(ids, torch.ones_like(ids))
        out = self._model(
            encoder_outputs=self._encoded,
            attention_mask=self._mask,
            decoder_input_ids=ids,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = out.past_key_values
        return out.logits[:, -1]

    def _read(self, ids: Any, mask: Any) -> Any:
        self._mask = mask if self._mask is None else torch.cat([self._mask, mask], dim=1)
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = forward_with_positions(
            self._model, ids, self._mask, positions, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        self._cache = out.past_key_values
        return out.logits[:, -1]
