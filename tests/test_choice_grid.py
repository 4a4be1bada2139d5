"""Blocks of a grid that choose an option on validation: syntax, cells, resumption, and what the table says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.choice import Alternative, Choice, choosing
from harness.errors import BadSetting
from harness.grid.cells import expand
from harness.grid.declared import parse_grid
from harness.grid.run import Outcome
from harness.signature import Sample
from leaderboard.grid import records, sections
from tasks.tallrec import TALLRec
from tests.choices import COUNT, Harness, lines, runs
from tests.fakes import Coins
from tests.test_grid_table import answering, cell
from tests.test_leaderboard import make_run

GRID = """
[[block]]
task = "wording"
model = "fake:m"
{choose}
[[block]]
task = "wording"
model = ["fake:m", "simple:random"]
test = {{wording = "D"}}
"""


def test_a_block_of_a_grid_chooses(harness: Harness, model: Path) -> None:
    Path("grid.toml").write_text(GRID.format(choose='choose = {wording = ["C", "B"]}\nchoose_sample = 500'))
    assert "3 to evaluate" in _plan(harness)
    out = harness("grid.toml", command="grid")
    chosen, plain, _ = [line for line in out.splitlines() if line.startswith(("| 1", "| 2", "| 3"))][:3]
    assert "| fake:m        | wording chosen |" in chosen
    assert "wording=C, chosen of 2 by HR@1 on 20 valid instances: 0.450 to 0.450." in chosen
    assert "chosen" not in plain
    assert set(runs()) == {("C", "valid"), ("B", "valid"), ("C", "test"), ("D", "test")}
    assert lines(model / "loads") == 1
    assert "3 complete" in _plan(harness)
    assert harness("grid.toml", command="grid") == out
    assert lines(model / "loads") == 1


def _plan(harness: Harness) -> str:
    out = harness("grid.toml", "--plan", command="grid")
    states = [line.split("  ")[0].strip() for line in out.splitlines()]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def test_a_grid_goes_on_after_an_interrupt(harness: Harness, model: Path) -> None:
    Path("grid.toml").write_text(GRID.format(choose='choose = "wording"'))
    (model / "stop").write_text("33")
    harness("grid.toml", "--no-cache", command="grid", code=130)
    (model / "stop").unlink()
    out = harness("grid.toml", "--no-cache", command="grid")
    assert "wording=B, chosen of 3 by HR@1 on 20 valid instances: 0.250 to 0.450." in out
    assert lines(model / "asked") == 5 * COUNT


def test_a_cell_without_a_value_that_can_be_scored_fails_alone(harness: Harness) -> None:
    Path("grid.toml").write_text(GRID.format(choose='choose = {wording = ["mute", "off"]}'))
    err = harness("grid.toml", command="grid", code=1)
    assert "wording chosen: no value of wording can be scored on the valid split" in err
    assert "3 cells: 2 complete, 1 failed" in err


BLOCK = '[[block]]\ntask = "tallrec"\nmodel = "m"\n'


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("choose = 3", "choose should be"),
        ('choose = {readout = "paper"}', "choose.readout should be"),
        (
            'choose = {readout = ["paper", "log_odds"], domain = ["movie"]}',
            "choose names readout and domain; it is",
        ),
        ("choose_sample = 5", "choose_sample goes with choose"),
        ('choose = "readout"\nchoose_sample = 0', "choose_sample should be at least 1"),
        ('choose = "readout"', "task 'tallrec' has no alternatives of readout"),
        ('choose = {readout = ["paper", "log_odds"]}\ntest = {readout = "paper"}', "readout is given, too"),
        ('choose = {readout = ["paper", "log_odds"]}\nshots = 4\npool = "valid"', "and cannot choose on it"),
    ],
)
def test_what_is_wrong_with_the_choice_of_a_block_is_one_line(more: str, said: str) -> None:
    with pytest.raises(BadSetting) as error:
        expand(parse_grid(BLOCK + more, "grid.toml"))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_block_of_baselines_chooses_nothing() -> None:
    text = BLOCK.replace('"m"', '"simple:random"') + 'choose = {readout = ["paper", "log_odds"]}'
    with pytest.raises(BadSetting, match="choose is for language models, and it has none"):
        expand(parse_grid(text, "grid.toml"))


def test_a_choice_makes_another_cell_and_the_plain_one_stays_as_it_was() -> None:
    words = 'choose = {readout = ["log_odds", "paper"]}\nchoose_sample = 40\n'
    plain, chosen, baseline = expand(parse_grid(BLOCK + BLOCK.replace('"m"', '["m", "simple:random"]') + words, "x"))
    assert plain.choosing is None
    assert baseline.choosing is None
    assert chosen.choosing is not None
    assert (chosen.choosing.values, chosen.choosing.sample) == (("log_odds", "paper"), Sample(40))
    readouts = [each.readout for each in chosen.choosing.tasks if isinstance(each, TALLRec)]
    assert readouts == ["log_odds", "paper"]
    assert replace(chosen, choosing=None) == plain


def test_each_seed_of_a_row_says_what_it_chose(tmp_path: Path) -> None:
    wanted = choosing(Coins(), {}, "style", ("plain", "loud"), "here", None)

    def tuned(seed: int, task: Coins) -> Outcome:
        one = replace(cell(seed), choosing=wanted)
        tried = (Alternative("plain", "0" * 12, 0.5), Alternative("loud", "1" * 12, 0.75))
        made = Choice("style", task.style, "AUC", "valid", 200, tried)
        return Outcome(one, make_run(tmp_path, task, f"seed {seed}", answering(seed)), choice=made)

    outcomes = [tuned(0, Coins(style="loud")), tuned(1, Coins(style="plain")), tuned(2, Coins(style="loud"))]
    (section,) = sections(outcomes)
    (row,) = section.rows
    end = "chosen of 2 by AUC on 200 valid instances: 0.500 to 0.750"
    assert (row.asked, row.seeds) == ("style chosen", (0, 1, 2))
    assert row.notes == (f"seed 0, 2: style=loud, {end}", f"seed 1: style=plain, {end}")
    assert records([section])[0]["notes"] == "; ".join(row.notes)
