"""A grid that tunes and evaluates, with real parts: one command, killed and started again, one engine start."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parent.parent


def words(base: Path, folder: Path) -> list[str]:
    grid = ["grid", "--task", "tallrec", "--model", f"hf:{base}", "--runs", str(folder / "runs"), "--no-cache"]
    grid += ["--tuned", str(folder / "tuned"), "--out", str(folder / "report"), "--sample", "60"]
    grid += ["--shots", "0", "--shots", "8", "--shots", "16", "--seed", "0", "--seed", "1"]
    small = {"budget": "ci", "max_steps": "4", "epochs": "4", "evaluate_steps": "2", "valid_rows": "20"}
    return [*grid, *(word for name, value in small.items() for word in ("--set", f"{name}={value}")), "--threads", "1"]


@pytest.fixture(scope="module")
def whole(label_free: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An undisturbed grid: its folder, and the table it printed."""
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, "-m", "harness.cli", *words(label_free, folder)]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "5 cells: 5 complete, 0 failed; 1 engine start" in done.stderr
    return folder, done.stdout


def test_killed_while_it_tunes_it_ends_with_the_same_table(
    label_free: Path, whole: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed in the second tuning and once more later, the grid goes on; the undisturbed one has the same table."""
    cut = tmp_path / "cut"
    for checkpoint in ("*.partial/*/checkpoints/checkpoint-2/trainer_state.json", "*/harness.json"):
        before = len(list(cut.glob(f"tuned/tallrec/{checkpoint}")))
        command = [sys.executable, "-m", "harness.cli", *words(label_free, cut)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 300
        while len(list(cut.glob(f"tuned/tallrec/{checkpoint}"))) <= before:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    _, table = whole
    assert finished(words(label_free, cut), capsys, "1 engine start") == table
    own = table[table.index("| ") :].split("\n\n")[0]  # the paper's rows are a table of their own
    cells = [[cell.strip() for cell in line.split("|")] for line in own.splitlines()]
    assert [row[4:6] for row in cells if row[1].isdigit()] == [["0", ""], ["8", "0, 1"], ["16", "0, 1"]]
    assert finished(words(label_free, cut), capsys, "0 engine starts") == table
    for name in ("report/grid.md", "report/grid.csv", "report/grid.svg"):
        assert (cut / name).stat().st_size > 0


def finished(grid: list[str], capsys: pytest.CaptureFixture[str], starts: str) -> str:
    """The table that the command prints, run in this process."""
    capsys.readouterr()
    code = main(grid)
    out, said = capsys.readouterr()
    assert code == 0, said
    assert f"5 cells: 5 complete, 0 failed; {starts}" in said
    return out


def test_tuned_adapters_say_their_rows(whole: tuple[Path, str]) -> None:
    """Nested draws for one seed, as the manifests record them."""
    drawn = {}
    for manifest in whole[0].glob("tuned/tallrec/*/harness.json"):
        told = json.loads(manifest.read_text())
        drawn[told["shots"], told["seed"]] = set(told["rows"][0]["drawn"])
    assert {key: len(rows) for key, rows in drawn.items()} == {(8, 0): 8, (8, 1): 8, (16, 0): 16, (16, 1): 16}
    for seed in (0, 1):
        assert drawn[8, seed] < drawn[16, seed]
