"""What a run says of where it was made: true, complete, and free of names and paths."""

from __future__ import annotations

import getpass
import json
import platform
import subprocess
import sys
import types
from dataclasses import fields
from pathlib import Path

import pytest

from harness.config.matrix import CellLimits, FinetuneSettings, Matrix
from harness.run import provenance
from harness.run.provenance import Provenance, StackFacts, collect_provenance, this_machine

MATRIX = Matrix(
    name="small",
    source=Path("/some/where/small.toml"),
    sha256="0" * 64,
    description="d",
    cells=(),
    releases=(),
    variants=(),
    limits=CellLimits(),
    finetune=FinetuneSettings(),
)
STACK = StackFacts(python="3.11.7", torch="2.13.0+cpu", cuda=None, libraries={"b": "2", "a": "1"})


def collected() -> Provenance:
    return collect_provenance(MATRIX, STACK, corpus_sha256=None, selection=["*import*"])


def test_what_is_collected_is_read_back_from_strict_json() -> None:
    one = collected()
    text = json.dumps(one.to_json(), allow_nan=False)
    assert Provenance.from_json(json.loads(text)) == one
    assert list(one.to_json()["libraries"]) == ["a", "b"]


def test_the_machine_is_described_without_its_name_or_a_path() -> None:
    text = json.dumps(collected().to_json())
    assert str(Path.home()) not in text
    assert str(Path(__file__).parent.parent) not in text
    assert str(MATRIX.source.parent) not in text
    if len(platform.node()) > 3:
        assert platform.node() not in text
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text


def test_the_machine_is_described() -> None:
    machine = this_machine()
    assert machine.processor
    assert machine.host
    assert machine.cpu_count >= 1
    assert machine.memory_bytes is None or machine.memory_bytes > 2**28


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    class NVMLError(Exception):
        pass

    def init() -> None:
        raise NVMLError

    monkeypatch.setitem(sys.modules, "pynvml", types.SimpleNamespace(NVMLError=NVMLError, nvmlInit=init))
    assert provenance._gpus() == ((), None)


def test_gpus_are_named_in_the_drivers_order(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = types.SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: f"GPU {handle}",
        nvmlSystemGetDriverVersion=lambda: "580.1",
    )
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    assert provenance._gpus() == (("GPU 0", "GPU 1"), "580.1")


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    return package


def test_the_commit_of_a_checkout_is_known(checkout: Path) -> None:
    assert provenance._commit(checkout) == (git(checkout, "rev-parse", "HEAD"), False)


def test_a_result_beside_the_code_does_not_make_it_changed(checkout: Path) -> None:
    (checkout.parent / "outcomes.jsonl").write_text("")
    assert provenance._commit(checkout)[1] is False


@pytest.mark.parametrize("name", ["__init__.py", "new.py"])
def test_changed_or_new_code_is_noticed(checkout: Path, name: str) -> None:
    (checkout / name).write_text("x = 1\n")
    assert provenance._commit(checkout)[1] is True


def test_a_hooks_git_variables_do_not_mislead(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path_factory.mktemp("other")))
    assert provenance._commit(checkout) == (commit, False)


def test_code_installed_within_some_other_checkout_has_no_commit(checkout: Path) -> None:
    installed = checkout / "site-packages" / "harness"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert provenance._commit(installed) == (None, None)


def test_code_outside_any_checkout_has_no_commit(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("")
    assert provenance._commit(tmp_path) == (None, None)


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance._commit(checkout) == (None, None)


def test_every_field_is_written() -> None:
    assert set(collected().to_json()) == {field.name for field in fields(Provenance)}
