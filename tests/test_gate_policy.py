"""A policy is read as it is written, or refused in one line that says where and what."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from harness.errors import BadSetting
from leaderboard.gate.policy import Check, Policy, parse_policy, read_policy

CHECK = '[[check]]\nmetric = "AUC"\nmax_drop = 0.01\n'


def test_the_default_policy_asks_for_no_visible_loss() -> None:
    policy = read_policy(None)
    assert (policy.source, policy.confidence, policy.power) == ("default", 0.95, 0.8)
    assert [(check.metric, check.tier, check.max_drop, check.max_relative_drop) for check in policy.checks] == [
        ("headline", "must", 0.01, None),
        ("failure_rate", "must", 0.01, None),
        ("parse_rate", "should", 0.01, None),
        ("latency", "watch", None, 0.25),
    ]


def test_the_example_says_everything_that_can_be_said() -> None:
    text = (files("leaderboard") / "policies" / "example.toml").read_text("utf-8")
    policy = parse_policy(text, "example")
    fields = {name for check in policy.checks for name, value in vars(check).items() if value is not None}
    assert fields == set(Check.__dataclass_fields__)
    assert {check.tier for check in policy.checks} == {"must", "should", "watch"}


def test_what_is_left_out_has_a_default() -> None:
    assert parse_policy(CHECK, "p") == Policy((Check("AUC", max_drop=0.01, tier="must"),), "p", 0.95, 0.8)


def test_a_whole_number_is_a_number() -> None:
    assert parse_policy(CHECK.replace("0.01", "1"), "p").checks[0].max_drop == 1.0


def test_an_interval_is_as_wide_as_a_one_sided_test_needs() -> None:
    policy = parse_policy(f"confidence = 0.9\n{CHECK}confidence = 0.99\n[[check]]\nmetric = 'b'\nmax_drop = 0\n", "p")
    assert [policy.level(check) for check in policy.checks] == pytest.approx([0.98, 0.8])


def test_checks_of_other_tasks_are_left_out() -> None:
    policy = parse_policy(f'{CHECK}task = "palr"\n[[check]]\nmetric = "b"\nmax_drop = 0\n', "p")
    assert [check.metric for check in policy.of_task("palr")] == ["AUC", "b"]
    assert [check.metric for check in policy.of_task("tallrec")] == ["b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x =", "policy p is not TOML: Invalid value (at end of document)"),
        ("", "policy p has no check; write [[check]] above metric and max_drop"),
        ('[check]\nmetric = "a"', "policy p has no check; write [[check]] above metric and max_drop"),
        (f"confidnce = 0.9\n{CHECK}", "policy p: no key 'confidnce'; did you mean 'confidence'?"),
        (f"confidence = 1\n{CHECK}", "policy p: confidence should be a number between 0.5 and 1"),
        (f"confidence = 0.5\n{CHECK}", "policy p: confidence should be a number between 0.5 and 1"),
        (f"power = true\n{CHECK}", "policy p: power should be a number between 0 and 1"),
        (f"{CHECK}teir = 'must'", "policy p, check 1 (AUC): no field 'teir'; did you mean 'tier'?"),
        (f"{CHECK}tier = 'may'", "policy p, check 1 (AUC): tier should be 'must', 'should' or 'watch'"),
        (f"{CHECK}direction = 'up'", "policy p, check 1 (AUC): direction should be 'higher' or 'lower'"),
        (f"{CHECK}confidence = 1.5", "policy p, check 1 (AUC): confidence should be a number between 0.5 and 1"),
        (f"{CHECK}max_relative_drop = 1", "policy p, check 1 (AUC): give one of max_drop and max_relative_drop"),
        ('[[check]]\nmetric = "a"', "policy p, check 1 (a): give one of max_drop and max_relative_drop"),
        ("[[check]]\nmax_drop = 1", "policy p, check 1: metric is missing"),
        ('[[check]]\nmetric = "a"\nmax_drop = "1"', "policy p, check 1 (a): max_drop should be a valid number"),
        ('[[check]]\nmetric = "a"\nmax_drop = true', "policy p, check 1 (a): max_drop should be a valid number"),
        ('[[check]]\nmetric = "a"\nmax_drop = -1', "policy p, check 1 (a): max_drop should be a number from 0 on"),
        ('[[check]]\nmetric = "a"\nmax_drop = nan', "policy p, check 1 (a): max_drop should be a number from 0 on"),
        (
            '[[check]]\nmetric = "a"\nmax_relative_drop = inf',
            "policy p, check 1 (a): max_relative_drop should be a number from 0 on; 0.02 is 2 %",
        ),
        (CHECK + CHECK, "policy p, check 2 (AUC): check 1 is of the same metric and tier"),
    ],
)
def test_what_cannot_be_understood_is_one_line(text: str, said: str) -> None:
    with pytest.raises(BadSetting) as error:
        parse_policy(text, "p")
    assert str(error.value) == said


def test_one_metric_may_have_a_limit_for_each_tier() -> None:
    checks = parse_policy(f"{CHECK}{CHECK}tier = 'should'\n{CHECK}task = 'palr'\n", "p").checks
    assert [(check.tier, check.task) for check in checks] == [("must", None), ("should", None), ("must", "palr")]


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"policy .*none.toml cannot be read: No such file or directory"):
        read_policy(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadSetting, match=r"bytes.toml is not text in UTF-8"):
        read_policy(tmp_path / "bytes.toml")


def test_a_file_is_named_in_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(CHECK)
    assert read_policy(tmp_path / "mine.toml").source == str(tmp_path / "mine.toml")
