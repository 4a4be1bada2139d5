"""The gate on runs whose rows are known: what pairs, what is decided at the edges, what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, log, nan, sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm, t
from sklearn.metrics import roc_auc_score

from harness.errors import BadSetting
from harness.exposure import Coverage
from harness.hits import score_interval
from harness.metrics import MeanOf, Metric
from harness.points import AUC, LogLoss
from leaderboard.gate.decision import Finding, Gain, Verdict, decide, overall
from leaderboard.gate.evidence import gather
from leaderboard.gate.judge import judge
from leaderboard.gate.policy import Check, Policy, Tier
from tests.gate_runs import LISTS, SESSION, make_points, make_run

CONFIDENCE = 0.95
OLD = [0.1 + 0.8 * int(hit) for hit in "11011101110110111101"]
NEW = [0.1 + 0.8 * int(hit) for hit in "11010111100110110101"]


def one(new: Sequence[Path], old: Sequence[Path], check: Check, metrics: Sequence[Metric] = LISTS) -> Finding:
    (finding,) = judge(Policy((check,), "p", CONFIDENCE), gather(new, old), metrics, show=5, draws=2000)
    return finding


def pair(tmp_path: Path, new: Sequence[float], old: Sequence[float], check: Check) -> Finding:
    return one([make_run(tmp_path / "new", new)], [make_run(tmp_path / "old", old)], check)


@pytest.mark.parametrize(
    ("low", "high", "allowed", "verdict"),
    [
        (-0.01, 0.5, 0.01, "go"),
        (0.59 - 0.60, 0.5, 0.01, "go"),
        (-0.0101, 0.5, 0.01, "cannot tell"),
        (-0.5, -0.01, 0.01, "cannot tell"),
        (-0.5, -0.0101, 0.01, "no-go"),
        (0.0, 0.0, 0.0, "go"),
        (-1e-6, -1e-7, 0.0, "no-go"),
        (nan, nan, 1.0, "cannot tell"),
        (-inf, 0.5, 1.0, "cannot tell"),
    ],
)
def test_where_the_interval_lies_decides(low: float, high: float, allowed: float, verdict: Verdict) -> None:
    assert decide(Gain(0.0, low, high), allowed) == verdict


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([("must", "go")], "go"),
        ([("must", "no-go")], "no-go"),
        ([("must", "cannot tell")], "cannot tell"),
        ([("should", "no-go")], "no-go"),
        ([("should", "cannot tell")], "go"),
        ([("watch", "no-go"), ("watch", "cannot tell")], "go"),
        ([("must", "cannot tell"), ("should", "no-go")], "no-go"),
        ([("must", "go"), ("should", "cannot tell"), ("must", "cannot tell")], "cannot tell"),
        ([], "go"),
    ],
)
def test_what_the_checks_amount_to(found: Sequence[tuple[Tier, Verdict]], verdict: Verdict) -> None:
    made = [
        Finding(Check("m", 0.0, tier=tier), "m", said, "", 0.0, 0.0, 0.0, Gain(0.0, 0.0, 0.0), CONFIDENCE, 1)
        for tier, said in found
    ]
    assert overall(made) == verdict


def test_a_mean_over_few_instances_is_the_paired_t_test(tmp_path: Path) -> None:
    gaps = np.subtract(NEW, OLD).astype(float)
    half = float(t.ppf(CONFIDENCE, 19) * gaps.std(ddof=1) / sqrt(20))
    check = Check("headline", max_drop=half - gaps.mean())
    found = pair(tmp_path, NEW, OLD, check)
    assert (found.gain.low, found.gain.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half))
    assert (found.old, found.new, found.gain.value) == pytest.approx((0.7, 0.62, -0.08))
    assert (found.metric, found.verdict, found.gain.units, found.gain.few) == ("HR@10", "go", 20, True)
    error = gaps.std(ddof=1) / sqrt(20)
    assert found.gain.detectable == pytest.approx((t.ppf(0.95, 19) + t.ppf(0.8, 19)) * error)
    new, old = [tmp_path / "new"], [tmp_path / "old"]
    assert one(new, old, Check("HR@10", max_drop=half - gaps.mean() - 1e-6)).verdict == "cannot tell"
    assert one(new, old, Check("HR@10", max_drop=0.0)).verdict == "cannot tell"


def test_the_other_edge(tmp_path: Path) -> None:
    new, old = [0.1] * 18 + [0.9, 0.9], [0.9] * 20
    gaps = np.subtract(new, old)
    high = gaps.mean() + float(t.ppf(CONFIDENCE, 19) * gaps.std(ddof=1) / sqrt(20))
    assert pair(tmp_path, new, old, Check("HR@10", max_drop=-high - 1e-6)).verdict == "no-go"
    runs = [tmp_path / "new"], [tmp_path / "old"]
    assert one(*runs, Check("HR@10", max_drop=-high + 1e-6)).verdict == "cannot tell"
    assert one(*runs, Check("HR@10", max_drop=0.0, confidence=0.9999)).verdict == "no-go"


@pytest.mark.parametrize(
    ("won", "lost", "count"), [(12, 2, 50), (1, 0, 100), (3, 4, 400), (0, 20, 20), (300, 250, 1000)]
)
def test_hits_get_the_score_interval(tmp_path: Path, won: int, lost: int, count: int) -> None:
    """At either end the changes are as surprising as the level says, under the likeliest share that loses there."""
    low, high = score_interval(won, lost, count, 0.9)
    rest = count - won - lost

    def unlikely(share: float, gap: float) -> float:
        chances = (share + gap, share, 1 - 2 * share - gap)
        return -sum(n * log(p) for n, p in zip((won, lost, rest), chances, strict=True) if n)

    for end, side in ((low, 1), (high, -1)):
        if abs(end) == 1:
            assert abs(won - lost) == count
            continue
        bounds = max(0.0, -end) + 1e-12, (1 - end) / 2 - 1e-12
        share = minimize_scalar(unlikely, bounds=bounds, args=(end,), method="bounded", options={"xatol": 1e-12}).x
        error = sqrt(count * (2 * share + end - end**2))
        assert (won - lost - count * end) / error == pytest.approx(side * norm.ppf(0.95), rel=1e-4)
    old = [0.0] * won + [1.0] * (count - won)
    new = [1.0] * won + [0.0] * lost + [1.0] * rest
    found = pair(tmp_path, new, old, Check("HR@10", 0.01))
    assert (found.gain.low, found.gain.high) == pytest.approx((low, high))
    assert found.gain.method == "score"
    assert score_interval(lost, won, count, 0.9) == pytest.approx((-high, -low))


def test_hits_of_users_that_have_several_are_no_single_ones(tmp_path: Path) -> None:
    new, old = (make_run(tmp_path / str(n), [1, 0, n, 1] * 15, users=15) for n in (0, 1))
    assert one([new], [old], Check("HR@10", 0.01)).gain.method == "jackknife-t"


def test_a_relative_drop_counts_that_the_old_score_is_uncertain(tmp_path: Path) -> None:
    gaps = np.array(NEW) - 0.8 * np.array(OLD)
    half = float(t.ppf(CONFIDENCE, 19) * gaps.std(ddof=1) / sqrt(20))
    found = pair(tmp_path, NEW, OLD, Check("HR@10", max_relative_drop=0.2))
    assert found.allowed == pytest.approx(0.14)
    assert (found.gain.low + found.allowed, found.gain.high + found.allowed) == pytest.approx(
        (gaps.mean() - half, gaps.mean() + half)
    )
    assert found.gain.value == pytest.approx(-0.08)
    assert found.verdict == "cannot tell"


def test_a_relative_drop_of_a_rank_statistic(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    users = np.repeat(np.arange(12), 20)
    labels = rng.integers(2, size=240)
    old, new = labels + rng.normal(size=240), 0.8 * labels + rng.normal(size=240)
    runs = [
        make_points(tmp_path / name, labels.tolist(), scores.tolist(), users.tolist())
        for name, scores in (("new", new), ("old", old))
    ]
    found = one([runs[0]], [runs[1]], Check("AUC", max_relative_drop=0.1), [AUC()])

    def gap(keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
        both = (float(roc_auc_score(labels[keep], scores[keep])) for scores in (new, old))
        return next(both) - 0.9 * next(both)

    without = np.array([gap(users != user) for user in range(12)])
    error = sqrt(11 / 12 * float(np.sum((without - without.mean()) ** 2)))
    middle = gap(np.ones(240, dtype=bool))
    half = float(t.ppf(CONFIDENCE, 11)) * error
    assert (found.gain.low + found.allowed, found.gain.high + found.allowed) == pytest.approx(
        (middle - half, middle + half)
    )
    assert (found.gain.unit, found.gain.units) == ("user", 12)


def test_less_is_better_for_failures(tmp_path: Path) -> None:
    ones = [1.0] * 100
    old = make_run(tmp_path / "old", ones, failed=range(2))
    worse = make_run(tmp_path / "worse", ones, failed=range(30))
    found = one([worse], [old], Check("failure_rate", max_drop=0.01))
    assert (found.old, found.new, found.verdict) == (0.02, 0.3, "no-go")
    assert found.gain.value == pytest.approx(-0.28)
    assert [flip.id for flip in found.flips] == ["i10", "i11", "i12", "i13", "i14"]
    assert {(flip.old, flip.new, flip.gain) for flip in found.flips} == {(0.0, 1.0, -1.0)}
    better = one([old], [worse], Check("failure_rate", max_relative_drop=0.5))
    assert (better.verdict, better.allowed) == ("go", 0.15)
    relative = one([worse], [old], Check("failure_rate", max_relative_drop=0.5))
    assert (relative.verdict, relative.allowed) == ("no-go", 0.01)


def test_an_answer_that_is_lost_is_not_one_that_cannot_be_read(tmp_path: Path) -> None:
    ones = [1.0] * 100
    old = make_run(tmp_path / "old", ones)
    new = make_run(tmp_path / "new", ones, failed=range(20), unreadable=range(20, 60))
    found = one([new], [old], Check("parse_rate", max_drop=0.01))
    assert (found.old, found.new, found.instances, found.verdict) == (1.0, 0.5, 80, "no-go")
    assert one([new], [old], Check("failure_rate", max_drop=0.01)).new == 0.6
    silent = make_run(tmp_path / "silent", ones, empty=range(60))
    assert one([silent], [old], Check("parse_rate", max_drop=0.01)).new == 0.4
    neither = [make_run(tmp_path / name, ones, empty=range(100)) for name in ("a", "b")]
    assert one(neither[:1], neither[1:], Check("parse_rate", max_drop=0.01)).new == 1.0


def test_equal_answers_are_a_go_however_few(tmp_path: Path) -> None:
    found = pair(tmp_path, [1, 0, 1], [1, 0, 1], Check("HR@10", max_drop=0.0))
    assert (found.verdict, found.reason, found.gain.low) == ("go", "no drop; every answer is the same", 0.0)


def test_no_difference_among_few_does_not_rule_one_out(tmp_path: Path) -> None:
    """299 instances without a difference are the fewest that rule out one in a hundred, at 95 %."""
    for count, verdict in ((298, "cannot tell"), (299, "go")):
        values = [1.0] * count
        old = make_run(tmp_path / f"old {count}", values, failed=[0])
        new = make_run(tmp_path / f"new {count}", values, unreadable=[0])
        found = one([new], [old], Check("HR@10", max_drop=0.01))
        assert (found.verdict, found.gain.method) == (verdict, "rule of three")
        assert found.gain.low == pytest.approx(0.05 ** (1 / count) - 1)


def test_a_tiny_sample_cannot_tell(tmp_path: Path) -> None:
    found = pair(tmp_path, [0] * 6, [1] * 6, Check("HR@10", max_drop=0.01))
    assert (found.verdict, found.reason) == ("cannot tell", "6 instances are too few for an interval")
    assert (found.old, found.new, found.gain.value, found.needed) == (1.0, 0.0, -1.0, None)


def test_how_many_would_do(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    old = (rng.random(500) < 0.5).astype(float)
    new = np.where(rng.random(500) < 0.2, 1 - old, old)
    found = pair(tmp_path, list(new), list(old), Check("HR@10", max_drop=0.01))
    error = np.subtract(new, old).std() / sqrt(500)
    assert found.gain.error == pytest.approx(error, rel=0.05)
    assert found.needed == pytest.approx(500 * ((1.645 + 0.842) * error / 0.01) ** 2, rel=0.1)
    assert replace(found, allowed=1.0).needed is None


def test_seeds_of_both_sides_count_with_their_spread(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    base = rng.random(300)
    sides = [
        [make_run(tmp_path / f"{name}{n}", list(base + shift + 0.01 * n)) for n in range(3)]
        for name, shift in (("new", 0.0), ("old", 0.005))
    ]
    found = one(sides[0], sides[1], Check("HR@10", max_drop=0.05))
    assert (found.gain.method, found.verdict) == ("cochran-cox-t", "go")
    assert found.gain.value == pytest.approx(-0.005)
    # Only the seeds vary: each side's standard error is 0.01 / sqrt(3), with two degrees of freedom.
    half = float(t.ppf(CONFIDENCE, 2)) * 0.01 * sqrt(2 / 3)
    assert found.gain.high - found.gain.value == pytest.approx(half)
    assert one(sides[0], sides[1], Check("HR@10", max_drop=0.005)).verdict == "cannot tell"


def test_what_moved_most(tmp_path: Path) -> None:
    old = make_run(tmp_path / "old", [1, 1, 0, 0.5, 1, *[1] * 20])
    new = make_run(tmp_path / "new", [1, 0.7, 1, 0.4, 0, *[1] * 20])
    found = one([new], [old], Check("HR@10", max_drop=0.5)).flips
    assert [(flip.id, flip.user, flip.gain) for flip in found] == [
        ("i4", "u4", -1.0),
        ("i2", "u2", 1.0),
        ("i1", "u1", pytest.approx(-0.3)),
        ("i3", "u3", pytest.approx(-0.1)),
    ]
    assert [(flip.old_place, flip.new_place) for flip in found[:2]] == [(1.0, None), (None, 1.0)]


def test_a_labelled_candidate_is_ordered_against_the_others(tmp_path: Path) -> None:
    """Each is right with half of the other label before. One falls below all of them, one above all, one fails."""
    labels, users = [1, 0, 1, 0, 1, 0] * 4, list(range(24))
    before: list[float | None] = [0.5] * 24
    after = [*before]
    after[0], after[1], after[2] = 0.1, 0.9, None
    new, old = make_points(tmp_path / "new", labels, after, users), make_points(tmp_path / "old", labels, before, users)
    found = one([new], [old], Check("AUC", max_drop=0.5), [AUC()]).flips
    assert [(flip.id, flip.old, flip.new) for flip in found[:3]] == [
        ("i0", 0.5, 0.0),
        ("i1", 0.5, pytest.approx(0.0)),
        ("i2", 0.5, 0.0),
    ]
    assert {flip.gain for flip in found[:3]} == {-0.5}


def test_checks_that_the_runs_cannot_answer(tmp_path: Path) -> None:
    new, old = [make_run(tmp_path / "new", NEW)], [make_run(tmp_path / "old", OLD)]
    with pytest.raises(BadSetting) as error:
        one(new, old, Check("NDCG@1O", 0.0))
    assert str(error.value) == (
        "policy p, check 'NDCG@1O': task 'retrieval' has no metric 'NDCG@1O'; did you mean 'NDCG@10'? "
        "There is headline, HR@10, HR@20, HR@50, NDCG@10, failure_rate, parse_rate, latency."
    )
    with pytest.raises(BadSetting, match=r'direction = "lower" contradicts HR@10, where higher is better'):
        one(new, old, Check("headline", 0.0, direction="lower"))
    with pytest.raises(BadSetting, match=r'direction = "higher" contradicts it; less time is better'):
        one(new, old, Check("latency", 0.0, direction="higher"))
    with pytest.raises(BadSetting, match="lines describes answers and does not say which way is better"):
        one(new, old, Check("lines", 0.0), [*LISTS, MeanOf("lines")])
    with pytest.raises(BadSetting, match="LogLoss does not apply to these runs"):
        one(new, old, Check("LogLoss", 0.0), [*LISTS, LogLoss()])
    with pytest.raises(BadSetting, match="policy p has no check for task 'retrieval'"):
        one(new, old, Check("HR@10", 0.0, task="palr"))
    assert one(new, old, Check("failure_rate", 0.0, direction="lower")).verdict == "cannot tell"


def test_a_direction_turns_what_has_none(tmp_path: Path) -> None:
    metrics = [MeanOf("HR@10"), *LISTS[1:]]
    new, old = [make_run(tmp_path / "new", [0.0] * 50)], [make_run(tmp_path / "old", [1.0] * 49 + [0.0])]
    assert one(new, old, Check("HR@10", 0.1, direction="higher"), metrics).verdict == "no-go"
    assert one(new, old, Check("HR@10", 0.1, direction="lower"), metrics).verdict == "go"


def test_what_has_no_interval_cannot_tell(tmp_path: Path) -> None:
    class Shown(Coverage):
        label = "HR"

        def aggregate(self, rows: object, users: object) -> float:
            return 0.5

    metrics = [Shown(10), *LISTS[1:]]
    check = Check("HR@10", 1.0, direction="higher")
    found = one([make_run(tmp_path / "new", NEW)], [make_run(tmp_path / "old", OLD)], check, metrics)
    assert (found.verdict, found.gain.value) == ("cannot tell", 0.0)
    assert found.reason.startswith("HR@10 has no interval")


def timed(path: Path, seconds: float, answered: int = 100, **changes: object) -> Path:
    return make_run(path, OLD, sessions=[{**SESSION, "seconds": seconds, "answered": answered, **changes}])


LATENCY = Check("latency", max_relative_drop=0.25, tier="watch")


def test_the_time_of_single_runs_is_within_or_nobody_can_tell(tmp_path: Path) -> None:
    old = timed(tmp_path / "old", 10)
    within, beyond = (one([timed(tmp_path / str(s), s)], [old], LATENCY) for s in (12.5, 12.6))
    assert (within.verdict, within.reason) == ("go", "1.25 times the old time, of single runs without interval")
    assert (within.old, within.new, within.allowed) == pytest.approx((0.1, 0.125, 0.025))
    assert (beyond.verdict, beyond.gain.method) == ("cannot tell", "undefined")
    with pytest.raises(BadSetting, match="as a must it needs two runs or more on each side"):
        one([tmp_path / "12.5"], [old], replace(LATENCY, tier="must"))


def test_the_time_of_several_runs_is_a_test(tmp_path: Path) -> None:
    old = [timed(tmp_path / f"old {s}", s) for s in (9, 10, 11)]
    new = [timed(tmp_path / f"new {s}", s) for s in (19, 20, 21)]
    must = replace(LATENCY, tier="must")
    found = one(new, old, must)
    half = float(t.ppf(CONFIDENCE, 2)) * 0.01 * sqrt((1 + 1.25**2) / 3)
    assert (found.gain.low, found.gain.high) == pytest.approx((-0.1 - half, -0.1 + half))
    assert (found.verdict, found.gain.unit, found.gain.units) == ("no-go", "run", 6)
    assert one(old, new, must).verdict == "go"
    assert one(new, old, Check("latency", max_drop=0.1)).verdict == "cannot tell"


def test_times_that_mean_nothing(tmp_path: Path) -> None:
    old = timed(tmp_path / "old", 10)
    said = {
        "cached": one([timed(tmp_path / "cached", 1, cached=3)], [old], LATENCY),
        "killed": one([make_run(tmp_path / "killed", OLD, sessions=[])], [old], LATENCY),
        "other": one([timed(tmp_path / "other", 10, machine={"processor": "q"})], [old], LATENCY),
    }
    assert {name: found.verdict for name, found in said.items()} == dict.fromkeys(said, "cannot tell")
    assert said["cached"].reason == f"answers of {tmp_path / 'cached'} came from the cache"
    assert said["killed"].reason == f"no process that ended by itself left its time in {tmp_path / 'killed'}"
    assert said["other"].reason == "timed on different machines: p and q"
    mixed = make_run(tmp_path / "mixed", OLD, sessions=[{**SESSION, "cached": 5}, {**SESSION, "seconds": 11.0}])
    assert one([mixed], [old], LATENCY).new == pytest.approx(0.11)
