"""A server without our tokenizer: texts go out and texts come back, from any server that speaks as OpenAI's."""

from __future__ import annotations

from collections.abc import Sequence

from harness.engines import Answered, Asked
from harness.engines import remote_wire as wire
from harness.engines.remote_http import Inbox, Line
from harness.errors import BadModel, RequestFailed
from harness.types import Choose, Generate, Key, Request, Text


class RemoteTexts:
    """An engine that answers `Generate` without options; the server tokenises, and writes as its settings say."""

    answers: frozenset[type[Request]] = frozenset({Generate})

    def __init__(self, line: Line, model: str, template: str, software: str | None, capacity: int) -> None:
        """`template` is raw or chat; raises BadModel for one in a file, which needs a tokenizer on this side."""
        if template not in ("raw", "chat"):
            raise BadModel(f"--template {template} is filled in on this side, so remote:{model} needs --tokenizer")
        self.capacity = capacity
        self._model = model
        self._chat = template == "chat"
        self._software = software
        self._inbox: Inbox[Text] = Inbox(line)
        self._failed: list[Answered] = []

    def submit(self, asked: Sequence[Asked]) -> None:
        """Raises BadModel where log-probabilities are asked for: no request of such a run could be answered."""
        for key, request in asked:
            if isinstance(request, Choose) or (isinstance(request, Generate) and request.options):
                raise BadModel(
                    f"this task chooses among options by their log-probabilities, for which remote:{self._model} needs "
                    "--tokenizer FOLDER and a server such as vLLM's"
                )
            if not isinstance(request, Generate):
                self._failed.append((key, RequestFailed("a language model does not answer Rank")))
            elif request.max_tokens < 1 or "" in request.stop or request.barred:
                self._failed.append((key, RequestFailed("no tokens to write, an empty stop string, or barred texts")))
            else:
                self._ask(key, request)

    def collect(self) -> Sequence[Answered]:
        if self._failed:
            failed, self._failed = self._failed, []
            return failed
        return [self._inbox.next()] if self._inbox.waiting else []

    def close(self) -> None:
        self._inbox.clear()
        self._failed.clear()

    def _ask(self, key: Key, request: Generate) -> None:
        if self._chat:
            body, path = wire.chatting(self._model, request, self._software), "chat/completions"
        else:
            body, path = wire.continuing(self._model, request, self._software), "completions"
        self._inbox.ask(key, path, body, wire.text(request))
