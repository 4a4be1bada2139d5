"""An option chosen on validation: which value wins, what is asked for it, what is said of it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import choice, registry
from harness.choice import Alternative, Choice, selected
from harness.cli import main
from harness.engines import FunctionEngine
from harness.errors import StaleRun
from harness.report import run_table
from harness.signature import Sample
from harness.store import read_manifest, read_scores
from harness.types import Generate
from leaderboard.build import sheet
from leaderboard.collect import collect
from leaderboard.tables import frame, markdown
from tests.choices import COUNT, FIRST, SECOND, Harness, Summed, Wording, answer, chosen_of, lines, runs


def test_the_best_value_on_validation_is_run_on_the_asked_split(harness: Harness, model: Path) -> None:
    """B and C tie, and B is named first. One load, one run a value, and one more."""
    out = harness("--choose", "wording")
    line = "  wording=B, chosen of 3 by HR@1 on 20 valid instances: 0.250 to 0.450\n"
    assert out.startswith("wording(wording=B)  test  m (fake, float32)\n" + line)
    assert "HR@1  0.5000" in out
    found = runs()
    assert set(found) == {("A", "valid"), ("B", "valid"), ("C", "valid"), ("B", "test")}
    assert lines(model / "loads") == 1
    path, made = chosen_of(out)
    assert path == found["B", "test"]
    scores = {"A": 0.25, "B": 0.45, "C": 0.45}
    tried = tuple(Alternative(value, found[value, "valid"].name, score) for value, score in scores.items())
    assert made == Choice("wording", "B", "HR@1", "valid", 20, tried)
    assert json.loads((path / "chosen.json").read_text())["alternatives"][1] == {
        "value": "B",
        "run": found["B", "valid"].name,
        "score": 0.45,
        "reason": None,
    }
    assert harness(str(path), command="show") == out
    (shown,) = json.loads(harness(str(path), "--json", command="show"))
    assert shown["chosen"]["value"] == "B"
    assert all(choice.read(found[value, "valid"]) is None for value in scores)


def test_of_equal_scores_the_first_that_is_named_wins(harness: Harness) -> None:
    assert chosen_of(harness("--choose", "wording=D,C,B"))[1].value == "C"
    assert chosen_of(harness("--choose", "wording=B,C,D"))[1].value == "B"


def test_a_value_that_is_given_is_the_same_run_as_one_that_is_chosen(harness: Harness, model: Path) -> None:
    given = Path(harness("--set", "wording=B").splitlines()[-1].strip())
    assert "chosen" not in run_table(given)
    assert harness("--choose", "wording=A,B", "--json").count('"chosen": {') == 1
    assert choice.read(given) is not None
    asked = lines(model / "asked")
    assert asked == 20 + 2 * 20
    path, _ = chosen_of(harness("--set", "wording=B"))
    assert path == given
    assert lines(model / "asked") == asked


@pytest.mark.parametrize("stop", [7, 20, 33, 47])
def test_interrupted_anywhere_it_goes_on_and_ends_alike(harness: Harness, model: Path, stop: int) -> None:
    """In the first value's validation, in the second's, and in the run itself; nothing is asked twice."""
    harness("--choose", "wording=A,B", "--runs", "whole")
    (model / "asked").unlink()
    (model / "stop").write_text(str(stop))
    assert "interrupted" in harness("--choose", "wording=A,B", code=130)
    assert not list(Path("runs").glob("*/*/chosen.json"))
    assert lines(model / "asked") == stop
    (model / "stop").unlink()
    path, _ = chosen_of(harness("--choose", "wording=A,B"))
    assert lines(model / "asked") == 60
    for name in ("chosen.json", "records.jsonl", "scores.json", "run.json"):
        assert (path / name).read_bytes() == (Path("whole") / path.relative_to("runs") / name).read_bytes()


def test_what_is_complete_is_neither_loaded_nor_asked_again(harness: Harness, model: Path) -> None:
    """Not even the value that failed wholly, of which there is no run; but the choice, if it is lost."""
    words = ["--choose", "wording=mute,A,B"]
    path, made = chosen_of(harness(*words))
    assert lines(model / "loads") == 1
    harness(*words)
    assert lines(model / "loads") == 1
    (path / "chosen.json").unlink()
    harness(*words)
    assert choice.read(path) == made
    assert lines(model / "loads") == 2


def test_what_fails_or_is_not_applicable_does_not_win(harness: Harness) -> None:
    out = harness("--choose", "wording=mute,off,D")
    _, made = chosen_of(out)
    assert "wording=D, chosen of 3 by HR@1 on 20 valid instances: 0.100 to 0.100; 2 could not be scored\n" in out
    mute, off, last = made.alternatives
    assert (mute.score, off.score, last.score) == (None, None, 0.1)
    assert mute.reason == "none of the first 20 instances could be answered: nothing to say"
    assert off.reason == "no such wording for this model"


def test_if_nothing_can_be_scored_that_is_said(harness: Harness) -> None:
    assert harness("--choose", "wording=mute,off", code=2) == (
        "wording=mute, on validation\nloading m (float32) with fake\nwording=off, on validation\n"
        "harness: no value of wording can be scored on the valid split: none of the first 20 instances could be "
        "answered: nothing to say; no such wording for this model\n"
    )
    assert set(runs()) == {("off", "valid")}


@pytest.mark.slow
def test_a_task_may_select_by_what_is_none_of_its_metrics(harness: Harness) -> None:
    """Recall@1 says B, the sum with Recall@2 says A; and it is the number that tuning would select by."""
    from harness.tuning.selection import headline

    _, made = chosen_of(harness("--choose", "wording", task="summed"))
    assert (made.value, made.metric) == ("A", "Recall@1+Recall@2")
    for one in made.alternatives:
        task = registry.build(Summed, {"wording": one.value}, "the test")
        engine = FunctionEngine(answer, Generate)
        assert one.score == pytest.approx(headline(task, engine, list(task.instances("valid"))), abs=1e-12)
        assert one.score == pytest.approx((FIRST[one.value] + SECOND[one.value]) / 2 / COUNT, abs=1e-12)


def test_the_lowest_wins_where_lower_is_better(harness: Harness) -> None:
    _, made = chosen_of(harness("--choose", "wording=D,A,B", task="placed"))
    assert [one.score for one in made.alternatives] == [2.8, 1.75, 2.1]
    assert made.value == "A"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "asked", "sample"),
    [
        ([], 20, None),
        (["--sample", "12"], 12, Sample(12, 0)),
        (["--sample", "12", "--sample-seed", "3", "--choose-sample", "7"], 7, Sample(7, 3)),
        (["--choose-sample", "7"], 7, Sample(7, 0)),
        (["--sample", "12", "--choose-sample", "20"], 20, None),
        (["--choose-sample", "500"], 20, None),
    ],
)
def test_on_how_many_instances_it_is_chosen(
    harness: Harness, words: list[str], asked: int, sample: Sample | None
) -> None:
    _, made = chosen_of(harness("--choose", "wording=A,B", *words))
    assert made.instances == asked
    for one in made.alternatives:
        path = Path("runs/wording") / one.run
        assert read_manifest(path)["sample"] == (sample._asdict() if sample else None)
        assert (read_scores(path) or {})["instances"] == asked


def test_the_run_may_have_a_directory_of_its_own(harness: Harness) -> None:
    path, made = chosen_of(harness("--choose", "wording=A,B", "--run-dir", "mine"))
    assert (path, made.value) == (Path("mine"), "B")
    assert set(runs()) == {("A", "valid"), ("B", "valid")}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--choose", "polite"], "task 'wording' has no alternatives of polite; say which values to try"),
        (["--choose", "wordin"], "no option of task 'wording' 'wordin'; did you mean 'wording'?"),
        (["--choose", "wording", "--set", "wording=A"], "wording is given, too; leave it out where it is to be chosen"),
        (
            ["--choose", "count=5,9"],
            "count decides which questions are asked, and scores of different questions",
        ),
        (["--choose", "lessons=1,2"], "lessons decides what is tuned on, and no evaluation"),
        (["--choose", "file=a,b"], "file says where files are, and no score depends on it"),
        (["--choose", "wording=A"], "wording has only the value A here, so there is nothing to choose"),
        (["--choose", "polite=true,1"], "polite has only the value true here, so there is nothing to choose"),
        (["--choose", "wording=A,E"], "wording='E' should be one of A, B, C, D, mute, off"),
        (["--choose", "polite=true,perhaps"], "polite='perhaps' should be a valid boolean"),
    ],
)
def test_what_cannot_be_chosen_is_refused_in_one_line(
    harness: Harness, model: Path, words: list[str], said: str
) -> None:
    err = harness(*words, code=2)
    assert err.startswith(f"harness: --choose: {said}")
    assert err.count("\n") == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--choose-sample", "5"], "--choose-sample goes with --choose"),
        (["--choose", "wording", "--choose", "polite=true,false"], "--choose is for one option"),
        (["--choose", "wording", "--model", "simple:random"], "simple:random reads no prompt, and answers any wording"),
        (["--choose", "wording", "--sample", "20"], "--sample 20: there are 20 test instances"),
        (["--choose", "wording=A,B", "--task", "blind"], "task 'blind' selects by AUC, which is none of its metrics"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(harness: Harness, words: list[str], said: str) -> None:
    err = harness(*words, code=2)
    assert said in err
    assert err.count("\n") == 1
    assert not Path("runs").exists()


def test_a_model_that_was_tuned_on_validation_does_not_choose_on_it(harness: Harness, model: Path) -> None:
    (model / "harness.json").write_text(json.dumps({"task": "wording", "pool": "valid"}))
    assert "let it choose no option" in harness("--choose", "wording", code=2)


def test_what_was_chosen_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert choice.read(tmp_path) is None
    made = Choice("a", "b", "HR@1", "valid", 3, (Alternative("b", "00", 0.1), Alternative("c", "11", None, "x")))
    choice.write(tmp_path, made)
    assert choice.read(tmp_path) == made
    for broken in ("{", "{}", json.dumps({**json.loads((tmp_path / "chosen.json").read_text()), "alternatives": []})):
        (tmp_path / "chosen.json").write_text(broken)
        with pytest.raises(StaleRun, match=r"chosen\.json was not written by this version"):
            choice.read(tmp_path)


def test_a_run_that_is_not_complete_is_not_judged(tmp_path: Path) -> None:
    with pytest.raises(StaleRun, match="is not complete"):
        selected(tmp_path, Wording(), ())


def test_the_leaderboard_says_it_below_the_table(harness: Harness) -> None:
    harness("--choose", "wording=A,B")
    harness("--set", "wording=A")
    chosen = "wording=B, chosen of 2 by HR@1 on 20 valid instances: 0.250 to 0.450"
    sheets = [sheet(standing) for standing in collect(Path("runs"))]
    text = markdown(sheets)
    assert text.count("chosen of") == 1
    titles = [f"## wording, {split}, version 1" for split in ("test", "valid")]
    assert [line for line in text.splitlines() if line.startswith("## ")] == titles
    assert f"\nm (fake, float32) [wording=B]: {chosen}.\n" in text, "another wording is no other protocol"
    assert "| m (fake, float32) [wording=A] |" in text
    table = frame(sheets)
    said = table[table["note"] != ""]
    assert set(zip(said["standing"], said["note"], strict=True)) == {("wording, test, version 1", chosen)}


@pytest.mark.slow
def test_adapters_of_a_real_model_choose_each_for_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One load for all; and each choice is what the validation runs say when they are asked for by themselves."""
    from tests import engine_models

    base = engine_models.llama(tmp_path / "llama", width=32, layers=1, context=1024)
    adapters = [engine_models.lora(tmp_path / f"lora-{n}", base, seed=n) for n in (1, 2)]
    words = ["run", "--task", "tallrec", "--model", f"hf:{base}", "--sample", "60", "--threads", "1", "--json"]

    def run(*more: str) -> tuple[list[dict[str, Any]], str]:
        both = [word for adapter in adapters for word in ("--adapter", str(adapter))]
        assert main([*words, *both, *more]) == 0
        out = capsys.readouterr()
        return json.loads(out.out), out.err

    found, err = run("--choose", "readout=log_odds,paper", "--runs", str(tmp_path / "runs"))
    assert err.count("loading ") == 1
    assert len(list((tmp_path / "runs" / "tallrec").iterdir())) == 6
    alone = {
        value: run("--set", f"readout={value}", "--split", "valid", "--no-cache", "--runs", str(tmp_path / "alone"))[0]
        for value in ("log_odds", "paper")
    }
    for place, one in enumerate(found):
        made = one["chosen"]
        scores = {value: ran[place]["scores"]["metrics"]["AUC"]["value"] for value, ran in alone.items()}
        assert {each["value"]: each["score"] for each in made["alternatives"]} == pytest.approx(scores, abs=1e-12)
        assert made["value"] == max(scores, key=scores.__getitem__)
        assert {each["run"] for each in made["alternatives"]} == {
            Path(ran[place]["run"]).name for ran in alone.values()
        }
        assert read_manifest(Path(one["run"]))["settings"]["readout"] == made["value"]
        assert made["instances"] == one["scores"]["instances"] == 60
