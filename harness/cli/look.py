"""Commands that only look: tasks, models, prompt, check, show, compare."""

from __future__ import annotations

import json
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import json_option, make_task, set_option, split_option, task_option
from harness.errors import RequestFailed

if TYPE_CHECKING:
    from harness.engines.encode import Encoder
    from harness.types import Request


@click.command()
@json_option
def tasks(as_json: bool) -> None:
    """List the tasks: papers, metrics and options."""
    from harness import registry
    from harness.knobs import knobs

    kinds = registry.task_kinds()
    if as_json:
        facts = {
            name: {
                "paper": kind.paper,
                "version": kind.version,
                "metrics": [metric.name for metric in kind.metrics],
                "settings": {k.name: {"default": k.default, "choices": k.choices, "help": k.help} for k in knobs(kind)},
            }
            for name, kind in kinds.items()
        }
        click.echo(json.dumps(facts, indent=2))
        return
    for name, kind in kinds.items():
        click.echo(f"{name}  (version {kind.version})  {kind.paper}")
        click.echo(f"  metrics: {', '.join(metric.name for metric in kind.metrics)}")
        for k in knobs(kind):
            values = "|".join(map(str, k.choices)) or getattr(k.type, "__name__", str(k.type))
            click.echo(f"  --set {k.name}={values}  {k.help}  [default: {k.default}]")


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List what --model takes: engines for language models, and baselines."""
    from harness import registry

    groups = registry.baseline_groups()
    baselines = {f"{group}:{name}": said for group, made in groups.items() for name, said in made.names.items()}
    if as_json:
        click.echo(json.dumps({"engines": registry.engine_names(), "baselines": baselines}, indent=2))
        return
    click.echo("language models: a hub id or a folder; the engine is chosen, or said in front:")
    for name in registry.engine_names():
        click.echo(f"  {name}:MODEL")
    click.echo("baselines:")
    for name, said in baselines.items():
        click.echo(f"  {name:<20} {said}")


@click.command()
@task_option
@set_option
@split_option
@click.option("-n", "count", type=click.IntRange(min=1), default=1, show_default=True, help="How many.")
@click.option("--model", "model_name", metavar="MODEL", help="With --ids: whose tokenizer.")
@click.option("--template", metavar="raw|chat|FILE", help="With --ids.  [default: the task's]")
@click.option("--ids", is_flag=True, help="Show the token ids that the model receives.")
def prompt(
    task_name: str,
    settings: tuple[str, ...],
    split: Any,
    count: int,
    model_name: str | None,
    template: str | None,
    ids: bool,
) -> None:
    """Print the exact prompts of a task's first instances."""
    task = make_task(task_name, settings)
    encode = None
    if not ids and (model_name is not None or template is not None):
        raise click.UsageError("--model and --template go with --ids; the text of a prompt does not depend on them")
    if ids:
        if model_name is None:
            raise click.UsageError("--ids needs --model, whose tokenizer makes them")
        from harness import registry
        from harness.checkpoint import resolve
        from harness.engines.encode import Encoder, load_tokenizer
        from harness.model import Model

        model = Model.parse(model_name)
        if model.engine not in ("auto", *registry.engine_names()):
            raise click.UsageError(f"{model_name} has no tokenizer: --ids is for language models")
        found = resolve(model)
        tokenizer = load_tokenizer(found)
        encode = Encoder(tokenizer, template or task.template, found.name, found.encoder_decoder)
    for instance in islice(task.instances(split), count):
        for request in next(task.solve(instance)):
            text = getattr(request, "prompt", "")
            click.echo(f"--- {instance.id}\n{text}")
            if encode is not None:
                click.echo(f"--- ids: {_ids(encode, request)}")


def _ids(encoder: Encoder, request: Request) -> str:
    """What the model is conditioned on, and the ids of each option behind it."""
    from harness.types import Choose, Generate

    if isinstance(request, Choose):
        (choice,) = encoder.choices([(request.prompt, request.options, request.ended)])
        if isinstance(choice, RequestFailed):
            return str(choice)
        said = zip(request.options, choice.trie.options, strict=True)
        return str(list(choice.prompt)) + "".join(f"\n--- {option!r}: {list(ids)}" for option, ids in said)
    return str(list(encoder.prompts([request.prompt])[0])) if isinstance(request, Generate) else "none"


@click.command()
@task_option
@set_option
@split_option
def check(task_name: str, settings: tuple[str, ...], split: Any) -> None:
    """Check a task: oracle scores 1, constant and random score chance, every prompt can be asked and read."""
    from harness.testing import check_task

    findings = check_task(make_task(task_name, settings), split)
    for finding in findings:
        click.echo(f"{'ok  ' if finding.holds else 'FAIL'}  {finding.what}")
    if not all(finding.holds for finding in findings):
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--texts", "as_texts", is_flag=True, help="What the model wrote, instance by instance.")
@json_option
def show(paths: tuple[Path, ...], as_texts: bool, as_json: bool) -> None:
    """Show run directories: scores, intervals, failures, cost; or the texts."""
    from harness import choice
    from harness.report import run_table, texts
    from harness.store import read_manifest, read_scores

    if as_texts and as_json:
        raise click.UsageError("--texts prints texts for reading; leave --json out, and see records.jsonl in the run")
    if as_texts:
        for path in paths:
            read_manifest(path)
            click.echo(texts(path))
        return

    if as_json:
        found = [{"manifest": read_manifest(p), "scores": read_scores(p), "chosen": choice.as_json(p)} for p in paths]
        click.echo(json.dumps(found, indent=2))
        return
    for path in paths:
        click.echo(run_table(path))


@click.command()
@click.argument("ours", type=click.Path(path_type=Path))
@click.argument("theirs", type=click.Path(path_type=Path))
@json_option
def compare(ours: Path, theirs: Path, as_json: bool) -> None:
    """Compare two runs of the same instances: paired differences, and the largest gap between single answers."""
    from dataclasses import asdict

    from harness import registry
    from harness.comparison import compare as compare_runs
    from harness.store import read_manifest

    kind = registry.task_kind(read_manifest(ours)["task"])
    found = compare_runs(ours, theirs, {metric.name: metric for metric in kind.metrics})
    if as_json:
        click.echo(json.dumps(_finite(asdict(found)), indent=2))
        return
    click.echo(f"{found.instances} instances; ours {ours}, theirs {theirs}")
    for one in found.differences:
        low, high, unit, units, method = one.interval
        line = f"  {one.metric}  {one.ours:.4f} - {one.theirs:.4f} = {one.ours - one.theirs:+.4f}"
        if method != "undefined":
            line += f"  [{low:+.4f}, {high:+.4f}]  95 %, paired {method} over {units} {unit}s"
        click.echo(line)
    for fact, gap in sorted(found.gaps.items()):
        click.echo(f"  largest gap in {fact}: {gap:.3g}")


def _finite(thing: Any) -> Any:
    """The same with null for every number that JSON has no word for."""
    if isinstance(thing, dict):
        return {name: _finite(value) for name, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [_finite(value) for value in thing]
    return None if isinstance(thing, float) and not isfinite(thing) else thing
