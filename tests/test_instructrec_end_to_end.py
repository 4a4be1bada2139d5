"""InstructRec with real parts: a T5 made on the spot is tuned, chooses its templates, and ranks in every scenario."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from harness.checkpoint import resolve
from harness.choice import read as read_choice
from harness.cli import main
from harness.engines.transformers import load
from harness.metrics import HitRate
from harness.model import EngineOptions, Model
from harness.runner import drive
from harness.store import read_manifest, read_scores, records
from harness.types import Choose, Instance, Prediction, Scores
from tasks.instructrec import InstructRec

pytestmark = pytest.mark.slow
SCENARIOS = (("sequential",), ("product-search",), ("personalised-search", "intention=I2"))


def sets(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def run(folder: Path, task: str, *words: str) -> Path:
    """The directory of a new run."""
    before = set((folder / "runs").glob("*/*"))
    rest = ["--model", f"hf:{folder / 'model'}", "--runs", str(folder / "runs"), "--threads", "1"]
    assert main(["run", "--task", task, *words, *rest]) == 0
    made = sorted(set((folder / "runs").glob("*/*")) - before, key=lambda path: path.stat().st_mtime)
    return made[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("instructrec")
    texts = sets("personalised=1", "forms=rank", "users=0.2", "max_history=5")
    words = ["tune", "--task", "instructrec-data", *texts, "--from-scratch", "tiny-t5"]
    assert main([*words, "--out", str(folder / "model"), "--threads", "1"]) == 0
    return folder


def plain(folder: Path) -> Any:
    """A teacher-forced pass of our own: encoder and decoder once for each pair, the end included."""
    import torch
    import transformers

    model = transformers.T5ForConditionalGeneration.from_pretrained(folder / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")

    def score(prompt: str, title: str) -> float:
        read, written = (torch.tensor([tokenizer(text)["input_ids"]]) for text in (prompt, title))
        with torch.inference_mode():
            table = model(input_ids=read, labels=written).logits[0].double().log_softmax(-1)
        return float(table[torch.arange(written.shape[1]), written[0]].sum())

    return score


def test_scores_are_those_of_a_plain_forward_pass(folder: Path) -> None:
    """And so is a tournament: brute force over its own groups."""
    loaded, score = load(resolve(Model("hf", str(folder / "model"))), [], EngineOptions(threads=1)), plain(folder)
    for task, count in ((InstructRec(), 4), (InstructRec(candidates="random99", max_history=3), 2)):
        instances = {instance.id: instance for instance in islice(task.instances(), count)}
        for name, made, _ in drive([(i.id, task.solve(i)) for i in instances.values()], loaded.engine()):
            assert isinstance(made, Prediction)
            expected = brute_force(task, instances[name], score)
            assert made.scores.keys() == expected.keys()
            assert max(abs(made.scores[item] - expected[item]) for item in expected) < 1e-4
    loaded.close()


def brute_force(task: InstructRec, instance: Instance, score: Any) -> dict[str, float]:
    """The last list's likelihoods, each computed by itself; the groups are read off what the program asks."""
    program, items = task.solve(instance), {item.text: item.id for item in instance.candidates or ()}
    asked = next(program)
    while len(asked) > 1:
        found: list[dict[str, float]] = [{t: score(one.prompt, t) for t in one.options} for one in choices(asked)]
        winners = {max(group, key=group.__getitem__) for group in found}
        # Any values in the same order send the same titles on.
        asked = program.send(tuple(Scores(tuple(group.values()), tokens=(1,) * len(group)) for group in found))
        assert {title for one in choices(asked) for title in one.options} == winners
    (last,) = choices(asked)
    return {items[title]: score(last.prompt, title) for title in last.options}


def choices(asked: Sequence[Any]) -> Sequence[Choose]:
    assert all(isinstance(one, Choose) for one in asked)
    return asked


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario[0])
def test_a_template_is_chosen_on_validation_and_the_paper_stands_beside(
    folder: Path, scenario: tuple[str, ...], tmp_path: Path
) -> None:
    given = sets(f"scenario={scenario[0]}", *scenario[1:], "max_history=5")
    path = run(folder, "instructrec", *given, "--choose", "instruction", "--choose-sample", "8", "--sample", "10")
    chosen = read_choice(path)
    assert chosen is not None
    family = {"s": "A7 A8 A9 A10 A13", "p": "B7 B8 B9"}[scenario[0][0]] if len(scenario) == 1 else "C10 C11 C12 C13"
    assert {one.value for one in chosen.alternatives} == set(family.split())
    scores = read_scores(path)
    assert scores is not None
    assert (scores["instances"], scores["failures"]) == (10, {})
    for k in (1, 3, 5):
        kept = [record.ranks for record in records(path)]
        hits = sum(rank <= k for ranks in kept for rank in ranks.values())
        assert scores["metrics"][HitRate(k).name]["value"] == pytest.approx(hits / 10)
    assert main(["leaderboard", "--runs", str(folder / "runs"), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "leaderboard.md").read_text()
    assert "chosen of" in text
    assert "Reported, not measured here: arXiv:2305.07001, Table" in text


def test_the_teacher_s_texts_go_into_questions(folder: Path) -> None:
    told = run(folder, "instructrec-write", *sets("max_tokens=8", "max_history=5"))
    assert len(list(records(told))) == 943
    given = sets("preference=P2", f"preferences={told.name}", "max_history=5")
    path = run(folder, "instructrec", *given, "--sample", "6")
    assert "preferences" in read_manifest(path)["data"]
    scores = read_scores(path)
    assert scores is not None
    assert scores["instances"] == 6


@pytest.fixture
def lora(folder: Path) -> Path:
    words = ["tune", "--task", "instructrec", *sets("budget=lora", "batch=8", "max_steps=2", "max_history=3")]
    out = folder / "lora"
    assert main([*words, "--shots", "32", "--model", str(folder / "model"), "--out", str(out), "--threads", "1"]) == 0
    return out


def test_every_weight_or_a_lora_can_be_tuned(folder: Path, lora: Path) -> None:
    words = ["tune", "--task", "instructrec-data", *sets("budget=ci", "max_steps=2", "forms=rank", "max_history=3")]
    rest = ["--shots", "48", "--model", str(folder / "model"), "--out", str(folder / "full"), "--threads", "1"]
    assert main([*words, *rest]) == 0
    told = json.loads((folder / "full" / "harness.json").read_text())
    assert (told["recipe"]["method"], told["trainable"]) == ("full", told["parameters"])
    path = run(folder, "instructrec", "--adapter", str(lora), "--sample", "5", *sets("max_history=3"))
    assert read_manifest(path)["model"]["adapter"]
