"""Names that are no names: what becomes of a place, a sign or a novel where the name of something is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.names import MOVING, is_file_name, printable
from harness.seal import unsealed
from tests.fakes import Shelf, text_engine
from tests.test_leaderboard import make_run


@pytest.mark.parametrize("name", ["../x", "a\nb", "\x1b[2J", "x" * 5000, "~nobody-here/x", "/no/such", "."])
@pytest.mark.parametrize("option", ["--model", "--adapter", "--template", "--set", "--revision"])
def test_a_name_that_is_no_name_is_one_line(
    model: Path, name: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--model": f"hf:{name}", "--set": f"{name}=1"}.get(option, name)
    asked = ["run", "--task", "wording", option, given, "--no-cache"]
    asked += [] if option == "--model" else ["--model", "fake:m"]
    capsys.readouterr()
    assert main(asked) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("harness: ")
    assert err.count("\n") == 1
    assert not MOVING.search(err.removesuffix("\n"))


@pytest.mark.parametrize("digest", ["../../secret", "/etc", "..", ".", "a/b", "a\x00b", "x" * 5000, ".hidden", "a\nb"])
@pytest.mark.parametrize(("task", "option"), [("palr", "candidates"), ("llm-trsr", "summaries")])
def test_an_earlier_run_is_named_and_not_pointed_at(
    tmp_path: Path, task: str, option: str, digest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "run.json").write_text("{}")
    runs = tmp_path / "runs"
    assert main(["prompt", "--task", task, "--set", f"{option}={digest}", "--set", f"runs={runs}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "there is no run " in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("place", [".", "..", "/", "x" * 250, "a\nb", ".hidden"])
def test_a_new_folder_needs_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tune", "--task", "tallrec", "--from-scratch", "tiny", "--out", place]) == 2
    _, err = capsys.readouterr()
    assert "cannot be the name of a new folder" in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


CHANGES: list[dict[str, Any]] = [
    {"task": "../../evil"},
    {"task": 7},
    {"identity": {"instances": "}\\x", "protocol": "1", "run": "1"}},
    {"identity": {"instances": "../../..", "protocol": "/../", "run": "1"}},
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_of_a_stranger_names_no_file(
    tmp_path: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest whose names are places is of no run of this harness."""
    path = make_run(tmp_path / "runs", Shelf(), "m", text_engine()) / "run.json"
    path.write_text(json.dumps(json.loads(unsealed(path.read_bytes())) | change))
    out = tmp_path / "a" / "b" / "out"
    assert main(["leaderboard", "--runs", str(tmp_path / "runs"), "--out", str(out)]) == 2
    assert "no runs below" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_names_and_signs() -> None:
    for text in (
        "",
        ".",
        "..",
        "../x",
        "/x",
        "a/b",
        "a/",
        "a\0b",
        "a\nb",
        ".x",
        "-x",
        "x" * 201,
        "\x1b",
        "\u202ex",
        "\ud800",
    ):
        assert not is_file_name(text), text
    for text in ("a", "model-00001-of-00002.safetensors", "a b", "ü", "a:b", "x" * 200):
        assert is_file_name(text), text
    assert printable("a\x1b[2J\u202e\nb\t\x00") == r"a\x1b[2J\u202e\nb\t\x00"
    assert printable("a\x1b\nb\tc", lines=True) == "a\\x1b\nb\tc"
    assert printable("ü – 中 😀") == "ü – 中 😀"
