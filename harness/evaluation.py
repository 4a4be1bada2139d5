"""From a task and a model to a complete run directory: what `harness run` does, and `harness grid` for each cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from harness import __version__, choice, registry
from harness.checkpoint import template_identity
from harness.choice import Alternative, Choice, Choosing
from harness.engines.text import context_of
from harness.errors import BadModel, BadSetting, InstanceFailed, NotApplicable, NothingAnswered
from harness.executors import HERE, Executor
from harness.job import Contestant, Job
from harness.knobs import settings
from harness.loading import Base, Ready
from harness.model import Adapter, Model, ModelSettings
from harness.runner import questions
from harness.scoring import Asked, not_applicable, score
from harness.signature import describe, identify, inputs
from harness.store import SCHEMA, Run, read_scores
from harness.task import Task
from harness.types import Rank, Split

PROBES = 4
"""Prompts that an adapter must answer differently from its base."""


class Settled(NamedTuple):
    """A complete run, and how its option was chosen, where it was."""

    run: Path
    choice: Choice | None = None


def perform(job: Job, say: Callable[[str], None], executor: Executor = HERE) -> list[Path]:
    """Bring every run of the job to completion and return their directories, in the order of the adapters.

    The model is loaded at most once, and only if something is owed; the adapters share it.
    """
    if job.run_dir is not None and len(job.adapters) > 1:
        raise BadModel("--run-dir names one directory, but several adapters make several runs; leave it out")
    if is_baseline(job.model):
        if job.choosing is not None:
            who = f"{job.model.engine}:{job.model.name}"
            raise BadModel(f"--choose is for language models; {who} reads no prompt, and answers any wording alike")
        return [complete(job, baseline(job), say, executor)]
    if job.settings != ModelSettings():
        raise BadModel("--model-set and --model-config are for baselines, such as recbole:SASRec")
    with Base(job.model, job.options, say, bool(job.adapters)) as base:
        wanted: list[Adapter | None] = [base.adapter(folder) for folder in job.adapters]
        return [settle(job, base, adapter, say, executor).run for adapter in wanted or [None]]


def settle(
    job: Job, base: Base, adapter: Adapter | None, say: Callable[[str], None], executor: Executor = HERE
) -> Settled:
    """Bring the run of a language model to completion; its option, if it has one to choose, is chosen first.

    Raises NothingAnswered if no value of the option can be scored, and whatever keeps a run from completion.
    """
    if job.choosing is None:
        return Settled(complete(job, language_model(job, base, adapter), say, executor))
    _check_sample(job)
    made = _earlier(job, base, adapter)
    chosen = made or _choose(job, job.choosing, base, adapter, say, executor)
    asked = _with(job, job.choosing, chosen.value)
    path = complete(asked, language_model(asked, base, adapter), say, executor)
    if made is None:
        choice.write(path, chosen)
    return Settled(path, chosen)


def is_owed(job: Job, base: Base, adapter: Adapter | None) -> bool:
    """Whether `settle` would ask anything. Loads nothing."""
    if job.choosing is not None:
        made = _earlier(job, base, adapter)
        if made is None:
            return True
        job = _with(job, job.choosing, made.value)
    return read_scores(run_path(job, language_model(job, base, adapter))) is None


def _earlier(job: Job, base: Base, adapter: Adapter | None) -> Choice | None:
    """What was chosen before from the very same runs on validation, if anything."""
    if job.choosing is None:
        return None
    tried = [
        (value, _digest(asked, language_model(asked, base, adapter))) for value, asked in _trials(job, job.choosing)
    ]
    for value in job.choosing.values:
        asked = _with(job, job.choosing, value)
        found = choice.read(run_path(asked, language_model(asked, base, adapter)))
        if found is None or [(one.value, one.run) for one in found.alternatives] != tried:
            continue
        if (found.option, found.value, found.metric) == (job.choosing.option, value, job.task.selector.name):
            return found
    return None


def _choose(
    job: Job, choosing: Choosing, base: Base, adapter: Adapter | None, say: Callable[[str], None], executor: Executor
) -> Choice:
    """Evaluate every value on validation; the best one wins, and of equal ones the first."""
    tried: list[Alternative] = []
    for value, asked in _trials(job, choosing):
        say(f"{choosing.option}={value}, on validation")
        contestant = language_model(asked, base, adapter)
        score, reason = None, None
        try:
            path = complete(asked, contestant, say, executor)
            score = choice.selected(path, asked.task, questions(asked.task, asked.split, asked.sample))
        except (NothingAnswered, NotApplicable) as error:
            reason = str(error)
        tried.append(Alternative(value, _digest(asked, contestant), score, reason))
    scores = {one.value: one.score for one in tried if one.score is not None}
    if not scores:
        reasons = "; ".join(dict.fromkeys(one.reason for one in tried if one.reason))
        raise NothingAnswered(f"no value of {choosing.option} can be scored on the {choice.ON} split: {reasons}")
    metric, sample = job.task.selector, asked.sample
    best = (max if metric.higher_is_better else min)(scores, key=scores.__getitem__)
    count = sample.size if sample else _size(job.task, choice.ON)
    return Choice(choosing.option, best, metric.name, choice.ON, count, tuple(tried))


def _trials(job: Job, choosing: Choosing) -> Iterator[tuple[str, Job]]:
    """The validation of each value, as an ordinary run. A sample that is no part of the split is all of it."""
    sample = choosing.sample or job.sample
    if sample is not None and sample.size >= _size(job.task, choice.ON):
        sample = None
    for value in choosing.values:
        yield value, replace(_with(job, choosing, value), split=choice.ON, sample=sample, run_dir=None)


def _with(job: Job, choosing: Choosing, value: str) -> Job:
    """The job as if the value had been given."""
    return replace(job, task=choosing.tasks[choosing.values.index(value)], choosing=None)


def _digest(job: Job, contestant: Contestant) -> str:
    return identify(job.task, job.split, job.sample, contestant.who).run


def is_baseline(model: Model) -> bool:
    """Whether it needs no prompt. Raises BadModel for a kind of model that there is not."""
    groups = registry.baseline_groups()
    if model.engine not in ("auto", *registry.engine_names(), *groups):
        raise BadModel(registry.unknown("kind of model", model.engine, [*registry.engine_names(), *groups]))
    return model.engine in groups


def complete(job: Job, contestant: Contestant, say: Callable[[str], None], executor: Executor = HERE) -> Path:
    """Ask what is owed of one run, and return its directory. Raises whatever keeps it from completion."""
    _check_sample(job)
    manifest = _manifest(job, contestant)
    path = run_path(job, contestant)
    with Run.open(path, manifest) as run:
        scores = read_scores(path)
        if scores is not None and scores["instances"] == len(run.done):  # else records were lost since
            say(f"{path} is complete already")
            return path
        run.reopen()
        if run.done:
            say(f"{path}: going on after {len(run.done)} instances")
        try:
            executor.answer(job, contestant, run)
        except NotApplicable as reason:
            if run.done:
                raise
            run.finish(not_applicable(job.task.metrics, str(reason)))
            return path
        asked = Asked.of(job.task.metrics, questions(job.task, job.split, job.sample))
        run.finish(score(path, job.task.metrics, asked.chance, job.task.strata, asked.candidates))
    return path


def run_path(job: Job, contestant: Contestant) -> Path:
    """Where the run is, or will be."""
    if job.run_dir is not None:
        return job.run_dir
    return job.runs / job.task.name / _digest(job, contestant)


def _check_sample(job: Job) -> None:
    """A sample of everything would be the same questions under another name."""
    if job.sample is None:
        return
    size = _size(job.task, job.split)
    if job.sample.size >= size:
        raise BadSetting(f"--sample {job.sample.size}: there are {size} {job.split} instances; leave it out for all")


def _size(task: Task, split: Split) -> int:
    known = task.size(split)
    return sum(1 for _ in task.instances(split)) if known is None else known


def _manifest(job: Job, contestant: Contestant) -> dict[str, Any]:
    task = job.task
    return {
        "schema": SCHEMA,
        "task": task.name,
        "version": task.version,
        "paper": task.paper,
        "described": describe(task),
        "settings": dict(settings(task, tuning=False)),
        "inputs": inputs(task),
        "data": dict(task.data_digests()),
        "split": job.split,
        "sample": job.sample._asdict() if job.sample else None,
        "model": {**contestant.who, **contestant.shown},
        "metrics": [metric.name for metric in task.metrics],
        "identity": identify(task, job.split, job.sample, contestant.who)._asdict(),
    }


def baseline(job: Job) -> Contestant:
    """A model that needs no prompt. Raises BadModel for an unknown one, or options that are for language models."""
    model = job.model
    given = {
        "--adapter": bool(job.adapters),
        "--revision": model.revision is not None,
        "--template": job.template is not None,
        "--dtype": model.dtype != "auto",
        "--allow-pickle": model.trust.allow_pickle,
        "--trust-remote-code": model.trust.trust_remote_code,
    }
    for option, said in given.items():
        if said:
            raise BadModel(f"{option} does not go with {model.engine}:{model.name}, which is no language model")
    found = registry.baseline_groups()[model.engine].find(model.name, job.task, job.split, job.settings)
    return Contestant(
        who={"engine": model.engine, **found.who},
        shown={"name": found.name},
        prepare=lambda: Ready(found.make(job.options), __version__),
        cacheable=False,
    )


def language_model(job: Job, base: Base, adapter: Adapter | None) -> Contestant:
    """A base model, or one of the adapters that it was told of. Loads nothing.

    Raises BadSetting for a split that the model was tuned on under the name of a pool.
    """
    checkpoint, template = base.checkpoint, job.template or job.task.template
    tuned = adapter.manifest if adapter else checkpoint.manifest
    if tuned and tuned.get("pool") == job.split == "valid" and _same_data(tuned, job.task):
        raise BadSetting(
            f"{adapter.name if adapter else checkpoint.name} was tuned on rows of the validation split (pool=valid); "
            "evaluate it on --split test, and let it choose no option"
        )
    who = {
        "engine": base.kind,
        "weights": checkpoint.digest,
        "adapter": adapter.digest if adapter else None,
        "dtype": checkpoint.dtype,
        "template": template_identity(template),
        "context": context_of(checkpoint, job.options),
        **({"structured": job.options.structured} if job.options.structured and base.kind == "vllm" else {}),
        **({"served": asdict(checkpoint.served)} if checkpoint.served else {}),
    }
    precision = [] if checkpoint.served else [checkpoint.dtype]
    how = ", ".join([base.kind, *precision, *([] if template == job.task.template else [template])])
    name = checkpoint.name + (f" + {adapter.name}" if adapter else "") + f" ({how})"
    shown = {
        "name": name,
        "architecture": checkpoint.architecture,
        "parameters": checkpoint.parameters,
        **({"weights_verified": False} if checkpoint.served else {}),
        "adapted": adapter.name if adapter else None,
        "tuned": tuned,
    }

    def prepare() -> Ready:
        return base.ready(adapter, template, lambda: list(islice(_probes(job), PROBES)))

    return Contestant(who, shown, prepare, cacheable=checkpoint.served is None)


def _same_data(tuned: Mapping[str, Any], task: Task) -> bool:
    """Whether a model was tuned on this task, or on its data under the name of another."""
    if tuned.get("task") == task.name:
        return True
    return not set(tuned.get("data", {}).values()).isdisjoint(task.data_digests().values())


def _probes(job: Job) -> Iterator[str]:
    """The first prompts of the task, as its programs ask them."""
    for instance in questions(job.task, job.split, None):
        try:
            asked = next(job.task.solve(instance))
        except (InstanceFailed, StopIteration):
            continue
        yield from (request.prompt for request in asked if not isinstance(request, Rank))
