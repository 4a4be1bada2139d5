"""A server that fails in every way that servers fail: nothing lost, nothing counted twice, no key in a message."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from harness.engines.remote import load
from harness.engines.remote_look import KEY, look
from harness.engines.text import LoadedModel
from harness.errors import BadModel, EngineStopped, RequestFailed
from harness.evaluation import perform
from harness.job import Job
from harness.model import EngineOptions, Model
from harness.signature import Sample
from harness.store import records
from harness.testing.engines import answers
from harness.types import Generate, Key, Reply, Text, Usage
from tests.fakes import Shelf
from tests.open_server import Fault, Handler, OpenServer, changed, content, cut_off, hang, hang_up, status

pytestmark = pytest.mark.slow  # processes and waits, many of them

SECRET = "sk-42-never-to-be-seen"
ROOT = Path(__file__).parents[1]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenServer]:
    monkeypatch.delenv(KEY, raising=False)
    made = OpenServer()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other within a second or two, not half a minute."""
    monkeypatch.setattr("harness.engines.remote_http.FIRST_WAIT", 0.02)


Ask = Callable[..., list[Reply | RequestFailed]]


@pytest.fixture
def opened(server: OpenServer) -> Iterator[Callable[..., LoadedModel]]:
    """Models of this server, closed at the end."""
    made: list[LoadedModel] = []

    def open_it(concurrency: int = 4, patience: float = 30) -> LoadedModel:
        options = EngineOptions(base_url=server.url, concurrency=concurrency, patience=patience)
        made.append(load(look(Model("remote", "tiny"), options), [], options))
        return made[-1]

    yield open_it
    server.released.set()
    for model in made:
        model.close()


@pytest.fixture
def ask(opened: Callable[..., LoadedModel]) -> Ask:
    def asked(count: int, concurrency: int = 4, patience: float = 30) -> list[Reply | RequestFailed]:
        return answers(opened(concurrency, patience).engine(), [Generate(f"film {n}", 50) for n in range(count)])

    return asked


def right(count: int) -> list[Text]:
    return [Text(f" text: film {n}", "length", Usage(3, 2)) for n in range(count)]


PASSING: dict[str, Fault] = {
    "500": status(500),
    "502": status(502),
    "503": status(503),
    "429": status(429),
    "408": status(408),
    "no JSON": content(b"<html>Bad gateway</html>"),
    "half a JSON": content(b'{"choices": [{'),
    "nothing": content(b""),
    "another JSON": content(b"[1, 2]"),
    "not UTF-8": content(b'{"choices": "\xff\xfe"}'),
    "deep JSON": content(b"[" * 100_000),
    "no choice": changed(lambda answer: answer["choices"].clear()),
    "two choices": changed(lambda answer: answer["choices"].append(answer["choices"][0])),
    "no text": changed(lambda answer: answer["choices"][0].pop("text")),
    "cut off by a server that ends": changed(lambda answer: answer["choices"][0].update(finish_reason="abort")),
    "half a body": cut_off,
    "not a word": hang_up,
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_passes_is_asked_again(ask: Ask, server: OpenServer, fault: Fault) -> None:
    server.fault = lambda number, body: fault if number in (0, 2) else None
    assert ask(4) == right(4)
    asked = [body["prompt"] for body in server.bodies]
    assert sorted(set(asked)) == [f"film {n}" for n in range(4)]
    assert 6 <= len(asked) <= 8  # with those that only see whether the server is there


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("when", ["seconds", "date"])
def test_a_server_is_left_alone_for_as_long_as_it_says(ask: Ask, server: OpenServer, when: str, code: int) -> None:
    promised: list[float] = []

    def busy(number: int, body: Any) -> Fault | None:
        if promised:
            return None
        now = time.time()
        until = now + 1 if when == "seconds" else int(now) + 2.0  # dates are in whole seconds
        promised.append(time.monotonic() + until - now)
        return status(code, headers={"Retry-After": "1" if when == "seconds" else formatdate(until, usegmt=True)})

    server.fault = busy
    assert ask(3, concurrency=1) == right(3)
    assert len(server.times) == 4
    assert server.times[1] >= promised[0] - 0.01


def test_a_wait_longer_than_our_patience_is_not_waited_for(ask: Ask, server: OpenServer) -> None:
    server.fault = lambda number, body: status(429, "out of credits", {"Retry-After": "3600"})
    with pytest.raises(EngineStopped, match=r"wants no request for 3600 s.*out of credits"):
        ask(3)
    assert len(server.bodies) <= 3


def test_a_server_that_says_now_is_not_asked_without_a_pause(ask: Ask, server: OpenServer) -> None:
    server.fault = lambda number, body: status(429, headers={"Retry-After": "0"})
    with pytest.raises(EngineStopped):
        ask(1, patience=1)
    assert 2 <= len(server.bodies) < 20


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("fault", [status(500, "cannot"), content(b"{}")], ids=["500", "malformed"])
def test_one_request_that_never_works_fails_alone(ask: Ask, server: OpenServer, fault: Fault, concurrency: int) -> None:
    """Also where nobody else is asked meanwhile: the server is asked what it answered before."""
    server.fault = lambda number, body: fault if body["prompt"] == "film 3" else None
    *others, last = ask(4, concurrency)
    assert others == right(3)
    assert isinstance(last, RequestFailed)
    assert "the server answers others, but this request failed 6 times" in str(last)
    assert "\n" not in str(last)
    assert sum(body["prompt"] == "film 3" for body in server.bodies) == 6


def test_a_busy_server_fails_nobody(ask: Ask, server: OpenServer) -> None:
    """However often this request is put off while others are answered, it is none of its fault."""
    server.fault = lambda number, body: status(429) if body["prompt"] == "film 0" and number < 40 else None
    assert ask(45, concurrency=2) == right(45)


def test_a_question_that_is_put_off_for_good_fails_alone(ask: Ask, server: OpenServer) -> None:
    """Hosted services say 429 to what is larger than one may send in a minute; that never changes."""
    server.fault = lambda number, body: status(429, "too large") if body["prompt"] == "film 0" else None
    first, *others = ask(4, concurrency=2, patience=0.5)
    assert others == right(4)[1:]
    assert isinstance(first, RequestFailed)
    assert "too large" in str(first)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_question_that_never_works_fails_alone_when_it_is_the_only_one(
    ask: Ask, server: OpenServer, concurrency: int
) -> None:
    """As after a run was killed that owed just this one: the server is asked next to nothing."""
    server.fault = lambda number, body: status(500) if body["prompt"] == "film 0" else None
    (reply,) = ask(1, concurrency)
    assert isinstance(reply, RequestFailed)
    assert {body["prompt"] for body in server.bodies} == {"film 0", "Hi"}


def test_a_parameter_that_the_server_does_not_know_ends_the_run(ask: Ask, server: OpenServer) -> None:
    said = {"error": {"message": "use max_completion_tokens", "code": "unsupported_parameter"}}
    server.fault = lambda number, body: lambda handler: handler.answer(said, 400, None)
    with pytest.raises(BadModel, match="does not take what all requests have: 400 Bad Request, use max_completion"):
        ask(3)


def test_half_a_character_is_no_traceback(ask: Ask, server: OpenServer) -> None:
    answer = {"choices": [{"text": "a\ud83d", "finish_reason": "stop"}]}
    server.fault = lambda number, body: lambda handler: handler.answer(answer, 200, None)
    (reply,) = ask(1)
    assert isinstance(reply, Text)
    assert reply.text == "a?"


@pytest.mark.parametrize("fault", [status(500), status(429), content(b"{"), hang_up, hang])
def test_a_server_that_answers_nobody_ends_the_run(ask: Ask, server: OpenServer, fault: Fault) -> None:
    server.fault = lambda number, body: fault
    with pytest.raises(EngineStopped) as error:
        ask(8, patience=1)
    assert "has answered nobody for 1 s" in str(error.value)
    assert str(error.value).endswith("the same command goes on")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fault", [content(b"{}"), content(b"[1, 2]"), status(500), status(429), cut_off])
def test_a_server_that_goes_wrong_for_all_fails_nobody(ask: Ask, server: OpenServer, fault: Fault) -> None:
    server.fault = lambda number, body: fault if number >= 10 else None
    with pytest.raises(EngineStopped, match="has answered nobody for 1 s"):
        ask(20, concurrency=2, patience=1)


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_refused_request_fails_at_once_with_the_reason(ask: Ask, server: OpenServer, code: int) -> None:
    server.fault = lambda number, body: status(code, "too\nlong: 513 tokens") if body["prompt"] == "film 1" else None
    one, other = ask(2)
    assert one == right(1)[0]
    assert isinstance(other, RequestFailed)
    assert "too long: 513 tokens" in str(other)
    assert len(server.bodies) == 2


@pytest.mark.parametrize("code", [401, 402, 403, 404, 405, 301, 307])
def test_what_concerns_all_requests_ends_the_run_at_once(ask: Ask, server: OpenServer, code: int) -> None:
    server.fault = lambda number, body: status(code)
    with pytest.raises(BadModel, match=server.url):
        ask(1)
    assert len(server.bodies) == 1


@pytest.mark.parametrize("code", [200, 307, 401, 429, 500])
@pytest.mark.parametrize("padding", [0, 150])
def test_a_key_that_the_server_repeats_is_not_shown(
    ask: Ask, server: OpenServer, monkeypatch: pytest.MonkeyPatch, code: int, padding: int
) -> None:
    """Nor a part of it, where a message is cut."""
    monkeypatch.setenv(KEY, SECRET)
    said = f"{'x' * padding} no: {SECRET} is {{not}} '{SECRET}'"
    server.fault = lambda number, body: status(code, said, {"Location": f"http://u:{SECRET}@host/{SECRET}"})
    try:
        (reply,) = ask(1, patience=1)
        why = str(reply)
    except (BadModel, EngineStopped) as error:
        why = str(error)
    assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert len(why) > 20
    assert SECRET[:6] not in why


def test_a_redirection_is_not_followed_with_the_key(
    ask: Ask, server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, SECRET)
    elsewhere = OpenServer()
    try:
        server.fault = lambda number, body: status(307, headers={"Location": f"{elsewhere.url}/completions?a=b"})
        with pytest.raises(BadModel, match="redirects to") as error:
            ask(2)
        assert f"{elsewhere.url}/completions;" in str(error.value)
        assert elsewhere.bodies == []
    finally:
        elsewhere.close()


@pytest.mark.parametrize("bound", [2, 8])
def test_never_more_requests_than_the_bound(ask: Ask, server: OpenServer, bound: int) -> None:
    """Also while some fail and are asked again."""
    server.pause = 0.02
    seen: set[str] = set()

    def once(number: int, body: Any) -> Fault | None:
        if body["prompt"] in seen:
            return None
        seen.add(body["prompt"])
        return cut_off if number % 2 else status(500)

    server.fault = once
    assert ask(24, concurrency=bound) == right(24)
    assert server.most == bound


def test_closing_waits_for_nobody(opened: Callable[..., LoadedModel], server: OpenServer) -> None:
    model = opened()
    engine = model.engine()
    server.fault = lambda number, body: hang
    engine.submit([(Key(f"lost-{n}"), Generate("x", 50)) for n in range(20)])
    while len(server.bodies) < 4:
        time.sleep(0.01)
    engine.close()
    assert list(engine.collect()) == []
    server.fault = lambda number, body: None
    assert answers(engine, [Generate("film 0", 50)]) == right(1)
    server.fault = lambda number, body: hang
    engine.submit([(Key("lost"), Generate("x", 50))])
    model.close()
    model.close()
    with pytest.raises(EngineStopped, match="closed"):
        engine.collect()
    assert not server.released.is_set()


def job(server: OpenServer, path: Path, patience: float = 30) -> Job:
    options = EngineOptions(base_url=server.url, concurrency=4, patience=patience)
    return Job(Shelf(), Model("remote", "tiny"), sample=Sample(90, 0), options=options, run_dir=path)


def book(handler: Handler) -> None:
    """An answer that depends on the question."""
    number = sum(map(ord, handler.body["prompt"])) % 10
    changed(lambda answer: answer["choices"][0].update(text=f"book {number}"))(handler)


def by_id(path: Path) -> dict[str, Any]:
    found = list(records(path))
    assert len(found) == len({record.id for record in found}), "a question is on record twice"
    return {record.id: record for record in found}


def test_a_server_that_dies_and_comes_back_in_the_middle_of_a_run(server: OpenServer, tmp_path: Path) -> None:
    server.fault = lambda number, body: book
    perform(job(server, tmp_path / "whole"), print)

    def restart() -> None:
        server.stop()
        time.sleep(0.5)
        server.start()

    def dying(number: int, body: Any) -> Fault:
        if number in (120, 150):
            threading.Thread(target=restart).start()
        return book

    server.fault = dying
    perform(job(server, tmp_path / "cut"), print)
    assert by_id(tmp_path / "cut") == by_id(tmp_path / "whole")
    assert len(server.bodies) >= 180
    assert server.paths.count("/v1/models") > 2, "it was looked at again when it had come back"


def test_a_run_goes_on_after_its_server_was_away_for_too_long(server: OpenServer, tmp_path: Path) -> None:
    server.fault = lambda number, body: book
    perform(job(server, tmp_path / "whole"), print)
    server.fault = lambda number, body: book if number < 135 else status(500)
    with pytest.raises(EngineStopped):
        perform(job(server, tmp_path / "cut", patience=1), print)
    kept = by_id(tmp_path / "cut")
    assert 30 < len(kept) < 90
    server.fault = lambda number, body: book
    perform(job(server, tmp_path / "cut"), print)
    assert by_id(tmp_path / "cut") == by_id(tmp_path / "whole")
    assert not any(record.failure for record in records(tmp_path / "cut"))


@pytest.mark.parametrize("gone", [hang_up, status(502), status(503)])
def test_a_server_that_comes_back_as_another_one_ends_the_run(ask: Ask, server: OpenServer, gone: Fault) -> None:
    def swap(handler: Handler) -> None:
        server.cards = [{**server.cards[0], "root": "/models/another"}]
        gone(handler)

    server.fault = lambda number, body: swap if number == 5 else None
    with pytest.raises(BadModel, match="came back as another one: tiny was /models/tiny"):
        ask(20, concurrency=1)
    assert len(server.bodies) == 6


SCRIPT = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts a job in the background may have it ignored
from harness.engines.remote import load
from harness.engines.remote_look import look
from harness.model import EngineOptions, Model
from harness.types import Generate, Key

options = EngineOptions(base_url=sys.argv[1])
engine = load(look(Model("remote", "tiny"), options), [], options).engine()
engine.submit([(Key(str(n)), Generate("x", 5)) for n in range(50)])
engine.collect()
"""


def test_ctrl_c_ends_a_process_that_waits_for_a_server(server: OpenServer) -> None:
    """Without any closing: nothing of the line may keep the process."""
    server.fault = lambda number, body: hang
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, server.url], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while len(server.bodies) < 32:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert said.count("Traceback") == 1
    assert said.rstrip().endswith("KeyboardInterrupt")
