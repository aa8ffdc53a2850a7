"""The border between the two worlds, read from the source and tried."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "harness"
SHARED = (
    *("harness.core.wire", "harness.core.processes", "harness.core.checks", "harness.core.channels"),
    "harness.core.tree_events",
    *(
        f"harness.core.evidence.{path.stem}"
        for path in sorted((PACKAGE / "core" / "evidence").glob("*.py"))
        if path.stem != "parsing"
    ),
)
"""What both worlds import: the standard library is enough for it."""


def distributions(requirements: list[str]) -> set[str]:
    """The names that the requirements begin with."""
    return {match[0].lower() for line in requirements if (match := re.match(r"[\w.-]+", line))}


def modules_of_the_stack() -> frozenset[str]:
    """What a release's process has and the outside may not import: what `stack` adds to the plain dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = distributions(project["optional-dependencies"]["stack"]) - distributions(project["dependencies"])
    installed = importlib.metadata.packages_distributions().items()
    modules = {module for module, owners in installed if {owner.lower() for owner in owners} & names}
    return frozenset({name.replace("-", "_") for name in names} | modules | {"funasr"})


STACK = modules_of_the_stack()
OPTIONAL = {"harness/watch/scalars.py": "tensorboardX"}
"""What a module outside uses where it happens to be installed, and says so where it is not."""


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Every module that the source imports anywhere in it, with what `from` takes out of it, and by name."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                parts = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                base = ".".join([*parts, *([module] if module else [])])
                yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Call(args=[ast.Constant(value=str(name)), *_], func=called) if by_name(called):
                yield name


def by_name(called: ast.expr) -> bool:
    """Whether it is a function that imports what its argument names."""
    return ast.unparse(called).rpartition(".")[2] in ("import_module", "__import__")


def at_module_level(tree: ast.Module) -> ast.Module:
    """The tree without the bodies of its functions: what runs when it is imported."""

    class Outer(ast.NodeTransformer):
        def visit_FunctionDef(self, _node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, _node: ast.AsyncFunctionDef) -> None:
            return None

    return ast.fix_missing_locations(Outer().visit(tree))


def below(name: str, *tops: str) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in tops)


def crossings(path: str, source: str) -> list[str]:
    """What a file of the harness may not import and does; `path` is relative to the repository, with slashes."""
    tree = ast.parse(source)
    package = path.rpartition("/")[0].replace("/", ".")
    inside = any(path == f"{name.replace('.', '/')}.py" for name in SHARED) or path.startswith("harness/worker/")
    if not inside:
        return [name for name in imports(tree, package) if below(name, *STACK - {OPTIONAL.get(path)})]
    own = ("harness.worker", *SHARED)
    outside = [name for name in imports(tree, package) if below(name, "harness") and not below(name, *own)]
    early = imports(at_module_level(tree), package)
    return outside + [name for name in early if not below(name, "harness", *sys.stdlib_module_names)]


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", [source.relative_to(ROOT).as_posix() for source in sources()])
def test_no_module_reaches_over_the_border(path: str) -> None:
    assert crossings(path, (ROOT / path).read_text("utf-8")) == []


def test_both_worlds_are_looked_at() -> None:
    paths = {source.relative_to(ROOT).as_posix() for source in sources()}
    assert {"harness/cli.py", "harness/worker/checks/dispatch.py"} <= paths
    assert {"torch", "torchaudio", "funasr", "librosa", "modelscope", "omegaconf"} <= STACK
    assert not {"numpy", "rich", "yaml", "soundfile"} & STACK


@pytest.mark.parametrize(
    ("path", "planted", "found"),
    [
        ("harness/cli.py", "import torch", "torch"),
        ("harness/cli.py", "import torch.nn.functional as F", "torch.nn.functional"),
        ("harness/cli.py", "from funasr.register import tables", "funasr.register.tables"),
        ("harness/report/html.py", "def late():\n    import librosa", "librosa"),
        ("harness/cli.py", "try:\n    from torchaudio import load\nexcept OSError:\n    pass", "torchaudio.load"),
        ("harness/run/executor.py", 'def late():\n    return importlib.import_module("torch")', "torch"),
        ("harness/run/executor.py", 'torch = __import__("torch")', "torch"),
        ("harness/worker/checks/dispatch.py", "from harness.core.cells import Cell", "harness.core.cells.Cell"),
        ("harness/worker/checks/dispatch.py", "import harness.core.errors", "harness.core.errors"),
        ("harness/worker/checks/dispatch.py", "def late():\n    from harness import cli", "harness.cli"),
        ("harness/worker/checks/dispatch.py", "from ...core.cells import Cell", "harness.core.cells.Cell"),
        ("harness/worker/checks/dispatch.py", "from ... import cli", "harness.cli"),
        ("harness/worker/trainer/recorder.py", "import torch", "torch"),
        ("harness/worker/trainer/recorder.py", "class Early:\n    import numpy", "numpy"),
        ("harness/worker/trainer/recorder.py", "try:\n    import rich\nexcept OSError:\n    pass", "rich"),
    ],
)  # fmt: skip
def test_a_planted_crossing_is_found(path: str, planted: str, found: str) -> None:
    source = (ROOT / path).read_text("utf-8") + "\n" + planted + "\n"
    assert crossings(path, source) == [found]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("harness/cli.py", "def late():\n    import numpy"),
        ("harness/cli.py", "import torch_like_name_of_ours"),
        ("harness/cli.py", "from harness.core import wire"),
        ("harness/cli.py", 'import importlib.util\nfound = importlib.util.find_spec("torch")'),
        ("harness/worker/checks/dispatch.py", "def late():\n    import torch"),
        ("harness/worker/checks/dispatch.py", "from ...core import wire"),
        ("harness/worker/checks/dispatch.py", "import os.path"),
    ],
)
def test_what_is_allowed_is_not_found(path: str, allowed: str) -> None:
    assert crossings(path, (ROOT / path).read_text("utf-8") + "\n" + allowed + "\n") == []


HELP = """
import json, sys
from harness.cli import main
try:
    main(["--help"])
except SystemExit as ended:
    print(json.dumps({"code": ended.code, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


def test_help_is_answered_without_the_heavy_libraries(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.run(
        [sys.executable, "-P", "-c", HELP], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    seen = json.loads(child.stderr.splitlines()[-1])
    assert seen["code"] in (0, None)
    assert "run" in child.stdout
    heavy = {"numpy", "rich", "yaml", "jinja2", "soundfile", "pynvml", *STACK}
    assert {name.partition(".")[0] for name in seen["modules"]} & heavy == set()
