"""Names and settings: what is found, and what is said where nothing is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from harness import registry
from harness.errors import BadSetting, UnknownName
from harness.knobs import knob, knobs, settings
from tasks.tallrec import TALLRec


@dataclass(frozen=True)
class Options:
    name: str = knob("a", "a text")
    count: int = knob(3, "a number", instances=True)
    share: float | None = knob(None, "perhaps a number")
    loud: bool = knob(False, "a switch")
    shots: Literal[16, 64] = knob(16, "one of two numbers")
    threads: int = knob(2, "a number with a range", low=1, high=64)


def test_built_in_names_come_from_entry_points() -> None:
    assert registry.task_kind("tallrec") is TALLRec
    assert set(registry.engine_names()) >= {"hf", "vllm"}
    assert "like-rate" in registry.baseline_groups()["simple"].names


def test_settings_are_typed() -> None:
    made = registry.build(Options, {"name": "123", "count": "7", "share": "0.5", "loud": "true"}, "x")
    assert made == Options("123", 7, 0.5, True)
    assert registry.build(Options, {"shots": "64", "share": "none"}, "x") == Options(shots=64)
    assert registry.task("tallrec", ["domain=book"]) == TALLRec(domain="book")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["domain=film"], "task 'tallrec': domain='film' should be one of movie, book"),
        (["domian=book"], "no setting of task 'tallrec' 'domian'; did you mean 'domain'?"),
        (["shots=16"], "no setting of task 'tallrec' 'shots'; there is domain, readout"),
        (["domain"], "setting 'domain' is not of the form NAME=VALUE"),
        (["domain=movie", "domain=book"], "setting 'domain' is given twice"),
    ],
)
def test_a_bad_setting_is_one_helpful_line(given: list[str], said: str) -> None:
    with pytest.raises(BadSetting) as caught:
        registry.task("tallrec", given)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"count": "many"}, "x: count='many' should be a valid integer"),
        ({"threads": "0"}, "x: threads='0' should be at least 1"),
        ({"threads": "65"}, "x: threads='65' should be at most 64"),
        ({"shots": "17"}, "x: shots='17' should be one of 16, 64"),
        ({"count": "none"}, "x: count='none' should be a valid integer"),
    ],
)
def test_a_wrong_value_is_named(given: dict[str, str], said: str) -> None:
    with pytest.raises(BadSetting, match=said):
        registry.build(Options, given, "x")


def test_an_unknown_task_suggests_the_right_one() -> None:
    with pytest.raises(UnknownName, match=r"^no task 'talrec'; did you mean 'tallrec'\?$"):
        registry.task("talrec")


def test_knobs_know_their_fields() -> None:
    assert [(k.name, k.default, k.help, k.instances) for k in knobs(Options)][1] == ("count", 3, "a number", True)
    assert settings(Options(count=4), instances_only=True) == {"count": 4}
    assert [k.choices for k in knobs(TALLRec)] == [("movie", "book"), ("paper", "log_odds")]
