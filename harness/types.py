"""The nouns: what is asked, what is answered, what is true.

Nothing here touches a file, a GPU or a prompt, and nothing here can change after it is made.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Literal, NamedTuple, TypeVar, overload

ItemId = str
Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Item:
    id: ItemId
    text: str
    """What a language model reads in place of the id: usually the title."""


@dataclass(frozen=True, slots=True)
class Event:
    item: Item
    liked: bool = True
    time: int = 0
    """Seconds since 1970; 0 where the protocol has no times. The order of a history is the tuple's."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """What one user did before any question of validation or test: what conventional models learn from."""

    user: str
    events: tuple[Event, ...]
    """Oldest first."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Every item that a protocol knows, and how often each was met in training. All its instances share one."""

    items: tuple[Item, ...]
    met: Mapping[ItemId, int]
    """Training interactions by item; an item that is not named has none."""

    @cached_property
    def places(self) -> Mapping[ItemId, int]:
        """Where each item stands in `items`."""
        return {item.id: place for place, item in enumerate(self.items)}


@dataclass(frozen=True, slots=True)
class Instance:
    """One question, the same for every model: whose taste, among which items, and what is right."""

    id: str
    user: str
    history: tuple[Event, ...]
    candidates: tuple[Item, ...] | None
    """None is the whole catalogue."""
    relevance: Mapping[ItemId, float]
    """What is right. A candidate that is not named here has relevance 0."""
    context: str | None = None
    """A query, an intention or a profile, where the protocol has one."""
    catalogue: Catalogue | None = None
    """Where the protocol has one; never None if `candidates` is."""
    excluded: frozenset[ItemId] = frozenset()
    """Items of the catalogue that count as no answer, such as those that the user has seen; never a relevant one."""
    shortlist: tuple[Item, ...] | None = None
    """What an earlier stage found, best first: what a language model may be offered, where it could not be offered all
    that is asked for. It need not hold the answer, and conventional models never see it."""


@dataclass(frozen=True, slots=True)
class Example:
    """A training text in two parts, so that a recipe can choose what the loss covers."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's answer in item space. An item without a score was not recommended."""

    scores: Mapping[ItemId, float]
    facts: Mapping[str, float] = field(default_factory=dict)
    """Further numbers that the protocol reads off the model, such as the probability mass on its options."""
    text: str | None = None
    """What the model wrote, for the stages and people that read it."""
    lenient: tuple[ItemId, ...] | None = None
    """The list, best first, with the items that were read with doubt, from a protocol that tells them apart."""

    @classmethod
    def ranked(cls, items: Sequence[ItemId]) -> Prediction:
        """The answer of a model that lists items, best first, without scoring them; a repeated one counts once."""
        return cls({item: -float(place) for place, item in enumerate(dict.fromkeys(items))})

    def ranking(self, salt: str) -> tuple[ItemId, ...]:
        """Best first. Ties fall by hash, so neither candidate order nor luck can win them."""
        if len(set(self.scores.values())) == len(self.scores):
            return tuple(sorted(self.scores, key=self.scores.__getitem__, reverse=True))
        return tuple(sorted(self.scores, key=lambda item: (-self.scores[item], tie_break(salt, item))))


@dataclass(frozen=True, slots=True)
class Generate:
    """Continue this text; or, with `options`, write exactly one of them.

    One of several options is written greedily: at every token the most probable one that still leads to an option.
    That needs temperature 0 and no stop strings, and `max_tokens` is no limit then. No option may be the beginning of
    another, so close each with a mark that none contains, such as `"`. Requests that share one tuple of options share
    its tokens too, so keep the tuple and bar what is taken.
    """

    prompt: str
    max_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    """Filled in by the runner from run, instance and step wherever the temperature is above 0."""
    options: tuple[str, ...] = ()
    """If any, the text is one of these; several that are equal count once."""
    barred: tuple[str, ...] = ()
    """Of the options, those that the text may not be this time; one that is no option changes nothing."""


@dataclass(frozen=True, slots=True)
class Choose:
    """How probable is each option as the continuation of this text? Answered in natural log-probabilities."""

    prompt: str
    options: tuple[str, ...]
    longest: int | None = None
    """Tokens of the prompt, at most, where that is less than the model allows. A longer one fails as `TooLong`;"""
    cut: bool = False
    """or loses its end, and the options follow what is left: for protocols whose authors cut so."""
    ended: bool = False
    """Whether the text must end behind the option: the model's end of sequence is one token more of each."""


@dataclass(frozen=True, slots=True)
class Rank:
    """How well does each candidate suit a user with this history? Asked of conventional models."""

    user: str
    history: tuple[Event, ...]
    candidates: tuple[Item, ...] | None
    """None asks for the best items of the whole catalogue."""
    context: str | None = None
    excluded: frozenset[ItemId] = frozenset()
    """Where there are no candidates: items that may not be named."""
    top: int = 100
    """Where there are no candidates: how many items to name."""


class Usage(NamedTuple):
    """What an answer cost, in tokens of the model that gave it."""

    prompt_tokens: int = 0
    generated_tokens: int = 0

    def plus(self, other: Usage) -> Usage:
        return Usage(self.prompt_tokens + other.prompt_tokens, self.generated_tokens + other.generated_tokens)


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    finish: Literal["stop", "length"] = "stop"
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Scores:
    """One value per option or candidate, in the order of the request."""

    values: tuple[float, ...]
    usage: Usage = Usage()
    facts: Mapping[str, float] = field(default_factory=dict)
    """Further numbers, such as the share of candidates that the model never met in training."""
    tokens: tuple[int, ...] = ()
    """How many tokens each value of a `Choose` is the sum over."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The best items of the whole catalogue, best first: the reply to a `Rank` without candidates."""

    items: tuple[ItemId, ...]
    usage: Usage = Usage()
    scores: tuple[float, ...] | None = None
    """One per item, from a model that scores; equal ones in the order of `tie_break`."""
    facts: Mapping[str, float] = field(default_factory=dict)


class Key(NamedTuple):
    """Which question of a run this is."""

    instance: str
    step: int = 0
    """How often the program has asked before."""
    place: int = 0
    """Which of the questions that it asks together."""


Request = Generate | Choose | Rank
Reply = Text | Scores | Ranked
Program = Generator[tuple[Request, ...], tuple[Reply, ...], T]
"""A conversation with a model that ends in a T: it yields questions and is sent the answers."""


@overload
def ask(request: Generate) -> Program[Text]: ...
@overload
def ask(request: Choose) -> Program[Scores]: ...
@overload
def ask(request: Rank) -> Program[Scores | Ranked]: ...
def ask(request: Request) -> Program[Reply]:
    """Ask one question: `reply = yield from ask(Generate(...))`."""
    (reply,) = yield (request,)
    return reply


def ask_all(requests: Sequence[Request]) -> Program[tuple[Reply, ...]]:
    """Ask several questions at once; the answers come back in the same order."""
    replies = yield tuple(requests)
    return replies


def tie_break(salt: str, item: ItemId) -> str:
    """What decides between items of equal score, the smallest first; `salt` is the instance's id."""
    return sha256(f"{salt}\0{item}".encode()).hexdigest()


def rank_candidates(instance: Instance, top: int = 100) -> Program[Prediction]:
    """How a conventional model solves any task: it scores the candidates, or lists its `top` of the catalogue."""
    request = Rank(instance.user, instance.history, instance.candidates, instance.context, instance.excluded, top)
    reply = yield from ask(request)
    if isinstance(reply, Ranked):
        if reply.scores is None:
            return Prediction(Prediction.ranked(reply.items).scores, reply.facts)
        return Prediction(dict(zip(reply.items, reply.scores, strict=True)), reply.facts)
    wanted = [item.id for item in instance.candidates or ()]
    return Prediction(dict(zip(wanted, reply.values, strict=True)), reply.facts)
