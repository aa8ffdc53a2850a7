"""The built wheel, in an environment and a folder where nothing of the repository is."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness.config.built_in import KNOWN_ISSUES_NAME, LOCK_NAME, REQUIREMENTS_NAME, built_in_matrices

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.release


def uv(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "uv", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once."""
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a fresh environment that has the wheel and what it requires."""
    environment = tmp_path_factory.mktemp("fresh") / "venv"
    uv("venv", "--quiet", "--python", sys.executable, str(environment))
    uv("pip", "install", "--quiet", "--python", str(environment / "bin" / "python"), str(wheel))
    return environment / "bin" / "funasr-harness"


def call(command: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_wheel_has_the_files_that_commands_need(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    carried = [f"matrices/{name}" for name in (LOCK_NAME, KNOWN_ISSUES_NAME)] + [REQUIREMENTS_NAME]
    carried += [f"matrices/{name}.toml" for name in built_in_matrices()]
    carried += [str(path.relative_to(ROOT)) for path in (ROOT / "matrices" / "counterexamples").iterdir()]
    carried += [str(path.relative_to(ROOT / "harness")) for path in (ROOT / "harness").rglob("*.y*ml")]
    carried += [str(path.relative_to(ROOT / "harness")) for path in (ROOT / "harness").rglob("*.j2")]
    carried += [str(path.relative_to(ROOT)) for path in (ROOT / "reports").glob("*/run.json")]
    carried += [str(path.relative_to(ROOT)) for path in (ROOT / "reports").glob("*/outcomes.jsonl.xz")]
    assert len(carried) > 60
    assert {f"harness/{name}" for name in carried} <= names
    assert not [name for name in names if name.startswith(("tests/", "matrices/", "reports/"))]


def test_an_installed_harness_works_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    described = call(installed, tmp_path, "--help")
    assert (described.returncode, described.stderr) == (0, "")
    listed = call(installed, tmp_path, "releases", "list")
    assert listed.returncode == 0, listed.stderr
    assert {"1.0.0", "1.4.16"} <= {line.split()[0] for line in listed.stdout.splitlines()}
    cells = call(installed, tmp_path, "list", "pr")
    assert cells.returncode == 0, cells.stderr
    assert "1.4.16/paraformer/v8404-h320/reduced/construct/cpu-fp32" in cells.stdout.splitlines()
    cell = "1.0.17/paraformer_streaming/v8404-h320/reduced/loss_contract/cpu-fp32"
    known = call(installed, tmp_path, "show", cell)
    assert known.returncode == 0, known.stderr
    assert "  run       reports/atlas (matrix atlas, torch " in known.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_installed_harness_runs_a_built_in_matrix_as_far_as_it_can_without_torch(
    installed: Path, tmp_path: Path
) -> None:
    done = call(installed, tmp_path, "run", "pr")
    assert done.returncode == 3
    assert "has no torch" in done.stderr
    done = call(installed, tmp_path, "run", "prr")
    assert done.returncode == 2
    assert 'did you mean "pr"?' in done.stderr
