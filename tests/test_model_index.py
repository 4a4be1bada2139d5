"""The evaluation block of model cards, read back by the hub's own library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from harness.cli import main
from tests.choices import Harness
from tests.edits import unsealed

CARD = "---\r\nlicense: mit\r\ntags:\r\n- films\r\n---\r\n\r\n# A model  \r\n\r\n| a | b |\r\n--- \r\nno line end"


@pytest.fixture
def runs(harness: Harness) -> list[str]:
    """Three runs of one model: two tasks, and another wording of the first."""
    harness("--set", "wording=B", "--run-dir", "runs/B")
    harness("--set", "wording=A", "--sample", "12", "--run-dir", "runs/A")
    harness("--set", "wording=C", "--run-dir", "runs/placed", task="placed")
    return ["runs/B", "runs/A", "runs/placed"]


def block(text: str) -> Any:
    assert text.startswith("---\n")
    assert text.endswith("---\n")
    return yaml.safe_load(text.removeprefix("---\n").removesuffix("---\n"))["model-index"]


def scores(run: str) -> Any:
    return json.loads((Path(run) / "scores.json").read_text())["metrics"]


def test_the_block_says_what_the_runs_say(harness: Harness, runs: list[str]) -> None:
    (entry,) = block(harness(*runs, "--url", "https://example.org/table", command="export"))
    assert entry["name"] == "m"
    first, second, third = entry["results"]
    hit = scores("runs/B")["HR@1"]
    assert first == {
        "task": {"type": "recommendation", "name": "wording(wording=B)"},
        "dataset": {
            "name": "numbers",
            "type": "numbers",
            "config": "wording(wording=B), version 1",
            "split": "test",
            "revision": "1",
        },
        "metrics": [
            {
                "type": name.lower().replace("@", "_at_"),
                "value": found["value"],
                "name": name,
                "args": {
                    "low": found["low"],
                    "high": found["high"],
                    "level": 0.95,
                    "method": "wilson",
                    "units": "20 instances",
                    "instances": 20,
                    "chance": found["chance"],
                },
                "verified": False,
            }
            for name, found in scores("runs/B").items()
        ],
        "source": {"name": "llmrec-harness 0.1.0", "url": "https://example.org/table"},
    }
    assert hit["value"] == 0.5
    assert second["dataset"]["config"] == "wording(wording=A), version 1 [sample 12, seed 0]"
    assert third["metrics"][0]["name"] == "Place"


@pytest.mark.parametrize("more", [[], ["--url", "https://example.org"], ["--name", "me/my-model"]])
def test_the_hub_s_parser_reads_it_and_writes_the_same(harness: Harness, runs: list[str], more: list[str]) -> None:
    text = harness(*runs, *more, command="export")
    entries = block(text)
    name, results = model_index_to_eval_results(entries)
    assert eval_results_to_model_index(name, results) == entries
    card: Any = ModelCard(text + "# A model\n")
    assert card.data.model_name == name == ("me/my-model" if "--name" in more else "m")
    assert card.data.eval_results == results
    assert [one.metric_value for one in results] == [f["value"] for run in runs for f in scores(run).values()]
    assert all(one.verified is False for one in results)
    assert card.data.to_dict()["model-index"] == entries


def test_a_card_keeps_all_else(harness: Harness, runs: list[str]) -> None:
    card = Path("README.md")
    card.write_bytes(CARD.encode())
    harness(*runs[:2], "--out", "README.md", command="export")
    first = card.read_bytes()
    body = CARD.split("---\r\n", 2)[2].encode()
    assert first.endswith(body)
    assert first.count(b"\r\n") == first.count(b"\n")
    found = metadata_load(card)
    assert found is not None
    assert list(found) == ["license", "tags", "model-index"]
    assert (found["license"], found["tags"]) == ("mit", ["films"])
    assert found["model-index"] == block(harness(*runs[:2], command="export"))
    harness(*runs[:2], "--out", "README.md", command="export")
    assert card.read_bytes() == first, "the same results once more change nothing"
    assert not list(Path().glob("*.partial"))


def test_new_numbers_replace_old_ones_and_others_stay(harness: Harness, runs: list[str]) -> None:
    foreign = {"task": {"type": "text-generation"}, "dataset": {"type": "x", "name": "X"}, "metrics": []}
    head = {"model-index": [{"name": "mine", "results": [foreign]}]}
    Path("README.md").write_text(f"---\n{yaml.safe_dump(head)}---\nbody\n")
    harness(runs[0], "--out", "README.md", command="export")
    (entry,) = (metadata_load("README.md") or {})["model-index"]
    assert entry["name"] == "mine"
    assert entry["results"][0] == foreign
    file = Path("runs/B/scores.json")
    other = unsealed(file)
    other["metrics"]["HR@1"]["value"] = 0.75
    file.write_text(json.dumps(other))
    harness(runs[2], runs[0], "--out", "README.md", "--name", "ours", command="export")
    (entry,) = (metadata_load("README.md") or {})["model-index"]
    assert entry["name"] == "ours"
    assert [one["task"].get("name") for one in entry["results"]] == [None, "wording(wording=B)", "placed(wording=C)"]
    assert entry["results"][1]["metrics"][0]["value"] == 0.75
    several: Any = {"model-index": [{"name": name, "results": []} for name in ("a", "b")]}
    Path("README.md").write_text(f"---\n{yaml.safe_dump(several)}---\n")
    harness(runs[0], "--out", "README.md", command="export")
    assert [one["name"] for one in (metadata_load("README.md") or {})["model-index"]] == ["a", "b", "m"]


def test_a_card_that_is_not_there_or_has_no_front_matter(harness: Harness, runs: list[str]) -> None:
    printed = harness(*runs, command="export")
    harness(*runs, "--out", "NEW.md", command="export")
    assert metadata_load("NEW.md") == {"model-index": block(printed)}
    Path("PLAIN.md").write_text("# Title\n")
    harness(*runs, "--out", "PLAIN.md", command="export")
    assert Path("PLAIN.md").read_text().endswith("---\n# Title\n")
    assert metadata_load("PLAIN.md") == {"model-index": block(printed)}


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ("a: [", "the front matter of README.md is no YAML mapping"),
        ("- a\n- b", "the front matter of README.md is no YAML mapping"),
        ("model-index: 7", "model-index in README.md is not a list of names and results"),
        ("model-index:\n- name: x", "model-index in README.md is not a list of names and results"),
        ("model-index:\n- name: x\n  results: [1]", "model-index in README.md is not a list of names and results"),
    ],
)
def test_a_card_that_cannot_be_read_is_left_alone(harness: Harness, runs: list[str], front: str, said: str) -> None:
    text = f"---\n{front}\n---\nbody\n"
    Path("README.md").write_text(text)
    told = harness(runs[0], "--out", "README.md", command="export", code=2)
    assert told.count("\n") == 1
    assert said in told
    assert Path("README.md").read_text() == text


def test_what_is_no_score_is_left_out(harness: Harness, runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    harness("--set", "wording=off", "--run-dir", "runs/off", task="placed")
    assert main(["export", runs[0], "runs/off"]) == 0
    said = capsys.readouterr()
    assert len(block(said.out)[0]["results"]) == 1
    assert said.err == "runs/off is left out, n/a: no such wording for this model\n"
    assert "none of the runs has answers" in harness("runs/off", command="export", code=2)


def test_what_cannot_stand_on_one_card_is_refused(harness: Harness, runs: list[str]) -> None:
    def refused(*words: str) -> str:
        said = harness(*words, command="export", code=2)
        assert said.count("\n") == 1
        return said.removeprefix("harness: ").rstrip()

    assert main(["run", "--task", "wording", "--model", "simple:random", "--run-dir", "runs/random"]) == 0
    assert refused(runs[2], "runs/random") == (
        "runs/placed and runs/random are of two models, m (fake, float32) and simple:random; a model card is about one"
    )
    harness("--set", "wording=B", "--dtype", "bfloat16", "--run-dir", "runs/half")
    assert "asked the same questions in the same protocol; export one of them" in refused(runs[0], "runs/half")
    (Path(runs[0]) / "scores.json").unlink()
    assert refused(runs[0]).startswith("runs/B is not complete; ")
    assert "--name is empty" in refused(runs[1], "--name", " ")


@pytest.mark.slow
def test_diagnostics_are_no_scores_and_paths_stay_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--task", "tallrec", "--model", "simple:like-rate", "--run-dir", "run"]) == 0
    manifest = unsealed(Path("run/run.json"))
    manifest["model"] = {"name": f"{tmp_path}/secret/base + ./lora (hf, float32)", "weights": "w", "adapter": "a"}
    manifest["settings"]["runs"] = str(tmp_path)
    Path("run/run.json").write_text(json.dumps(manifest))
    capsys.readouterr()
    assert main(["export", "run"]) == 0
    said = capsys.readouterr()
    assert str(tmp_path) not in said.out
    (entry,) = block(said.out)
    assert entry["name"] == "base + lora"
    (result,) = entry["results"]
    assert (result["metrics"][0]["type"], result["metrics"][0]["value"]) == ("roc_auc", pytest.approx(0.72603083269132))
    assert [one["name"] for one in result["metrics"]] == ["AUC", "UserAUC"]
    assert result["dataset"]["name"] == "MovieLens 100K"
    assert said.err == "run: AUC[log_odds] is left out: n/a\n"
