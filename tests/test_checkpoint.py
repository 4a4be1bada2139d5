"""Folders with models and adapters: what is read from them, and one clear line for everything that is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.checkpoint import resolve, resolve_adapter
from harness.errors import BadModel
from harness.model import Checkpoint, Model, Trust
from tests import engine_models

pytestmark = pytest.mark.slow

PICKLES = Trust(allow_pickle=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    base = engine_models.llama(folder / "llama")
    engine_models.llama(folder / "wide", width=256)
    engine_models.t5(folder / "t5")
    engine_models.lora(folder / "lora", base)
    engine_models.lora(folder / "zero", base, zero=True)
    return folder


@pytest.fixture
def base(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made / "llama", tmp_path / "base"))


@pytest.fixture
def lora(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "lora", tmp_path / "lora"))


def look(folder: Path | str, **more: Any) -> Checkpoint:
    return resolve(Model("auto", str(folder), **more))


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(BadModel) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_what_a_folder_says_of_itself(made: Path) -> None:
    found = look(made / "llama")
    assert (found.architecture, found.dtype, found.context) == ("LlamaForCausalLM", "float32", 512)
    assert not found.encoder_decoder
    t5 = look(made / "t5")
    assert (t5.architecture, t5.encoder_decoder, t5.context) == ("T5ForConditionalGeneration", True, None)
    assert look(made / "llama", dtype="bfloat16").dtype == "bfloat16"


def test_the_dtype_is_the_configurations(base: Path) -> None:
    edit(base / "config.json", dtype=None, torch_dtype="float16")
    assert look(base).dtype == "float16"
    edit(base / "config.json", torch_dtype=None)
    assert look(base).dtype == "float32"
    edit(base / "config.json", dtype="int3")
    assert "says dtype int3; choose one with --dtype" in refused(lambda: look(base))


def test_the_digest_follows_every_file_that_matters(base: Path, made: Path) -> None:
    before = look(base).digest
    assert before == look(made / "llama").digest, "where a folder lies does not matter"
    (base / "README.md").write_text("words")
    assert look(base).digest == before
    seen = {before}
    edit(base / "config.json", rms_norm_eps=1e-3)
    seen.add(look(base).digest)
    (base / "chat_template.jinja").write_text("{{ messages }}")
    seen.add(look(base).digest)
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    seen.add(look(base).digest)
    assert len(seen) == 4
    assert all(len(digest) >= 12 for digest in seen)


def test_shards_and_pickles_are_weights_too(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"model-1.safetensors": names[:5], "model-2.safetensors": names[5:]}
    for file, part in parts.items():
        save_file({name: weights[name] for name in part}, base / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    assert look(base).context == 512
    (base / "model-2.safetensors").unlink()
    assert "incomplete: model-2.safetensors is missing" in refused(lambda: look(base))
    for path in base.glob("*.safetensors*"):
        path.unlink()
    torch.save(weights, base / "pytorch_model.bin")
    assert look(base, trust=PICKLES).digest


@pytest.mark.parametrize("name", ["./none", "/no/where", "~/none", "a/b/c", "tests/none", "../x"])
def test_a_path_that_is_not_there_is_said_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # importing it would fail
    assert refused(lambda: look(name)) == f"no model folder {name}"


def test_a_hub_id_that_is_not_cached_and_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said = refused(lambda: look("nobody/no-such-model"))
    assert said.startswith("nobody/no-such-model is not in the local cache and HF_HUB_OFFLINE is set")
    assert "cannot be a hub id" in refused(lambda: look("no such model"))


def test_a_cached_hub_id_is_found_offline(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    commit = "0123456789012345678901234567890123456789"
    cached = tmp_path / "hub" / "models--some--model"
    shutil.copytree(base, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    found = look("some/model")
    assert (found.name, found.digest) == ("some/model", look(base).digest)


def test_what_is_no_model_is_one_line(base: Path, made: Path, tmp_path: Path) -> None:
    assert refused(lambda: look(base / "config.json")).endswith(
        "give the folder that holds config.json and the weights"
    )
    assert "--revision v2 is for hub ids" in refused(lambda: look(base, revision="v2"))
    assert refused(lambda: look(made / "lora")).endswith("give its base with --model and it with --adapter")
    (tmp_path / "empty").mkdir()
    assert refused(lambda: look(tmp_path / "empty")).endswith("is no model: it has no config.json")
    for path in base.glob("tokenizer*"):
        path.rename(tmp_path / path.name)
    assert "has no tokenizer: none of tokenizer.json" in refused(lambda: look(base))
    (base / "model.safetensors").unlink()
    assert "has no weights: neither *.safetensors nor pytorch_model*.bin" in refused(lambda: look(base))
    (base / "config.json").write_text("{")
    assert "config.json is not readable JSON" in refused(lambda: look(base))
    (base / "config.json").write_text("[]")
    assert "config.json is not a JSON object" in refused(lambda: look(base))


def test_a_configuration_without_an_architecture(base: Path) -> None:
    edit(base / "config.json", architectures=None)
    assert "names no architecture" in refused(lambda: look(base))


def test_broken_downloads_are_noticed(base: Path) -> None:
    weights = base / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    assert "is truncated" in refused(lambda: look(base))
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", whole[:50]):
        weights.write_bytes(content)
        assert "is not a safetensors file; was it downloaded completely?" in refused(lambda: look(base))


def test_an_adapter_is_read(lora: Path, made: Path) -> None:
    found = resolve_adapter(lora, look(made / "llama"))
    assert (found.rank, found.manifest, found.folder) == (8, None, lora)
    assert found.digest == resolve_adapter(made / "lora", look(made / "llama")).digest
    edit(lora / "adapter_config.json", rank_pattern={"q_proj": 32}, base_model_name_or_path="elsewhere")
    assert resolve_adapter(lora, look(made / "llama")).rank == 32


def test_a_manifest_must_name_this_base(lora: Path, made: Path) -> None:
    checkpoint = look(made / "llama")
    (lora / "harness.json").write_text(json.dumps({"base_digest": checkpoint.digest, "shots": 64}))
    found = resolve_adapter(lora, checkpoint)
    assert found.manifest is not None
    assert found.manifest["shots"] == 64
    (lora / "harness.json").write_text(json.dumps({"base_digest": "0" * 16}))
    said = refused(lambda: resolve_adapter(lora, checkpoint))
    assert f"is for another base model: it was tuned on {'0' * 16}" in said


def test_adapters_that_cannot_work_are_one_line(lora: Path, made: Path, tmp_path: Path) -> None:
    checkpoint = look(made / "llama")
    assert refused(lambda: resolve_adapter(tmp_path / "none", checkpoint)) == f"no adapter folder {tmp_path / 'none'}"
    assert "it has no adapter_config.json" in refused(lambda: resolve_adapter(made / "llama", checkpoint))
    zero = refused(lambda: resolve_adapter(made / "zero", checkpoint))
    assert "zero changes nothing: every lora_B in it is zero" in zero
    edit(lora / "adapter_config.json", peft_type="IA3")
    assert "is of type IA3; only LORA is supported" in refused(lambda: resolve_adapter(lora, checkpoint))
    edit(lora / "adapter_config.json", peft_type="LORA", r=0)
    assert "has rank 0" in refused(lambda: resolve_adapter(lora, checkpoint))
    edit(lora / "adapter_config.json", r=8)
    save_file({}, lora / "adapter_model.safetensors")
    assert "holds no weights: there is no lora_B" in refused(lambda: resolve_adapter(lora, checkpoint))
    (lora / "adapter_model.safetensors").unlink()
    assert "holds no weights: adapter_model.safetensors is missing" in refused(
        lambda: resolve_adapter(lora, checkpoint)
    )
    (lora / "adapter_model.bin").write_bytes(b"pickle")
    allowed = replace(checkpoint, trust=PICKLES)
    assert resolve_adapter(lora, allowed).rank == 8, "pickles are left to the engine"
    edit(lora / "adapter_config.json", rank_pattern={"q_proj": "x"})
    assert "has no ranks in rank_pattern" in refused(lambda: resolve_adapter(lora, allowed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_minus_zero_is_zero_and_one_number_is_enough(lora: Path, made: Path, dtype: Any) -> None:
    weights = load_file(lora / "adapter_model.safetensors")
    weights = {name: (-0.0 * w if "lora_B" in name else w).to(dtype) for name, w in weights.items()}
    save_file(weights, lora / "adapter_model.safetensors")
    assert "changes nothing" in refused(lambda: resolve_adapter(lora, look(made / "llama")))
    last = sorted(name for name in weights if "lora_B" in name)[-1]
    weights[last][0, 0] = 1e-6
    save_file(weights, lora / "adapter_model.safetensors")
    assert resolve_adapter(lora, look(made / "llama"))


def test_an_adapter_for_another_base_is_told_by_its_shapes(lora: Path, made: Path, base: Path) -> None:
    said = refused(lambda: resolve_adapter(lora, look(made / "wide")))
    assert "is for another base model: it wants model.layers.0." in said
    assert "(128x" in said
    assert "wide has (256x" in said
    weights = load_file(lora / "adapter_model.safetensors")
    more = {name.replace("layers.1.", "layers.7."): tensor for name, tensor in weights.items()}
    save_file(more, lora / "adapter_model.safetensors")
    said = refused(lambda: resolve_adapter(lora, look(base)))
    assert "it wants model.layers.7." in said
    assert said.endswith("has no such layer")


def test_pickled_bases_leave_shapes_to_the_engine(lora: Path, base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    torch.save(weights, base / "pytorch_model.bin")
    assert resolve_adapter(lora, look(base, trust=PICKLES)).rank == 8


def test_a_file_that_was_changed_behind_its_time_and_size_is_another(base: Path) -> None:
    """As `rsync -t` or a hand may do it: the very bytes decide, not what a file says of itself."""
    weights, before = base / "model.safetensors", look(base)
    noted = weights.stat()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(noted.st_atime_ns, noted.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (noted.st_size, noted.st_mtime_ns)
    assert look(base).digest != before.digest


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-8, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0]},
        {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]},
        {"dtype": "F32", "data_offsets": [0, 4]},
        [1],
    ],
)
def test_a_header_that_lies_is_no_header(base: Path, entry: object) -> None:
    header = json.dumps({"x": entry}).encode()
    (base / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    assert "is not a safetensors file" in refused(lambda: look(base))


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, harness.checkpoint; print([m for m in ('torch', 'transformers', 'vllm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_does_not_continue_texts_is_refused(tmp_path: Path) -> None:
    folder = engine_models.llama(tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}))
    with pytest.raises(BadModel, match="is a BertForMaskedLM, which does not continue texts"):
        resolve(Model("hf", str(folder)))


def test_learned_positions_of_an_encoder_decoder_are_its_context(tmp_path: Path) -> None:
    folder = engine_models.llama(tmp_path / "bart")
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["BartForConditionalGeneration"], "is_encoder_decoder": True}
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
    assert resolve(Model("hf", str(folder))).context == 64
    assert resolve(Model("hf", str(engine_models.t5(tmp_path / "t5")))).context is None
