"""The gate against published numbers: only in the paper's setting, with the paper's own error in the interval."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import norm, t

from harness.cli import main
from harness.errors import BadSetting, StaleRun
from leaderboard.gate.evidence import gather
from leaderboard.gate.judge import judge
from leaderboard.gate.policy import Check, Policy
from leaderboard.gate.reference import Judged, judge_by_papers
from leaderboard.gate.report import make_report, text
from leaderboard.published import Published, parse
from tests.gate_runs import LISTS, make_run

REFERENCE = """
[systems]
SASRec = {family = "recbole:SASRec"}

[[table]]
task = "retrieval"
split = "test"
settings = {dataset = "ml-100k"}
needs = {n = 50}
data = "MovieLens-100K"
data_sets = ["ml-100k"]
source = "a paper, Table 1"
note = "none"
own = "SASRec"
candidates = "all items"
instances = 900
metrics = ["HR@10", "HR@20"]
[table.methods]
SASRec = [0.6, 0.9]
Other = [0.7, 0.95]
[[table.defects]]
methods = ["SASRec"]
metrics = ["HR@20"]
reason = "above what can be reached"
impossible = true
"""
SASREC = {"engine": "recbole", "baseline": "SASRec", "name": "recbole:SASRec", "settings": {}}
VALUES = [1.0, 0.0] * 10


def run(path: Path, **changes: Any) -> Path:
    said = {"settings": {"n": 50, "dataset": "ml-100k"}, "model": SASREC, **changes}
    return make_run(path, VALUES, changes=said)


def numbers() -> list[Published]:
    return parse(REFERENCE, "r.toml")


def judged(path: Path, *checks: Check) -> Judged:
    return judge_by_papers(Policy(checks, "p"), gather([path], []), LISTS, numbers=numbers())


def test_the_paper_s_own_error_is_in_the_interval(tmp_path: Path) -> None:
    (found,) = judged(run(tmp_path / "new"), Check("headline", max_drop=0.35)).findings
    error = sqrt(0.25 * 20 / 19 / 20)
    half = sqrt((t.ppf(0.95, 19) * error) ** 2 + norm.ppf(0.95) ** 2 * 0.6 * 0.4 / 900)
    assert (found.old, found.new) == (0.6, 0.5)
    assert (found.gain.low, found.gain.high) == pytest.approx((-0.1 - half, -0.1 + half))
    assert (found.verdict, found.gain.units) == ("go", 20)
    both = sqrt(error**2 + 0.6 * 0.4 / 900)
    assert found.gain.detectable == pytest.approx((t.ppf(0.95, 19) + t.ppf(0.8, 19)) * both)
    (relative,) = judged(tmp_path / "new", Check("HR@10", max_relative_drop=0.05)).findings
    assert relative.verdict == "cannot tell"
    assert relative.allowed == pytest.approx(0.03)


def test_what_papers_do_not_report_is_left_out_and_said(tmp_path: Path) -> None:
    path = run(tmp_path / "new")
    policy = Policy((Check("HR@10", 0.3), Check("failure_rate", 0.01), Check("latency", 1.0, tier="watch")), "p")
    found = judge_by_papers(policy, gather([path], []), LISTS, numbers=numbers())
    assert found.notes == ("No paper reports failure_rate or latency, so these checks are left out.",)
    assert found.sources == (("a paper, Table 1", "SASRec, MovieLens-100K"),)
    report = make_report(policy, gather([path], []), found.findings, found.sources, found.notes)
    assert "  old: a paper, Table 1  SASRec, MovieLens-100K" in text(report).splitlines()
    with pytest.raises(BadSetting, match="asks nothing of 'retrieval' that a paper reports"):
        judged(path, Check("failure_rate", 0.01))


@pytest.mark.parametrize(
    ("changes", "metric", "said"),
    [
        (
            {"settings": {"n": 60, "dataset": "ml-100k"}},
            "HR@10",
            "is not in the setting of SASRec (a paper, Table 1): differs in n (60, the paper's 50)",
        ),
        (
            {"model": {**SASREC, "settings": {"budget": "ci"}}},
            "HR@10",
            "differs in training budget (ci, the paper's full)",
        ),
        (
            {"model": {**SASREC, "baseline": "GRU4Rec", "name": "recbole:GRU4Rec"}},
            "HR@10",
            "no published HR@10 is of recbole:GRU4Rec; papers report SASRec, Other",
        ),
        ({}, "HR@20", "no published HR@20 is of recbole:SASRec; papers report Other"),
        ({}, "HR@50", "papers report no HR@50 of 'retrieval' beside this setting; there is HR@10, HR@20"),
        (
            {"split": "valid"},
            "HR@10",
            "papers report no HR@10 of 'retrieval' beside this setting; there is none at all",
        ),
    ],
)
def test_another_setting_is_refused_with_the_difference(
    tmp_path: Path, changes: dict[str, Any], metric: str, said: str
) -> None:
    with pytest.raises(StaleRun) as error:
        judged(run(tmp_path / "new", **changes), Check(metric, 0.1))
    assert str(error.value).startswith(str(tmp_path / "new"))
    assert said in str(error.value)


def test_several_new_runs_are_compared_together(tmp_path: Path) -> None:
    paths = [run(tmp_path / name) for name in ("a", "b")]
    found = judge_by_papers(Policy((Check("HR@10", 0.3),), "p"), gather(paths, []), LISTS, numbers=numbers())
    assert found.findings[0].gain.method == "cochran-cox-t"


@pytest.mark.slow
def test_the_command_refuses_what_no_paper_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = ["--task", "tallrec", "--model", "simple:like-rate", "--run-dir", str(tmp_path / "run")]
    assert main(["run", *ours]) == 0
    capsys.readouterr()
    assert main(["regress", str(tmp_path / "run"), "--against", "reference"]) == 2
    said = "no published AUC is of simple:like-rate; papers report GRU4Rec, Caser, SASRec"
    assert said in capsys.readouterr().err
    assert main(["regress", str(tmp_path / "run"), "--against", "reference", "--against", "x"]) == 2
    assert "--against reference stands alone" in capsys.readouterr().err
    with pytest.raises(BadSetting, match="no check for task 'tallrec'"):
        judge(Policy((Check("AUC", 0.1, task="palr"),), "p"), gather([tmp_path / "run"], []), LISTS)
