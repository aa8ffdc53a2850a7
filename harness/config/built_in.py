"""The files that the harness brings along: matrices, the lock of releases, the known issues, the committed runs.

A checkout has them in `matrices/` and `reports/`; the wheel carries these folders as `harness/matrices/` and
`harness/reports/`, of `reports/` the runs without their pages.
A file of the same name in `matrices/` of the working folder is used in place of the built-in one.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from harness.core.errors import MatrixError
from harness.core.paths import UnusablePathError, path_of

FOLDER = "matrices"
REPORTS = "reports"
LOCK_NAME = "releases.lock.toml"
KNOWN_ISSUES_NAME = "known_issues.toml"
REQUIREMENTS_NAME = "requirements.lock"
_PACKAGE = Path(__file__).parent.parent


def built_in_folder() -> Path:
    """The folder of the built-in files: within the package if it was installed from a wheel, else in the checkout."""
    carried = _PACKAGE / FOLDER
    return carried if carried.is_dir() else _PACKAGE.parent / FOLDER


def committed_reports() -> Path:
    """The folder of the committed runs, each in a folder of its matrix's name."""
    return built_in_folder().parent / REPORTS


def shipped_file(name: str) -> Path:
    """`matrices/NAME` of the working folder if there is such a file, else the built-in file of that name.

    Where neither exists, the path in the working folder, so that an error names a path that the user can create.
    """
    working_file, built_in = Path(FOLDER) / name, built_in_folder() / name
    return built_in if built_in.is_file() and not working_file.is_file() else working_file


def shipped_requirements() -> Path:
    """The lock of libraries: `requirements.lock` of the working folder if it is there, else the built-in one."""
    working_file = Path(REQUIREMENTS_NAME)
    places = (working_file, _PACKAGE / REQUIREMENTS_NAME, _PACKAGE.parent / REQUIREMENTS_NAME)
    return next((place for place in places if place.is_file()), working_file)


def built_in_matrices() -> tuple[str, ...]:
    """The names of the built-in matrices, sorted."""
    files = built_in_folder().glob("*.toml")
    return tuple(sorted(file.stem for file in files if file.name not in (LOCK_NAME, KNOWN_ISSUES_NAME)))


def is_built_in_matrix(path: Path) -> bool:
    """Whether a path leads to a built-in matrix."""
    return path.resolve().parent == built_in_folder().resolve() and path.stem in built_in_matrices()


def matrix_path(name_or_path: str | Path) -> Path:
    """The file of a matrix: `pr` is `matrices/pr.toml` of the working folder or the built-in matrix of that name.

    Whatever has a slash or ends in `.toml`, and every existing file or folder, is a path and returned as it is.

    Raises:
        MatrixError: it is a name, and no matrix has it; or no file can have the path.
    """
    text = str(name_or_path)
    try:
        path = path_of(text)
    except UnusablePathError as error:
        raise MatrixError(text[:80], [str(error)], next_step="give the path of a matrix file") from None
    if "/" in text or text.endswith(".toml") or path.exists():
        return path
    path = shipped_file(f"{text}.toml")
    if path.is_file():
        return path
    names = built_in_matrices()
    near = difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    raise MatrixError(
        text,
        ["no built-in matrix has this name" + (f', did you mean "{near[0]}"?' if near else "")],
        next_step=f"give the path of a matrix file, or one of the built-in names: {', '.join(names)}",
    )
