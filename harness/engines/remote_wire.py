"""What is sent to a server and what must come back, as plain data.

Every reader raises ValueError for an answer that is none, so that it is asked for again; BadModel for one that shows
that this server cannot do what is needed; and it never puts a number in the place of one that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from harness.engines.encode import Ids
from harness.engines.text import Written
from harness.errors import BadModel, RequestFailed
from harness.types import Generate, Text, Usage

Body = dict[str, Any]
PLAIN: Mapping[str, Any] = {
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_k": 0,
    "min_p": 0.0,
}
"""vLLM's server would take what is not said from the model's generation_config.json."""
STOPS = 4
"""Stop strings that every server takes; texts are cut at the others here."""
FLOOR = -9999.0
"""What vLLM's server writes for minus infinity, and for whatever is less than this."""
NO_SCORES = (
    "the server gives no log-probabilities of tokens that it is asked for (logprob_token_ids); vLLM's does from 0.32 on"
)
NO_IDS = (
    "the server does not say which tokens it wrote (return_token_ids); vLLM's does, for others leave out --tokenizer"
)


def scoring(model: str, prompt: Ids, wanted: Ids) -> Body:
    """How probable is each wanted token after the prompt?"""
    return {
        **_one_token(model, prompt),
        "logprobs": 1,
        "logprob_token_ids": list(wanted),
        "return_tokens_as_token_ids": True,
    }


def scored(prompt: Ids, wanted: Ids) -> Callable[[Any], dict[int, float]]:
    """Natural log-probabilities by token; minus infinity where the server says no more than that it is tiny."""

    def read(answer: Any) -> dict[int, float]:
        choice = _choice(answer, ("stop", "length"))
        _check_prompt(answer, prompt)
        logprobs = choice.get("logprobs")
        found = logprobs.get("top_logprobs") if isinstance(logprobs, dict) else None
        if not isinstance(found, list):
            raise BadModel(NO_SCORES)
        if len(found) != 1 or not isinstance(found[0], dict):
            raise ValueError(f"log-probabilities of {len(found)} tokens in place of one")
        names = {token: f"token_id:{token}" for token in wanted}
        if missing := [token for token, name in names.items() if name not in found[0]]:
            raise BadModel(f"{NO_SCORES}; of {len(wanted)} tokens asked for, {len(missing)} did not come")
        return {token: _logprob(found[0][name]) for token, name in names.items()}

    return read


def choosing(model: str, prompt: Ids, choices: Sequence[int]) -> Body:
    """Which of these tokens is the most probable next one?"""
    return {**_one_token(model, prompt), "allowed_token_ids": list(choices), "return_token_ids": True}


def chosen(prompt: Ids, choices: Sequence[int]) -> Callable[[Any], int]:
    allowed = frozenset(choices)

    def read(answer: Any) -> int:
        (token,) = written(prompt, 1)(answer).ids
        if token not in allowed:
            raise BadModel("the server writes tokens that it was not allowed (allowed_token_ids); vLLM's holds to them")
        return token

    return read


def writing(model: str, prompt: Ids, request: Generate) -> Body:
    """Continue these ids."""
    stop = {"stop": list(request.stop)} if request.stop else {}
    return {
        "model": model,
        "prompt": list(prompt),
        "max_tokens": request.max_tokens,
        "return_token_ids": True,
        **stop,
        **_drawn(request),
        **PLAIN,
    }


def written(prompt: Ids, most: int) -> Callable[[Any], Written]:
    """One to `most` generated ids."""

    def read(answer: Any) -> Written:
        choice = _choice(answer, ("stop", "length"))
        _check_prompt(answer, prompt)
        ids = choice.get("token_ids")
        if ids is None:
            raise BadModel(NO_IDS)
        if not isinstance(ids, list) or not all(type(token) is int and token >= 0 for token in ids):
            raise ValueError("its tokens are no ids")
        if not 1 <= len(ids) <= most:
            raise ValueError(f"{len(ids)} tokens where 1 to {most} were asked for")
        return Written(ids, choice["finish_reason"] == "stop")

    return read


def continuing(model: str, request: Generate, software: str | None) -> Body:
    """Continue this text, which the server tokenises."""
    return {"model": model, "prompt": request.prompt, **_limits(request, software)}


def chatting(model: str, request: Generate, software: str | None) -> Body:
    """Answer this message, which the server puts into its chat template."""
    return {"model": model, "messages": [{"role": "user", "content": request.prompt}], **_limits(request, software)}


def text(request: Generate) -> Callable[[Any], Text]:
    """What a completion or a chat says, cut before the first stop string. RequestFailed: the server filtered it."""

    def read(answer: Any) -> Text:
        choice = _choice(answer, ("stop", "length", "content_filter"))
        if choice["finish_reason"] == "content_filter":
            raise RequestFailed("the server filtered this answer")
        message = choice.get("message")
        said = message.get("content") if isinstance(message, dict) else choice.get("text")
        if said is None and isinstance(message, dict):
            said = ""  # a model that only thought, until its tokens were spent
        if not isinstance(said, str):
            raise ValueError("no text in it")
        said = said.encode("utf-8", "replace").decode()  # half a character cannot be written down
        usage = Usage(_count(answer, "prompt_tokens") or 0, _count(answer, "completion_tokens") or 0)
        found = [place for place in map(said.find, request.stop) if place >= 0]
        if found:
            return Text(said[: min(found)], "stop", usage)
        return Text(said, "stop" if choice["finish_reason"] == "stop" else "length", usage)

    return read


def _one_token(model: str, prompt: Ids) -> Body:
    return {"model": model, "prompt": list(prompt), "max_tokens": 1, "temperature": 0.0, **PLAIN}


def _limits(request: Generate, software: str | None) -> Body:
    stop = {"stop": list(request.stop[:STOPS])} if request.stop else {}
    return {
        "max_tokens": request.max_tokens,
        **stop,
        **_drawn(request),
        **(PLAIN if software == "vllm" else {}),
    }


def _drawn(request: Generate) -> Body:
    """Greedily, or by chance with a seed."""
    if request.temperature <= 0:
        return {"temperature": 0.0, "top_p": 1.0}
    seed = {} if request.seed is None else {"seed": request.seed}
    return {"temperature": request.temperature, "top_p": request.top_p, **seed}


def _choice(answer: Any, reasons: Sequence[str]) -> dict[str, Any]:
    """The only choice of an answer, ended for one of these reasons; a server that stops says `abort`, say."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise ValueError(f"{len(choices) if isinstance(choices, list) else 'no'} choices in place of one")
    reason = choices[0].get("finish_reason")
    if reason not in reasons:
        raise ValueError(f"it ended for the reason {str(reason)[:40]!r}")
    found: dict[str, Any] = choices[0]
    return found


def _check_prompt(answer: Any, prompt: Ids) -> None:
    """That the server read the ids that it was given, and put nothing before them."""
    count = _count(answer, "prompt_tokens")
    if count is not None and count != len(prompt):
        raise BadModel(
            f"the server read {count} tokens where it was given {len(prompt)}, so its tokens are not those of "
            "--tokenizer; leave that out for generated texts"
        )


def _count(answer: Any, name: str) -> int | None:
    usage = answer.get("usage")
    said = usage.get(name) if isinstance(usage, dict) else None
    return said if type(said) is int and said >= 0 else None


def _logprob(said: Any) -> float:
    if said is None or isinstance(said, bool) or not isinstance(said, int | float):
        raise ValueError("a log-probability is no number")
    if said > 1e-3:
        raise BadModel(f"the server gives {said:.3g} as a log-probability; start it without --logprobs-mode")
    return float(said) if said > FLOOR else (-inf if said == said else float(said))
