"""Settings and trained baselines of strangers: their texts are words, and never programs or places."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.cli import main

pytestmark = pytest.mark.slow
ASKED = ("run", "--task", "sequential", "--set", "dataset=ml-100k", "--sample", "20", "--threads", "1", "--no-cache")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def own_folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(home))
    monkeypatch.chdir(tmp_path)


def trained(home: Path) -> Path:
    """A baseline that this harness trained, once."""
    assert main([*ASKED, "--model", "recbole:Pop"]) == 0
    (folder,) = (path.parent for path in (home / "baselines").glob("Pop-*/harness.json"))
    return folder


def with_option(folder: Path, place: Path, name: str, value: object) -> Path:
    """A copy as a stranger may send it, with one more of RecBole's options."""
    shutil.copytree(folder, place)
    told = json.loads((place / "harness.json").read_text())
    told["options"][name] = value
    (place / "harness.json").write_text(json.dumps(told))
    return place


def test_a_setting_that_is_a_program_is_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole hands every text to `eval`; whatever becomes of the training, nothing was called."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    place = tmp_path / "sprung"
    main([*ASKED, "--model", "recbole:Pop", "--model-set", f"learner=__import__('os').mkdir({str(place)!r})"])
    assert not place.exists()


def test_a_setting_of_a_trained_baseline_that_is_a_program_is_a_word(home: Path, tmp_path: Path) -> None:
    place = tmp_path / "sprung"
    theirs = with_option(trained(home), tmp_path / "theirs", "learner", f"__import__('os').mkdir({str(place)!r})")
    assert main([*ASKED, "--model", f"checkpoint:{theirs}"]) == 0
    assert not place.exists()


@pytest.mark.parametrize("name", ["data_path", "dataloaders_save_path", "checkpoint_dir", "no_such_option"])
def test_a_trained_baseline_does_not_say_where_files_lie(
    home: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """From some of these places RecBole unpickles."""
    theirs = with_option(trained(home), tmp_path / "theirs", name, str(tmp_path))
    capsys.readouterr()
    assert main([*ASKED, "--model", f"checkpoint:{theirs}"]) == 2
    _, err = capsys.readouterr()
    assert f"checkpoint:{theirs} was not trained by this harness: " in err
    assert name in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("content", ["[]", "{}", '{"kind": "recbole"}', '{"kind": "recbole", "model": 1}', "{"])
def test_a_manifest_of_another_shape(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("model.safetensors", "material.safetensors", "vocabulary.json"):
        (tmp_path / name).touch()
    (tmp_path / "harness.json").write_text(content)
    assert main([*ASKED, "--model", f"checkpoint:{tmp_path}"]) == 2
    _, err = capsys.readouterr()
    assert "is no trained baseline" in err
    assert err.count("\n") == 1
