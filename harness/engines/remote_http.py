"""The line to a server: bounded concurrency, patience, tries, and what each way of failing means.

Whose fault a failure is decides what happens. Nobody is answered: the server's; every request waits and tries again,
and after `patience` seconds the run stops without a record of it. Others are answered, this request never: its own;
it fails after some tries. The server says that the request is wrong: it fails at once. The server says that address,
key or name are wrong: the run stops at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

import httpx

from harness.engines.encode import one_line
from harness.engines.remote_status import Trouble, Wrong, content_of, judge
from harness.errors import BadModel, EngineStopped, HarnessError, RequestFailed

T = TypeVar("T")
Body = Mapping[str, Any]
AWAY = (502, 503, 504)
"""Somebody in front says that the server itself is not there: it may come back as another one."""
TRIES = 6
"""How often a request may fail while the server answers others."""
FIRST_WAIT, LONGEST_WAIT = 0.25, 10.0
"""Seconds before a second try, doubled for each further one."""
CONNECT = 10.0
"""Seconds for a connection, which a server that is there gives at once however slowly it thinks."""
LOCAL = ("localhost", "127.0.0.1", "::1")
CLOSING = 5.0
"""Seconds for connections to close; what takes longer is left to the end of the process."""


class Line:
    """One server, asked by one thread with an event loop of its own. To be closed once."""

    def __init__(self, url: str, key: str | None, concurrency: int, patience: float) -> None:
        """`url` is without a slash at its end, `key` a bearer's or None, `patience` in seconds."""
        self.url = url
        self.check: Callable[[Any], None] | None = None
        """Told what the server says of its models whenever it may have been another one meanwhile."""
        self._key = key
        self._patience = patience
        self._limit = max(1.0, patience)
        self._slots = asyncio.Semaphore(concurrency)
        self._client = _client(url, key, concurrency, self._limit)
        self._answers, self._last_answer = 0, float("-inf")
        self._paused_until = float("-inf")
        self._breaks, self._checked = 0, 0
        """How often a connection broke, and how many of these times lie before the last look at the server's models."""
        self._good: tuple[str, Body, Callable[[Any], Any]] | None = None
        """A request that the server has answered before: asked again to see whether it still does."""
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="remote", daemon=True)
        self._thread.start()

    def ask(self, path: str, body: Body | None, read: Callable[[Any], T]) -> Future[T]:
        """POST, or GET where there is no body; `read` makes a T of the answer, or raises ValueError where it is none.

        The future ends with the T, with RequestFailed, or with the HarnessError that ends the run.
        """
        return asyncio.run_coroutine_threadsafe(self._ask(path, body, read), self._loop)

    def close(self) -> None:
        """Take back all that is asked and hang up. May be called twice."""
        if self._loop.is_closed():
            return
        ended = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        with suppress(TimeoutError, CancelledError):
            ended.result(CLOSING)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSING)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    async def _ask(self, path: str, body: Body | None, read: Callable[[Any], T]) -> T:
        async with self._slots:
            began, attempt, faults = time.monotonic(), 0, 0
            while True:
                try:
                    await self._turn()
                    return await self._attempt(path, body, read)
                except Trouble as trouble:
                    seen = self._answers
                    await self._wait(trouble, attempt, began)
                    answered = self._answers > seen
                    if not answered and (trouble.own or self._silent(began) >= self._patience):
                        answered = await self._is_there(path, body)
                    if not answered and self._silent(began) >= self._patience:
                        raise self._stopped(trouble) from None
                    # Busy for one question alone, and for so long, is a refusal: it is too large, say.
                    faults += answered and (trouble.own or time.monotonic() - began >= self._patience)
                    if faults >= TRIES:
                        why = f"the server answers others, but this request failed {TRIES} times: {trouble}"
                        raise RequestFailed(why) from None
                    attempt += 1

    async def _turn(self) -> None:
        """Wait while the server wants no requests; and see, after it was away, whether it is still the same."""
        while (left := self._paused_until - time.monotonic()) > 0:
            await asyncio.sleep(left + random.uniform(0, FIRST_WAIT))
        breaks = self._breaks
        if breaks > self._checked and self.check is not None:
            try:
                await self._attempt("models", None, self.check)
            except RequestFailed as failed:
                raise Trouble(str(failed), own=False) from None
            self._checked = max(self._checked, breaks)

    async def _wait(self, trouble: Trouble, attempt: int, began: float) -> None:
        """Back off, longer each time, but not past the end of our patience; as long as the server says, if it says."""
        if trouble.wait is not None:
            if trouble.wait > self._patience:
                raise EngineStopped(
                    f"the server at {self.url} wants no request for {trouble.wait:g} s, longer than --patience "
                    f"{self._patience:g} ({trouble}); the same command goes on"
                )
            self._paused_until = max(self._paused_until, time.monotonic() + trouble.wait)
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempt, 10))
        await asyncio.sleep(min(longest * random.uniform(0.5, 1.0), max(0.0, self._patience - self._silent(began))))

    async def _is_there(self, path: str, body: Body | None) -> bool:
        """Whether the server answers what it has answered before; or, before it has, next to nothing."""
        if body is None:
            return False
        good, known, read = self._good or (path, _least(body), lambda answer: answer)
        try:
            async with asyncio.timeout(max(1.0, self._patience / 4)):
                await self._turn()
                await self._attempt(good, {**known, "max_tokens": 1}, read)
        except (Trouble, TimeoutError):
            return False
        except RequestFailed:
            return True
        return True

    async def _attempt(self, path: str, body: Body | None, read: Callable[[Any], T]) -> T:
        try:
            async with asyncio.timeout(self._limit):
                response = await self._client.send(self._request(path, body), stream=True)
                try:
                    content = await content_of(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            self._breaks += 1
            raise Trouble(f"no answer within {self._limit:g} s", own=True) from None
        except httpx.RequestError as error:
            self._breaks += 1
            unreachable = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise Trouble(self._hide(_transport(error)), own=not unreachable) from None
        if response.status_code in AWAY:
            self._breaks += 1
        try:
            made = judge(response, content, read, self._hide)
        except Wrong as wrong:
            raise BadModel(f"the server at {self.url} {wrong}") from None
        except RequestFailed:
            self._answered(path)
            raise
        self._answered(path)
        if body is not None:
            self._good = path, body, read
        return made

    def _request(self, path: str, body: Body | None) -> httpx.Request:
        try:
            return self._client.build_request("GET" if body is None else "POST", f"{self.url}/{path}", json=body)
        except ValueError as error:  # half a character, say
            raise RequestFailed(f"this question cannot be written as JSON: {one_line(error)}") from None

    def _answered(self, path: str) -> None:
        """That it lists its models does not say that the one behind them still answers."""
        if path != "models":
            self._answers += 1
            self._last_answer = time.monotonic()

    def _silent(self, began: float) -> float:
        """Seconds for which nobody has been answered, as far as a request can tell that began then."""
        return time.monotonic() - max(began, self._last_answer)

    def _stopped(self, trouble: Trouble) -> EngineStopped:
        return EngineStopped(
            f"the server at {self.url} has answered nobody for {self._patience:g} s ({trouble}); "
            "the same command goes on"
        )

    def _hide(self, said: str) -> str:
        """A server may repeat the key in what it says of it."""
        return said if self._key is None else said.replace(self._key, "***")


class Inbox(Generic[T]):
    """What one view has asked of a line, and the answers as they come. Used by one thread."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._open: dict[Any, Future[T]] = {}
        self._came: SimpleQueue[Any] = SimpleQueue()

    @property
    def waiting(self) -> bool:
        return bool(self._open)

    def ask(self, ticket: Any, path: str, body: Body, read: Callable[[Any], T]) -> None:
        """Tickets are the caller's and unique among those that are open."""
        future = self._line.ask(path, body, read)
        self._open[ticket] = future
        came = self._came  # after `clear` another one, so that what comes late is not taken for what is asked then
        future.add_done_callback(lambda _: came.put(ticket))

    def next(self) -> tuple[Any, T | RequestFailed]:
        """Wait for any answer. Raises the HarnessError that ends the run."""
        while True:
            ticket = self._came.get()
            future = self._open.pop(ticket, None)
            if future is not None:
                break
        try:
            return ticket, future.result()
        except RequestFailed as failed:
            return ticket, failed
        except CancelledError:
            raise EngineStopped(f"the line to {self._line.url} was closed") from None
        except HarnessError:
            self.clear()
            raise

    def drop(self, tickets: list[Any]) -> None:
        """Take some back."""
        for ticket in tickets:
            if (future := self._open.pop(ticket, None)) is not None:
                future.cancel()

    def clear(self) -> None:
        """Take everything back."""
        self.drop(list(self._open))
        self._came = SimpleQueue()


def _client(url: str, key: str | None, concurrency: int, limit: float) -> httpx.AsyncClient:
    headers = {"User-Agent": "llmrec-harness"} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        return httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(limit, connect=min(CONNECT, limit)),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            trust_env=httpx.URL(url).host not in LOCAL,  # a proxy from the environment does not know this machine
            follow_redirects=False,
        )
    except (ImportError, ValueError, httpx.InvalidURL):
        # Whatever it says may hold the proxy's password.
        raise BadModel("the proxy that the environment names cannot be used; unset it, or set NO_PROXY") from None


def _least(body: Body) -> Body:
    """A question like this one that every server can answer."""
    if "messages" in body:
        return {"model": body["model"], "messages": [{"role": "user", "content": "Hi"}]}
    prompt = body.get("prompt")
    return {"model": body["model"], "prompt": prompt[:1] if isinstance(prompt, list) else "Hi"}


def _transport(error: httpx.RequestError) -> str:
    what = "cannot be reached" if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) else "broke off"
    return f"{what}: {one_line(error)}"
