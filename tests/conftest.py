"""What several test modules share: a home of their own, and a tiny model that has learned TALLRec."""

from __future__ import annotations

import atexit
import gc
import os
import re
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from hypothesis import settings

if TYPE_CHECKING:
    from harness.types import Instance
    from tasks.palr import PALR
    from tests.choices import Harness

ROOT = Path(__file__).parent.parent
MADE_BY = (
    "harness/tuning/scratch.py",
    "harness/tuning/tiny.py",
    "harness/recipes/tiny.toml",
    "tasks/tallrec.py",
    "tasks/tallrec_data.py",
)
"""Files that decide what the kept models are."""
TRAINED = frozenset({"tiny", "label_free"})
"""Fixtures that train a model for minutes."""
WHOLE_SLOW = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.slow\b", re.MULTILINE)


# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A module that is slow as a whole need not import its engines in order to be left out."""
    chosen = config.getoption("markexpr", "")
    if not chosen.startswith("not slow") or collection_path.suffix != ".py":
        return None
    return True if WHOLE_SLOW.search(collection_path.read_text("utf-8")) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A model that takes minutes to train is made at the very beginning, by the first module that needs it; the others
    that do come last, so that nobody waits for it meanwhile."""
    needs = {path: fixtures & TRAINED for path, fixtures in _fixtures(items).items()}
    makers = {next((path for path, own in needs.items() if name in own), None) for name in TRAINED}
    items.sort(key=lambda item: 0 if item.path in makers else 2 if needs[item.path] else 1)


def _fixtures(items: list[pytest.Item]) -> dict[Path, set[str]]:
    """By module, in their order, what its tests ask for."""
    found: dict[Path, set[str]] = {}
    for item in items:
        found.setdefault(item.path, set()).update(getattr(item, "fixturenames", ()))
    return found


def pytest_sessionstart() -> None:
    """Modules are imported next, and nothing of them is garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What the imports made lives to the end: half a second for each look at it by the garbage collector."""
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing that a test does touches the user's data and cache."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(home))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield home


def _kept(request: pytest.FixtureRequest, name: str, make: Callable[[Path], object]) -> Path:
    """A model that is trained once, whatever runs at the same time, and kept in pytest's cache until anything that
    makes it changes."""
    content = b"".join((ROOT / name).read_bytes() for name in MADE_BY)
    content += "".join(version(name) for name in ("torch", "transformers", "tokenizers")).encode()
    folder = Path(str(request.config.cache.mkdir(name)))
    out = folder / sha256(content).hexdigest()[:12]
    with FileLock(folder / "lock"):
        if not out.exists():
            for old in folder.iterdir():
                if old.is_dir() and not old.name.startswith(out.name):
                    shutil.rmtree(old)
            make(out)
    return out


def _threads() -> int:
    """The cores that a training may take, beside the other processes that pytest runs."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


@pytest.fixture(scope="session")
def tiny(request: pytest.FixtureRequest) -> Path:
    """The quickstart's model: it has learned TALLRec's movies."""
    from harness.tuning.scratch import train_from_scratch
    from tasks.tallrec import TALLRec

    return _kept(request, "tiny", lambda out: train_from_scratch(TALLRec(), "tiny", out, threads=_threads()))


@pytest.fixture(scope="session")
def label_free(request: pytest.FixtureRequest) -> Path:
    """The same without any preference: it knows the form of the prompts, and answers by a coin."""
    from harness.tuning.scratch import train_from_scratch
    from tasks.tallrec import TALLRec

    def make(out: Path) -> None:
        train_from_scratch(TALLRec(), "tiny", out, unlabelled=True, threads=_threads())

    return _kept(request, "label_free", make)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a fake model whose answers are known, in a working directory of its own: see `tests.choices`."""
    from tests.choices import install

    return install(tmp_path, monkeypatch)


@pytest.fixture
def harness(model: Path, capsys: pytest.CaptureFixture[str]) -> Harness:
    """The command line, with that model at hand."""
    from tests.choices import Harness

    return Harness(capsys)


@pytest.fixture(scope="session")
def palr_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run of PALR's first stage: the most popular items."""
    from harness.evaluation import perform
    from harness.job import Job
    from harness.model import Model
    from tasks.retrieval import Retrieval

    folder = tmp_path_factory.mktemp("runs")
    perform(Job(Retrieval(k_core=5, n=60), Model.parse("simple:popularity"), runs=folder), say=lambda line: None)
    return folder


@pytest.fixture(scope="session")
def found(palr_runs: Path) -> str:
    """The digest of that run."""
    (path,) = (palr_runs / "retrieval").iterdir()
    return path.name


@pytest.fixture(scope="session")
def palr(palr_runs: Path, found: str) -> PALR:
    """PALR with those candidates."""
    from tasks.palr import PALR

    return PALR(candidates=found, runs=str(palr_runs))


@pytest.fixture(scope="session")
def asked(palr: PALR) -> Instance:
    """A question of it whose answer is the seventh candidate."""
    return next(q for q in palr.instances() if (q.shortlist or ())[6].id in q.relevance)
