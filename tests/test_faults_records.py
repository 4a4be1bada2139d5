"""Run directories that a disk or a person has spoilt, looked at by whole commands: each prints what it prints of the
unspoilt ones, or ends with one line that names the file. `tests/test_store.py` flips every byte below the commands."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.cli import main
from tests.edits import unsealed

FILES = ("records.jsonl", "scores.json", "run.json", "sessions.jsonl")
SIZE = 40


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Shop:
    """Two complete runs of the same questions, `ours` and `theirs`, and every command that reads them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.runs, self._capsys = folder, capsys
        self.ours, self.theirs = sorted((folder / "tallrec").iterdir())
        self._model = json.loads((self.ours / "run.json").read_text())["model"]["name"]

    def ask(self, *words: object) -> Said:
        self._capsys.readouterr()
        code = main([str(word) for word in words])
        return Said(code, *self._capsys.readouterr())

    def again(self) -> Said:
        """The command that made our run, once more."""
        return self.ask(*command(self._model, self.runs))

    @property
    def commands(self) -> dict[str, Callable[[], Said]]:
        return {
            "run": self.again,
            "show": lambda: self.ask("show", self.ours),
            "show folder": lambda: self.ask("show", self.runs),
            "compare": lambda: self.ask("compare", self.ours, self.theirs),
            "regress": lambda: self.ask("regress", self.ours, "--against", self.theirs),
            "rescore": lambda: self.ask("rescore", self.ours),
            "leaderboard": lambda: self.ask("leaderboard", "--runs", self.runs),
        }


def command(model: str, runs: Path) -> list[object]:
    return ["run", "--task", "tallrec", "--model", model, "--sample", SIZE, "--runs", runs]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("made") / "runs"
    for model in ("simple:like-rate", "simple:random"):
        assert main([str(word) for word in command(model, runs)]) == 0
    return runs


@pytest.fixture
def shop(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    shutil.copytree(made, tmp_path / "runs")
    return Shop(tmp_path / "runs", capsys)


def check(shop: Shop, name: str, file: str, before: Said) -> None:
    """The command says the same as before, or that the file is spoilt."""
    said = shop.commands[name]()
    if said.code == 2:
        assert len(said.err.splitlines()) <= 2, said.err  # `run` says first that it goes on
        assert file in said.err.splitlines()[-1]
    elif name == "leaderboard" and file == "records.jsonl":
        assert f"{file}, line " in said.out  # scores stand, and a note says why nothing is compared
    elif name == "show folder" and file == "run.json":
        assert "unreadable" in said.out
    else:
        assert said[:2] == before[:2]


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_a_digit_that_another_took_the_place_of(shop: Shop, file: str) -> None:
    """JSON that is as right as before, with another number in it."""
    before = {name: ask() for name, ask in shop.commands.items() if name in ("compare", "leaderboard", "run")}
    place = shop.ours / file
    content = place.read_bytes()
    at = max(n for n in range(len(content) // 2) if content[n : n + 1].isdigit())
    place.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    for name, said in before.items():
        check(shop, name, file, said)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_any_flipped_bit(shop: Shop, file: str) -> None:
    before = {name: ask() for name, ask in shop.commands.items()}
    kept = {each.name: each.read_bytes() for each in shop.ours.iterdir()}
    rng = random.Random(file)
    found = 0
    for _ in range(12):
        at = rng.randrange(len(kept[file]))
        flipped = kept[file][:at] + bytes([kept[file][at] ^ 1 << rng.randrange(8)]) + kept[file][at + 1 :]
        for name, said in before.items():
            (shop.ours / file).write_bytes(flipped)
            if name == "rescore" and b'"sum"' not in flipped[-40:]:
                continue  # a checksum under another name is a member that rescoring leaves out
            check(shop, name, file, said)
            found += (shop.ours / file).read_bytes() == flipped
            for each, content in kept.items():
                (shop.ours / each).write_bytes(content)
    assert found


LOST: dict[str, Callable[[list[bytes]], bytes]] = {
    "a torn line": lambda lines: b"".join(lines)[:-30],
    "a line deleted": lambda lines: b"".join([*lines[:7], *lines[8:]]),
    "all lines": lambda lines: b"",
}


@pytest.mark.slow
@pytest.mark.parametrize("what", LOST)
def test_a_complete_run_that_lost_records_asks_for_them_again(shop: Shop, what: str) -> None:
    """Nothing makes numbers of the rest; the command that made the run makes it whole, byte for byte."""
    file = shop.ours / "records.jsonl"
    whole, scores = sorted(file.read_bytes().splitlines()), (shop.ours / "scores.json").read_bytes()
    file.write_bytes(LOST[what](file.read_bytes().splitlines(keepends=True)))
    left = len(file.read_bytes().splitlines()) - (what == "a torn line")
    for name, says in (
        ("compare", "did not answer the same instances"),
        ("regress", f"{SIZE - left} instances are in one only"),
        ("rescore", f"has {left} records, and its scores are of {SIZE}; give the command of the run again"),
    ):
        said = shop.commands[name]()
        assert said.code == 2, name
        assert says in said.err
    assert (shop.ours / "scores.json").read_bytes() == scores
    assert shop.again().code == 0
    assert sorted(file.read_bytes().splitlines()) == whole
    assert (shop.ours / "scores.json").read_bytes() == scores
    assert shop.commands["rescore"]().code == 0


@pytest.mark.slow
def test_a_second_record_of_an_instance_is_found_by_every_reader(shop: Shop) -> None:
    file = shop.ours / "records.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:20], lines[3], *lines[20:]]))
    for name in ("run", "compare", "regress", "rescore"):
        said = shop.commands[name]()
        assert said.code == 2
        assert "records.jsonl, line 21: a second record of instance" in said.err
    file.write_bytes(b"".join(lines))
    assert shop.again().code == 0


@pytest.mark.slow
def test_the_advice_for_a_spoilt_line_is_right(shop: Shop) -> None:
    """`delete the line and give the command of the run again`"""
    file = shop.ours / "records.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:4], lines[4].replace(b"0", b"1", 1), *lines[5:]]))
    said = shop.again()
    assert (said.code, "records.jsonl, line 5" in said.err) == (2, True)
    file.write_bytes(b"".join([*lines[:4], *lines[5:]]))
    assert shop.again().code == 0
    assert sorted(file.read_bytes().splitlines(keepends=True)) == sorted(lines)


@pytest.mark.slow
def test_a_leaderboard_never_leaves_a_damaged_run_out_in_silence(shop: Shop) -> None:
    (shop.ours / "run.json").write_text("{")
    said = shop.commands["leaderboard"]()
    assert said.code == 2
    assert f"{shop.ours / 'run.json'}: not as this harness wrote it" in said.err
    (shop.ours / "run.json").write_text('{"schema": 99}')  # another program's: passed over, as it always was
    assert shop.commands["leaderboard"]().code == 0


@pytest.mark.slow
@pytest.mark.parametrize("file", ["run.json", "scores.json"])
def test_a_member_that_an_editor_took_away(shop: Shop, file: str) -> None:
    """Each in turn, from a file without checksum: a command either needs it, and says so, or does not."""
    content, place, refused = unsealed(shop.ours / file), shop.ours / file, set()
    for member in content:
        for name, ask in shop.commands.items():
            place.write_text(json.dumps({key: value for key, value in content.items() if key != member}))
            said = ask()
            if said.code == 2:
                assert len(said.err.splitlines()) <= 2, said.err
                assert file in said.err or "another experiment" in said.err, (member, said.err)
                refused.add((name, member))
            else:
                assert said.code == 0 or name == "regress", (member, said)  # whose verdicts have codes of their own
    assert {name for name, _ in refused} >= {"show", "rescore", "leaderboard"}
