"""InstructRec on the files that its users have: the paper's counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data.fetch import fetch
from harness.errors import BadSetting
from tasks.instructrec import InstructRec
from tests.real_data import real

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))


def test_games_has_the_papers_counts() -> None:
    fetch("amazon-games-sequences", real("amazon-games-2018"))
    task = InstructRec(dataset="amazon-games")
    assert (task.size(), len(task.catalogue().items)) == (50_546, 16_859)
    lengths = [len(line.events) + 2 for line in task.timelines()]
    assert sum(min(20, length) for length in lengths) == 410_907, "the last twenty events of each user"


def test_cds_can_be_searched() -> None:
    fetch("amazon-cds-sequences", real("amazon-cds-2018"))
    task = InstructRec(dataset="amazon-cds", scenario="product-search")
    sizes = [task.size(split) for split in ("train", "valid", "test")]
    assert sum(sizes) == 62_302
    assert sizes == pytest.approx([0.8 * 62_302, 0.1 * 62_302, 0.1 * 62_302], abs=50)
    assert "Pop." in {instance.context for instance in task.instances()}
    with pytest.raises(BadSetting, match="amazon-cds-sequences is a five-core and cannot be another; set k_core=5"):
        InstructRec(dataset="amazon-cds", k_core=20).size()


def test_instruments_are_asked_for_in_the_reviewers_words() -> None:
    fetch("amazon-instruments", real("amazon-reviews-2014"))
    task = InstructRec(dataset="amazon-instruments", items="reviews", scenario="personalised-search")
    assert (task.size(), len(task.catalogue().items)) == (1_429, 900)
    instances = list(task.instances())
    assert all(instance.context and len(instance.context.split()) <= 40 for instance in instances)
    assert len({item.text for item in task.catalogue().items}) > 850, "names tell them apart"
