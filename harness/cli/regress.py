"""`harness regress`: may this checkpoint take the place of that one?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import json_option

if TYPE_CHECKING:
    from leaderboard.gate.policy import Policy
    from leaderboard.gate.report import Report

RUN = click.Path(path_type=Path)
REFERENCE = "reference"


def _show_policy(context: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        from leaderboard.gate.policy import default_text

        click.echo(default_text(), nl=False)
        context.exit()


@click.command()
@click.argument("new", nargs=-1, required=True, type=RUN)
@click.option(
    "--against",
    multiple=True,
    required=True,
    metavar="RUN|reference",
    help="The run to compare with; several differ in the seed. `reference`: the paper's published number.",
)
@click.option("--policy", "policy_file", type=RUN, metavar="FILE", help="What may drop how far.  [default: built in]")
@click.option("--show-policy", is_flag=True, is_eager=True, expose_value=False, callback=_show_policy,
              help="Print the built-in policy, to start one of your own.")  # fmt: skip
@click.option("--show-flips", "show", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
              help="Name the N instances that moved most, for each check.")  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Write gate.md, gate.json, gate.xml here."
)
@click.option("--github", is_flag=True, help="Print annotations; in GitHub Actions they come by themselves.")
@json_option
def regress(
    new: tuple[Path, ...],
    against: tuple[str, ...],
    policy_file: Path | None,
    show: int,
    out: Path | None,
    github: bool,
    as_json: bool,
) -> None:
    """Decide whether NEW may take the place of another run: go, no-go, or cannot tell.

    Both answered the same instances; several NEW runs, and several --against, differ in the seed. The exit code is 0
    for go, 1 for no-go, 3 for cannot tell, and 2 for misuse or runs that cannot be compared.

    \b
    harness regress runs/tallrec/NEW --against runs/tallrec/OLD
    harness regress runs/palr/NEW --against runs/palr/OLD --policy release.toml --show-flips 5 --out gate
    """
    from leaderboard.gate import report as written
    from leaderboard.gate.decision import EXIT_CODES
    from leaderboard.gate.policy import read_policy

    policy = read_policy(policy_file)
    _known_tasks(policy)
    found = _compared(policy, new, against, show)
    click.echo(json.dumps(written.as_json(found), indent=2) if as_json else written.text(found), nl=as_json)
    if out is not None:
        _write(found, out)
    _tell_github(found, github, as_json)
    if code := EXIT_CODES[found.verdict]:
        raise click.exceptions.Exit(code)


def _compared(policy: Policy, new: tuple[Path, ...], against: tuple[str, ...], show: int) -> Report:
    from harness import registry
    from harness.errors import StaleRun
    from leaderboard.gate.evidence import gather
    from leaderboard.gate.judge import judge
    from leaderboard.gate.reference import judge_by_papers
    from leaderboard.gate.report import make_report

    published = REFERENCE in against
    if published and len(against) > 1:
        raise click.UsageError("--against reference stands alone; a folder of that name is ./reference")
    evidence = gather(new, [] if published else [Path(one) for one in against])
    manifest = evidence.manifest
    kind = registry.task_kind(manifest["task"])
    if kind.version != manifest["version"]:
        raise StaleRun(
            f"{new[0]} is of version {manifest['version']} of task {kind.name!r}, and this is version {kind.version}; "
            "evaluate both checkpoints again"
        )
    if published:
        found = judge_by_papers(policy, evidence, kind.metrics)
        return make_report(policy, evidence, found.findings, found.sources, found.notes)
    return make_report(policy, evidence, judge(policy, evidence, kind.metrics, show=show))


def _known_tasks(policy: Policy) -> None:
    """A check for a task that there is not would never be asked, and nobody would notice."""
    from harness import registry
    from harness.errors import BadSetting

    names = {check.task for check in policy.checks} - {None}
    kinds = list(registry.task_kinds()) if names else []
    for name in sorted(str(name) for name in names):
        if name not in kinds:
            raise BadSetting(f"policy {policy.source}: {registry.unknown('task', name, kinds)}")


def _write(found: Report, out: Path) -> None:
    from harness.staging import put_in_place
    from harness.store import write_json
    from leaderboard.gate import report as written
    from leaderboard.gate.ci import junit

    with put_in_place(out) as stage:
        (stage / "gate.md").write_text(written.markdown(found), "utf-8")
        write_json(stage / "gate.json", written.as_json(found))
        (stage / "gate.xml").write_bytes(junit(found))
    click.echo(f"written to {out}: gate.md, gate.json, gate.xml", err=True)


def _tell_github(found: Report, asked: bool, as_json: bool) -> None:
    from harness.store import plain_disk_errors
    from leaderboard.gate import report as written
    from leaderboard.gate.ci import workflow_commands

    if asked or os.environ.get("GITHUB_ACTIONS") == "true":
        for line in workflow_commands(found):
            click.echo(line, err=as_json)  # GitHub reads both streams, and JSON must stay JSON
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with plain_disk_errors(Path(summary)), Path(summary).open("a", encoding="utf-8") as page:
            page.write(written.markdown(found) + "\n")
