"""What the README says is true: its task runs as a stranger's package, its commands exist, its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's task, installed as any package with entry points is."""
    site = tmp_path_factory.mktemp("site")
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.splitlines()) <= 65
    (site / "my_package").mkdir()
    (site / "my_package" / "__init__.py").touch()
    (site / "my_package" / "next_film.py").write_text(code)
    info = site / "my_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    (line,) = re.findall(r"next-film = \"(.*)\"", README)
    (info / "entry_points.txt").write_text(f"[harness.tasks]\nnext-film = {line}\n")
    return site


def harness(package: Path, cwd: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *words],
        capture_output=True, text=True, cwd=cwd, env={**os.environ, "PYTHONPATH": str(package)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_stranger_s_task_is_checked_and_run_like_our_own(package: Path, tmp_path: Path) -> None:
    checked = harness(package, tmp_path, "check", "--task", "next-film")
    assert "oracle scores NDCG@10 1.0000" in checked
    assert "constant scores HR@1" in checked
    ran = harness(package, tmp_path, "run", "--task", "next-film", "--set", "recent=5", "--model", "simple:random")
    assert "943 instances, failures: none" in ran
    assert "chance 0.1000" in ran
    assert "next-film(recent=5), test, version 1" in harness(package, tmp_path, "leaderboard")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        assert link.startswith("http") or (page.parent / link).exists(), link


def test_commands_and_options_of_the_pages_exist() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    for words in re.findall(r"(?:^    |`)harness ([a-z]+(?: [a-z]+)?)", text, re.MULTILINE):
        first, *rest = words.split()
        assert first in cli.commands, f"harness {words}"
        group = cli.commands[first]
        if rest and hasattr(group, "commands"):
            assert rest[0] in group.commands, f"harness {words}"
    for line in re.findall(r"(?:^    |`)harness ((?:run|tune|grid|prompt|check) [^\n`]*)", text, re.MULTILINE):
        known = {option for p in cli.commands[line.split()[0]].params for option in p.opts}
        for option in re.findall(r"(?<!\w)--[a-z-]+", line.split("#")[0]):
            assert option in known or option == "--help", line
