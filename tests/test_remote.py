"""The remote engine against a small server with known answers: what is asked, what comes of it, and what a run says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engines import remote_wire as wire
from harness.engines.encode import Encoder, Trie, load_tokenizer
from harness.engines.remote import RemoteBackend, load
from harness.engines.remote_http import Line
from harness.engines.remote_look import KEY, look, normalised
from harness.engines.text import LoadedModel, Probe, Probed, Written
from harness.errors import BadModel, BadSetting, EngineStopped, RequestFailed
from harness.evaluation import perform
from harness.job import Job
from harness.loading import Base
from harness.model import EngineOptions, Model
from harness.testing.engines import answers
from harness.types import Choose, Generate, Key, Scores, Text, Usage
from tests import engine_models
from tests.fakes import Coins, Shelf
from tests.open_server import OpenServer, changed, logprob

pytestmark = pytest.mark.slow

SECRET = "sk-42-never-to-be-seen"
USAGE = Usage(3, 2)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    engine_models.bpe_tokenizer(folder, chat=True)
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenServer]:
    monkeypatch.delenv(KEY, raising=False)
    made = OpenServer()
    yield made
    made.close()


@pytest.fixture
def options(server: OpenServer, tokenizer: Path) -> EngineOptions:
    return EngineOptions(base_url=server.url, tokenizer=str(tokenizer), concurrency=4, patience=30)


@pytest.fixture
def model(options: EngineOptions) -> Iterator[LoadedModel]:
    made = load(look(Model("remote", "tiny"), options), [], options)
    yield made
    made.close()


@pytest.fixture
def texts(options: EngineOptions) -> Iterator[LoadedModel]:
    """The same server, without a tokenizer on this side."""
    bare = replace(options, tokenizer=None)
    made = load(look(Model("remote", "tiny"), bare), [], bare)
    yield made
    made.close()


def encoder(options: EngineOptions, template: str = "raw") -> Encoder:
    return Encoder(load_tokenizer(look(Model("remote", "tiny"), options)), template, "tiny")


@pytest.mark.parametrize("template", ["raw", "chat"])
def test_a_choice_is_the_sum_of_the_servers_log_probabilities(
    model: LoadedModel, options: EngineOptions, template: str
) -> None:
    asked = Choose("Seen: Heat.\n", ("Yes", "No", "No way", "Nothing at all"))
    (reply,) = answers(model.engine(None, template), [asked])
    (choice,) = encoder(options, template).choices([(asked.prompt, asked.options, False)])
    assert not isinstance(choice, RequestFailed)
    assert isinstance(reply, Scores)
    for value, ids in zip(reply.values, choice.trie.options, strict=True):
        whole = [*choice.prompt, *ids]
        steps = range(len(choice.prompt), len(whole))
        assert value == pytest.approx(math.fsum(logprob(whole[:at], whole[at]) for at in steps), abs=1e-12)


def test_a_node_with_more_tokens_than_one_request_may_hold_is_asked_in_parts(server: OpenServer) -> None:
    line = Line(server.url, None, 4, 30)
    backend = RemoteBackend(line, "tiny")
    wanted = tuple(range(300))
    backend.submit([(7, Probe((5, 6), Trie.of([(token,) for token in wanted])))])
    ((number, done),) = backend.collect()
    assert number == 7
    assert isinstance(done, Probed)
    assert list(done.answers[()]) == [logprob([5, 6], token) for token in wanted]
    assert sorted(len(body["logprob_token_ids"]) for body in server.bodies) == [44, 128, 128]
    line.close()


def test_a_text_is_what_the_servers_tokens_say(model: LoadedModel, options: EngineOptions, server: OpenServer) -> None:
    (reply,) = answers(model.engine(), [Generate("Seen: Heat.\n", 5, temperature=0.7, top_p=0.9, seed=0)])
    (prompt,) = encoder(options).prompts(["Seen: Heat.\n"])
    (body,) = server.bodies
    assert body["prompt"] == list(prompt)
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.7, 0.9, 0)
    ids = list(prompt)
    for _ in range(5):
        ids.append(max(range(3, 512), key=lambda token: (logprob(ids, token), -token)))
    assert isinstance(reply, Text)
    assert reply.text == encoder(options).continuation(prompt, ids[len(prompt) :], ())[0]
    assert (reply.finish, reply.usage) == ("length", (len(prompt), 5))


def test_greedy_means_that_nothing_of_the_servers_settings_acts(model: LoadedModel, server: OpenServer) -> None:
    """vLLM takes what is not said from the model's generation_config.json."""
    answers(model.engine(), [Generate("Seen:", 2, top_p=0.5, seed=3)])
    (body,) = server.bodies
    assert (body["temperature"], body["top_p"]) == (0.0, 1.0)
    assert "seed" not in body
    assert (body["repetition_penalty"], body["top_k"], body["min_p"]) == (1.0, 0, 0.0)


def test_one_of_several_texts_is_spelt_along_the_best_tokens(model: LoadedModel, options: EngineOptions) -> None:
    prompt, signs = "Seen: Heat.\n", ("#", "$", "%", "&", "*")
    (written,) = answers(model.engine(), [Generate(prompt, 1, options=signs, barred=("#",))])
    (scores,) = answers(model.engine(), [Choose(prompt, signs)])
    assert isinstance(written, Text)
    assert isinstance(scores, Scores)
    assert written.text == max(signs[1:], key=dict(zip(signs, scores.values, strict=True)).__getitem__)


def test_the_answers_that_show_that_a_server_cannot(model: LoadedModel, server: OpenServer) -> None:
    """One line that ends the run, and never a number in the place of one that is missing."""
    scores = "choices"
    cases: list[tuple[Any, Any, str]] = [
        (lambda a: a[scores][0]["logprobs"]["top_logprobs"][0].popitem(), Choose("x", ("Yes", "No")), "1 did not come"),
        (lambda a: a[scores][0].pop("logprobs"), Choose("x", ("Yes", "No")), "gives no log-probabilities"),
        (lambda a: a[scores][0].pop("token_ids"), Generate("x", 2), "leave out --tokenizer"),
        (lambda a: a["usage"].update(prompt_tokens=99), Generate("x", 2), "read 99 tokens where it was given"),
        (lambda a: a[scores][0].update(token_ids=[0]), Generate("x", 1, options=("#", "$")), "not allowed"),
    ]
    for change, request, why in cases:
        fault = changed(change)
        server.fault = lambda number, body, fault=fault: fault  # type: ignore[misc]  # bound at once
        with pytest.raises(BadModel, match=why) as error:
            answers(model.engine(), [request])
        assert "\n" not in str(error.value)


def test_what_is_no_log_probability_is_not_taken_for_one(model: LoadedModel, server: OpenServer) -> None:
    def say(value: Any) -> Any:
        def change(answer: Any) -> None:
            found = answer["choices"][0]["logprobs"]["top_logprobs"][0]
            found.update(dict.fromkeys(found, value))

        return lambda number, body: changed(change)

    server.fault = say(2.5)  # logits
    with pytest.raises(BadModel, match="without --logprobs-mode"):
        answers(model.engine(), [Choose("x", ("Yes", "No"))])
    for value in (-9999.0, float("-inf"), float("nan")):  # the first is what vLLM writes for the second
        server.fault = say(value)
        (reply,) = answers(model.engine(), [Choose("x", ("Yes", "No"))])
        assert isinstance(reply, RequestFailed)
        assert "no finite log-probability" in str(reply)


def test_without_a_tokenizer_texts_go_out_and_come_back(texts: LoadedModel, server: OpenServer) -> None:
    raw = Generate("Heat, Alien and", 100, stop=("and",))
    assert answers(texts.engine(), [raw]) == [Text(" text: Heat, Alien ", "stop", USAGE)]
    assert answers(texts.engine(), [Generate("Heat", 7)]) == [Text(" text: ", "length", USAGE)]
    assert answers(texts.engine(None, "chat"), [Generate("Hello", 9)]) == [Text("chat: Hello", "stop", USAGE)]
    assert server.paths[1:] == ["/v1/completions", "/v1/completions", "/v1/chat/completions"]
    server.fault = lambda number, body: changed(lambda a: a["choices"][0].update(finish_reason="content_filter"))
    (filtered,) = answers(texts.engine(), [raw])
    assert isinstance(filtered, RequestFailed)
    assert "filtered" in str(filtered)


def test_without_a_tokenizer_a_choice_says_what_it_needs(texts: LoadedModel, tmp_path: Path) -> None:
    for request in (Choose("x", ("Yes", "No")), Generate("x", 1, options=("#", "$"))):
        with pytest.raises(BadModel, match="needs --tokenizer FOLDER"):
            texts.engine().submit([(Key("a"), request)])
    with pytest.raises(BadModel, match="needs --tokenizer"):
        texts.engine(None, str(tmp_path / "template.jinja"))


def test_an_address_has_one_form_and_holds_no_secret() -> None:
    same = {"http://host/v1", "HTTP://Host:80/v1/", "http://host:80/v1//"}
    assert {normalised(text) for text in same} == {"http://host/v1"}
    assert normalised("https://[::1]:8443/v1") == "https://[::1]:8443/v1"
    for text in (f"http://me:{SECRET}@host/v1", f"http://{SECRET}@host/v1", f"http://host/v1?key={SECRET}"):
        with pytest.raises(BadSetting) as error:
            normalised(text)
        assert SECRET not in str(error.value)
    for text in ("localhost:8000/v1", "ftp://host/v1", "http:///v1", "", "host"):
        with pytest.raises(BadSetting, match="--base-url"):
            normalised(text)


def test_what_cannot_be_looked_at(server: OpenServer, options: EngineOptions, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases: list[tuple[Model, EngineOptions, str]] = [
        (Model("remote", "tiny"), replace(options, base_url=None), "needs --base-url"),
        (Model("remote", "other"), options, "does not list 'other'"),
        (Model("remote", "tiny", dtype="float32"), options, "--dtype"),
        (Model("remote", "tiny"), replace(options, tokenizer=None, max_model_len=9), "--max-model-len"),
        (Model("remote", "tiny"), replace(options, tokenizer=str(tmp_path / "none")), "no such folder"),
        (Model("remote", "tiny"), replace(options, tokenizer=str(tmp_path / "empty")), "none of tokenizer.json"),
        (Model("hf", "tiny"), options, "give --model remote:NAME"),
    ]
    for asked, how, why in cases:
        with pytest.raises((BadModel, BadSetting), match=why):
            Base(asked, how, print)
    with pytest.raises(BadModel, match="names of their own"), Base(Model("remote", "tiny"), options, print) as base:
        base.adapter(tmp_path)
    server.stop()
    with pytest.raises(EngineStopped, match="cannot be reached"):
        Base(Model("remote", "tiny"), replace(options, patience=0), print)


def test_a_run_is_named_after_all_that_is_known_of_the_weights(server: OpenServer, options: EngineOptions) -> None:
    def digest(revision: str | None = None) -> str:
        return look(Model("remote", "tiny", revision), options).digest

    first = digest()
    assert digest() == first
    server.cards[0]["root"] = "/models/another"
    assert len({first, digest(), digest("step-100"), digest("step-200")}) == 4


def test_a_run_keeps_no_key_and_caches_nothing(
    server: OpenServer, options: EngineOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, SECRET)
    for folder in ("one", "two"):
        job = Job(Coins(count=20), Model("remote", "tiny"), options=options, run_dir=tmp_path / folder)
        perform(job, print)
    assert len(server.bodies) == 40
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {SECRET}"}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 6
    assert not any(SECRET.encode() in path.read_bytes() for path in written)
    manifest = json.loads((tmp_path / "one" / "run.json").read_text())["model"]
    assert manifest["weights_verified"] is False
    assert manifest["served"]["url"] == server.url
    assert manifest["name"] == "tiny (remote)"


def test_a_run_without_tokenizer_that_needs_one_ends_in_one_line(
    server: OpenServer, options: EngineOptions, tmp_path: Path
) -> None:
    bare = replace(options, tokenizer=None)
    with pytest.raises(BadModel, match="this task chooses among options"):
        perform(Job(Coins(count=3), Model("remote", "tiny"), options=bare, run_dir=tmp_path / "coins"), print)
    assert server.bodies == []
    server.fault = lambda number, body: changed(lambda a: a["choices"][0].update(text="book 1"))
    (path,) = perform(Job(Shelf(), Model("remote", "tiny"), options=bare, run_dir=tmp_path / "shelf"), print)
    assert (path / "scores.json").is_file()


def test_a_served_adapter_is_proved_to_change_something(server: OpenServer, options: EngineOptions) -> None:
    """Names of another length are other models to this server; the adapter called `same` is as the base."""
    base = server.cards[0]
    for name in ("longer", "same"):
        server.cards.append({"id": name, "parent": "tiny", "root": f"/lora/{name}", "max_model_len": None})
    assert look(Model("remote", "longer"), options).context == base["max_model_len"]
    said: list[str] = []
    with Base(Model("remote", "longer"), options, said.append) as proved:
        proved.ready(None, "raw", lambda: ["Hello", "Heat"])
    assert any("adapter longer of tiny changes log-probabilities by up to" in line for line in said)
    with Base(Model("remote", "same"), options, said.append) as other, pytest.raises(BadModel, match="changes nothing"):
        other.ready(None, "raw", lambda: ["Hello", "Heat"])


NAMES = ["choices", "finish_reason", "logprobs", "top_logprobs", "token_id:1", "token_ids", "text"]
NAMES += ["message", "content", "usage", "prompt_tokens", "completion_tokens"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner | st.just("stop"), max_size=5)
    ),
    max_leaves=20,
)


@given(JSON | JSON.map(lambda inner: {"choices": [inner], "usage": inner}))
def test_no_answer_is_read_as_what_it_is_not(answer: Any) -> None:
    """Whatever a server says is read, or refused in one of three ways; nothing else comes out."""
    readers = [
        (wire.scored((5,), (1,)), dict),
        (wire.chosen((5,), (1, 2)), int),
        (wire.written((5,), 2), Written),
        (wire.text(Generate("x", 2)), Text),
    ]
    for read, kind in readers:
        try:
            found = read(answer)
        except (ValueError, BadModel, RequestFailed):
            continue
        assert isinstance(found, kind)
