"""LLM-TRSR with real parts: a model made on the spot summarises, then recommends, and is killed in between."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.cli import main
from harness.data.home import home
from harness.store import read_manifest, read_scores, read_sessions, records
from tests.real_data import real

pytestmark = pytest.mark.slow
FEW = ("train=12", "valid=4", "test=8")
ROOT = Path(__file__).parent.parent


def sets(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def summarise(folder: Path, *settings: str, split: str = "test") -> list[str]:
    words = ["run", "--task", "llm-trsr-summaries", *sets(*FEW, "max_tokens=24", *settings), "--split", split]
    return [*words, "--model", f"hf:{folder / 'model'}", "--runs", str(folder / "runs"), "--threads", "1"]


def made(folder: Path, task: str) -> set[Path]:
    return set((folder / "runs" / task).glob("*"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trsr")
    words = ["tune", "--task", "llm-trsr", *sets(*FEW), "--from-scratch", "tiny", "--out", str(folder / "model")]
    assert main([*words, "--threads", "1"]) == 0
    return folder


def test_summaries_are_made_once_whatever_is_asked_with_them(folder: Path) -> None:
    digests = []
    for method in ("hierarchical", "recurrent"):
        before = made(folder, "llm-trsr-summaries")
        assert main(summarise(folder, f"method={method}")) == 0
        (new,) = made(folder, "llm-trsr-summaries") - before
        digests.append(new.name)
        kept = list(records(new))
        assert all(record.facts["summaries"] == (6 if method == "hierarchical" else 5) for record in kept)
        assert all(record.text for record in kept)
        assert all(record.facts["merge_tokens"] > 0 for record in kept) == (method == "hierarchical")
    summaries = made(folder, "llm-trsr-summaries")
    model = ["--model", f"hf:{folder / 'model'}", "--runs", str(folder / "runs"), "--threads", "1"]
    for digest in ("none", *digests):
        for recent in (0, 3):
            words = ["run", "--task", "llm-trsr", *sets(*FEW, f"summaries={digest}", f"recent={recent}")]
            assert main([*words, *model]) == 0
    assert made(folder, "llm-trsr-summaries") == summaries
    runs = made(folder, "llm-trsr")
    assert len(runs) == 6
    assert len({read_manifest(path)["identity"]["instances"] for path in runs}) == 1
    for path in runs:
        scores = read_scores(path)
        assert scores is not None
        assert (scores["instances"], scores["failures"]) == (8, {})
        assert scores["metrics"]["without_summary"]["value"] == (read_manifest(path)["settings"]["summaries"] == "none")


def test_the_paper_s_recipe_reads_summaries_of_both_splits(folder: Path) -> None:
    digests = []
    for split in ("train", "valid"):
        before = made(folder, "llm-trsr-summaries")
        assert main(summarise(folder, "users_seed=2", "temperature=0", split=split)) == 0
        digests += [path.name for path in made(folder, "llm-trsr-summaries") - before]
    settings = sets(*FEW, "users_seed=2", f"summaries={','.join(digests)}", f"runs={folder / 'runs'}")
    recipe = sets("context=1024", "epochs=1", "micro_batch=4")
    words = ["tune", "--task", "llm-trsr", *settings, *recipe, "--model", str(folder / "model")]
    assert main([*words, "--out", str(folder / "lora"), "--threads", "1"]) == 0
    told = json.loads((folder / "lora" / "harness.json").read_text())
    assert told["recipe"]["targets"] == "q_proj,k_proj,v_proj,o_proj"
    assert told["selected"]["metric"] == "Recall@3+Recall@5+Recall@10"


def test_a_kill_loses_no_finished_block(folder: Path, tmp_path: Path) -> None:
    """What was written before the kill is read from the cache; the summaries are those of an undisturbed run."""
    words = summarise(folder, "method=recurrent", "users_seed=1")
    responses = home() / "cache" / "responses.sqlite"

    def kept() -> int:
        if not responses.exists():
            return 0
        with sqlite3.connect(f"file:{responses}?mode=ro", uri=True) as base:
            (count,) = base.execute("select count(*) from answers").fetchone()
            return int(count)

    before = kept()
    process = subprocess.Popen([sys.executable, "-m", "harness.cli", *words], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while kept() < before + 8:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = kept()
    assert there < before + 40
    assert main(words) == 0
    assert kept() == before + 40
    (path,) = (
        path for path in made(folder, "llm-trsr-summaries") if read_manifest(path)["settings"]["users_seed"] == 1
    )
    (session,) = read_sessions(path)
    assert session["cached"] >= there - before
    texts = {record.id: record.text for record in records(path)}
    assert main([*words, "--run-dir", str(tmp_path / "again"), "--no-cache"]) == 0
    assert {record.id: record.text for record in records(tmp_path / "again")} == texts


def test_seven_impressions_of_mind(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They prove that it runs on official files, both stages; and get no interval."""
    given = real("mind/with-text")
    files = tmp_path / "files"
    files.mkdir()
    (files / "news.tsv").symlink_to(given / "docs.tsv")
    lines = (given / "train.tsv").read_bytes() + (given / "test.tsv").read_bytes()
    (files / "behaviors.tsv").write_bytes(lines)
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    assert main(["data", "fetch", "mind", "--from", str(files)]) == 0
    all_seven = ("dataset=mind", "train=0", "valid=0", "test=7", "shortest=3", "longest=100")
    rest = ["--model", f"hf:{folder / 'model'}", "--runs", str(tmp_path / "runs"), "--threads", "1"]
    summaries = ["run", "--task", "llm-trsr-summaries", *sets(*all_seven, "max_tokens=16"), *rest]
    assert main(summaries) == 0
    (digest,) = made(tmp_path, "llm-trsr-summaries")
    assert main(["run", "--task", "llm-trsr", *sets(*all_seven, f"summaries={digest.name}", "recent=3"), *rest]) == 0
    (path,) = made(tmp_path, "llm-trsr")
    scores = read_scores(path)
    assert scores is not None
    assert (scores["instances"], scores["failures"]) == (7, {})
    recall = scores["metrics"]["Recall@10"]
    assert (recall["low"], recall["units"]) == (None, 7)
    assert recall["chance"] == pytest.approx(10 / 21)
