"""A task is a paper's protocol: its questions, how a language model is asked, how answers count."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any, ClassVar, cast

from harness.errors import NotApplicable
from harness.exposure import Exposure
from harness.metrics import CutOff, Metric
from harness.stages import Stage
from harness.types import SPLITS, Catalogue, Example, Instance, Prediction, Program, Split, Timeline


class Task(ABC):
    """Subclass as a frozen dataclass whose fields, made with `knob`, are the protocol's options."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raise it whenever a score could change; old runs then no longer mix with new ones."""
    paper: ClassVar[str]
    """Authors, venue, identifier."""
    metrics: ClassVar[tuple[Metric, ...]]
    """The first one is the headline."""
    template: ClassVar[str] = "raw"
    """How the paper hands its prompt to a model: `raw`, or `chat` through the model's own chat template."""

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to another process are the options: what was read of files is read again there."""
        return {field.name: getattr(self, field.name) for field in fields(cast(Any, self))}

    @property
    def texts(self) -> Mapping[str, str]:
        """The protocol's prompt texts, by name: part of its identity."""
        return {}

    @abstractmethod
    def data_digests(self) -> Mapping[str, str]:
        """Content hash of every data set that the instances are made from, by name."""

    @property
    def stages(self) -> Mapping[str, Stage]:
        """The runs of earlier stages that prompts are made from, by option: part of the protocol's identity, and not
        of the questions'."""
        return {}

    @abstractmethod
    def instances(self, split: Split = "test") -> Iterator[Instance]:
        """Every question, in an order that never changes."""

    @abstractmethod
    def solve(self, instance: Instance) -> Program[Prediction]:
        """How the paper puts this question to a language model."""

    @cached_property
    def depth(self) -> int:
        """How many first places count: asked for where the candidates are the whole catalogue, and kept by name."""
        return max([20, *(metric.k for metric in self.metrics if isinstance(metric, CutOff | Exposure))])

    @property
    def longest_history(self) -> int | None:
        """The most events that the history of an instance can have; None where the protocol sets no limit."""
        return None

    @property
    def strata(self) -> Mapping[str, tuple[float, ...]]:
        """By what the headline is broken down, and where each part ends: `{"history": (5, 20)}` makes three parts."""
        return {}

    def traits(self, instance: Instance) -> Mapping[str, float]:
        """The numbers of an instance that `strata` speaks of."""
        return {"history": float(len(instance.history))}

    def catalogue(self) -> Catalogue:
        """Every item that may be asked for."""
        raise NotApplicable(f"task {self.name!r} has no catalogue")

    def timelines(self) -> Iterator[Timeline]:
        """What each user did before the questions begin, in an order that never changes."""
        raise NotApplicable(f"task {self.name!r} has no sequences to train on")

    def masks(self, sequential: bool) -> bool:
        """Whether the excluded items of an instance bind a model of this kind. They bind all alike, except under
        RecBole's own rule, which lets sequential models recommend what was seen and no others."""
        return True

    def size(self, split: Split = "test") -> int | None:
        """How many instances there are, if that is cheap to say; progress bars use it."""
        return None

    def examples(self, split: Split = "train") -> Iterator[Example]:
        """The texts that the paper tunes on."""
        raise NotApplicable(f"task {self.name!r} has no training texts")

    @property
    def selector(self) -> Metric:
        """By what `selection=correct` chooses among checkpoints; the headline, unless a paper says otherwise."""
        return self.metrics[0]

    @property
    def alternatives(self) -> Mapping[str, tuple[str, ...]]:
        """Options that the paper chooses on the validation split, and the values among which, the first before others
        of equal score: what `--choose NAME` tries."""
        return {}

    @property
    def recipes(self) -> Mapping[str, Mapping[str, Any]]:
        """How the paper fine-tunes, by budget, the default first; fields are those of `harness.tuning.recipe`."""
        return {}

    def paper_selection(self, places: Sequence[Sequence[int]]) -> Sequence[tuple[int, int]]:
        """Where the paper's own validation reads an answer, as (row, place), given the places of answer tokens in
        the ids of every validation text: for `selection=paper`, where that is not simply the end of each prompt."""
        raise NotApplicable(f"task {self.name!r} knows no selection of its paper's own; use selection=correct")

    def unlabelled(self) -> Iterator[str]:
        """Texts in the task's form that hold no true preference label and no user of any split."""
        raise NotApplicable(f"task {self.name!r} has no unlabelled texts")

    @property
    def exported(self) -> tuple[Split, ...]:
        """The splits that `export` knows."""
        return SPLITS

    def counts(self, split: Split) -> Mapping[str, float]:
        """What a table of the paper's counts of an exported split."""
        return {}

    def export(self, split: Split) -> tuple[str, bytes]:
        """File name and bytes of a split in the paper's own format."""
        raise NotApplicable(f"task {self.name!r} has no export in the paper's format")
