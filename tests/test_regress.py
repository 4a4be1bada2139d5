"""`harness regress`: exit codes, refusals with their reason, and reports that other programs read back."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.cli import main
from leaderboard.gate.policy import default_text
from tests.edits import unsealed
from tests.gate_runs import LISTS, make_run

GOOD = [1.0, 0.0] * 200
BAD = [0.0, 0.0, 1.0, 0.0] * 100
POLICY = '[[check]]\nmetric = "headline"\nmax_drop = 0.01\n'
WIDE = """
[[check]]
metric = "HR@10"
max_drop = 0.01
[[check]]
metric = "NDCG@10"
max_drop = 0.9
[[check]]
metric = "HR@20"
max_drop = 0.249
tier = "should"
[[check]]
metric = "failure_rate"
max_drop = 0.02
[[check]]
metric = "HR@50"
max_drop = 0.001
tier = "watch"
"""


@pytest.fixture(autouse=True)
def no_github(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return make_run(tmp_path / "old", GOOD)


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return make_run(tmp_path / "bad", BAD)


def asked(*words: object) -> int:
    return main(["regress", *map(str, words)])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert asked(*words) == 2
    out = capsys.readouterr()
    assert out.out == ""
    (line,) = out.err.splitlines()
    return line.removeprefix("harness: ")


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "policy.toml").write_text(text)
    return tmp_path / "policy.toml"


def test_equal_answers_pass(tmp_path: Path, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = make_run(tmp_path / "same", GOOD)
    assert asked(same, "--against", old) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "go"
    assert lines[1] == "  retrieval, test, version 1: 400 instances; policy default: 95 % sure of each check"
    assert lines[2:4] == [f"  new: {same}  same", f"  old: {old}  old"]
    assert lines[5].split() == [
        *("tier", "check", "old", "new", "better", "by", "interval", "limit", "detects", "units", "verdict", "why")
    ]
    assert lines[6].startswith("  must    HR@10         0.5000  0.5000  +0.0000    [+0.0000, +0.0000]  -0.0100")
    assert lines[6].endswith("go       no drop of more than 0.01; every answer is the same")
    assert len(lines) == 10
    assert len({line.index("no drop of") for line in lines[6:9]}) == 1


def test_a_worse_one_is_stopped(old: Path, bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(bad, "--against", old) == 1
    assert capsys.readouterr().out.startswith("no-go: HR@10\n")


def test_few_answers_cannot_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = make_run(tmp_path / "new", BAD[3:15]), make_run(tmp_path / "old", GOOD[:12])
    policy = written(tmp_path, POLICY)
    assert asked(new, "--against", old, "--policy", policy) == 3
    out = capsys.readouterr().out
    assert out.startswith("cannot tell: HR@10\n")
    assert "12 instances (few)" in out


def test_several_runs_a_side(tmp_path: Path, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rest = [make_run(tmp_path / name, values) for name, values in (("a", BAD), ("b", BAD), ("c", GOOD))]
    policy = written(tmp_path, POLICY)
    assert asked(*rest[:2], "--against", old, "--against", rest[2], "--policy", policy, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [len(found[side]) for side in ("new", "old")] == [2, 2]


def test_the_built_in_policy_is_shown_to_start_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked("--show-policy") == 0
    assert capsys.readouterr().out == default_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "sequential", "described": "s"}, "task: retrieval and sequential"),
        ({"version": 2}, "version: 1 and 2"),
        ({"split": "valid"}, "split: test and valid"),
        ({"sample": {"size": 400, "seed": 3}}, "sample: all and 400 of seed 3"),
        ({"data": {"ml-100k": "d2"}}, "data ml-100k: d1 and d2"),
        ({"settings": {"n": 60}}, "n: 50 and 60"),
        ({"version": 2, "split": "valid"}, "version: 1 and 2; split: test and valid"),
    ],
)
def test_what_does_not_pair_is_named(
    tmp_path: Path, old: Path, changes: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_run(tmp_path / "other", GOOD, changes=changes)
    told = refused(capsys, old, "--against", other)
    assert told == f"{old} and {other} do not pair, since they differ in {said}"


def test_texts_that_changed_without_a_version(tmp_path: Path, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = unsealed(old / "run.json")
    card["identity"]["protocol"] = "another"
    other = make_run(tmp_path / "other", GOOD)
    (other / "run.json").write_text(json.dumps(card))
    assert refused(capsys, old, "--against", other).endswith("differ in what their prompts or metrics were made from")


def test_runs_without_a_score(tmp_path: Path, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = make_run(tmp_path / "half", GOOD[:50], complete=False)
    assert refused(capsys, half, "--against", old) == f"{half} is not complete; run its command again first"
    assert refused(capsys, old, "--against", half) == f"{half} is not complete; run its command again first"
    (half / "scores.json").write_text('{"not_applicable": "needs a known user"}')
    assert refused(capsys, half, "--against", old) == f"{half} has no answers to compare: needs a known user"
    assert "is not a run directory" in refused(capsys, tmp_path / "none", "--against", old)


def test_records_that_are_missing(tmp_path: Path, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = make_run(tmp_path / "short", GOOD[:399])
    said = refused(capsys, short, "--against", old)
    assert said == f"{short} and {old} do not pair: 1 instances are in one only, such as i399 in {old}"


def test_a_run_against_itself(
    tmp_path: Path, old: Path, bad: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "stands on both sides" in refused(capsys, old, "--against", "old")
    assert "is named twice among the new runs" in refused(capsys, old, "old", "--against", bad)


def test_a_task_of_another_version_than_this_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_run(tmp_path / name, GOOD, changes={"version": 9}) for name in ("new", "old")]
    assert "is of version 9 of task 'retrieval', and this is version 1" in refused(
        capsys, runs[0], "--against", runs[1]
    )


def test_misuse(tmp_path: Path, old: Path, bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Missing argument" in refused(capsys, "--against", old)
    assert "Missing option '--against'" in refused(capsys, bad)
    assert "none.toml cannot be read" in refused(capsys, bad, "--against", old, "--policy", tmp_path / "none.toml")
    unknown = written(tmp_path, POLICY + 'task = "retrival"\n')
    assert refused(capsys, bad, "--against", old, "--policy", unknown) == (
        f"policy {unknown}: no task 'retrival'; did you mean 'retrieval'?"
    )


@pytest.fixture
def reports(tmp_path: Path, old: Path, bad: Path) -> Path:
    assert asked(bad, "--against", old, "--policy", written(tmp_path, WIDE), "--out", tmp_path / "gate") == 1
    return tmp_path / "gate"


def test_json_says_all_of_each_check(reports: Path, old: Path, bad: Path) -> None:
    found = json.loads((reports / "gate.json").read_text())
    assert (found["verdict"], found["exit_code"], found["instances"]) == ("no-go", 1, 400)
    assert (found["new"], found["old"]) == ([{"run": str(bad), "model": "bad"}], [{"run": str(old), "model": "old"}])
    checks = {check["metric"]: check for check in found["checks"]}
    assert {name: check["verdict"] for name, check in checks.items()} == {
        "HR@10": "no-go",
        "NDCG@10": "go",
        "HR@20": "cannot tell",
        "failure_rate": "go",
        "HR@50": "no-go",
    }
    assert [name for name, check in checks.items() if check["decides"]] == ["HR@10"]
    ours = checks["HR@10"]
    assert (ours["old"], ours["new"], ours["gain"]["value"], ours["allowed_drop"]) == (0.5, 0.25, -0.25, 0.01)
    assert ours["gain"]["low"] < -0.25 < ours["gain"]["high"] < -0.01
    assert (ours["unit"], ours["units"], ours["method"], ours["few"]) == ("instance", 400, "score", False)
    assert 0.05 < ours["detectable"] < 0.15


def test_junit_counts_what_it_holds(reports: Path) -> None:
    """What readers of JUnit rely on: the counts are those of the cases, and a case has at most one outcome."""
    root = ElementTree.parse(reports / "gate.xml").getroot()
    (suite,) = root
    cases = suite.findall("testcase")
    assert (root.tag, suite.tag, len(cases)) == ("testsuites", "testsuite", 5)
    for holder in (root, suite):
        assert [int(holder.attrib[key]) for key in ("tests", "failures", "errors", "skipped")] == [
            len(cases),
            len(suite.findall("testcase/failure")),
            len(suite.findall("testcase/error")),
            len(suite.findall("testcase/skipped")),
        ]
    outcome = {case.attrib["name"]: [part.tag for part in case if part.tag != "system-out"] for case in cases}
    assert outcome == {
        "must: HR@10": ["failure"],
        "must: NDCG@10": [],
        "should: HR@20": ["skipped"],
        "must: failure_rate": [],
        "watch: HR@50": ["skipped"],
    }
    assert all(case.attrib["classname"] and float(case.attrib["time"]) == 0 for case in cases)
    (failure,) = suite.iter("failure")
    assert failure.attrib["message"] == "no-go: dropped by more than 0.01"
    assert (failure.text or "").startswith("must HR@10: old 0.5, new 0.25, allowed drop 0.01")


def test_a_must_that_cannot_tell_is_not_green(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = [make_run(tmp_path / name, hits) for name, hits in (("few-new", GOOD[1:13]), ("few-old", GOOD[:12]))]
    assert asked(few[0], "--against", few[1], "--out", tmp_path / "few") == 3
    (suite,) = ElementTree.parse(tmp_path / "few" / "gate.xml").getroot()
    assert (suite.attrib["errors"], suite.attrib["failures"]) == (str(len(suite.findall("testcase/error"))), "0")
    assert {error.attrib["type"] for error in suite.iter("error")} == {"cannot tell"}


def test_names_that_xml_and_markdown_have_marks_for(tmp_path: Path, old: Path) -> None:
    odd = make_run(tmp_path / "odd", BAD)
    for path in (odd, old):
        card = unsealed(path / "run.json")
        card["described"] = 'a<b> & \x07 "c" | ]]>'
        card["model"]["name"] = "a|b *c*"
        (path / "run.json").write_text(json.dumps(card))
    assert asked(odd, "--against", old, "--out", tmp_path / "gate") == 1
    (suite,) = ElementTree.parse(tmp_path / "gate" / "gate.xml").getroot()
    assert suite.attrib["name"] == 'a<b> & ? "c" | ]]>, test, version 1'
    page = (tmp_path / "gate" / "gate.md").read_text()
    assert r"a\|b \*c\*" in page


def test_markdown_has_a_line_for_each_check(reports: Path) -> None:
    lines = (reports / "gate.md").read_text().splitlines()
    assert lines[0] == "# no-go: HR@10"
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 5
    assert len({line.count("|") for line in rows}) == 1
    watched = [cell.strip() for cell in rows[-1].split("|")[1:-1]]
    assert (watched[0], watched[1], watched[9]) == ("watch", "HR@50", "(no-go)")


def test_what_moved_most_is_shown_if_asked(
    old: Path, bad: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = written(tmp_path, POLICY)
    words = [bad, "--against", old, "--policy", policy]
    assert asked(*words) == 1
    assert "what moved" not in capsys.readouterr().out
    assert asked(*words, "--show-flips", 3, "--out", tmp_path / "gate") == 1
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("  HR@10: what moved most")
    assert lines[at + 1 :] == [
        f"    i{n}  user u{n}  1.0000 -> 0.0000  (-1.0000)  place 1 -> none" for n in (0, 100, 104)
    ]
    assert "## HR@10: what moved most" in (tmp_path / "gate" / "gate.md").read_text()
    flips = json.loads((tmp_path / "gate" / "gate.json").read_text())["checks"][0]["flips"]
    assert flips[0] == {
        "instance": "i0", "user": "u0", "old": 1.0, "new": 0.0, "gain": -1.0, "old_place": 1.0, "new_place": None
    }  # fmt: skip


def test_github_is_told(
    tmp_path: Path, old: Path, bad: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [bad, "--against", old, "--policy", written(tmp_path, WIDE)]
    assert asked(*words) == 1
    assert "::" not in capsys.readouterr().out
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    assert asked(*words) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::")]
    assert [line.split("::")[1] for line in told] == [
        "error title=HR@10%3A no-go",
        "warning title=HR@20%3A cannot tell",
        "notice title=HR@50%3A no-go",
        "notice title=harness regress%3A no-go",
    ]
    assert (tmp_path / "summary.md").read_text().startswith("before\n# no-go: HR@10\n")
    assert asked(*words, "--json") == 1
    out = capsys.readouterr()
    assert json.loads(out.out)["verdict"] == "no-go"
    assert out.err.count("::error") == 1


def test_annotations_are_escaped_as_the_toolkit_does() -> None:
    from leaderboard.gate.ci import _command

    assert _command("error", "a: 5 %, b", "1 %\r\n2: 3, 4") == "::error title=a%3A 5 %25%2C b::1 %25%0D%0A2: 3, 4"


def test_metrics_of_the_hand_made_runs_are_those_of_the_task() -> None:
    from harness import registry

    assert registry.task_kind("retrieval").metrics == LISTS


@pytest.mark.slow
def test_the_commands_of_the_manual_do_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "gate.md").read_text("utf-8")
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```$", page, re.M | re.S) for line in block.splitlines()]
    assert len(lines) == 10
    monkeypatch.chdir(tmp_path)
    for line in lines:
        words = shlex.split(line, comments=True)
        (code,) = re.findall(r"# exit code (\d)", line) or "0"
        assert main(words[1:]) == int(code), line
    assert "no-go: AUC" in capsys.readouterr().out.splitlines()
