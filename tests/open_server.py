"""A small server that speaks as OpenAI's on loopback: real HTTP, answers that are known, and faults on demand."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = Any
Fault = Callable[["Handler"], None]
"""Answers a request in its own way."""
VOCABULARY = 512
CONTEXT = 512


def logprob(prompt: list[int], token: int, model: str = "tiny") -> float:
    """What this server holds of a token after a prompt: a distribution over the vocabulary, another for each model."""
    shift = sum(place * one for place, one in enumerate(prompt, 1)) + len(model)
    weights = [(shift + 17 * one * one) % 101 + 1 for one in range(VOCABULARY)]
    return math.log(weights[token] / sum(weights))


class OpenServer:
    """Answers until it is stopped; `start` again and it is back at the same address."""

    def __init__(self) -> None:
        self.fault: Callable[[int, Json], Fault | None] = lambda number, body: None
        """By the number of a POST, from 0, and its body: how to answer in place of an answer."""
        self.cards: list[dict[str, Any]] = [
            {"id": "tiny", "owned_by": "vllm", "root": "/models/tiny", "parent": None, "max_model_len": CONTEXT}
        ]
        self.pause = 0.0
        self.bodies: list[Json] = []
        self.times: list[float] = []
        self.headers: list[Mapping[str, str]] = []
        self.paths: list[str] = []
        self.most = 0
        """Most requests in hand at once."""
        self.inside = 0
        self.lock = threading.Lock()
        self.released = threading.Event()
        """Set, it lets go of those that `hang`."""
        self._server: Server | None = None
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        handler = type("Bound", (Handler,), {"owner": self})
        self._server = Server(("127.0.0.1", self._port), handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Nobody is at the address any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.hang_up()
            self._server = None

    def close(self) -> None:
        self.released.set()
        self.stop()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        super().__init__(address, handler)
        self._sockets: list[Any] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self._sockets.append(request)
        super().process_request(request, client_address)

    def hang_up(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(2)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


class Handler(BaseHTTPRequestHandler):
    owner: OpenServer
    body: Json
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet, lest each answer wait for an acknowledgement
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.owner.paths.append(self.path)
        self.answer({"object": "list", "data": self.owner.cards})

    def do_POST(self) -> None:
        owner = self.owner
        body = self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with owner.lock:
            number = len(owner.bodies)
            owner.bodies.append(body)
            owner.paths.append(self.path)
            owner.times.append(time.monotonic())
            owner.headers.append(dict(self.headers))
            owner.inside += 1
            owner.most = max(owner.most, owner.inside)
        try:
            time.sleep(owner.pause)
            fault = owner.fault(number, body)
            if fault is not None:
                fault(self)
            else:
                self.answer(reply(self.path, body))
        finally:
            with owner.lock:
                owner.inside -= 1

    def answer(self, content: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.raw(json.dumps(content).encode(), status, headers)

    def raw(self, content: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        said = {"Content-Type": "application/json", "Content-Length": str(len(content))} | dict(headers or {})
        for name, value in said.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def reply(path: str, body: Json) -> Json:
    """What this server says when all is well."""
    if path.endswith("/chat/completions"):
        said = f"chat: {body['messages'][0]['content']}"
        choice = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    prompt = body["prompt"]
    if isinstance(prompt, str):
        choice = {"text": f" text: {prompt}"[: body["max_tokens"]], "finish_reason": "length"}
        return {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    model = body["model"]
    allowed = body.get("allowed_token_ids") or range(3, VOCABULARY)
    ids = list(prompt)
    for _ in range(body["max_tokens"]):
        ids.append(max(allowed, key=lambda token: (logprob(ids, token, model), -token)))
    made: dict[str, Any] = {"finish_reason": "length", "token_ids": ids[len(prompt) :], "text": "?"}
    if "logprob_token_ids" in body:
        found = {f"token_id:{token}": logprob(prompt, token, model) for token in body["logprob_token_ids"]}
        made["logprobs"] = {"top_logprobs": [found]}
    return {"choices": [made], "usage": {"prompt_tokens": len(prompt), "completion_tokens": body["max_tokens"]}}


def status(code: int, message: str = "no", headers: Mapping[str, str] | None = None) -> Fault:
    return lambda handler: handler.answer({"error": {"message": message, "code": code}}, code, headers)


def content(raw: bytes) -> Fault:
    return lambda handler: handler.raw(raw)


def changed(change: Callable[[Json], Any]) -> Fault:
    """The right answer with something done to it."""

    def fault(handler: Handler) -> None:
        answer = reply(handler.path, handler.body)
        change(answer)
        handler.answer(answer)

    return fault


def cut_off(handler: Handler) -> None:
    """Half of a body, and the end of the connection."""
    handler.raw(b'{"choices": [', headers={"Content-Length": "500"})
    handler.close_connection = True


def hang_up(handler: Handler) -> None:
    """Not a word."""
    handler.close_connection = True
    handler.connection.shutdown(2)


def hang(handler: Handler) -> None:
    """Says nothing until it is let go."""
    handler.owner.released.wait(60)
    handler.close_connection = True
