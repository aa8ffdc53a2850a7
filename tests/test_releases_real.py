"""Real releases from the real index: the committed lock is the one that it serves."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.cells import Release
from harness.core.errors import IntegrityError
from harness.releases import fetch, install_path, load_lock, resolve

pytestmark = pytest.mark.release

LOCKED = load_lock(Path(__file__).parent.parent / "matrices" / "releases.lock.toml")
WHEEL, SDIST = "1.4.16", "1.3.4"


@pytest.mark.parametrize(("version", "kind"), [(WHEEL, "wheel"), (SDIST, "sdist")])
def test_a_published_release_is_installed_in_an_empty_cache(tmp_path: Path, version: str, kind: str) -> None:
    (release,) = resolve(version, LOCKED)
    fetch([release], tmp_path, jobs=2)
    place = install_path(release, tmp_path)
    metadata = next(iter(importlib.metadata.distributions(name="funasr", path=[str(place)])))
    assert (release.kind, metadata.version) == (kind, version)
    assert (place / "funasr" / "version.txt").read_text().strip() == version
    assert any(line.startswith("scipy") for line in metadata.requires or [])
    assert (place / "funasr" / "models" / "paraformer_streaming" / "model.py").is_file()


@pytest.mark.parametrize("version", [WHEEL, SDIST])
def test_a_published_release_with_another_hash_in_the_lock_is_refused(tmp_path: Path, version: str) -> None:
    (release,) = resolve(version, LOCKED)
    planted: Release = replace(release, sha256="0" * 64)
    with pytest.raises(IntegrityError, match=release.sha256):
        fetch([planted], tmp_path, jobs=1)
    assert not install_path(planted, tmp_path).exists()
