"""A base model and its adapters: looked at first, loaded at most once, and only when somebody is owed an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from harness import registry
from harness.checkpoint import resolve, resolve_adapter
from harness.engines import Engine
from harness.engines.text import LoadedModel
from harness.errors import BadAdapter, BadModel, BadSetting
from harness.model import Adapter, Checkpoint, EngineOptions, Model


class Ready(NamedTuple):
    engine: Engine
    version: str
    """Of the software that answers; part of a cached answer's address."""


class Base:
    """One base model with all its adapters. Use it as a context, so that its memory and processes are freed."""

    def __init__(
        self, model: Model, options: EngineOptions, say: Callable[[str], None], adapters: bool = False
    ) -> None:
        """Looks at the model's folder, or asks its server. `adapters` says whether there will be any, on which the
        engine depends that is chosen for `auto`. Raises BadModel where there is no model, UnknownName for its kind,
        BadSetting for options of another kind, and EngineStopped where no server answers."""
        self.checkpoint = _look(model, options)
        self.kind = _kind(model, self.checkpoint, adapters)
        self.options = options
        self.starts = 0
        """How often weights were loaded: the engine starts that this base model has cost."""
        self._say = say
        self._adapters: dict[str, Adapter] = {}
        self._refused: dict[str | None, BadModel] = {}
        """Why an adapter, or with None everything, cannot be loaded: not tried again."""
        self._loaded: LoadedModel | None = None
        self._proved: set[tuple[str, str]] = set()

    def __enter__(self) -> Base:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def adapter(self, folder: Path) -> Adapter:
        """Look at a LoRA folder; it will be loaded with the others. Name all before the first answer is asked for:
        a later one costs another start. Raises BadModel where it does not belong to this base."""
        if self.checkpoint.served is not None:
            raise BadModel(f"--adapter {folder}: a server has adapters under names of their own; give remote:NAME")
        found = resolve_adapter(folder, self.checkpoint)
        if found.digest not in self._adapters:
            self.close()
            self._adapters[found.digest] = found
        return found

    def ready(self, adapter: Adapter | None, template: str, prompts: Callable[[], Sequence[str]]) -> Ready:
        """An engine with this adapter in force, proved on `prompts` once for each template.

        Raises BadModel in one line where the base or the adapter cannot be loaded, or the adapter changes nothing.
        """
        loaded = self._load(adapter)
        if adapter is not None and (adapter.digest, template) not in self._proved:
            from harness.engines.adapters import prove_adapter

            change = prove_adapter(loaded, adapter, template, prompts())
            self._proved.add((adapter.digest, template))
            self._say(f"adapter {adapter.name} changes log-probabilities by up to {change:.3g}")
        if self.checkpoint.served is not None and (self.checkpoint.digest, template) not in self._proved:
            self._prove_served(loaded, template, prompts)
        return Ready(loaded.engine(adapter, template), loaded.version)

    def close(self) -> None:
        """Free the memory; the next answer asked for loads it again."""
        loaded, self._loaded = self._loaded, None
        self._proved.clear()
        if loaded is not None:
            loaded.close()

    def _prove_served(self, loaded: LoadedModel, template: str, prompts: Callable[[], Sequence[str]]) -> None:
        """The same proof for a LoRA that a server has under a name of its own."""
        served, name = self.checkpoint.served, self.checkpoint.name
        if served is None or served.parent is None:
            return
        if served.tokenizer is None:
            self._say(f"{name} is an adapter of {served.parent}, not proved to change anything: that takes --tokenizer")
            return
        from harness.engines.remote import prove_served

        change = prove_served(loaded, template, prompts())
        self._proved.add((self.checkpoint.digest, template))
        self._say(f"adapter {name} of {served.parent} changes log-probabilities by up to {change:.3g}")

    def _load(self, wanted: Adapter | None) -> LoadedModel:
        """Everything that can be loaded together. An adapter that cannot costs one more start, and only its own
        answers."""
        load = registry.engine_loader(self.kind)
        while True:
            for refused in (None, wanted.digest if wanted else None):
                if refused in self._refused:
                    raise self._refused[refused]
            if self._loaded is not None:
                return self._loaded
            adapters = [one for digest, one in self._adapters.items() if digest not in self._refused]
            with_them = f" and {len(adapters)} adapters" if len(adapters) > 1 else ""
            if self.checkpoint.served is None:
                self._say(f"loading {self.checkpoint.name} ({self.checkpoint.dtype}){with_them} with {self.kind}")
            self.starts += 1
            try:
                self._loaded = load(self.checkpoint, adapters, self.options)
            except BadAdapter as error:
                self._refused[error.digest] = error
            except BadModel as error:
                self._refused[None] = error


def _look(model: Model, options: EngineOptions) -> Checkpoint:
    if model.engine == "remote":
        from harness.engines.remote_look import look

        return look(model, options)
    for option, said in (("--base-url", options.base_url), ("--tokenizer", options.tokenizer)):
        if said is not None:
            raise BadSetting(f"{option} is for models behind a server; give --model remote:NAME")
    return resolve(model)


def _kind(model: Model, checkpoint: Checkpoint, adapters: bool) -> str:
    if model.engine != "auto":
        return model.engine
    from harness.engines.vllm import suits

    return "vllm" if suits(checkpoint, adapters) else "hf"
