"""Names and settings: what is found, and what is said where nothing is."""

from __future__ import annotations

from dataclasses import dataclass

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


def test_built_in_names_come_from_entry_points() -> None:
    assert registry.task_kind("tallrec") is TALLRec
    assert set(registry.engine_names()) >= {"hf", "vllm"}
    assert "like-rate" in registry.baseline_groups()["simple"].names


def test_settings_are_typed() -> None:
    made = registry.build(Options, {"name": "123", "count": "7", "share": "0.5", "loud": "true"}, "x")
    assert made == Options("123", 7, 0.5, True)
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


def test_a_wrong_type_names_the_value() -> None:
    with pytest.raises(BadSetting, match="x: count='many' should be a valid integer"):
        registry.build(Options, {"count": "many"}, "x")


def test_an_unknown_task_suggests_the_right_one() -> None:
    with pytest.raises(UnknownName, match=r"^no task 'talrec'; did you mean 'tallrec'\?$"):
        registry.task("talrec")


def test_knobs_know_their_fields() -> None:
    assert [(k.name, k.default, k.help, k.instances) for k in knobs(Options)][1] == ("count", 3, "a number", True)
    assert settings(Options(count=4), instances_only=True) == {"count": 4}
    assert [k.choices for k in knobs(TALLRec)] == [("movie", "book"), ("paper", "log_odds")]
