"""A checkout: a folder with the `funasr` package in it, copied so that a run is not disturbed by edits."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import tomllib
from pathlib import Path

from harness.core.errors import ReleaseError
from harness.releases.files import PACKAGE, file_sha256, unusable

_DECLARING = ("setup.py", "pyproject.toml")


def stated_version(root: Path) -> str:
    """The version in `funasr/version.txt`, where FunASR's own setup.py reads it in every 1.x release.

    Raises:
        ReleaseError: the folder is no checkout.
    """
    if not (root / PACKAGE / "__init__.py").is_file():
        if (root / "__init__.py").is_file() and root.name == PACKAGE:
            above = f"give the folder above: {root.parent}"
            raise ReleaseError(f"not a FunASR checkout: {root}", cause="it is the package itself", next_step=above)
        raise unusable(root, f"there is no {PACKAGE}/__init__.py in it")
    stated = root / PACKAGE / "version.txt"
    if not stated.is_file():
        raise unusable(root, f"there is no {PACKAGE}/version.txt in it")
    return stated.read_text("utf-8", "replace").strip()


def sha256(root: Path) -> str:
    """The sha256 over name and hash of every file that counts, in the order of their names.

    Those are the files of the package, and those beside it that declare what it requires.
    """
    digest = hashlib.sha256()
    for name in _files(root):
        digest.update(f"{file_sha256(root / name)}  {name}\n".encode())
    return digest.hexdigest()


def copy(root: Path, target: Path) -> str:
    """Copy what counts of a checkout and give the hash of what was really copied."""
    for name in _files(root):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, place)
    return sha256(target)


def make_importable(copied: Path, version: str) -> None:
    """Turn a copy into what an installed release looks like: its metadata beside the package, nothing else."""
    lines = ["Metadata-Version: 2.1", f"Name: {PACKAGE}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in declared_requirements(copied)]
    metadata = copied / f"{PACKAGE}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in _DECLARING:
        (copied / name).unlink(missing_ok=True)


def declared_requirements(root: Path) -> list[str]:
    """What a checkout requires, read without running any of its code; empty if it does not say so in these places.

    FunASR's setup.py has kept it in one literal, `requirements = {"install": [...], ...}`, throughout 1.x;
    `[project] dependencies` in pyproject.toml is where it would move to.

    Raises:
        ReleaseError: one of the two files cannot be read.
    """
    try:
        return _declared(root)
    except (SyntaxError, ValueError) as error:
        raise unusable(root, f"its setup.py or pyproject.toml cannot be read: {error}") from error


def _declared(root: Path) -> list[str]:
    if (root / "pyproject.toml").is_file():
        project = tomllib.loads((root / "pyproject.toml").read_text("utf-8")).get("project", {})
        if "dependencies" in project:
            return [str(requirement) for requirement in project["dependencies"]]
    if not (root / "setup.py").is_file():
        return []
    for node in ast.walk(ast.parse((root / "setup.py").read_text("utf-8"))):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "install" and isinstance(value, ast.List):
                    return [str(item.value) for item in value.elts if isinstance(item, ast.Constant)]
    return []


def _files(root: Path) -> list[str]:
    """The files that count, relative to `root`, sorted; without what Python compiled."""
    found = [name for name in _DECLARING if (root / name).is_file()]
    for folder, subfolders, names in os.walk(root / PACKAGE):
        subfolders[:] = [name for name in subfolders if name != "__pycache__"]
        files = (Path(folder, name) for name in names if not name.endswith((".pyc", ".pyo")))
        found += [file.relative_to(root).as_posix() for file in files if file.is_file()]
    return sorted(found)
