"""A patch laid over a release: the copy that comes of it is a release like any other local one.

`git apply` does it, outside of any repository: it finds hunks that have moved, refuses those that do not fit, and
changes nothing when one does not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from email.parser import HeaderParser
from pathlib import Path

from harness.core.cells import Release
from harness.core.errors import InputError, ReleaseError
from harness.releases.local import PACKAGE, read_local

_PATHS = re.compile(r"^(?:---|\+\+\+) ([^\t\r\n]+)", re.MULTILINE)


def patched(install_dir: Path, patch: Path, folder: Path) -> tuple[Release, tuple[str, ...]]:
    """The release in `install_dir` with a patch applied, as a checkout in `folder`.

    Returns:
        The release, and the files that the patch names and no release ships: nothing was done about those.

    Raises:
        InputError: the patch cannot be read, touches nothing of the package, or does not apply.
        ReleaseError: what came of it is no FunASR release.
    """
    patch = patch.expanduser().absolute()
    try:
        text = patch.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{patch} cannot be read: {error.strerror}", next_step="give a unified diff") from None
    strip, inside, outside = _files(text)
    if not inside:
        raise InputError(
            f"{patch.name} changes nothing in {PACKAGE}/",
            cause="it is no unified diff" if not outside else f"it names {', '.join(outside[:3])}",
            next_step=f"make one with: git diff -- {PACKAGE}/ > {patch.name}",
        )
    # not the modes: what is installed is read-only
    leave_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(install_dir / PACKAGE, folder / PACKAGE, ignore=leave_out, copy_function=shutil.copyfile)
    _state_requirements(install_dir, folder)
    _apply(patch, folder, strip)
    return read_local(folder), outside


def _files(text: str) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """How many leading parts the paths have too many, the files of the package, and all others."""
    paths = [path for path in _PATHS.findall(text) if path != "/dev/null"]
    prefixed = bool(paths) and all(path.startswith(("a/", "b/")) for path in paths)
    names = list(dict.fromkeys(path.partition("/")[2] if prefixed else path for path in paths))
    in_package = tuple(name for name in names if name.startswith(f"{PACKAGE}/"))
    return int(prefixed), in_package, tuple(name for name in names if name not in in_package)


def _apply(patch: Path, folder: Path, strip: int) -> None:
    git = shutil.which("git")
    if git is None:
        raise InputError("there is no git, which lays patches over releases", next_step="install git")
    # Within a repository git would take the paths to be relative to its top, and pass over all that do not fit.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent), "LC_ALL": "C"}
    environment.pop("GIT_DIR", None)
    completed = subprocess.run(
        [git, "apply", f"-p{strip}", f"--include={PACKAGE}/*", "--whitespace=nowarn", str(patch)],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    if completed.returncode:
        problems = [line.removeprefix("error: ") for line in completed.stderr.splitlines() if line.strip()]
        listed = "\n".join(f"  - {problem}" for problem in problems[:8])
        raise InputError(
            f"{patch.name} does not apply\n{listed}",
            cause="it was made for another release, or applied there already",
            next_step="name the release that it was made for with --source",
        )


def _state_requirements(install_dir: Path, folder: Path) -> None:
    """Keep what the release declares: a checkout says it in pyproject.toml."""
    metadata = sorted(install_dir.glob(f"{PACKAGE}-*.dist-info/METADATA"))
    if not metadata:
        raise ReleaseError(
            f"{install_dir.name} states no metadata", next_step="install it again: remove it from the cache"
        )
    metadata_fields = HeaderParser().parsestr(metadata[0].read_text("utf-8", "replace"))
    requires = [str(line) for line in metadata_fields.get_all("Requires-Dist") or [] if "extra" not in str(line)]
    quoted = ", ".join('"' + line.replace("\\", "\\\\").replace('"', '\\"') + '"' for line in requires)
    (folder / "pyproject.toml").write_text(f"[project]\ndependencies = [{quoted}]\n", encoding="utf-8")
    version = folder / PACKAGE / "version.txt"
    if not version.is_file():
        version.write_text(str(metadata_fields.get("Version", "0")), encoding="utf-8")
