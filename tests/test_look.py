"""Runs as people look at them: one in detail, its card, a folder of them, and two or more side by side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, t

from harness.card import card
from harness.cli import main
from harness.comparison import differences, parts_of
from harness.errors import RequestFailed, TooLong
from harness.metrics import HitRate
from harness.points import AUC, Accuracy, UserAUC
from harness.report import run_table
from harness.runner import evaluate
from harness.scoring import score
from harness.store import Run, read_manifest, records
from harness.types import Key, Reply, Request
from tests.choices import Harness
from tests.edits import unsealed
from tests.fakes import Coins, noisy, text_engine


def run_of(harness: Harness, *words: str) -> str:
    """The directory of a run with the fake model, under a name of its own."""
    return harness(*words).splitlines()[-1].strip()


@pytest.fixture
def two(harness: Harness) -> tuple[str, str]:
    """Wordings A and B: of twenty instances 6 and 10 have the right item first, 20 and 10 first or second."""
    first, second = (run_of(harness, "--set", f"wording={name}", "--run-dir", f"runs/{name}") for name in "AB")
    return first, second


def test_a_folder_of_runs_is_listed_one_line_each(harness: Harness, two: tuple[str, str]) -> None:
    assert run_of(harness, "--set", "wording=off", "--run-dir", "runs/deeper/off") == "runs/deeper/off"
    (Path("runs") / "B" / "scores.json").unlink()
    assert harness("runs", command="show").splitlines() == [
        "runs/A           wording(wording=A), test    m (fake, float32)  HR@1 0.3000  [0.1455, 0.5190]",
        "runs/B           wording(wording=B), test    m (fake, float32)  not complete: 20 instances on record",
        "runs/deeper/off  wording(wording=off), test  m (fake, float32)  n/a: no such wording for this model",
    ]
    found = json.loads(harness("runs", "--json", command="show"))
    assert [one["run"] for one in found] == ["runs/A", "runs/B", "runs/deeper/off"]
    assert found[1]["scores"] is None
    assert found[0]["card"]["state"] == "complete"


def test_what_is_no_run_is_said_in_one_line(harness: Harness) -> None:
    Path("empty").mkdir()
    said = harness("empty", command="show", code=2)
    assert said == "harness: empty is not a run directory: it has no run.json, and no run lies below it\n"
    assert harness("none", command="show", code=2) == "harness: none is not a run directory: it is no folder\n"
    assert "give one of them" in harness("x", "--card", "--texts", command="show", code=2)
    assert "--records prints for reading" in harness("x", "--records", "2", "--json", command="show", code=2)


def test_the_card_says_what_stands_behind_the_scores(harness: Harness, two: tuple[str, str]) -> None:
    manifest = read_manifest(Path(two[0]))
    facts = card(Path(two[0]))
    assert list(facts)[:4] == ["run", "state", "model", "task"]
    assert facts["task"] == "wording(wording=A), version 1"
    assert facts["settings"] == "wording=A, polite=False, count=20, file="
    assert facts["data"] == "numbers 1"
    assert facts["identity"].endswith(f"run {manifest['identity']['run']}")
    assert facts["answers decided by"].startswith("engine=fake, weights=")
    assert facts["questions"] == "20 asked, 0 answered from the cache"
    assert facts["options"] == "as they come"
    assert {"hardware", "versions", "command", "dates", "time"} <= set(facts)
    assert "sample" not in facts
    shown = harness(two[0], "--card", command="show").splitlines()
    assert [line.split()[0] for line in shown] == [name.split()[0] for name in facts]


def test_a_card_tells_of_each_process_once(harness: Harness, two: tuple[str, str]) -> None:
    sessions = Path(two[0]) / "sessions.jsonl"
    first = unsealed(sessions)
    more = {**first, "started": "2099-01-01T00:00:00+00:00", "options": {**first["options"], "threads": 3}}
    more |= {"command": ["/opt/x/bin/harness", "run", "--task", "a b"], "asked": 5}
    sessions.write_text(json.dumps(first) + "\n" + json.dumps(more) + "\n")
    facts = card(Path(two[0]))
    assert facts["processes"] == "2"
    assert facts["options"] == "as they come; then threads=3"
    assert facts["command"].endswith("; then harness run --task 'a b'")
    assert facts["questions"].startswith("25 asked")
    assert facts["dates"].endswith("to 2099-01-01T00:00:00+00:00")
    assert facts["versions"].count("harness ") == 1


def test_the_first_records_in_a_line_each(harness: Harness, two: tuple[str, str]) -> None:
    lines = harness(two[0], "--records", "2", command="show").splitlines()
    assert lines == [
        "  test-0  user user 0  HR@1 1  HR@2 1  right at 1",
        "  test-1  user user 1  HR@1 1  HR@2 1  right at 1",
    ]


def coins(folder: Path) -> Path:
    """A run of an unregistered task in which some instances fail."""

    def some_fail(key: Key, request: Request) -> Reply | RequestFailed:
        number = int(key.instance.split("-")[1])
        if number % 10 == 3:
            return TooLong(f"prompt of {number} tokens is too long")
        return RequestFailed("filtered") if number == 5 else noisy(key, request)

    task = Coins()
    manifest = {
        "schema": 1,
        "task": "coins",
        "version": 1,
        "described": "coins",
        "settings": {},
        "split": "test",
        "sample": None,
        "model": {"name": "noisy"},
        "metrics": ["AUC"],
        "identity": {"instances": "i", "protocol": "p", "run": "r"},
    }
    with Run.open(folder, manifest) as run:
        evaluate(task, text_engine(some_fail), run)
        run.finish(score(folder, task.metrics, {}))
    return folder


def test_failures_come_with_an_example_of_each_kind(tmp_path: Path) -> None:
    shown = run_table(coins(tmp_path / "coins")).splitlines()
    place = shown.index("  200 instances, failures: 1 RequestFailed, 20 TooLong, ties: 0.0%")
    assert shown[place + 1 :] == [
        "  RequestFailed, for example test-5: filtered",
        "  TooLong, for example test-13: prompt of 13 tokens is too long",
        f"  {tmp_path / 'coins'}",
    ]


def test_of_written_texts_it_is_said_how_many_name_an_item(harness: Harness, two: tuple[str, str]) -> None:
    scores = unsealed(Path(two[0]) / "scores.json")
    assert scores["parse_rate"] is None, "the fake model counts no tokens"
    (Path(two[0]) / "scores.json").write_text(json.dumps({**scores, "parse_rate": 16 / 19}))
    assert "  parsed: 84.2% of the texts name an item" in run_table(Path(two[0])).splitlines()
    assert "parsed" not in run_table(Path(two[1]))


def test_hits_of_two_runs_are_compared_as_mcnemars_test_does(harness: Harness, two: tuple[str, str]) -> None:
    rows = [{record.id: record.rows for record in records(Path(path))} for path in two]
    found = json.loads(harness(*two, "--json", command="compare"))
    assert found["instances"] == 20
    p = {}
    for name, value in (("HR@1", -0.2), ("HR@2", 0.5)):
        gaps = [(rows[0][key][name] or ())[0] - (rows[1][key][name] or ())[0] for key in rows[0]]
        p[name] = chi2.sf(sum(gaps) ** 2 / sum(map(abs, gaps)), 1)
        one = found["differences"][name]
        assert (one["value"], one["p"]) == pytest.approx((value, p[name]))
        assert (one["method"], one["unit"], one["units"], one["few"]) == ("score", "instance", 20, True)
    assert found["differences"]["HR@2"]["adjusted"] == pytest.approx(2 * p["HR@2"])
    assert found["differences"]["HR@1"]["adjusted"] == pytest.approx(p["HR@1"])


def test_a_comparison_in_words(harness: Harness, two: tuple[str, str]) -> None:
    assert harness(*two, "--flips", "2", command="compare").splitlines() == [
        "ours    m (fake, float32) on wording(wording=A) (runs/A)",
        "theirs  m (fake, float32) on wording(wording=B) (runs/B)",
        "        ours    theirs  difference  95 % interval       p       Holm    detectable  paired",
        "  HR@1  0.3000  0.5000  -0.2000     [-0.4160, -0.0066]  0.0455  0.0455  0.2711      "
        "score over 20 instances: few, so wide",
        "  HR@2  1.0000  0.5000  +0.5000     [+0.2583, +0.7007]  0.0016  0.0031  0.3388      "
        "score over 20 instances: few, so wide",
        "  20 instances",
        "  changed: test-6  user user 6  0.0000 - 1.0000 = -1.0000",
        "  changed: test-7  user user 7  0.0000 - 1.0000 = -1.0000",
        "  p: two-sided, of no difference. Holm: corrected for 2 comparisons.",
        "  detectable: the smallest true difference that would be found with 80 % power.",
    ]


def test_the_first_run_with_each_other_one(harness: Harness, two: tuple[str, str]) -> None:
    third = run_of(harness, "--set", "wording=D", "--run-dir", "runs/D")
    found = json.loads(harness(*two, third, "--json", command="compare"))
    assert [one["theirs"] for one in found] == [["runs/B"], ["runs/D"]]
    p = [one["differences"][name]["p"] for one in found for name in ("HR@1", "HR@2")]
    adjusted = [one["differences"][name]["adjusted"] for one in found for name in ("HR@1", "HR@2")]
    assert min(adjusted) == pytest.approx(4 * min(p))
    assert "Holm: corrected for 4 comparisons." in harness(*two, third, command="compare")


def test_several_runs_a_side(harness: Harness, two: tuple[str, str]) -> None:
    """A side's score is the mean of its runs, and their spread counts."""
    third = run_of(harness, "--set", "wording=D", "--run-dir", "runs/D")
    found = json.loads(harness(two[0], third, "--against", two[1], "--flips", "99", "--json", command="compare"))
    one = found["differences"]["HR@1"]
    assert (one["ours"], one["theirs"]) == (pytest.approx((0.3 + 0.15) / 2), 0.5)
    assert (one["method"], found["gaps"]) == ("cochran-cox-t", {})
    assert {flip["instance"]: flip["ours"] - flip["theirs"] for flip in found["flips"]} == {
        **{f"test-{n}": -0.5 for n in (3, 4, 5)},
        **{f"test-{n}": -1.0 for n in (6, 7, 8, 9)},
    }
    assert "nothing to be compared with" in harness(two[0], command="compare", code=2)
    assert "runs/A is named twice on one side" in harness(two[0], *two, "--against", third, command="compare", code=2)
    same = json.loads(harness(two[0], two[0], "--json", command="compare"))
    assert {(one["value"], one["p"]) for one in same["differences"].values()} == {(0.0, 1.0)}


def test_what_does_not_pair_is_refused_with_the_reason(harness: Harness, two: tuple[str, str]) -> None:
    def refused(*words: str, task: str = "wording") -> str:
        other = harness(*words, task=task).splitlines()[-1].strip()
        said = harness(two[0], other, command="compare", code=2)
        assert said.count("\n") == 1
        return said.split(" do not pair, since they differ in ")[1].rstrip()

    assert refused("--split", "valid") == "split: test and valid"
    assert refused("--set", "count=30") == "count: 20 and 30"
    assert refused("--sample", "12", "--sample-seed", "3") == "sample: all and 12 of seed 3"
    assert refused(task="summed") == "task: wording and summed"
    (Path(two[1]) / "scores.json").unlink()
    assert harness(*two, command="compare", code=2) == (
        "harness: runs/B is not complete; run its command again first\n"
    )


def test_differences_name_both_values() -> None:
    base = {
        "task": "none of ours",
        "version": 1,
        "settings": {"k": 5, "x": "y"},
        "data": {"films": "abc", "old": "1"},
        "split": "test",
        "sample": {"size": 10, "seed": 0},
        "identity": {"instances": "one"},
    }
    other = {
        **base,
        "version": 2,
        "settings": {"k": 6, "x": "y"},
        "data": {"films": "abd", "new": "2"},
        "sample": None,
        "identity": {"instances": "two"},
    }
    assert differences(base, other) == [
        "version: 1 and 2",
        "k: 5 and 6",
        "data films: abc and abd",
        "data old: 1 and none",
        "sample: 10 of seed 0 and all",
        "data new: none and 2",
    ]
    assert differences(base, {**other, "identity": base["identity"]}) == []
    assert differences(base, {**base, "identity": {"instances": "two"}}) == ["what their questions were made from"]


labelled = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 4).map(float)), min_size=2, max_size=30)


@given(labelled, st.integers(1, 4))
def test_the_parts_of_an_auc_add_up_to_it(pairs: list[tuple[float, float]], people: int) -> None:
    rows = np.array([(label, score, 1.0) for label, score in pairs])
    users = np.arange(len(rows)) % people
    liked = rows[:, 0] > 0
    parts = parts_of(AUC(), rows, users)
    if liked.any() and not liked.all():
        assert parts[liked].mean() == pytest.approx(AUC().aggregate(rows, users))
        assert parts[~liked].mean() == pytest.approx(AUC().aggregate(rows, users))
    else:
        assert np.isnan(parts).all()
    own = parts_of(UserAUC(), rows, users)
    means = [own[(users == user) & liked] for user in range(people)]
    known = [part.mean() for part in means if len(part) and not np.isnan(part).any()]
    assert known == [] or np.mean(known) == pytest.approx(UserAUC().aggregate(rows, users))


def test_the_parts_of_other_metrics() -> None:
    users = np.arange(3)
    assert parts_of(HitRate(1), np.array([[1.0], [0.0], [1.0]]), users).tolist() == [1, 0, 1]
    assert parts_of(Accuracy(), np.array([[1, 2, 1], [0, 2, 1], [1, 0, 0.0]]), users).tolist() == [1, 0, 0]
    unanswered = np.array([[1.0, 0, 0], [0, -5, 1], [1, 7, 1]])
    assert parts_of(AUC(), unanswered, users).tolist() == [0, 0.5, 1]


@pytest.mark.slow
def test_the_conventional_baselines_as_a_user_compares_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("like-rate", "constant"):
        assert main(["run", "--task", "tallrec", "--model", f"simple:{name}", "--run-dir", f"runs/{name}"]) == 0
    capsys.readouterr()
    assert main(["compare", "runs/like-rate", "runs/constant", "--flips", "1"]) == 0
    out = capsys.readouterr().out
    assert "  AUC      0.7260  0.5000  +0.2260     [+0.1229, +0.3291]" in out
    assert "jackknife-t over 16 users: few, so wide" in out
    (row,) = (line for line in out.splitlines() if line.startswith("  AUC "))
    half = (0.3291 - 0.1229) / 2
    assert float(row.split()[8]) == pytest.approx(half * (1 + t.ppf(0.8, 15) / t.ppf(0.975, 15)), abs=2e-4)
