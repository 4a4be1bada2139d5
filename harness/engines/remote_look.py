"""What can be known of a served model without its weights: its address, what the server says of it, its tokenizer."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from harness.checkpoint import BESIDE_TOKENIZERS, TOKENIZERS
from harness.engines.encode import one_line
from harness.engines.remote_http import Line
from harness.errors import BadModel, BadSetting
from harness.model import Checkpoint, EngineOptions, Model, Served, Trust
from harness.names import at_home

KEY = "OPENAI_API_KEY"
"""The environment variable, and the only place, that a key is taken from."""
START = 15.0
"""Seconds of patience with a server that is looked at: whoever starts a run is there to see that nobody answers."""
PORTS = {"http": 80, "https": 443}


def look(model: Model, options: EngineOptions) -> Checkpoint:
    """Ask the server what it serves under this name, and look at the tokenizer.

    Raises BadModel or BadSetting, in one line, for an address, a name, a tokenizer or an option that cannot be used.
    """
    if options.base_url is None:
        raise BadSetting(f"remote:{model.name} needs --base-url, such as http://localhost:8000/v1")
    if model.dtype != "auto":
        raise BadSetting(f"--dtype {model.dtype} is the server's to decide; say it where the server is started")
    if options.max_model_len is not None and options.tokenizer is None:
        raise BadSetting("--max-model-len counts tokens, so with a remote model it needs --tokenizer")
    url = normalised(options.base_url)
    if model.trust != Trust():
        raise BadSetting(
            "--trust-remote-code and --allow-pickle are for models that are loaded here, not behind a server"
        )
    folder = tokenizer_folder(options.tokenizer) if options.tokenizer is not None else Path()
    card = described(ask_models(url, options), model.name)
    if card is None and options.tokenizer is not None:
        raise BadModel(f"the server at {url} does not list {model.name!r} among its models")
    served = Served(
        url=url,
        root=_text(card, "root"),
        parent=_text(card, "parent"),
        software=_text(card, "owned_by"),
        context=_context(card),
        tokenizer=_digest(folder) if options.tokenizer is not None else None,
        label=model.revision,
    )
    said = json.dumps({"name": model.name, **asdict(served)}, sort_keys=True)
    return Checkpoint(
        folder=folder,
        name=model.name,
        digest=sha256(said.encode()).hexdigest()[:16],
        dtype="unknown",
        architecture="unknown",
        encoder_decoder=False,
        context=served.context,
        served=served,
    )


def still_the_same(models: Any, checkpoint: Checkpoint) -> None:
    """Raises BadModel where the server has become another one while it was away, and ValueError for no answer."""
    served, card = checkpoint.served, described(listed(models), checkpoint.name)
    if served is None or (card is None and served.tokenizer is None):
        return
    now = (_text(card, "root"), _text(card, "parent"), _context(card))
    if now != (served.root, served.parent, served.context):
        raise BadModel(
            f"the server at {served.url} came back as another one: {checkpoint.name} was {served.root}, of "
            f"{served.context} tokens, and is {now[0]}, of {now[2]}; what was answered before is kept"
        )


def normalised(base_url: str) -> str:
    """An address in the one way that runs are named after. Raises BadSetting where it is none, or holds a secret; what
    could be one is not repeated."""
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError):
        raise BadSetting("--base-url is no address; give one such as http://localhost:8000/v1") from None
    if url.userinfo or "@" in base_url:
        raise BadSetting(f"--base-url holds a user or a password; give a key in {KEY}, which is written nowhere")
    if url.query or url.fragment or "?" in base_url or "#" in base_url:
        raise BadSetting(f"--base-url holds more than an address; leave out what begins with ? or #, keys go in {KEY}")
    if url.scheme not in PORTS or not url.host:
        raise BadSetting(f"--base-url {base_url!r} is no address; give one such as http://localhost:8000/v1")
    host = f"[{url.host}]" if ":" in url.host else url.host
    port = "" if url.port is None or url.port == PORTS[url.scheme] else f":{url.port}"
    return f"{url.scheme}://{host}{port}{url.path.rstrip('/')}"


def line_to(url: str, options: EngineOptions, patience: float | None = None) -> Line:
    """A line to the server, with the key from the environment, if there is one."""
    key = os.environ.get(KEY, "").strip() or None
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise BadModel(f"{KEY} holds characters that no key can have; set it again, or unset it")
    return Line(url, key, options.concurrency, options.patience if patience is None else patience)


def ask_models(url: str, options: EngineOptions) -> Sequence[Mapping[str, Any]]:
    """What the server lists as its models. Raises EngineStopped where nobody answers there."""
    line = line_to(url, options, min(START, options.patience))
    try:
        return line.ask("models", None, listed).result()
    finally:
        line.close()


def described(models: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """What the server says of one of its models. A LoRA reads as many tokens as its base."""
    cards = {card["id"]: card for card in models}
    card = cards.get(name)
    if card is None or card.get("max_model_len") is not None or card.get("parent") not in cards:
        return card
    return {**card, "max_model_len": cards[card["parent"]].get("max_model_len")}


def tokenizer_folder(name: str) -> Path:
    """A folder as it is; of a hub id, the tokenizer's files alone. Raises BadModel where there is none."""
    folder = at_home(name)
    if not folder.is_dir():
        if folder.exists() or name[:1] in ("/", ".", "~") or name.count("/") > 1:
            raise BadModel(f"--tokenizer {name}: no such folder")
        folder = _download(name)
    if not _files(folder, TOKENIZERS):
        raise BadModel(f"--tokenizer {name}: none of {', '.join(TOKENIZERS[:3])} ... is in {folder}")
    return folder


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        patterns = [*TOKENIZERS, *BESIDE_TOKENIZERS, "config.json", "*.tiktoken"]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # the hub's many, and those of the libraries beneath
        raise BadModel(f"--tokenizer {name}: neither a folder nor to be had from the hub: {one_line(error)}") from error


def vocabulary(folder: Path) -> int | None:
    """How many tokens the model has embeddings of, where a configuration lies beside the tokenizer."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        size = config.get("vocab_size")
    except (OSError, ValueError, AttributeError):
        return None
    return size if isinstance(size, int) and size > 0 else None


def _digest(folder: Path) -> str:
    """Sixteen hexadecimal digits over the tokenizer's files, which decide what a prompt is in tokens."""
    lines = [
        f"{path.name}\0{sha256(path.read_bytes()).hexdigest()}"
        for path in _files(folder, (*TOKENIZERS, *BESIDE_TOKENIZERS))
    ]
    return sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def _files(folder: Path, names: Sequence[str]) -> list[Path]:
    return [path for path in (*(folder / name for name in names), *folder.glob("*.tiktoken")) if path.is_file()]


def listed(answer: Any) -> Sequence[Mapping[str, Any]]:
    """The models of an answer. Raises ValueError where it is none."""
    cards = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(cards, list) or not all(isinstance(c, dict) and isinstance(c.get("id"), str) for c in cards):
        raise ValueError("no list of models")
    return cards


def _text(card: Mapping[str, Any] | None, key: str) -> str | None:
    said = (card or {}).get(key)
    return said if isinstance(said, str) else None


def _context(card: Mapping[str, Any] | None) -> int | None:
    """Tokens that the server lets a prompt and its answer have, where it says so."""
    said = (card or {}).get("max_model_len")
    return said if isinstance(said, int) and not isinstance(said, bool) and said > 0 else None
