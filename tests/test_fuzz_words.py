"""Whatever is typed after `--model`, `--set`, `--choose`, `--shots`, `--train` and the like: a run, or one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cli import main

STRANGE = (
    *("", " ", "=", "==", "a=", "=a", ",", ",,", ":", "::", "+", ";", "-", "--", "-1", "0", "1e999", "9" * 5000, "NaN"),
    *("none", "\n", "\t", "\u2028", "é", "🙂", "\udcff", "%s", "{}", "{0}", "$HOME", "~", "~nobody/x", "~strange/x"),
    *("..", "/", "//", "/dev/null", "/proc/self/mem", "a" * 5000, "a/" * 3000, "a/b/c", "x" * 200 + "/y", "http://x/y"),
)
KNOWN = (
    *(
        "simple:random",
        "simple:popularity",
        "fake:m",
        "fake:",
        ":m",
        "m",
        "hf:m",
        "recbole:No",
        "checkpoint:m",
        "remote:x",
    ),
    *(
        "wording",
        "wording=A",
        "wording=A,B",
        "wording=",
        "polite=true",
        "polite=1",
        "count=5",
        "count=none",
        "lessons=2",
    ),
    *(
        "file=x",
        "all",
        "3",
        "domain=book",
        "domain=movie+domain=book",
        "tallrec",
        "valid",
        "raw",
        "chat",
        "m/config.json",
    ),
)
WORDS = st.sampled_from([*STRANGE, *KNOWN]) | st.lists(
    st.sampled_from([*STRANGE, *KNOWN]) | st.text(st.characters(exclude_characters="\0"), max_size=8),
    min_size=2,
    max_size=3,
).map("".join)
RUN = (
    *("--model", "--set", "--choose", "--choose-sample", "--adapter", "--template", "--model-set", "--revision"),
    *("--split", "--sample", "--task", "--dtype", "--max-model-len", "--model-config"),
)
GRID = ("--model", "--shots", "--seed", "--train", "--set", "--first-set", "--adapter", "--recipe", "--task", "--pool")
TUNE = ("--set", "--shots", "--seed", "--model", "--task", "--recipe", "--from-scratch")


def typed(options: Sequence[str]) -> st.SearchStrategy[list[str]]:
    """Some of these options, each with any word."""
    one = st.tuples(st.sampled_from(options), WORDS)
    return st.lists(one, min_size=1, max_size=3).map(lambda pairs: [word for pair in pairs for word in pair])


def check(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    code = main(words)
    said = capsys.readouterr()
    assert code in (0, 1, 2)
    if code == 2:
        *before, last = said.err.removesuffix("\n").split("\n")
        assert last.startswith("harness: ")
        assert not any(line.startswith(("harness: ", "Traceback")) for line in before)


COMMANDS = {
    "run": (RUN, "--task wording --model fake:m --no-cache --set count=4"),
    "grid": (GRID, "--task wording --model simple:random --plan"),
    "tune": (TUNE, "--task tallrec --model m --out out --show-recipe"),
    "prompt": (("--set", "--task", "--split", "-n", "--template"), "--task wording"),
}
"""What is typed behind each option of a command, and what stands before it; of a single option the last one counts."""


def attack(command: str, examples: int, capsys: pytest.CaptureFixture[str]) -> None:
    options, always = COMMANDS[command]

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(typed(options))
    def survives(words: list[str]) -> None:
        check([command, *always.split(), *words], capsys)

    check([command, *always.split()], capsys)
    survives()


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_whatever_is_typed(command: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attack(command, 40, capsys)


@pytest.mark.stress
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_whatever_is_typed_many_times(command: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attack(command, 3000, capsys)
