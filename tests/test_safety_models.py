"""Folders of strangers: what would run code is not run unless that was said, through the commands that people give.

Every trap here is real: it writes a file where it goes off, and each of them is shown to go off where nothing holds it.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.checkpoint import resolve, resolve_adapter
from harness.cli import main
from harness.engines.encode import Encoder, load_tokenizer
from harness.engines.transformers import load
from harness.engines.weights import load_weights
from harness.errors import BadModel
from harness.model import EngineOptions, Model, Trust
from harness.types import Choose, Key, Scores
from tests import engine_models
from tests.engine_models import PROMPTS

pytestmark = pytest.mark.slow

Spring = Callable[[], bool]


class Trap:
    """Pickled, it is a call of `os.mkdir`."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    engine_models.lora(folder / "lora", engine_models.llama(folder / "base", width=32, layers=1, context=2048))
    return folder


@pytest.fixture
def base(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "base", tmp_path / "base"))


@pytest.fixture
def lora(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "lora", tmp_path / "lora"))


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path / "sprung")


def as_pickle(folder: Path, name: str, found: str, more: dict[str, Any] | None = None) -> None:
    """The same weights in the older format; `more` is pickled with them."""
    weights = load_file(folder / found)
    (folder / found).unlink()
    torch.save({**weights, **(more or {})}, folder / name)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command that must fail says: one line, and exit code 2."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("loading ")]
    assert len(lines) == 1, err
    assert lines[0].startswith("harness: ")
    return lines[0]


def commands(base: Path, tmp_path: Path, adapter: Path | None = None) -> list[list[object]]:
    """Every command that takes a model."""
    with_it = ["--adapter", adapter] if adapter else []
    asked = ["--task", "tallrec", "--model", f"hf:{base}", *with_it]
    found = [["run", *asked, "--sample", "3", "--runs", tmp_path / "runs", "--no-cache"]]
    found += [["tune", "--task", "tallrec", "--model", base, *with_it, "--shots", "4", "--out", tmp_path / "out"]]
    return found if adapter else [*found, ["prompt", "--ids", *asked]]


def test_the_trap_is_real(trap: Trap) -> None:
    pickle.loads(pickle.dumps(trap))
    assert trap.place.is_dir()


def test_pickled_weights_are_refused_by_every_command(
    base: Path, trap: Trap, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_pickle(base, "pytorch_model.bin", "model.safetensors", {"trap": trap})
    for command in commands(base, tmp_path):
        said = refused(capsys, *command)
        assert "are pickles (pytorch_model.bin), which may run code when they are read" in said
        assert said.endswith("say --allow-pickle")
    assert main(["grid", "--task", "tallrec", "--model", f"hf:{base}", "--runs", str(tmp_path / "runs")]) == 1
    assert "are pickles (pytorch_model.bin)" in capsys.readouterr().err
    assert not trap.place.exists()


def test_a_trap_among_allowed_pickles_does_not_go_off_either(
    base: Path, trap: Trap, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_pickle(base, "pytorch_model.bin", "model.safetensors", {"trap": trap})
    for command in commands(base, tmp_path)[:2]:
        assert "cannot be loaded by transformers: " in refused(capsys, *command, "--allow-pickle")
    assert not trap.place.exists()


def test_pickles_that_are_allowed_answer_as_their_safetensors_do(base: Path, made: Path) -> None:
    request = Choose(PROMPTS[0], ("Yes", "No"))

    def answers(folder: Path, trust: Trust) -> tuple[float, ...]:
        checkpoint = resolve(Model("hf", str(folder), trust=trust))
        loaded = load(checkpoint, [], EngineOptions(threads=1))
        engine = loaded.engine()
        engine.submit([(Key("a", 0, 0), request)])
        ((_, reply),) = engine.collect()
        loaded.close()
        assert isinstance(reply, Scores)
        return reply.values

    as_pickle(base, "pytorch_model.bin", "model.safetensors")
    found = resolve(Model("hf", str(base), trust=Trust(allow_pickle=True)))
    assert found.pickled
    assert found.digest != resolve(Model("hf", str(made / "base"))).digest, "other bytes are other weights"
    assert answers(base, Trust(allow_pickle=True)) == answers(made / "base", Trust())


def test_pickled_adapters(
    base: Path, lora: Path, trap: Trap, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_pickle(lora, "adapter_model.bin", "adapter_model.safetensors", {"trap": trap})
    for command in commands(base, tmp_path, lora):
        assert "are pickles (adapter_model.bin), which may run code" in refused(capsys, *command)
    run, _ = commands(base, tmp_path, lora)
    assert f"adapter {lora} cannot be put on {base}: " in refused(capsys, *run, "--allow-pickle")
    assert not trap.place.exists()


@pytest.mark.parametrize("beside", ["pytorch_model.bin", "model.bin", "model.pt"])
def test_a_pickle_beside_safetensors_is_not_opened(base: Path, trap: Trap, beside: str) -> None:
    """Even where the safetensors have a name that transformers does not look for."""
    torch.save({"trap": trap}, base / beside)
    checkpoint = resolve(Model("hf", str(base)))
    load(checkpoint, [], EngineOptions(threads=1)).close()
    (base / "model.safetensors").rename(base / "other.safetensors")
    with pytest.raises(BadModel, match="cannot be loaded by transformers"):
        load(resolve(Model("hf", str(base))), [], EngineOptions(threads=1))
    assert not trap.place.exists()


@pytest.mark.parametrize(
    "shard",
    ["trap.bin", "../elsewhere.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", "a\0.safetensors", 7, None],
)
def test_an_index_names_safetensors_of_its_own_folder_or_nothing(base: Path, trap: Trap, shard: object) -> None:
    weights = load_file(base / "model.safetensors")
    for place in (base.parent / "elsewhere.safetensors", base / "sub" / "x.safetensors"):
        place.parent.mkdir(exist_ok=True)
        save_file(weights, place, metadata={"format": "pt"})
    torch.save({"trap": trap}, base / "trap.bin")
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(weights, shard)}))
    with pytest.raises(BadModel) as caught:
        resolve(Model("hf", str(base), trust=Trust(allow_pickle=True)))
    assert "which is no .safetensors file of its own folder" in str(caught.value)
    assert "\n" not in str(caught.value)


MODULE = """
from pathlib import Path
from transformers import LlamaForCausalLM, LlamaConfig, PreTrainedTokenizerFast

Path({place!r}).mkdir(exist_ok=True)


class OwnConfig(LlamaConfig):
    model_type = "own-kind-of-llama"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig


class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


def with_code(base: Path, place: Path, where: str) -> None:
    """A model, or a tokenizer, whose class lies beside it."""
    (base / "own.py").write_text(MODULE.format(place=str(place)))
    if where == "config.json":
        classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
        edit(base / where, auto_map=classes, model_type="own-kind-of-llama", architectures=["OwnForCausalLM"])
    else:
        edit(base / where, auto_map={"AutoTokenizer": [None, "own.OwnTokenizer"]}, tokenizer_class="OwnTokenizer")


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json"])
def test_code_of_a_model_runs_only_if_that_is_said(
    base: Path,
    trap: Trap,
    where: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    with_code(base, trap.place, where)
    for command in commands(base, tmp_path):
        said = refused(capsys, *command)
        assert f"has Python code of its own (auto_map in {where}), which could do anything" in said
        assert "say --trust-remote-code" in said
    assert not trap.place.exists()
    run, *_ = commands(base, tmp_path)
    assert main([*map(str, run), "--trust-remote-code"]) == 0
    assert trap.place.is_dir()


def test_code_beside_a_model_that_the_library_knows_is_left_alone(base: Path, trap: Trap, tmp_path: Path) -> None:
    """Many models of the hub still have the code that they came with."""
    plain = resolve(Model("hf", str(base)))
    with_code(base, trap.place, "config.json")
    edit(base / "config.json", model_type="llama", architectures=["LlamaForCausalLM"])
    left = resolve(Model("hf", str(base)))
    assert left.architecture == plain.architecture
    assert type(load_weights(left, load_tokenizer(left))).__module__.startswith("transformers.")
    assert not trap.place.exists()


def test_two_kinds_of_whole_weights_are_refused(base: Path) -> None:
    """transformers takes the single file, others the index: the digest could cover but one of them."""
    whole = base / "model.safetensors"
    shutil.copy(whole, base / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"model.embed_tokens.weight": "model-00001-of-00001.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadModel, match=r"holds model.safetensors and model.safetensors.index.json"):
        resolve(Model("hf", str(base)))
    whole.unlink()
    assert resolve(Model("hf", str(base)))


def test_code_that_runs_is_part_of_the_weights(base: Path, trap: Trap) -> None:
    trusting = Model("hf", str(base), trust=Trust(trust_remote_code=True))
    plain = resolve(trusting).digest
    assert plain == resolve(Model("hf", str(base))).digest, "trust alone changes nothing"
    (base / "own.py").write_text("")
    assert resolve(trusting).digest == plain, "what is not run does not count"
    with_code(base, trap.place, "config.json")
    seen = {plain, resolve(trusting).digest}
    (base / "own.py").write_text((base / "own.py").read_text() + "# another\n")
    seen.add(resolve(trusting).digest)
    (base / "part").mkdir()
    (base / "part" / "own.py").write_text("")
    seen.add(resolve(trusting).digest)
    assert len(seen) == 4
    assert not trap.place.exists()


@pytest.mark.parametrize("trust", [Trust(), Trust(trust_remote_code=True)])
def test_code_from_elsewhere_is_refused_whatever_is_said(base: Path, trust: Trust) -> None:
    model = Model("hf", str(base), trust=trust)
    edit(base / "config.json", attn_implementation={"": "somebody/kernel"})
    with pytest.raises(BadModel, match=r"takes code from the hub \(attn_implementation is 'somebody/kernel'\)"):
        resolve(model)
    edit(base / "config.json", attn_implementation="sdpa", text_config={"_attn_implementation": "a:b"})
    with pytest.raises(BadModel, match="takes code from the hub"):
        resolve(model)
    auto_map = {"AutoModelForCausalLM": "some/body--own.OwnForCausalLM"}
    edit(base / "config.json", text_config={}, auto_map=auto_map, model_type="own-kind-of-llama")
    found = "takes its code from some/body; put that code" if trust.trust_remote_code else "has Python code of its own"
    with pytest.raises(BadModel, match=found):
        resolve(model)


def test_an_adapter_in_a_models_folder_is_not_put_on_it_in_silence(base: Path, made: Path) -> None:
    for path in (made / "lora").glob("adapter_*"):
        shutil.copy(path, base)
    with pytest.raises(BadModel, match="holds a model and an adapter"):
        resolve(Model("hf", str(base)))
    assert resolve_adapter(made / "lora", resolve(Model("hf", str(made / "base")))).rank == 8


TEMPLATES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.mkdir(PLACE) }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ strftime_now.__globals__ }}",
    "{{ strftime_now.__self__.__class__.__base__.__subclasses__() }}",
    "{{ ''['__cla' ~ 'ss__'] }}",
    "{{ (''|attr('__class__')).__mro__ }}",
    "{{ raise_exception.__globals__['__builtins__']['__import__']('os').mkdir(PLACE) }}",
    "{{ namespace.__init__.__globals__ }}",
    "{% include 'SECRET' %}",
    "{% import 'SECRET' as x %}{{ x }}",
    "{% extends 'SECRET' %}",
    "{{ messages.append({'role': 'x', 'content': 'y'}) }}",
    "{{ '{0.__class__.__mro__}'.format(messages) }}",
)


@pytest.mark.parametrize("where", ["tokenizer", "file"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_chat_template_reads_and_changes_nothing(
    base: Path, template: str, where: str, trap: Trap, tmp_path: Path
) -> None:
    """Whether it comes with the model or with --template: it fails, or what it asks for comes out empty."""
    secret = tmp_path / "secret"
    secret.write_text("the secret words")
    text = template.replace("SECRET", str(secret)).replace("PLACE", repr(str(trap.place)))
    place = base / "chat_template.jinja" if where == "tokenizer" else tmp_path / "mine.jinja"
    place.write_text(text)
    tokenizer = load_tokenizer(resolve(Model("hf", str(base))))
    said = ""
    try:
        (ids,) = Encoder(tokenizer, "chat" if where == "tokenizer" else str(place), "m").prompts(["Hello"])
        said = tokenizer.decode(ids).removeprefix("<s>").strip()
    except BadModel as error:
        assert str(error).startswith("the chat template of m fails on a user message: ")  # noqa: PT017  # it need not be raised
        assert "\n" not in str(error)  # noqa: PT017  # likewise
    assert said == ""
    assert not trap.place.exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # vLLM leaves a socket open where it cannot load a model
def test_vllm_opens_the_files_that_were_looked_at(tmp_path: Path, trap: Trap) -> None:
    """Safetensors and no pickle beside them; pickles where they are allowed, and then no trap among them."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from harness.engines import vllm

    base = engine_models.llama(tmp_path / "base")
    options = EngineOptions(threads=2, kv_cache_gib=1, max_model_len=256)
    allowing = Trust(allow_pickle=True)

    def answers(folder: Path, trust: Trust) -> tuple[float, ...]:
        loaded = vllm.load(resolve(Model("vllm", str(folder), trust=trust)), [], options)
        try:
            engine = loaded.engine()
            engine.submit([(Key("a"), Choose(PROMPTS[0], ("Yes", "No")))])
            ((_, reply),) = engine.collect()
        finally:
            loaded.close()
        assert isinstance(reply, Scores)
        return reply.values

    torch.save({"trap": trap}, base / "pytorch_model.bin")
    torch.save({"trap": trap}, base / "model.pt")
    found = answers(base, Trust())
    assert not trap.place.exists()
    for name in ("pytorch_model.bin", "model.pt"):
        (base / name).unlink()
    as_pickle(base, "pytorch_model.bin", "model.safetensors")
    assert answers(base, allowing) == pytest.approx(found, abs=1e-5)
    weights = torch.load(base / "pytorch_model.bin", weights_only=True)
    torch.save({**weights, "trap": trap}, base / "pytorch_model.bin")
    with pytest.raises(BadModel, match="vLLM cannot load"):
        answers(base, allowing)
    gc.collect()
    assert not trap.place.exists()
