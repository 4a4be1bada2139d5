"""What strangers call things, and what models say, stays words in everything that the commands write."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.cli import main
from harness.names import MOVING, is_file_name
from leaderboard.latex import PACKAGES
from tests.hostile import OWNED, TEXTS, install
from tests.programs import program

pytestmark = pytest.mark.slow


class Written(NamedTuple):
    """What `harness run` and `harness leaderboard` left behind."""

    folder: Path
    out: Path
    runs: list[Path]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(folder / "home"))
        for name in install(folder, patch):
            asked = ["run", "--task", "hostile", "--model", f"hostile:{name}", "--template", "raw", "--no-cache"]
            assert main(asked) == 0
        assert main(["leaderboard", "--out", "out", "--title", " ".join(TEXTS)]) == 0
        yield Written(folder, folder / "out", sorted(path.parent for path in Path("runs").glob("*/*/run.json")))


def test_every_name_has_its_row(written: Written) -> None:
    rows = json.loads((written.out / "leaderboard.json").read_text())["tables"][0]["lines"]
    names = {row["name"].removesuffix(" (hostile, float32)") for row in rows if row["kind"] == "language model"}
    assert names == set(TEXTS), "in JSON every text is what it is"


def test_files_have_names_of_ours(written: Written) -> None:
    names = [str(path.relative_to(written.out)) for path in written.out.rglob("*")]
    assert all(re.fullmatch(r"(leaderboard|cards|hostile-[0-9a-f]{8}-[a-z-]+)\.[a-z]+", name) for name in names), names
    assert all(is_file_name(path.name.removeprefix(".")) for run in written.runs for path in run.iterdir())


@pytest.mark.parametrize("file", ["leaderboard.md", "cards.md"])
def test_markdown_holds_no_tag_no_link_and_no_line_of_theirs(written: Written, file: str) -> None:
    text = (written.out / file).read_text("utf-8")
    assert set(re.findall(r"<[A-Za-z/!?][^\s>]*", text)) <= {"<u", "</u", "<u>", "</u>"}
    assert "](" not in text
    assert not MOVING.search(text.replace("\n", ""))
    assert not [line for line in text.split("\n") if line.startswith(("# two", "| three", "five"))]
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        strokes = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(strokes) == 1, "a stroke in a name begins no column"


def test_csv_holds_no_formula(written: Written) -> None:
    with (written.out / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["model"].removeprefix("'").removesuffix(" (hostile, float32)") for row in rows} == set(TEXTS)
    for row in rows:
        for cell in row.values():
            assert not cell.startswith(("=", "+", "@", "\t", "\r"))
            assert not cell.startswith("-") or float(cell) <= 0


def test_latex_sets_the_names_and_obeys_none(written: Written, tmp_path: Path) -> None:
    (tmp_path / "tables.tex").write_text((written.out / "leaderboard.tex").read_text("ascii"))
    head = ["\\documentclass{article}", PACKAGES, "\\begin{document}", "\\input{tables}", "\\end{document}"]
    (tmp_path / "page.tex").write_text("\n".join(head))
    command = [
        program("pdflatex"),
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-shell-escape",
        "-recorder",
        "page.tex",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    opened = (tmp_path / "page.fls").read_text("utf-8", "replace")
    assert "tables.tex" in opened
    assert "passwd" not in opened
    assert not (tmp_path / OWNED).exists()


def test_the_page_runs_none_of_it(written: Written) -> None:
    from playwright.sync_api import sync_playwright

    page, said, asked = written.out / "leaderboard.html", [], []
    with sync_playwright() as playwright:
        path = program("chromium", "chromium-browser", "google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("dialog", lambda dialog: said.append(dialog.message))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(page.as_uri())
        tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        names = tab.locator("a.model").all_text_contents()
        for link in tab.locator("a.model").all():
            link.hover()
        tab.locator("a.model").first.click()
        title = tab.title()
        assert tab.locator("script").count() == 1
        assert tab.locator("img, iframe, object, embed, form, base, link").count() == 0
        browser.close()
    assert (said, asked) == ([], [page.as_uri()])
    assert title != OWNED
    assert len(names) == len(TEXTS)


def on_a_terminal(folder: Path, *words: str) -> bytes:
    """What a command writes to a real (pseudo) terminal."""
    ours, theirs = pty.openpty()
    code = "import sys; sys.path.insert(0, 'site'); from harness.cli import main; sys.exit(main())"
    path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    started = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTHONPATH": path, "HARNESS_HOME": str(folder / "home")},
    )
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 1 << 16):
            shown += block
    except OSError:
        pass  # how a terminal says that nobody writes to it any more
    os.close(ours)
    assert started.wait() == 0, shown[-2000:]
    return shown


@pytest.mark.parametrize(
    "words", [["prompt", "-n", "15"], ["show", "--texts"], ["show", "--records", "15"], ["show"], ["show", "--card"]]
)
def test_a_terminal_is_shown_signs_and_not_sent_them(
    written: Written, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command, *more = words
    asked = [command, *(["--task", "hostile"] if command == "prompt" else map(str, written.runs)), *more]
    shown = on_a_terminal(written.folder, *asked).decode()
    assert not MOVING.search(shown.replace("\r\n", "").replace("\n", "").replace("\t", ""))
    assert r"\x1b[2J" in shown
    assert r"\u202e" in shown
    capsys.readouterr()
    assert main(asked) == 0
    assert "\x1b[2J" in capsys.readouterr().out, "another program is given the very text"
