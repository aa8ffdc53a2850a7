"""What several test modules share: releases laid out, and children in which torch may be patched."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import Forked

from harness.config import built_in
from harness.config.built_in import committed_reports
from harness.core.cells import Release
from harness.core.durable import replace_file
from harness.environments import environment
from harness.environments.environment import compiled_code
from harness.releases import default_cache, fetch, install_path, load_lock, resolve

LONGEST = (
    "test_real_releases.py", "test_real_in_force.py", "test_preflight_cases.py", "test_worker_properties.py",
    "test_user_speech_real.py", "test_real_known.py", "test_preflight_dry_run.py", "test_preflight_rows.py",
    "test_worker_finetune.py", "test_model_folder_in_releases.py", "test_cli.py", "test_real_checkpoint.py",
    "test_preflight_weights.py", "test_worker_in_force.py", "test_diagnose_releases.py", "test_drift_real.py",
    "test_prediction_releases.py", "test_upstream.py", "test_wheel.py", "test_preflight_keys.py",
)  # fmt: skip
"""Files whose tests take longest, the longest first. Where several processes share the tests they begin with these:
a long file that begins last leaves the other processes idle."""

LOCK = Path(__file__).parent.parent / "matrices" / "releases.lock.toml"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shard", metavar="I/N", help="run part I of N of the test files (default: all)")


def pytest_configure() -> None:
    """Keep compiled code where the harness's own processes do, whatever the shell says about bytecode.

    To compile a release and its libraries takes longer than all else that a child does to import them.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.update(compiled_code(default_cache()))
    sys.dont_write_bytecode, sys.pycache_prefix = False, os.environ["PYTHONPYCACHEPREFIX"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one shard, and put the longest files first where several processes share the tests.

    A file's tests stay together: what it measures once for all of them is measured once. Long tests are left out unless
    `-m` selects them.
    """
    if "long" not in config.option.markexpr and (left_out := [one for one in items if one.get_closest_marker("long")]):
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    if hasattr(config, "workerinput"):
        places = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.path.name, len(places)))
    if not (shard := config.getoption("--shard")):
        return
    try:
        number, count = (int(part) for part in shard.split("/"))
    except ValueError:
        raise pytest.UsageError(f"--shard {shard}: write it as 1/4") from None
    if not 1 <= number <= count:
        raise pytest.UsageError(f"--shard {shard}: there is no part {number} of {count}")
    # Of the files that -m and -k left, so that the parts are of similar size.
    files = sorted({item.path for item in items})
    kept = set(files[number - 1 :: count])
    config.hook.pytest_deselected(items=[item for item in items if item.path not in kept])
    items[:] = [item for item in items if item.path in kept]


@pytest.fixture
def committed_runs() -> Path:
    """The folder of the committed runs, which commands then look at in every working folder."""
    return committed_reports()


@pytest.fixture(autouse=True)
def no_committed_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the committed runs from tests that do not ask for them: their small releases have the same cells."""
    if "committed_runs" not in request.fixturenames:
        monkeypatch.setattr(built_in, "committed_reports", lambda: Path("/no/committed/runs"))


@pytest.fixture(scope="session", autouse=True)
def described_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Look at this interpreter once for all tests, not in each command: to import torch takes seconds.

    Other interpreters are looked at as always, and so is this one with a cache that is not the default one.
    """
    base = tmp_path_factory.getbasetemp()
    # what is above it belongs to all processes that share the tests, and to other sessions where there is one process
    folder = base.parent if hasattr(request.config, "workerinput") else base
    look = environment._describe

    def described(python: Path, arguments: tuple[str, ...], paths: tuple[Path, ...], cache: Path) -> dict[str, Any]:
        if python != Path(sys.executable) or cache != default_cache():
            return look(python, arguments, paths, cache)
        asked = repr((arguments, paths, sorted(environment._passed_through().items())))
        stored = folder / f"interpreter-{hashlib.sha256(asked.encode()).hexdigest()}.json"
        if not stored.exists():
            replace_file(stored, json.dumps(look(python, arguments, paths, cache)).encode(), durable=False)
        found: dict[str, Any] = json.loads(stored.read_text(encoding="utf-8"))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "_describe", described)
        yield


@pytest.fixture(scope="session")
def locked() -> tuple[Release, ...]:
    """The published releases that the committed lock names, oldest first."""
    return load_lock(LOCK)


@pytest.fixture(scope="session")
def layout(locked: tuple[Release, ...]) -> Callable[[str], Path]:
    """Where a published release lies, such as `1.4.16` or `latest`; it is fetched if it is not there."""

    def place(spec: str) -> Path:
        (release,) = resolve(spec, locked)
        fetch([release], default_cache(), jobs=1)
        return install_path(release, default_cache())

    return place


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    """Runs functions in children that have torch."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("needs torch: install the `stack` extra")
    server = Forked(tmp_path_factory.mktemp("forked"))
    yield server
    server.close()
