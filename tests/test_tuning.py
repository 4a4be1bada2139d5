"""Fine-tuning with real parts: the Trainer, peft and transformers on tiny models, killed, resumed, read back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

from harness.checkpoint import resolve, resolve_adapter
from harness.engines.transformers import load
from harness.errors import BadModel, BadSetting, HarnessError, StaleRun
from harness.evaluation import perform
from harness.job import Job
from harness.model import EngineOptions, Model
from harness.tuning.job import tune
from harness.tuning.plan import Plan
from harness.tuning.recipe import Draw, find_recipe
from harness.tuning.selection import headline
from harness.tuning.spec import Tuning, identity
from harness.types import Choose, Key, Scores
from tests import engine_models
from tests.fakes import Coins

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
PROMPT = "Does user 3 like coin 3?"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engine_models.llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def encoder_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engine_models.t5(tmp_path_factory.mktemp("models") / "t5")


def tuning(base: Path, /, **fields: str) -> Tuning:
    """32 coins, by the quick recipe with these fields changed."""
    return Tuning((Coins(),), Model.parse(str(base)), find_recipe(Coins(), fields), Draw(shots=32))


def quietly(line: str) -> None:
    pass


def made(tuned: Tuning, out: Path) -> dict[str, Any]:
    return tune(tuned, out, quietly, threads=1)


def weights_digest(folder: Path) -> str:
    return sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def tuned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "lora"
    made(tuning(base), out)
    return out


def test_an_adapter_is_what_any_other_tool_loads(base: Path, tuned: Path) -> None:
    """peft and transformers by themselves give the log-probabilities that the harness's engine gives."""
    checkpoint = resolve(Model.parse(str(base)))
    adapter = resolve_adapter(tuned, checkpoint)
    loaded = load(checkpoint, [adapter], EngineOptions())
    engine = loaded.engine(adapter)
    engine.submit([(Key("a"), Choose(PROMPT, ("Yes", "No")))])
    ((_, ours),) = engine.collect()
    assert isinstance(ours, Scores)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    model = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base), tuned).eval()
    for option, value in zip(("Yes", "No"), ours.values, strict=True):
        prompt, whole = tokenizer(PROMPT).input_ids, tokenizer(PROMPT + option).input_ids
        with torch.no_grad():
            found = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        wanted = sum(float(found[at - 1, whole[at]]) for at in range(len(prompt), len(whole)))
        assert value == pytest.approx(wanted, abs=1e-4)


def test_the_manifest_says_how_it_was_made(base: Path, tuned: Path) -> None:
    manifest = json.loads((tuned / "harness.json").read_text())
    assert manifest["base_digest"] == resolve(Model.parse(str(base))).digest
    assert (manifest["task"], manifest["shots"], manifest["seed"], manifest["pool"]) == ("coins", 32, 0, "train")
    ((drawn,),) = ([one["drawn"] for one in manifest["rows"]],)
    assert len(drawn) == len(set(drawn)) == 32
    assert manifest["recipe"]["learning_rate"] == 5e-3
    assert [entry["step"] for entry in manifest["loss"]] == list(range(1, 9))
    assert [entry["step"] for entry in manifest["validation"]] == [4, 8]
    best = max(manifest["validation"], key=lambda entry: entry["AUC"])
    assert (manifest["selected"]["step"], manifest["selected"]["value"]) == (best["step"], best["AUC"])
    assert manifest["trainable"] < manifest["parameters"]
    assert manifest["proof"]["change"] > 0.01 > manifest["proof"]["gap"]
    assert {"torch", "peft", "transformers", "harness"} <= manifest["versions"].keys()
    assert manifest["seconds"] > 0
    picture = (tuned / "curves.svg").read_text()
    assert "training loss" in picture
    assert "validation AUC" in picture


def test_what_is_made_is_not_made_again(base: Path, tuned: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in tuned.iterdir()}
    assert made(tuning(base), tuned)["rows"]
    assert before == {file: file.stat().st_mtime_ns for file in tuned.iterdir()}
    with pytest.raises(StaleRun, match="exists and holds something else"):
        made(replace(tuning(base), draw=Draw(shots=16)), tuned)


def test_the_same_seed_gives_the_same_bytes(base: Path, tuned: Path, tmp_path: Path) -> None:
    made(tuning(base), tmp_path / "again")
    assert weights_digest(tmp_path / "again") == weights_digest(tuned)
    made(replace(tuning(base), draw=Draw(shots=32, seed=1)), tmp_path / "other")
    assert weights_digest(tmp_path / "other") != weights_digest(tuned)


def run_script(base: Path, out: Path, before: str = "", **fields: str) -> subprocess.Popen[str]:
    code = (
        "import os, sys; from pathlib import Path; from tests.test_tuning import made, tuning\n"
        f"{before}\nmade(tuning(Path(sys.argv[1]), **{fields!r}), Path(sys.argv[2]))\n"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(base), str(out)], cwd=ROOT, text=True)


@pytest.mark.parametrize("grouped", ["false", "true"])
def test_killed_and_resumed_it_ends_with_the_same_bytes(base: Path, tmp_path: Path, grouped: str) -> None:
    fields = {"epochs": "12", "dropout": "0.1", "grouped": grouped}
    process = run_script(base, tmp_path / "cut", **fields)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("cut.partial/*/checkpoints/checkpoint-8/trainer_state.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "cut").exists()
    cut = made(tuning(base, **fields), tmp_path / "cut")
    whole = made(tuning(base, **fields), tmp_path / "whole")
    assert weights_digest(tmp_path / "cut") == weights_digest(tmp_path / "whole")
    assert (cut["validation"], cut["selected"]) == (whole["validation"], whole["selected"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "whole"]


def test_a_training_that_stopped_early_stays_stopped_after_a_kill(base: Path, tmp_path: Path) -> None:
    """Killed after its last validation and before its model was saved, it must not train on to other weights."""
    fields = {"epochs": "40", "patience": "2", "learning_rate": "0.02", "evaluate_steps": "2"}
    cut = run_script(
        base, tmp_path / "cut", "import harness.tuning.making as m; m._save = lambda *_: os._exit(7)", **fields
    )
    assert cut.wait(timeout=200) == 7
    resumed = made(tuning(base, **fields), tmp_path / "cut")
    whole = made(tuning(base, **fields), tmp_path / "whole")
    assert whole["validation"][-1]["step"] < 80
    assert resumed["validation"] == whole["validation"]
    assert weights_digest(tmp_path / "cut") == weights_digest(tmp_path / "whole")


def test_a_tuning_that_changes_nothing_leaves_nothing(base: Path, tmp_path: Path) -> None:
    with pytest.raises(
        HarnessError,
        match="every lora_B in it is zero, as before training; it was not kept: raise the learning rate or the epochs",
    ):
        made(tuning(base, budget="none"), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("zero", "said"), [(True, "as before training"), (False, "the saved model is not the trained one")]
)
def test_a_wrong_adapter_on_the_disk_fails_the_proof(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zero: bool, said: str
) -> None:
    """The historical fault: what is saved are the zeros that training started from, or other weights."""

    def forgetful(trainable: Any, folder: Path) -> None:
        engine_models.lora(folder, base, zero=zero)

    monkeypatch.setattr("harness.tuning.making._save", forgetful)
    with pytest.raises(HarnessError, match=said):
        made(tuning(base), tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_the_second_of_two_stages_goes_on_from_the_first(base: Path, tuned: Path, tmp_path: Path) -> None:
    second = replace(tuning(base), adapter=tuned)
    manifest = made(second, tmp_path / "second")
    assert manifest["started_from"] == resolve_adapter(tuned, resolve(second.model)).digest
    assert weights_digest(tmp_path / "second") != weights_digest(tuned)
    alone = json.loads((tuned / "harness.json").read_text())
    assert manifest["loss"][0]["loss"] < alone["loss"][0]["loss"]
    with pytest.raises(BadSetting, match="has rank 8, the recipe 4; say --set rank=8"):
        made(replace(tuning(base, rank="4"), adapter=tuned), tmp_path / "third")
    with pytest.raises(BadSetting, match="has targets q_proj,v_proj, the recipe all; say --set targets=q_proj,v_proj"):
        made(replace(tuning(base, targets="all"), adapter=tuned), tmp_path / "third")


def test_an_encoder_decoder_is_tuned_too(encoder_decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="targets=q_proj does not suit T5ForConditionalGeneration"):
        made(tuning(encoder_decoder, targets="q_proj"), tmp_path / "t5")
    manifest = made(tuning(encoder_decoder), tmp_path / "t5")
    assert manifest["loss"][-1]["loss"] < manifest["loss"][0]["loss"]
    config = json.loads((tmp_path / "t5" / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_2_SEQ_LM"


def test_every_weight_can_be_tuned(base: Path, tmp_path: Path) -> None:
    manifest = made(tuning(base, method="full", learning_rate="1e-3"), tmp_path / "whole")
    assert manifest["trainable"] == manifest["parameters"]
    checkpoint = resolve(Model.parse(str(tmp_path / "whole")))
    assert checkpoint.digest != manifest["base_digest"]
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "whole").dtype == torch.float32
    with pytest.raises(BadSetting, match="quantized weights cannot be trained"):
        made(tuning(base, method="full", quantize="8bit"), tmp_path / "eight")


def test_precisions(base: Path, tmp_path: Path) -> None:
    manifest = made(tuning(base, precision="bfloat16"), tmp_path / "half")
    assert manifest["precision"] == "bfloat16"
    assert {w.dtype for w in load_file(tmp_path / "half" / "adapter_model.safetensors").values()} == {torch.float32}
    if not torch.cuda.is_available():
        with pytest.raises(BadSetting, match="precision=float16 needs a GPU"):
            made(tuning(base, precision="float16"), tmp_path / "no")


def test_a_base_held_in_eight_bits(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = made(tuning(base, quantize="8bit"), tmp_path / "eight")
    assert manifest["proof"]["gap"] < 0.05
    if not torch.cuda.is_available():
        with pytest.raises(BadSetting, match="quantize=4bit needs a GPU"):
            made(tuning(base, quantize="4bit"), tmp_path / "four")
    monkeypatch.setattr("harness.tuning.base.find_spec", lambda name: None)
    with pytest.raises(BadSetting, match="quantize=8bit needs bitsandbytes; install it"):
        made(tuning(base, quantize="8bit"), tmp_path / "none")


@pytest.mark.parametrize("loss", ["text", "answer"])
def test_checkpoints_chosen_by_loss_and_by_nothing(base: Path, tmp_path: Path, loss: str) -> None:
    manifest = made(tuning(base, selection="loss", loss=loss), tmp_path / "by loss")
    best = min(manifest["validation"], key=lambda entry: entry["loss"])
    assert (manifest["selected"]["step"], manifest["selected"]["metric"]) == (best["step"], "loss")
    manifest = made(tuning(base, selection="last", loss=loss), tmp_path / "last")
    assert (manifest["selected"], manifest["validation"]) == ({"by": "last", "step": 8}, [])


def test_joint_training_takes_as_many_rows_of_each(base: Path, tmp_path: Path) -> None:
    both = Tuning((Coins(), Coins(count=100)), Model.parse(str(base)), find_recipe(Coins(), {}), Draw(shots=8, seed=3))
    manifest = made(both, tmp_path / "both")
    assert [(one["pool"], len(one["drawn"])) for one in manifest["rows"]] == [(200, 8), (100, 8)]
    assert manifest["described"] == "coins + coins(count=100)"


def test_overlong_texts_are_left_out_or_cut(base: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="all 32 texts are longer than context=4 tokens"):
        made(tuning(base, context="4"), tmp_path / "none")
    manifest = made(tuning(base, context="24", selection="last"), tmp_path / "some")
    assert 0 < manifest["dropped"] < 32
    assert (
        made(tuning(base, context="24", overlong="cut", selection="last", loss="text"), tmp_path / "cut")["dropped"]
        == 0
    )


def test_a_field_that_decides_nothing_new_keeps_the_name(base: Path) -> None:
    one = identity(tuning(base))
    assert one == identity(tuning(base, rank="8"))
    assert one != identity(tuning(base, rank="4"))
    with pytest.raises(BadModel, match="no adapter folder"):
        identity(replace(tuning(base), adapter=Path("nowhere")))


def test_two_devices_make_the_adapter_of_one(base: Path, tmp_path: Path) -> None:
    """Two processes on a CPU, as `accelerate launch` starts them; each takes half of every batch."""
    script = tmp_path / "job.py"
    script.write_text(
        "import sys; from pathlib import Path; from tests.test_tuning import made, tuning\n"
        "made(tuning(Path(sys.argv[1]), dropout='0', batch='32', micro_batch='16'), Path(sys.argv[2]))\n"
    )
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--mixed_precision",
        "no",
    ]
    launch += ["--num_machines", "1", "--dynamo_backend", "no", "--main_process_port", "29613"]
    subprocess.run(
        [*launch, str(script), str(base), str(tmp_path / "two")],
        check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    made(tuning(base, dropout="0", batch="32", micro_batch="16"), tmp_path / "one")
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-3
    assert json.loads((tmp_path / "two" / "harness.json").read_text())["validation"]


def test_every_weight_in_half_precision_survives_a_kill_after_the_last_step(base: Path, tmp_path: Path) -> None:
    fields = {"method": "full", "precision": "bfloat16", "learning_rate": "1e-3"}
    cut = run_script(
        base, tmp_path / "cut", "import harness.tuning.making as m; m._save = lambda *_: os._exit(7)", **fields
    )
    assert cut.wait(timeout=200) == 7
    resumed, whole = (made(tuning(base, **fields), tmp_path / name) for name in ("cut", "whole"))
    assert resumed["selected"] == whole["selected"]
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_a_training_killed_after_its_last_step_takes_no_step_more(base: Path, tmp_path: Path) -> None:
    """With steps that end in the middle of an epoch, and the last weights kept, a further step would show."""
    fields = {"max_steps": "5", "schedule": "constant", "selection": "last"}
    cut = run_script(
        base, tmp_path / "cut", "import harness.tuning.making as m; m._save = lambda *_: os._exit(7)", **fields
    )
    assert cut.wait(timeout=200) == 7
    made(tuning(base, **fields), tmp_path / "cut")
    whole = made(tuning(base, **fields), tmp_path / "whole")
    assert whole["selected"]["step"] == 5
    assert weights_digest(tmp_path / "cut") == weights_digest(tmp_path / "whole")


@pytest.mark.parametrize(("method", "loudness"), [("lora", 6.0), ("full", 1.0)])
def test_half_precision_answers_from_disk_as_in_memory(tmp_path: Path, method: str, loudness: float) -> None:
    """Large logits and eight layers, where autocast in memory alone would show by more than the proof allows."""
    base = engine_models.llama(tmp_path / "deep", layers=8)
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.lm_head.weight.mul_(loudness)
    model.save_pretrained(base)
    rate = {"lora": "5e-3", "full": "1e-3"}[method]
    manifest = made(tuning(base, precision="bfloat16", method=method, learning_rate=rate), tmp_path / "half")
    assert manifest["proof"]["gap"] < 1e-3


def test_absolute_positions_are_counted_behind_the_padding(tmp_path: Path) -> None:
    """A GPT-2 whose positions matter: rows of many lengths are padded on the left while they validate."""
    base = tmp_path / "gpt2"
    engine_models.bpe_tokenizer(base)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=512, n_embd=64, n_layer=2, n_head=4, n_positions=256, initializer_range=0.3, bos_token_id=2,
        eos_token_id=1,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(base)
    manifest = made(tuning(base, learning_rate="0.05"), tmp_path / "lora")
    assert manifest["proof"]["gap"] < 1e-3
    checkpoint = resolve(Model.parse(str(base)))
    adapter = resolve_adapter(tmp_path / "lora", checkpoint)
    engine = load(checkpoint, [adapter], EngineOptions()).engine(adapter)
    assert headline(Coins(), engine, list(Coins().instances("valid"))) == pytest.approx(
        manifest["selected"]["value"], abs=1e-4
    )


def test_eight_devices_share_the_batch_that_the_recipe_names() -> None:
    recipe = find_recipe(Coins(), {"batch": "128", "micro_batch": "32"})
    assert [Plan.of(recipe, 256, devices).micro for devices in (1, 2, 4, 8)] == [32, 32, 32, 16]
    for devices in (1, 2, 4, 8):
        plan = Plan.of(recipe, 256, devices)
        assert plan.micro * plan.accumulation * devices == 128


def test_the_content_of_a_template_names_a_tuning(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    found = []
    for text in ("{{ messages[0]['content'] }}", "{{ messages[0]['content'] }}!"):
        file.write_text(text)
        found.append(identity(replace(tuning(base), template=str(file))))
    assert found[0] != found[1]


def test_what_it_was_tuned_on_is_not_evaluated(base: Path, tmp_path: Path) -> None:
    made(replace(tuning(base), draw=Draw(shots=8, pool="valid")), tmp_path / "lora")
    job = Job(Coins(), Model.parse(f"hf:{base}"), (tmp_path / "lora",), split="valid", runs=tmp_path / "runs")
    with pytest.raises(BadSetting, match=r"was tuned on rows of the validation split \(pool=valid\); evaluate it on"):
        perform(job, quietly)
    with pytest.raises(BadSetting, match=r"was tuned on rows of the validation split"):
        perform(replace(job, task=SameCoins()), quietly)


class SameCoins(Coins):
    """The same data under another name."""

    name = "same-coins"
