"""Which release a user means, what of an installed one was edited, and in which releases a training would work."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from user_folders import inputs_of

from harness.core.cells import Depth, Dimensions, Release, Severity
from harness.core.errors import ReleaseError
from harness.preflight.all_releases.which_releases import ATLAS, which_releases
from harness.preflight.inputs import Inputs
from harness.preflight.release.found import find_release, in_a_line, installed_release
from harness.releases import default_cache
from harness.variants.catalogue import load_variant
from harness.variants.variant import render

FILES = {
    "funasr/__init__.py": "raise RuntimeError('it was imported')\n",
    "funasr/bin/train.py": "def main(): ...\n",
    "funasr/version.txt": "1.2.7\n",
}


def record_line(name: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(text)}\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Site-packages with FunASR as pip installs it, and nothing else on the path."""
    folder = tmp_path / "site-packages"
    info = folder / "funasr-1.2.7.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: funasr\nVersion: 1.2.7\n", encoding="utf-8")
    record = ""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        record += record_line(name, text)
    (info / "RECORD").write_text(record, encoding="utf-8")
    (folder / "other.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(folder)])
    return folder


def test_what_is_installed_is_copied_without_an_import(site: Path, tmp_path: Path) -> None:
    found = find_release("installed", locked=(), cache=tmp_path / "cache")
    assert (found.release.label, found.release.version, found.edited) == ("1.2.7", "1.2.7", ())
    copied = {one.relative_to(found.install_dir).as_posix() for one in found.install_dir.rglob("*") if one.is_file()}
    assert copied >= set(FILES)
    assert "other.py" not in copied
    assert found.install_dir.name == f"1.2.7-{found.release.sha256[:16]}"
    assert in_a_line(found) == f"1.2.7, installed in {sys.executable}"
    # By default too, before the newest published.
    assert find_release(None, locked=(), cache=tmp_path / "cache") == found
    assert (site / "funasr").is_dir()


def test_an_edited_installation_is_another_release_and_says_so(site: Path, tmp_path: Path) -> None:
    before = installed_release()
    (site / "funasr/bin/train.py").write_text("def main(): print('mine')\n", encoding="utf-8")
    (site / "funasr/own.py").write_text("", encoding="utf-8")
    (site / "funasr/version.txt").unlink()
    found = find_release("installed", locked=(), cache=tmp_path / "cache")
    assert set(found.edited) == {"funasr/bin/train.py: edited", "funasr/own.py: added", "funasr/version.txt: gone"}
    assert before is not None
    assert found.release.sha256 != before.release.sha256
    assert found.release.label.startswith("1.2.7+local.")
    assert "3 files not as installed" in in_a_line(found)
    assert (found.install_dir / "funasr/own.py").is_file()


def test_an_editable_installation_is_its_checkout(site: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "my checkout"
    for name in FILES:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(FILES[name].replace("1.2.7", "1.3.0"), encoding="utf-8")
    direct = {"url": f"file://{str(checkout).replace(' ', '%20')}", "dir_info": {"editable": True}}
    (site / "funasr-1.2.7.dist-info/direct_url.json").write_text(json.dumps(direct), encoding="utf-8")
    found = installed_release()
    assert found is not None
    assert (found.release.version, found.release.path) == ("1.3.0", checkout)


def test_another_interpreter_says_where_its_packages_lie(site: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{json.dumps([str(site)])}'\n", encoding="utf-8")
    python.chmod(0o755)
    sys.path[:] = []
    assert installed_release() is None
    found = find_release("installed", locked=(), cache=tmp_path / "cache", python=python)
    assert found.how == f"installed in {python}"
    python.write_text("#!/bin/sh\necho no\n", encoding="utf-8")
    with pytest.raises(ReleaseError, match="does not say where"):
        installed_release(python)


def test_where_nothing_is_installed(
    locked: tuple[Release, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ReleaseError, match="is not installed in"):
        find_release("installed", locked=locked, cache=tmp_path)
    with pytest.raises(ReleaseError, match="means 101 releases"):
        find_release("all", locked=locked, cache=tmp_path)


@pytest.mark.release
def test_the_newest_published_is_the_default(locked: tuple[Release, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.preflight.release.found.installed_release", lambda _: None)
    found = find_release(None, locked=locked, cache=default_cache())
    assert found.release == locked[-1]
    assert found.how == "the newest published"
    assert (found.install_dir / "funasr/__init__.py").is_file()


def user(folder: Path, layout: Callable[[str], Path], variant: str, cache: Path, **overrides: Any) -> Inputs:
    own = load_variant(variant)
    config = render(own, dimensions=Dimensions.parse("v25055-h320"), depth=Depth.FULL)
    config |= {path: value for path, value in own.training.items() if "." not in path}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "configuration.json").write_text("{}", encoding="utf-8")
    data = {"train_data_set_list": "a", "valid_data_set_list": "b"}
    return replace(inputs_of(folder, install_dir=layout("1.4.16"), **{**data, **overrides}), cache=cache)


def of(locked: tuple[Release, ...], *versions: str) -> tuple[Release, ...]:
    return tuple(one for one in locked if one.version in versions)


@pytest.mark.release
def test_the_code_of_each_release_says_where_a_training_ends(
    tmp_path: Path, layout: Callable[[str], Path], locked: tuple[Release, ...]
) -> None:
    versions = ("1.0.17", "1.0.23", "1.0.24", "1.4.16")
    for version in versions:
        layout(version)
    inputs = user(tmp_path, layout, "seaco_paraformer", default_cache(), model_conf__train_decoder=True)
    table = which_releases(inputs, of(locked, *versions))
    assert [(one.releases, one.severity) for one in table.groups] == [
        ("1.0.24, 1.4.16", None),
        ("1.0.23", Severity.BROKEN),
        ("1.0.17", Severity.BROKEN),
    ]
    assert (table.best, table.read, table.listed) == ("1.4.16", 4, 4)
    assert "returns 5 values" in table.groups[1].reasons[0].text
    assert table.lines()[-1] == "Best: pip install funasr==1.4.16"


@pytest.mark.release
def test_without_their_code_what_is_recorded_is_known(
    tmp_path: Path, layout: Callable[[str], Path], locked: tuple[Release, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a wheel.
    monkeypatch.setattr("harness.preflight.all_releases.which_releases.ATLAS", tmp_path / "none")
    inputs = user(tmp_path, layout, "sense_voice", tmp_path)
    table = which_releases(inputs, locked)
    assert [(one.releases.partition(" (")[0], one.severity) for one in table.groups] == [
        ("1.1.18 – 1.4.16", None),
        ("1.1.17", Severity.BROKEN),
        ("1.0.30 – 1.1.16", None),
        ("1.0.0 – 1.0.29", Severity.BROKEN),
    ]
    assert "1.0.30 is the first" in table.groups[-1].reasons[0].text
    assert (table.best, table.read, table.atlas) == ("1.4.16", 0, False)
    assert json.loads(json.dumps(table.to_json()))["best"] == "1.4.16"


@pytest.mark.release
@pytest.mark.skipif(not ATLAS.is_dir(), reason="the committed run is not there")
def test_the_committed_run_is_read(
    tmp_path: Path, layout: Callable[[str], Path], locked: tuple[Release, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.preflight.release.known.check", lambda _: None)
    monkeypatch.setattr("harness.preflight.release.known.applying", lambda _: ())
    inputs = user(tmp_path, layout, "paraformer_streaming", tmp_path)
    table = which_releases(inputs, of(locked, "1.0.11", "1.0.18"))
    assert [(one.releases, one.severity) for one in table.groups] == [("1.0.18", None), ("1.0.11", Severity.BROKEN)]
    assert "ended with AttributeError@" in table.groups[1].reasons[0].text
