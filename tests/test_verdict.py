"""What is said of a published number: every word, every difference, and the edges between words by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evaluation import perform
from harness.job import Job
from harness.metrics import HitRate
from harness.model import Model
from harness.stats import interval
from harness.store import read_manifest, read_scores
from leaderboard.collect import Entry, collect
from leaderboard.published import beside, published
from leaderboard.sheet import Verdict
from leaderboard.verdict import Measured, Tolerance, gap, overall, paper_half, verdict, verdicts
from tasks.tallrec import TALLRec
from tests.paper_runs import LLAMA, RETRIEVAL, SASREC, entry, number, said, stage


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of runs with SASRec's candidates in it; gives where the next run would be."""
    stage(tmp_path, "retrieval", "abc123", {"name": "recbole:SASRec", **SASREC}, RETRIEVAL)
    return tmp_path / "palr" / "0"


WEAK = number("palr", "SASRec", "HR@10", data="Beauty")
BARE = replace(WEAK, instances=None)
"""The same number, 0.0617, as if nobody knew how many users it is of."""


def test_the_tolerance_by_hand() -> None:
    allowed = Tolerance()
    assert allowed.around(0.8) == pytest.approx(0.04)
    assert allowed.around(0.15) == pytest.approx(0.01)
    assert allowed.around(0.05) == pytest.approx(0.005)
    assert allowed.around(0.2) == pytest.approx(0.01)
    assert allowed.around(0.1) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.0560, 0.0660, "reproduced"),
        (0.05554, 0.06786, "reproduced"),
        (0.05552, 0.0660, "inconclusive"),
        (0.0560, 0.06788, "inconclusive"),
        (0.0100, 0.0900, "inconclusive"),
        (0.0500, 0.0560, "inconclusive"),
        (0.0500, 0.05554, "inconclusive"),
        (0.0500, 0.05552, "not reproduced"),
        (0.06788, 0.0800, "not reproduced"),
        (0.06786, 0.0800, "inconclusive"),
    ],
)
def test_the_edges_of_the_words(runs: Path, low: float, high: float, word: str) -> None:
    """0.0617 with a tolerance of a tenth: 0.05553 to 0.06787."""
    run = entry(runs, SASREC, value=(low + high) / 2, between=(low, high))
    assert verdict(BARE, [run]).word == word


def test_what_is_said_of_a_number_that_was_attempted(runs: Path) -> None:
    run = entry(runs, SASREC, value=0.0820, between=(0.0790, 0.0850))
    assert said(BARE, run) == (
        "not reproduced: recbole:SASRec: 0.0820 [0.0790, 0.0850], which is +0.0203 [+0.0173, +0.0233] from the "
        "paper's; tolerance 0.0062"
    )
    sampled = entry(runs, SASREC, value=0.0820, between=(0.0790, 0.0850), sample={"size": 1000, "seed": 0})
    assert said(BARE, sampled).endswith("; tolerance 0.0062; on a sample of 1000 of the split")


def test_the_paper_s_own_error_widens_the_interval_and_not_the_tolerance(runs: Path) -> None:
    half = 1.959964 * sqrt(0.0617 * 0.9383 / 22363)
    assert paper_half(WEAK) == pytest.approx(half, rel=1e-6)
    low, high = gap(Measured(0.0600, 0.0570, 0.0640, "x"), 0.0617, half)
    assert low == pytest.approx(-0.0017 - sqrt(0.003**2 + half**2))
    assert high == pytest.approx(-0.0017 + sqrt(0.004**2 + half**2))
    run = entry(runs, SASREC, value=0.0617, between=(0.0562, 0.0672))
    assert verdict(BARE, [run]).word == "reproduced"
    assert verdict(WEAK, [run]).word == "inconclusive"
    assert (
        "the paper's error on its own questions, 0.0032 at most, is in the second interval" in verdict(WEAK, [run]).why
    )
    few = replace(WEAK, instances=20)
    assert verdict(few, [run]).word == "inconclusive"
    assert verdict(few, [entry(runs, SASREC, value=0.15, between=(0.149, 0.151))]).word == "inconclusive"


def test_an_auc_rests_on_its_rarer_label() -> None:
    auc = number("tallrec", "TALLRec", "AUC", data="Movie", shots=64)
    assert paper_half(auc) == pytest.approx(1.959964 * sqrt(0.6748 * 0.3252 / 472), rel=1e-6)
    assert paper_half(replace(auc, rarer=None)) == 0.0
    assert paper_half(replace(WEAK, value=1.0)) == 0.0


@given(
    st.floats(0.01, 0.99),
    st.floats(0.0, 1.0),
    st.floats(0.0, 0.2),
    st.floats(0.0, 0.2),
    st.floats(0.0, 0.3),
    st.floats(0.0, 0.3),
)
def test_less_certainty_never_makes_a_firmer_word(
    paper: float, ours: float, below: float, above: float, half: float, more: float
) -> None:
    measured = Measured(ours, ours - below, ours + above, "x")
    low, high = gap(measured, paper, half)
    wider_low, wider_high = gap(measured, paper, half + more)
    assert wider_low <= low <= ours - paper <= high <= wider_high
    bare = gap(measured, paper, 0.0)
    assert bare == pytest.approx((ours - below - paper, ours + above - paper), abs=1e-12)


@pytest.mark.slow
def test_equal_models_are_seldom_said_to_differ_and_different_ones_to_be_equal(tmp_path: Path) -> None:
    """Both words are wrong in about 2.5 % of cases at the edge of the tolerance, on either side. Between equal models
    the difference has a deviation of 0.0145, so it lies within 0.04 - 1.96 * 0.0145 in 58 of 100 cases."""
    rng, count, trials, truth = np.random.default_rng(0), 2000, 400, 0.30
    metric, paper = HitRate(10), replace(BARE, instances=2000)

    def share(word: str, apart: float) -> float:
        found = 0
        for _ in range(trials):
            theirs = replace(paper, value=float(rng.binomial(count, truth)) / count)
            hits = (rng.random(count) < truth + apart).astype(float)[:, None]
            made = interval(metric, hits, np.arange(count))
            run = entry(tmp_path, SASREC, value=float(hits.mean()), between=(made.low, made.high))
            found += verdict(theirs, [run], Tolerance(0.0, 0.04, 1.0)).word == word
        return found / trials

    assert share("not reproduced", 0.04) <= 0.05
    assert share("reproduced", 0.0401) <= 0.05
    assert share("not reproduced", 0.0) <= 0.005
    assert share("reproduced", 0.0) == pytest.approx(0.576, abs=0.075)


def test_an_impossible_number_is_no_target(runs: Path) -> None:
    core = number("llm-trsr", "CORE", "Recall@5", data="Amazon")
    run = entry(runs, {**SASREC, "baseline": "CORE"}, task="llm-trsr", metric="Recall@5", value=0.4632)
    assert said(core, run).startswith("not attempted: the number is impossible: below its Recall@3")
    asked = number("instructrec", "GPT-3.5", "HR@5", "Table 7, I1")
    assert said(asked).startswith("not attempted: the number is impossible: no share of 500 questions")
    for one in published():
        if one.impossible:
            assert verdict(one, []).why.startswith("the number is impossible: ")


def test_no_run_of_the_family(runs: Path) -> None:
    assert said(WEAK) == "not attempted: no run of recbole:SASRec"
    others = [entry(runs, {**SASREC, "baseline": "GRU4Rec"}), entry(runs, LLAMA)]
    assert said(WEAK, *others) == "not attempted: no run of recbole:SASRec"
    assert said(number("tallrec", "DROS", "AUC", shots=16), *others) == "not attempted: no run of DROS"
    opened = number("instructrec", "GPT-3.5", "HR@1", "Table 6")
    assert said(opened, *others) == "not attempted: no run of text-davinci-003"
    assert said(number("palr", "PALR_v1", "HR@10"), others[0]) == "not attempted: no run of LLaMA"


def test_runs_without_a_value(runs: Path) -> None:
    run = entry(runs, SASREC)
    assert said(WEAK, replace(run, scores=None)) == "not attempted: the run is not complete (recbole:SASRec)"
    lacking = replace(run, scores={"metrics": {"HR@10": None}, "not_applicable": "it needs users that it has met"})
    assert said(WEAK, lacking) == "not attempted: it needs users that it has met (recbole:SASRec)"
    undefined = entry(runs, SASREC, value=None, between=None)
    assert said(WEAK, undefined) == "not attempted: the run has no value of this metric (recbole:SASRec)"
    unsure = entry(runs, SASREC, between=None)
    assert said(WEAK, unsure) == "inconclusive: there is no interval: too few users or questions (recbole:SASRec)"
    assert said(WEAK, run, replace(run, scores=None)) == (
        "not attempted: 1 of 2 runs: the run is not complete (recbole:SASRec)"
    )


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real runs on TALLRec's movies."""
    folder = tmp_path_factory.mktemp("real")
    for model in ("simple:like-rate", "simple:recency"):
        perform(Job(TALLRec(), Model.parse(model), runs=folder), lambda line: None)
    return folder


@pytest.mark.slow
def test_a_real_standing(real: Path) -> None:
    (standing,) = collect(real)
    numbers = beside(published(), "tallrec", "test", standing.entries[0].manifest["settings"])
    found = verdicts(numbers, standing.entries)
    assert [one for one, _ in found] == numbers
    assert {told.word for _, told in found} == {"not attempted"}
    assert {told.why for one, told in found if one.method == "TALLRec"} == {"no run of LLaMA"}


@pytest.mark.slow
def test_several_runs_are_compared_by_their_mean(real: Path) -> None:
    """As if the two were trainings of SASRec with 64 rows and two seeds."""
    entries: list[Entry] = []
    for one in collect(real)[0].entries:
        model = {**SASREC, "settings": {"budget": "full", "shots": 64}, "name": f"recbole:SASRec ({one.path.name})"}
        entries.append(replace(one, manifest={**read_manifest(one.path), "model": model}))
    values: Sequence[float] = [(read_scores(one.path) or {})["metrics"]["AUC"]["value"] for one in entries]
    found = verdict(number("tallrec", "SASRec", "AUC", data="Movie", shots=64), entries)
    assert found.why.startswith(f"the mean of 2 runs, such as {entries[0].model}: {sum(values) / 2:.4f} [")
    alone = verdict(number("tallrec", "SASRec", "AUC", data="Movie", shots=64), entries[:1])
    assert alone.why.startswith(f"{entries[0].model}: {values[0]:.4f} [")


WORDS: Mapping[str, Verdict] = {
    "yes": Verdict("reproduced", "a"),
    "no": Verdict("not reproduced", "b"),
    "unsure": Verdict("inconclusive", "c"),
    "none": Verdict("not attempted", "d"),
}


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ("yes", "yes", "reproduced"),
        ("yes", "no", "not reproduced"),
        ("yes", "unsure", "inconclusive"),
        ("yes", "none", "inconclusive"),
        ("no", "no", "not reproduced"),
        ("no", "unsure", "not reproduced"),
        ("no", "none", "not reproduced"),
        ("unsure", "unsure", "inconclusive"),
        ("unsure", "none", "inconclusive"),
        ("none", "none", "not attempted"),
    ],
)
def test_a_row_of_several_metrics_has_one_word_for_all(first: str, second: str, word: str) -> None:
    numbers = [WEAK, number("palr", "SASRec", "NDCG@10", data="Beauty")]
    for one, other in ((first, second), (second, first)):
        assert overall(list(zip(numbers, (WORDS[one], WORDS[other]), strict=True))).word == word
        different = replace(WORDS[other], why="e")
        assert overall(list(zip(numbers, (WORDS[one], different), strict=True))).word == word


def test_a_row_says_the_word_and_the_reason_of_each_metric() -> None:
    hits, gain = WEAK, number("palr", "SASRec", "NDCG@10", data="Beauty")
    yes, no, none = WORDS["yes"], WORDS["no"], WORDS["none"]
    assert overall([(hits, none), (gain, none)]) == none
    assert overall([(hits, yes), (gain, no)]).why == "HR@10: reproduced, a; NDCG@10: not reproduced, b"
    assert overall([(hits, none), (gain, yes)]).why == "HR@10: not attempted, d; NDCG@10: reproduced, a"
    assert (
        overall([(hits, no), (gain, yes), (hits, no)]).why == "HR@10, HR@10: not reproduced, b; NDCG@10: reproduced, a"
    )
    with pytest.raises(ValueError, match="without a number"):
        overall([])


@given(st.lists(st.sampled_from(sorted(WORDS)), min_size=1))
def test_only_a_row_that_is_reproduced_as_a_whole_is_said_to_be(names: list[str]) -> None:
    word = overall([(WEAK, WORDS[name]) for name in names]).word
    assert (word == "reproduced") == ({*names} == {"yes"})
    assert (word == "not attempted") == ({*names} == {"none"})
    assert (word == "not reproduced") == ("no" in names)


def test_a_row_with_an_impossible_number_is_not_reproduced_as_a_whole(runs: Path) -> None:
    core = [one for one in published() if one.method == "CORE" and one.data == "Amazon-M2"]
    found = [(one, verdict(one, []) if one.impossible else WORDS["yes"]) for one in core]
    whole = overall(found)
    assert whole.word == "inconclusive"
    assert whole.why.startswith("Recall@3, Recall@10, MRR@3, MRR@5, MRR@10: reproduced, a; Recall@5: not attempted, ")
