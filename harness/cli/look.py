"""Commands that only look: tasks, models, prompt, check, show, compare."""

from __future__ import annotations

import json
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import from_fields, json_option, make_task, set_option, split_option, task_option, tell
from harness.errors import RequestFailed
from harness.model import Trust

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.comparison import Comparison, Flip
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
@from_fields(Trust, into="trust")
@click.option("--ids", is_flag=True, help="Show the token ids that the model receives.")
def prompt(
    task_name: str,
    settings: tuple[str, ...],
    split: Any,
    count: int,
    model_name: str | None,
    template: str | None,
    trust: Trust,
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

        model = Model.parse(model_name, trust=trust)
        if model.engine not in ("auto", *registry.engine_names()):
            raise click.UsageError(f"{model_name} has no tokenizer: --ids is for language models")
        found = resolve(model)
        tokenizer = load_tokenizer(found)
        encode = Encoder(tokenizer, template or task.template, found.name, found.encoder_decoder)
    for instance in islice(task.instances(split), count):
        for request in next(task.solve(instance)):
            text = getattr(request, "prompt", "")
            tell(f"--- {instance.id}\n{text}")
            if encode is not None:
                tell(f"--- ids: {_ids(encode, request)}")


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
@click.argument("paths", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--card", "as_card", is_flag=True, help="What stands behind the scores: data, versions, hardware, command."
)
@click.option("--texts", "as_texts", is_flag=True, help="What the model wrote, instance by instance.")
@click.option("--records", "count", type=click.IntRange(min=1), metavar="N", help="The first N instances, one a line.")
@json_option
def show(paths: tuple[Path, ...], as_card: bool, as_texts: bool, count: int | None, as_json: bool) -> None:
    """Show runs: scores, intervals, failures, cost; a folder of runs is listed, one line for each."""
    from harness import choice
    from harness.card import card
    from harness.report import card_table, record_lines, run_lines, run_table, runs_below, texts
    from harness.store import read_manifest, read_scores

    if (as_card, as_texts, count is not None).count(True) > 1:
        raise click.UsageError("--card, --texts and --records show different things; give one of them")
    if as_json and (as_texts or count is not None):
        what = "texts" if as_texts else "records"
        raise click.UsageError(f"--{what} prints for reading; leave --json out, and see records.jsonl in the run")
    below = {path: runs_below(path) for path in paths}
    runs = [run for found in below.values() for run in found]
    if as_json:
        found = [
            {
                "run": str(run),
                "manifest": read_manifest(run),
                "scores": read_scores(run),
                "chosen": choice.as_json(run),
                "card": card(run),
            }
            for run in runs
        ]
        click.echo(json.dumps(found, indent=2))
    elif as_card:
        tell("\n\n".join(map(card_table, runs)))
    elif as_texts or count is not None:
        for run in runs:
            tell(texts(run) if count is None else record_lines(run, count))
    else:
        for path, inside in below.items():
            tell(run_table(path) if inside == [path] else run_lines(inside))


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--against",
    multiple=True,
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="The other side; may be repeated. Each side is then the mean of its runs, such as several seeds.",
)
@click.option("--flips", "count", type=click.IntRange(min=1), metavar="N", help="The N instances that changed most.")
@json_option
def compare(paths: tuple[Path, ...], against: tuple[Path, ...], count: int | None, as_json: bool) -> None:
    """Compare runs of the same instances, paired: the first RUN with each other one, or all of them with --against.

    Shows each metric's difference with its 95 % interval, the two-sided p-value, the same after Holm's correction for
    all that is shown but diagnostics, and the smallest true difference that would be found four times in five. --json
    prints an object, and a list of them where there are several comparisons.
    """
    from harness import registry
    from harness.comparison import compare_sides, corrected, flips
    from harness.report import comparison_table, corrected_note
    from harness.store import read_manifest

    ours, others = (paths, [against]) if against else (paths[:1], [(path,) for path in paths[1:]])
    if not others:
        raise click.UsageError("one run has nothing to be compared with; name another, or give --against")
    for side in (ours, *others):
        places = [path.resolve() for path in side]
        if twice := [path for path, place in zip(side, places, strict=True) if places.count(place) > 1]:
            raise click.UsageError(f"{twice[0]} is named twice on one side, and would count as two runs")
    metrics = {metric.name: metric for metric in registry.task_kind(read_manifest(ours[0])["task"]).metrics}
    found = [compare_sides(ours, theirs, metrics) for theirs in others]
    adjusted = corrected(found)
    headline = next(iter(metrics.values()))
    changed = [flips(ours, theirs, headline, count) if count else [] for theirs in others]
    if as_json:
        made = [_plain(*one) for one in zip(found, adjusted, changed, strict=True)]
        click.echo(json.dumps(made[0] if len(made) == 1 else made, indent=2))
        return
    for one, p, flipped in zip(found, adjusted, changed, strict=True):
        tell(comparison_table(one, p, flipped))
    click.echo(corrected_note(adjusted))


def _plain(comparison: Comparison, adjusted: Mapping[str, float], flips: Sequence[Flip]) -> dict[str, Any]:
    """Plain data, with null for every number that JSON has no word for."""
    ours, theirs = ([str(path) for path in side] for side in comparison.sides)
    made = {}
    for name, one in comparison.differences.items():
        facts = {
            **one._asdict(),
            "value": one.value,
            "few": one.few,
            "detectable": one.detectable(),
            "diagnostic": name in comparison.diagnostics,
            "adjusted": adjusted.get(name),
        }
        made[name] = {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in facts.items()}
    return {
        "ours": ours,
        "theirs": theirs,
        "instances": comparison.instances,
        "differences": made,
        "gaps": dict(comparison.gaps),
        "flips": [flip._asdict() for flip in flips],
    }
