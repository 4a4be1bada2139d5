"""The shape of the code is part of its contract."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ["errors", "types", "knobs", "metrics", "meter", "points", "exposure", "written", "parsing", "seal", "store"]
LAYERS += [
    "stages",
    "task",
    "signature",
    "stats",
    "seeds",
    "hits",
    "paired",
    "model",
    "engines",
    "runner",
    "scoring",
    "registry",
    "checkpoint",
    "data",
]
LAYERS += [
    "choice",
    "progress",
    "report",
    "loading",
    "machine",
    "job",
    "answering",
    "executors",
    "evaluation",
    "grid",
    "cli",
]
HEAVY = {"torch", "vllm", "transformers", "recbole", "datasets", "peft", "ray"}
HOMES = {
    "torch": {"base", "making", "probing", "scratch", "training", "transformers", "vllm", "weights", "writing"},
    "transformers": {
        "base",
        "encode",
        "foreign",
        "probing",
        "scratch",
        "tiny",
        "training",
        "transformers",
        "weights",
        "workshop",
        "writing",
    },
    "datasets": {"scratch", "training"},
    "peft": {"base", "weights"},
    "vllm": {"vllm", "vllm_process"},
    "ray": {"ray"},
    "recbole": set(),
}
"""The modules of `harness` that are about each heavy library."""


Modules = Sequence[tuple[Path, ast.Module]]


@pytest.fixture(scope="module")
def modules() -> Modules:
    return [
        (path, ast.parse(path.read_text("utf-8")))
        for package in ("harness", "tasks", "baselines", "leaderboard", "tests", "benchmarks")
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.slow
def test_the_core_never_imports_its_plugins(modules: Modules) -> None:
    for path, tree in modules:
        if path.is_relative_to(ROOT / "harness") and "cli" not in path.parts:
            outside = {module.split(".")[0] for module in imports(tree)}
            assert not outside & {"tasks", "baselines", "leaderboard", "tests"}, path


@pytest.mark.parametrize("layer", LAYERS[: LAYERS.index("scoring")])
def test_imports_of_the_core_point_one_way(layer: str) -> None:
    path = ROOT / "harness" / layer
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for module in imports(ast.parse(path.read_text("utf-8"))):
        parts = module.split(".")
        if parts[0] == "harness" and len(parts) > 1 and parts[1] in LAYERS:
            assert LAYERS.index(parts[1]) <= LAYERS.index(layer), f"{path.name} imports {module}"


def test_no_import_cycle_among_modules(modules: Modules) -> None:
    known = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): tree
             for path, tree in modules if "tests" not in path.parts}  # fmt: skip
    graph = {
        name: {m for m in (n for node in tree.body for n in imports(node)) if m in known} - {name}
        for name, tree in known.items()
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"cycle: {' > '.join((*above[above.index(name) :], name))}"
        if name not in done:
            for below in graph[name]:
                visit(below, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_heavy_libraries_stay_in_the_modules_that_are_about_them(modules: Modules) -> None:
    for path, tree in modules:
        if path.is_relative_to(ROOT / "harness"):
            for module in imports(tree):
                top = module.split(".")[0]
                assert top not in HEAVY or path.stem in HOMES[top], f"{path.relative_to(ROOT)} imports {module}"


def test_files_and_functions_stay_small(modules: Modules) -> None:
    for path, tree in modules:
        assert len(path.read_text("utf-8").splitlines()) <= 400, path
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
                assert node.end_lineno - node.lineno + 1 < 50, f"{path}:{node.lineno}"


def test_every_module_says_what_it_is_for(modules: Modules) -> None:
    for path, tree in modules:
        if path != ROOT / "tests" / "__init__.py":
            assert ast.get_docstring(tree), path


@pytest.mark.parametrize(
    "words", [["-c", "import harness"], ["-m", "harness.cli", "--help"], ["-m", "harness.cli", "tasks"]]
)
def test_light_commands_import_nothing_heavy(words: list[str]) -> None:
    watched = [*sorted(HEAVY), "pandas", "matplotlib", "scipy"]
    probe = "import sys, runpy\nsys.argv = sys.argv[1:]\n"
    if words[0] == "-c":
        probe += f"{words[1]}\n"
    else:
        probe += f"sys.argv = ['harness', *{words[2:]!r}]\nfrom harness.cli import main\nmain()\n"
    probe += f"print('HEAVY', sorted(set(sys.modules) & set({watched!r})))\n"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.slow
def test_light_commands_answer_at_once() -> None:
    """Only a hang or a heavy import fails this; what they take is in docs/performance.md."""
    for words in (["--help"], ["tasks"]):
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "harness.cli", *words], capture_output=True, check=True, cwd=ROOT)
        assert time.monotonic() - began < 5
