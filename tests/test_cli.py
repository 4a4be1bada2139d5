"""The command line as a new user meets it: what works, and one clear line where something does not."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha1
from pathlib import Path

import pytest

from harness.cli import main

ROOT = Path(__file__).parent.parent
RUN = ["run", "--task", "tallrec"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests import engine_models  # which imports torch and peft

    return engine_models.llama(tmp_path_factory.mktemp("models") / "llama", context=1024)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fails(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line on standard error of a command that must exit with 2."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("loading ")]
    assert code == 2
    assert len(said) == 1, said
    assert said[0].startswith("harness: ")
    return said[0].removeprefix("harness: ")


def works(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runn"], "No such command 'runn'. Did you mean 'run'?"),
        (["run"], "Missing option '--task' (see `harness run --help`)"),
        (["run", "--task", "talrec", "--model", "simple:random"], "no task 'talrec'; did you mean 'tallrec'?"),
        ([*RUN, "--modle", "x"], "No such option '--modle'. (Did you mean one of: "),
        ([*RUN, "--model", "simple:random", "--set", "domian=book"], "did you mean 'domain'?"),
        ([*RUN, "--model", "simple:random", "--set", "domain=7"], "domain='7' should be one of movie, book"),
        ([*RUN, "--model", "simple:random", "--sample", "x"], "Invalid value for '--sample'"),
        ([*RUN, "--model", "simple:rndom"], "no model 'simple:rndom'; did you mean 'simple:random'?"),
        ([*RUN, "--model", "simple:random", "--adapter", "x"], "--adapter does not go with simple:random"),
        (
            [*RUN, "--model", "nosuch:thing"],
            "no kind of model 'nosuch'; there is hf, remote, vllm, checkpoint, recbole, search, simple",
        ),
        ([*RUN, "--model", "./nothing"], "no model folder ./nothing"),
        ([*RUN, "--model", "hf:org/nothing"], "org/nothing is not in the local cache and the hub cannot be reached"),
        ([*RUN, "--model", "hf:"], "names nothing"),
        ([*RUN, "--model", "simple:random", "--dtype", "float16"], "--dtype does not go with simple:random"),
        ([*RUN, "--model", "simple:random", "--sample", "1000"], "there are 1000 test instances; leave it out for all"),
        ([*RUN, "--model", "hf:x", "--threads", "0"], "Invalid value for '--threads': 0 is not in the range x>=1"),
        ([*RUN, "--model", "simple:popularity", "--set", "domain=book"], "harness data fetch tallrec-book"),
        (["show", "."], ". is not a run directory: it has no run.json"),
        (["leaderboard", "--runs", "none"], "no runs below none"),
        (["data", "fetch", "ml-10m"], "no data set is called 'ml-10m'"),
        (["prompt", "--task", "tallrec", "--ids"], "--ids needs --model"),
        (["tune", "--task", "tallrec", "--from-scratch", "huge", "--out", "x"], "no recipe 'huge'"),
        (["tune", "--task", "tallrec", "--from-scratch", "tiny", "--shots", "8", "--out", "x"], "--shots does not go"),
        (["tune", "--task", "tallrec", "--model", "x"], "--out is missing"),
        (["tune", "--task", "tallrec", "--out", "x"], "--model is missing"),
        (["tune", "--task", "tallrec", "--unlabelled", "--model", "x", "--out", "x"], "goes with --from-scratch only"),
        (["tune", "--task", "tallrec", "--set", "budget=c", "--model", "x", "--out", "x"], "did you mean 'ci'?"),
        (["tune", "--task", "tallrec", "--set", "epoch=1", "--model", "x", "--out", "x"], "did you mean 'epochs'?"),
        (["tune", "--task", "tallrec", "--also", "domain=movie", "--model", "x", "--out", "x"], "names tallrec twice"),
        (["tune", "--task", "tallrec", "--shots", "0", "--model", "x", "--out", "x"], "0 is not in the range x>=1"),
        (["tune", "--task", "tallrec", "--recipe", "no.toml", "--model", "x", "--out", "x"], "no.toml cannot be read"),
        (
            ["data", "export", "--task", "tallrec", "--set", "domain=book", "--out", "x"],
            "harness data fetch tallrec-book",
        ),
    ],
)
def test_misuse_is_one_line(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert said in fails(capsys, *words)


def test_a_model_folder_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "config.json" in fails(capsys, *RUN, "--model", tmp_path / "empty")


@pytest.mark.slow
def test_a_template_that_is_none(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    said = fails(capsys, *RUN, "--model", f"hf:{model}", "--template", "caht")
    assert said == "--template 'caht' is neither raw, chat nor a file"


@pytest.mark.slow
def test_adapters_that_do_not_belong(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path) -> None:
    from tests import engine_models

    zero = engine_models.lora(tmp_path / "zero", model, zero=True)
    assert "changes nothing" in fails(capsys, *RUN, "--model", f"hf:{model}", "--adapter", zero)
    other = engine_models.llama(tmp_path / "other", width=64)
    wrong = engine_models.lora(tmp_path / "wrong", other)
    assert "is for another base model" in fails(capsys, *RUN, "--model", f"hf:{model}", "--adapter", wrong)
    assert "no adapter folder" in fails(capsys, *RUN, "--model", f"hf:{model}", "--adapter", tmp_path / "none")


@pytest.mark.slow
def test_prompts_longer_than_the_context(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path) -> None:
    """Where none fits it is an error and leaves nothing behind; where some fit, the others are counted."""
    said = fails(capsys, *RUN, "--model", f"hf:{model}", "--max-model-len", "50")
    assert "none of the first 64 instances could be answered: prompt of" in said
    assert "longer than the model's context of 50" in said
    assert not (tmp_path / "runs" / "tallrec").exists() or not any((tmp_path / "runs" / "tallrec").iterdir())
    out = works(capsys, *RUN, "--model", f"hf:{model}", "--sample", "60", "--max-model-len", "580", "--json")
    (found,) = json.loads(out)
    (whole,) = json.loads(works(capsys, *RUN, "--model", f"hf:{model}", "--sample", "60", "--json"))
    assert whole["scores"]["failures"] == {}
    assert whole["run"] != found["run"]
    assert 0 < found["scores"]["failures"]["TooLong"] < 60
    assert found["scores"]["instances"] == 60


def test_a_run_directory_of_another_experiment(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    works(capsys, *RUN, "--model", "simple:random", "--run-dir", tmp_path / "mine")
    said = fails(capsys, *RUN, "--model", "simple:constant", "--run-dir", tmp_path / "mine")
    assert "holds another experiment (it differs in model.baseline: random there, constant here" in said


def test_a_truncated_data_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.data.home import embedded_folder
    from harness.data.readers.movielens_100k import ratings_of_copy
    from harness.data.sources import source

    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    embedded = embedded_folder(source("ml-100k"))
    assert embedded is not None
    folder = tmp_path / "home" / "data" / "ml-100k"
    folder.mkdir(parents=True)
    (folder / "u.data").write_bytes(ratings_of_copy(embedded / "ml-100k.inter")[:-1000])
    (folder / "u.item").write_bytes(b"1|Toy Story (1995)\n")
    said = fails(capsys, *RUN, "--model", "simple:random")
    assert "u.data" in said
    assert "expected" in said
    assert "harness data fetch ml-100k" in said


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path) -> None:
    """A real limit: the process may not write a file of more than 100 kB."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from harness.cli import main\n"
        f"sys.exit(main({[*RUN, '--model', 'simple:random']!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot write" in done.stderr
    again = subprocess.run(
        [sys.executable, "-m", "harness.cli", *RUN, "--model", "simple:random"],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert "going on after" in again.stderr
    assert "1000 instances, failures: none" in again.stdout


@pytest.mark.slow
def test_export_writes_the_published_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = works(capsys, "data", "export", "--task", "tallrec", "--set", "domain=movie", "--out", tmp_path / "x")
    for split, blob in (("train", "2bbe93b"), ("valid", "d265993"), ("test", "ee8bb62")):
        content = (tmp_path / "x" / f"{split}.json").read_bytes()
        found = sha1(b"blob %d\0" % len(content) + content).hexdigest()
        assert found.startswith(blob)
        assert f"git blob {found}" in out


@pytest.mark.slow
def test_the_main_job_on_baselines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("like-rate", "constant", "recency"):
        works(capsys, *RUN, "--model", f"simple:{name}")
    assert "is complete already" not in works(capsys, *RUN, "--model", "simple:like-rate")
    table = works(capsys, "leaderboard", "--out", tmp_path / "report")
    rows = [line.split("|")[2].strip() for line in table.splitlines() if line.startswith("| ")]
    assert rows[2:6] == ["simple:like-rate", "simple:recency", "simple:constant", "*chance*"]
    assert "**0.7260** [0.6229, 0.8291]" in table
    assert (tmp_path / "report" / "leaderboard.md").read_text() == table
    written = {path.suffix for path in (tmp_path / "report").iterdir()}
    assert written == {".md", ".csv", ".tex", ".json", ".html", ".svg", ".png"}
    runs = sorted((tmp_path / "runs" / "tallrec").iterdir())
    compared = json.loads(works(capsys, "compare", runs[0], runs[0], "--json"))
    assert {one["ours"] - one["theirs"] for one in compared["differences"].values()} == {0.0}


def test_samples_are_complete_and_wear_a_badge(capsys: pytest.CaptureFixture[str]) -> None:
    out = works(capsys, *RUN, "--model", "simple:like-rate", "--sample", "100", "--sample-seed", "5")
    assert out.startswith("tallrec  test [sample 100, seed 5]  simple:like-rate")
    assert "100 instances" in out


def test_listings(capsys: pytest.CaptureFixture[str]) -> None:
    assert "arXiv:2305.00447" in works(capsys, "tasks")
    assert json.loads(works(capsys, "tasks", "--json"))["tallrec"]["settings"]["domain"]["choices"] == ["movie", "book"]
    assert "simple:oracle" in works(capsys, "models")
    prompts = works(capsys, "prompt", "--task", "tallrec", "-n", "3")
    assert prompts.count("### Response:") == 3
    assert "oracle scores AUC 1.0000" in works(capsys, "check", "--task", "tallrec")


@pytest.mark.slow
def test_ids_as_the_model_gets_them(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    out = works(capsys, "prompt", "--task", "tallrec", "--ids", "--model", model)
    prompt, yes, no = out.split("--- ids: ")[1].splitlines()
    assert len(json.loads(prompt)) > 50
    assert yes.startswith("--- 'Yes': [")
    assert no.startswith("--- 'No': [")
    assert "has no tokenizer" in fails(capsys, "prompt", "--task", "tallrec", "--ids", "--model", "simple:random")


@pytest.mark.slow
def test_it_works_without_a_network_and_from_any_folder(tmp_path: Path) -> None:
    """Any connection, even a look-up of a name, would end the process."""
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise SystemExit('the network was used')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from harness.cli import main\n"
        f"sys.exit(main({[*RUN, '--model', 'simple:like-rate', '--sample', '50']!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
