"""One model over several devices of vLLM's, as far as a CPU goes: two processes that share each layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.checkpoint import resolve
from harness.engines.vllm import load
from harness.errors import BadModel
from harness.model import EngineOptions, Model
from harness.testing.engines import largest_gap, questions, values
from tests import engine_models

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # vLLM and what it imports
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four heads, two of them for keys and values."""
    return engine_models.llama(tmp_path_factory.mktemp("models") / "llama")


def scored(folder: Path, devices: int) -> list[tuple[float, ...]]:
    options = EngineOptions(threads=1, kv_cache_gib=1, tensor_parallel=devices)
    loaded = load(resolve(Model("vllm", str(folder))), [], options)
    try:
        return values(loaded.engine(), questions(24))
    finally:
        loaded.close()


def test_two_devices_score_as_one(llama: Path) -> None:
    gap = largest_gap(scored(llama, 1), scored(llama, 2))
    print("largest gap", gap)
    assert gap < 1e-4


def test_what_vllm_says_of_a_wrong_number_is_one_line(llama: Path) -> None:
    with pytest.raises(BadModel, match=r"vLLM cannot load .*divisible by tensor parallel size \(3\)") as caught:
        scored(llama, 3)
    assert "\n" not in str(caught.value)


def test_vllm_has_no_data_parallelism_for_an_offline_dense_model(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why `--data-parallel` starts workers. Once this fails, it might be passed through."""
    from vllm.engine.arg_utils import EngineArgs

    monkeypatch.setenv("VLLM_DP_SIZE", "2")
    with pytest.raises(ValueError, match="Offline data parallel mode is not supported/useful for dense models"):
        EngineArgs(model=str(llama)).create_engine_config()
