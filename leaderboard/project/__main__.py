"""`python -m leaderboard.project`: make the models, ask them all, and write the tables.

Kill it at any moment and give the same command again: what is done is looked at and passed over, and what was under way
goes on, since that is what `harness tune` and `harness run` do. Nothing is remembered besides what they write.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from leaderboard.project.plan import Step, steps

TITLE = "Four papers on MovieLens-100K"


def main() -> int:
    """Every step in turn. Returns the exit code of the first that fails, else 0."""
    given = _arguments()
    plan, digests, began = steps(given.models), dict[str, str](), time.monotonic()
    for number, step in enumerate(plan, 1):
        command = _command(step, digests, given)
        minutes = round((time.monotonic() - began) / 60)
        _say(f"step {number} of {len(plan)}, after {minutes} min: {shlex.join(command)}")
        code, said = _do(command, quiet=step.runs)
        if code:
            _say(f"step {number} of {len(plan)} failed; `make leaderboard` goes on from here")
            return code
        if step.name:
            digests[step.name] = Path(json.loads(said)[0]["run"]).name
    tables = [_harness(), "leaderboard", "--runs", given.runs, "--title", TITLE, "--out", given.out]
    _say(shlex.join(tables))
    return _do(tables, quiet=True)[0]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m leaderboard.project", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default="models", help="folder for what is tuned (default: models)")
    parser.add_argument("--runs", default="runs/project", help="folder of the run directories (default: runs/project)")
    parser.add_argument("--out", default="leaderboard/tables/project", help="folder for the tables")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser.parse_args()


def _command(step: Step, digests: Mapping[str, str], given: argparse.Namespace) -> list[str]:
    words = [word.format_map(digests) for word in step.words]
    return [
        _harness(),
        *words,
        "--threads",
        str(given.threads),
        *(["--runs", given.runs, "--json"] if step.runs else []),
    ]


def _harness() -> str:
    """The command beside this interpreter, as seen from here: run cards show the command, and no machine's folders."""
    return os.path.relpath(Path(sys.executable).with_name("harness"))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _do(command: Sequence[str], quiet: bool) -> tuple[int, str]:
    """Exit code of a command, and what it printed if that is not to be seen; progress goes where ours goes."""
    done = subprocess.run(command, stdout=subprocess.PIPE if quiet else None, text=True, check=False)
    return done.returncode, done.stdout or ""


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
