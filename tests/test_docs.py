"""What the README and the pages say is true: their tasks and engines run as a stranger's package, the commands of the
pages for users run in their order, all commands exist, and links lead somewhere.

In a page for users a block of `sh` is run, a block of `text` behind it is what its last command prints, among other
lines, and a block of `console` is not run, which the sentence before it says. A command that ends otherwise than with 0
has a comment: `# exit code 3`.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.cli import cli, main
from harness.testing import TaskContract

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDES = ("evaluate", "read_a_table", "gate", "add_a_task", "add_an_engine")
OPTIONS = "run|tune|grid|prompt|check|show|compare|rescore|leaderboard|regress|export"
"""Commands whose options are looked up, too."""
TINY = "models/tiny"
"""A page that needs the quickstart's model from some command on is run to there in the quick tests, and whole in the
others."""


class Block(NamedTuple):
    kind: str
    text: str
    before: str
    """The paragraph before it."""


def blocks(page: str) -> list[Block]:
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(m[1], m[2], text[: m.start()].rstrip().rsplit("\n\n", 1)[-1]) for m in found]


def install(page: str, site: Path) -> None:
    """The files and entry points of a page, as a package of somebody's."""
    info = site / f"{page}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {page.replace('_', '-')}\nVersion: 1\n")
    lines = []
    for block in blocks(page):
        if block.kind == "python":
            names = re.findall(r"`(\w+\.py)`", block.before)
            (site / (names[-1] if names else f"test_{page}.py")).write_text(block.text)
        elif block.kind == "toml":
            for group, entries in tomllib.loads(block.text)["project"]["entry-points"].items():
                lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to stand in, and beside it one on the path for packages, which are forgotten afterwards."""
    site, folder, known = tmp_path / "site", tmp_path / "work", set(sys.modules)
    folder.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(folder)
    yield site
    for name in set(sys.modules) - known:
        if str(site) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def run_page(page: str, site: Path, capsys: pytest.CaptureFixture[str], whole: bool) -> int:
    """Run the commands of a page, and compare what it says that they print; how many there were."""
    install(page, site)
    done, out = 0, ""
    for block in blocks(page):
        if block.kind == "text":
            printed = {line.rstrip() for line in out.splitlines()}
            assert set(block.text.splitlines()) <= printed, f"{page}: {block.text}is not in\n{out}"
        for line in block.text.splitlines() if block.kind == "sh" else ():
            if TINY in line and not whole:
                return done
            words = shlex.split(line, comments=True)
            assert words[0] == "harness", line
            capsys.readouterr()
            (code,) = re.findall(r"# exit code (\d)", line) or "0"
            assert main(words[1:]) == int(code), f"{line}\n{capsys.readouterr().err}"
            done, out = done + 1, capsys.readouterr().out
    return done


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES)
def test_the_commands_of_a_page_run(page: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Up to the first one that needs the quickstart's model."""
    assert run_page(page, elsewhere, capsys, whole=False) >= 3


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", [page for page in GUIDES if any(TINY in block.text for block in blocks(page))])
def test_a_page_runs_to_its_end(page: str, elsewhere: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("models").mkdir()
    Path(TINY).symlink_to(tiny)
    asked = [line for block in blocks(page) if block.kind == "sh" for line in block.text.splitlines()]
    assert run_page(page, elsewhere, capsys, whole=True) == len(asked)
    if page == "add_an_engine":
        assert main(["compare", "runs/plain", "runs/hf"]) == 0
        gaps = re.findall(r"largest gap in log_(?:yes|no): (\S+)", capsys.readouterr().out)
        assert len(gaps) == 2
        assert max(map(float, gaps)) < 1e-5


@pytest.mark.parametrize("page", GUIDES)
def test_what_is_not_run_says_so(page: str) -> None:
    found = blocks(page)
    assert {block.kind for block in found} <= {"sh", "text", "console", "python", "toml"}
    for block in found:
        assert (block.kind == "console") == ("not run by the test" in " ".join(block.before.split())), block.text


@pytest.mark.slow
def test_the_page_s_test_of_a_task_passes(elsewhere: Path) -> None:
    install("add_a_task", elsewhere)
    contract = importlib.import_module("test_add_a_task").TestLastLiked()
    assert isinstance(contract, TaskContract)
    contract.test_the_protocol_holds()
    contract.test_every_metric_has_its_own_name()


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
    text = re.sub(r"^```(?:sh|console)\n(.*?)^```$", lambda m: re.sub("^", "    ", m[1], flags=re.MULTILINE), text,
                  flags=re.MULTILINE | re.DOTALL)  # fmt: skip
    for words in re.findall(r"(?:^    |`)harness ([a-z]+(?: [a-z]+)?)", text, re.MULTILINE):
        first, *rest = words.split()
        assert first in cli.commands, f"harness {words}"
        group = cli.commands[first]
        if rest and hasattr(group, "commands"):
            assert rest[0] in group.commands, f"harness {words}"
    for line in re.findall(rf"(?:^    |`)harness ((?:{OPTIONS}) [^\n`]*)", text, re.MULTILINE):
        known = {option for p in cli.commands[line.split()[0]].params for option in p.opts}
        for option in re.findall(r"(?<!\w)--[a-z-]+", line.split("#")[0]):
            assert option in known or option == "--help", line
