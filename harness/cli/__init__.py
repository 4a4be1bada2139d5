"""The command line: the composition root, and the only place that may know everyone.

Commands import what they need when they run, so that help and listings answer at once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from errno import ENAMETOOLONG

import click

from harness import __version__
from harness.cli.cache import cache
from harness.cli.data import data
from harness.cli.export import export
from harness.cli.grid import grid
from harness.cli.leaderboard import leaderboard
from harness.cli.look import check, compare, models, prompt, show, tasks
from harness.cli.model_index import export_runs
from harness.cli.regress import regress
from harness.cli.rescore import rescore
from harness.cli.run import run
from harness.cli.tune import tune
from harness.errors import HarnessError, InstanceFailed
from harness.names import printable

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="harness")
def cli() -> None:
    """Evaluate models that recommend, by the protocols of the papers.

    \b
    harness tasks
    harness run --task tallrec --model Qwen/Qwen2.5-0.5B-Instruct
    harness run --task tallrec --model simple:like-rate
    harness leaderboard
    harness regress runs/tallrec/NEW --against runs/tallrec/OLD
    """


LOOK = (tasks, models, data, cache, prompt, check, show, compare, rescore)
MAKE = (tune, run, grid, leaderboard, regress, export_runs)

for command in (*LOOK, *MAKE):
    cli.add_command(command)
data.add_command(export)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0 is success, 1 a check or a cell of a grid that failed, or a checkpoint that must not ship, 2 misuse or unusable
    input, 3 a gate that cannot tell, 130 an interrupt; a bug keeps its traceback.
    """
    # peft imports bitsandbytes wherever it is installed, which then warns of kernels that nobody asked for.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        result = cli.main(None if arguments is None else list(arguments), prog_name="harness", standalone_mode=False)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        hint = f" (see `{where.command_path} --help`)" if where else ""
        click.echo(f"harness: {printable(error.format_message().rstrip('.'))}{hint}", err=True)
        return 2
    except (HarnessError, InstanceFailed) as error:
        click.echo(f"harness: {printable(str(error))}", err=True)
        return 2
    except OSError as error:
        if error.errno != ENAMETOOLONG:
            raise
        click.echo(f"harness: {printable(str(error.filename))[:80]}… is too long for the name of a file", err=True)
        return 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("harness: interrupted; the same command goes on from here", err=True)
        return 130
    return result if isinstance(result, int) else 0
