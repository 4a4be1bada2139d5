"""An option is declared once: a dataclass field with a default, a type and a sentence.

The command line, its help, the manifest of a run and its digest are all derived from that field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


class Knob(NamedTuple):
    name: str
    type: Any
    default: Any
    help: str
    instances: bool
    """Whether turning it changes which questions are asked, not only how."""
    low: float | None
    high: float | None
    hashed: bool
    """Whether its value goes into identities; not that of a path whose content does."""
    tuning: bool
    """Whether it decides only which texts are tuned on: a matter of the tuned model, and of no evaluation."""

    @property
    def choices(self) -> tuple[Any, ...]:
        return get_args(self.type) if str(get_origin(self.type)) == "typing.Literal" else ()


def knob(
    default: T,
    help: str,
    *,
    instances: bool = False,
    low: float | None = None,
    high: float | None = None,
    hashed: bool = True,
    tuning: bool = False,
) -> T:
    """A field of a frozen dataclass. `instances=True` says that it decides which questions are asked; `low` and
    `high` are the smallest and largest number allowed; `hashed=False` is for the path of a file whose content is among
    the data digests; `tuning=True` says that only the texts for tuning depend on it."""
    said = {"help": help, "instances": instances, "low": low, "high": high, "hashed": hashed, "tuning": tuning}
    made: T = field(default=default, metadata=said)
    return made


def knobs(kind: type) -> list[Knob]:
    """The options of a dataclass, in the order in which it declares them."""
    types = get_type_hints(kind)
    found = []
    for f in fields(kind):
        said = {
            "help": "",
            "instances": False,
            "low": None,
            "high": None,
            "hashed": True,
            "tuning": False,
            **f.metadata,
        }
        found.append(Knob(f.name, types[f.name], f.default, **said))
    return found


def settings(
    thing: Any, *, instances_only: bool = False, hashed_only: bool = False, tuning: bool = True
) -> Mapping[str, Any]:
    """The values that an object's options have, defaults included; `tuning=False` leaves out those for tuning alone."""
    return {
        k.name: getattr(thing, k.name)
        for k in knobs(type(thing))
        if (k.instances or not instances_only) and (k.hashed or not hashed_only) and (tuning or not k.tuning)
    }
