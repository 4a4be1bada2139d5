"""A real `vllm serve` on loopback: the contract, agreement with transformers and peft, and a server that is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.checkpoint import resolve, resolve_adapter
from harness.cli import main
from harness.engines import Engine
from harness.engines import transformers as hf
from harness.engines.remote import load
from harness.engines.remote_look import KEY, look
from harness.engines.text import LoadedModel
from harness.errors import BadModel, RequestFailed
from harness.evaluation import perform
from harness.job import Job
from harness.loading import Base
from harness.model import EngineOptions, Model
from harness.store import Record, records
from harness.testing.engines import EngineContract, answers, largest_gap, lists, questions, values
from harness.types import Choose, Generate, Reply, Request, Text
from tests import engine_models, model_server
from tests.fakes import Coins

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # vLLM and what it imports
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
PROMPTS = list(engine_models.PROMPTS)


class Served:
    """A model and its LoRAs behind a server, and the same ones here on transformers."""

    def __init__(self, folder: Path) -> None:
        base = engine_models.llama(folder / "llama", chat=True, context=1024)
        one = engine_models.lora(folder / "one", base)
        zero = engine_models.lora(folder / "zero", base, zero=True)
        self.server = model_server.VllmServer(base, {"one": one, "zero": zero}, folder / "log")
        self.server.start(wait=False)
        self.options = EngineOptions(base_url=self.server.url, tokenizer=str(base), concurrency=16, patience=300)
        checkpoint = resolve(Model("hf", str(base)))
        self.adapter = resolve_adapter(one, checkpoint)
        self.hf = hf.load(checkpoint, [self.adapter], EngineOptions(threads=1))
        self._open: dict[str, LoadedModel] = {}

    def remote(self, name: str = "tiny") -> LoadedModel:
        if name not in self._open:
            self._open[name] = load(look(Model("remote", name), self.options), [], self.options)
        return self._open[name]

    def close(self) -> None:
        for model in (*self._open.values(), self.hf):
            model.close()
        self.server.kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, model_server.KEY)
        made = Served(tmp_path_factory.mktemp("served"))
        try:
            made.server.wait()
            yield made
        finally:
            made.close()


class TestRemote(EngineContract):
    @pytest.fixture
    def engine(self, served: Served) -> Engine:
        return served.remote().engine()


class TestRemoteWithAdapter(EngineContract):
    @pytest.fixture
    def engine(self, served: Served) -> Engine:
        return served.remote("one").engine(None, "chat")


def asked() -> list[Request]:
    long: list[Request] = [Choose(prompt, engine_models.TITLES) for prompt in PROMPTS]
    nested = ("No", "No way", " no")
    return [*questions(16), *long, Choose("No", nested), Choose("No", nested, ended=True)]


@pytest.mark.parametrize("template", ["raw", "chat"])
@pytest.mark.parametrize("name", ["tiny", "one"])
def test_scores_and_texts_agree_with_transformers(served: Served, name: str, template: str) -> None:
    far = served.remote(name).engine(None, template)
    near = served.hf.engine(served.adapter if name == "one" else None, template)
    gap = largest_gap(values(far, asked()), values(near, asked()))
    print("largest gap", gap)
    assert gap < 1e-3
    texts: list[Request] = [*(Generate(prompt, 12) for prompt in PROMPTS), *lists(12)]
    assert answers(far, texts) == answers(near, texts)


def test_a_node_wider_than_one_request_agrees_with_transformers(served: Served) -> None:
    """Every token that is a text of its own; the server takes 128 at once."""
    encoder = served.remote().engine()
    signs = tuple(chr(code) for code in (*range(33, 127), *range(0xA1, 0x180)))
    request: list[Request] = [Choose("Seen: Heat.\n", signs)]
    assert largest_gap(values(encoder, request), values(served.hf.engine(), request)) < 1e-3


def whole(replies: Sequence[Reply | RequestFailed]) -> list[Text]:
    """Without half a character at the end of a text, which the server keeps back."""
    texts = [reply for reply in replies if isinstance(reply, Text)]
    assert len(texts) == len(replies)
    return [replace(reply, text=reply.text.rstrip("\N{REPLACEMENT CHARACTER}")) for reply in texts]


def test_texts_without_a_tokenizer_are_those_with_one(served: Served) -> None:
    bare = replace(served.options, tokenizer=None)
    texts = load(look(Model("remote", "tiny"), bare), [], bare)
    requests: list[Request] = [Generate(prompt, 12) for prompt in PROMPTS]
    try:
        for template in ("raw", "chat"):
            there, here = (model.engine(None, template) for model in (texts, served.remote()))
            assert whole(answers(there, requests)) == whole(answers(here, requests))
    finally:
        texts.close()


def test_a_served_adapter_that_changes_nothing_is_found(served: Served) -> None:
    said: list[str] = []
    with Base(Model("remote", "one"), served.options, said.append) as base:
        base.ready(None, "raw", lambda: PROMPTS[:4])
    assert any("adapter one of tiny changes log-probabilities by up to" in line for line in said)
    with (
        Base(Model("remote", "zero"), served.options, said.append) as base,
        pytest.raises(BadModel, match="adapter zero changes nothing"),
    ):
        base.ready(None, "raw", lambda: PROMPTS[:4])


def test_the_key_decides_who_is_let_in(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("sk-another", None):
        monkeypatch.setenv(KEY, key) if key else monkeypatch.delenv(KEY)
        with pytest.raises(BadModel, match="OPENAI_API_KEY") as error:
            look(Model("remote", "tiny"), served.options)
        assert model_server.KEY not in str(error.value)
        assert "sk-another" not in str(error.value)


def test_the_command_line_takes_a_server(served: Served, tmp_path: Path) -> None:
    words = ["run", "--task", "tallrec", "--sample", "12", "--run-dir", str(tmp_path / "run"), "--model", "remote:one"]
    words += ["--base-url", served.server.url, "--tokenizer", str(served.options.tokenizer), "--revision", "first"]
    assert main(words) == 0
    assert len(by_id(tmp_path / "run")) == 12
    assert not any(record.failure for record in records(tmp_path / "run"))
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"run.json", "sessions.jsonl", "records.jsonl", "scores.json"} <= {path.name for path in written}
    assert not any(model_server.KEY.encode() in path.read_bytes() for path in written)
    assert main([*words[:-2], "--base-url", f"http://:{model_server.KEY}@127.0.0.1/v1"]) == 2


def by_id(path: Path) -> dict[str, Record]:
    found = list(records(path))
    assert len(found) == len({record.id for record in found}), "a question is on record twice"
    return {record.id: record for record in found}


def test_a_server_killed_in_the_middle_of_a_run_and_started_again(served: Served, tmp_path: Path) -> None:
    """The run waits for it, and ends with the records of an undisturbed one. Last, since the server is killed."""

    def run(name: str) -> None:
        perform(Job(Coins(count=300), Model("remote", "one"), options=served.options, run_dir=tmp_path / name), print)

    def kill_and_restart() -> None:
        records_file = tmp_path / "cut" / "records.jsonl"
        while not records_file.exists() or records_file.read_bytes().count(b"\n") < 60:
            time.sleep(0.005)
        served.server.kill()
        served.server.start(wait=False)

    run("whole")
    killer = threading.Thread(target=kill_and_restart)
    killer.start()
    run("cut")
    killer.join()
    whole, cut = by_id(tmp_path / "whole"), by_id(tmp_path / "cut")
    assert cut.keys() == whole.keys()
    assert len(whole) == 300
    for name, record in whole.items():
        assert record.failure is None
        assert cut[name].failure is None
        assert cut[name].tokens == record.tokens
        assert cut[name].rows["AUC"] == pytest.approx(record.rows["AUC"], abs=1e-4)
    assert (tmp_path / "cut" / "scores.json").is_file()
