"""Libraries for another interpreter than this one, at the versions and hashes of `requirements.lock`."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

from harness.bundle.archive import Library
from harness.core.cells import Check
from harness.core.errors import InputError, StoreError
from harness.releases import package_index

OUTSIDE = (
    "packaging", "pyyaml", "rich", "tabulate", "nvidia-ml-py", "numpy", "soundfile", "cffi", "pycparser",
    "cattrs", "attrs", "typing-extensions",
)  # fmt: skip
"""What the harness itself imports up to the outcomes; judging and reporting happen where the bundle was made."""

INSIDE = {
    "omegaconf": "FunASR reads its configs with it",
    "antlr4-python3-runtime": "omegaconf's grammar",
    "hydra-core": "the trainers' command line",
    "tqdm": "the trainers and AutoModel",
    "librosa": "funasr.utils.load_utils or index_ds import it in every release, and call nothing of it for wav files",
    "lazy-loader": "librosa itself; by it librosa's own libraries are imported only when they are used",
    "tensorboardx": "the trainers write their losses with it",
    "protobuf": "tensorboardx",
    "requests": "funasr.download and the contextual models import it",
    "urllib3": "requests",
    "idna": "requests",
    "certifi": "requests",
    "charset-normalizer": "requests",
    "jaconv": "the text cleaner, which the datasets' preprocessors import",
    "jamo": "the phoneme tokenizer, imported with the one that is used",
    "pytorch-wpe": "the default frontend",
    "kaldiio": "funasr.utils.load_utils reads Kaldi's archives with it",
    "torch-complex": "the default frontend imports it, and says so on standard output where it is missing",
    "sentencepiece": "one of the tokenizers, registered with the one that is used",
    "six": "funasr.metrics.common, which the models' accuracy is computed with, up to 1.3",
    "editdistance": "the same, in releases that compute error rates with it",
    "rapidfuzz": "the same, in the releases that took it up in place of editdistance",
}
"""What is needed within a release, and by what."""


def libraries_for(checks: Iterable[Check]) -> tuple[str, ...]:
    """The distributions that cells of these checks need, in the order of their names."""
    more = {name for check in checks for name in check.facts.libraries}
    return tuple(sorted({*OUTSIDE, *INSIDE, *more}))


_PIN = re.compile(r"([A-Za-z0-9._-]+)==")
_IMPORTABLE = re.compile(r"(\w+?)(?:\.\w[\w-]*)?\.(?:py|so|pyd)")
_NO_PART = (".dist-info", ".libs", ".data")


def lay_out(names: Sequence[str], lock: Path, target: Path, *, python: str, platform: str) -> Mapping[str, Library]:
    """Lay each library out as `target/<name>/site-packages`, so that each can be used or left alone.

    Args:
        lock: `requirements.lock`; uv compares every file's hash with the one in it.
        python: Such as `3.12`.
        platform: As uv names it, such as `x86_64-manylinux_2_28`.

    Raises:
        InputError: the lock cannot be read, or does not pin a library.
        FetchError: a library cannot be had for that Python and platform.
    """
    together = target / "together"
    package_index.install_pins(_pins(names, lock), together, python=python, platform=platform)
    installed = {}
    for information in sorted(together.glob("*.dist-info")):
        metadata = HeaderParser().parsestr((information / "METADATA").read_text("utf-8", "replace"))
        name = _normal(str(metadata["Name"]))
        files = list(_recorded(information))
        _move(files, together, target / name / "site-packages")
        installed[name] = Library(version=str(metadata["Version"]), modules=_modules(name, files))
    if absent := sorted(set(names) - set(installed)):
        raise StoreError(
            f"libraries were not installed: {', '.join(absent)}", cause="their pins are for another platform"
        )
    for left in together.rglob("*"):
        if left.is_file() and left.suffix == ".so":
            raise StoreError(f"{left.name} belongs to no library", cause="its wheel's RECORD does not name it")
    shutil.rmtree(together, ignore_errors=True)
    return installed


def _pins(names: Sequence[str], lock: Path) -> str:
    """The lines of the lock that pin these libraries, markers and hashes included."""
    try:
        text = lock.read_text("utf-8")
    except OSError as error:
        raise InputError(
            f"{lock} cannot be read: {error.strerror}",
            cause="the command was not given in a clone of the harness",
            next_step="name the lock with --requirements",
        ) from None
    pins: dict[str, list[str]] = {}
    for pin in re.split(r"\n(?=\S)", text.strip()):
        if match := _PIN.match(pin):
            pins.setdefault(_normal(match[1]), []).append(pin)
    if absent := [name for name in names if name not in pins]:
        raise InputError(f"{lock} does not pin {', '.join(absent)}", next_step="make it again: nox -s lock")
    return "\n".join(pin for name in names for pin in pins[name]) + "\n"


def _recorded(information: Path) -> list[PurePosixPath]:
    """The files of one distribution within the folder that it was installed in; scripts do not count."""
    with (information / "RECORD").open(encoding="utf-8", newline="") as file:
        paths = [PurePosixPath(row[0]) for row in csv.reader(file) if row]
    return [path for path in paths if ".." not in path.parts and not path.is_absolute() and path.parts[0] != "bin"]


def _move(files: Sequence[PurePosixPath], source: Path, target: Path) -> None:
    for file in files:
        if (source / file).is_file():
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            (source / file).rename(target / file)


def _modules(name: str, files: Sequence[PurePosixPath]) -> tuple[str, ...]:
    """What a distribution is known by: the module of its own name, as `google.protobuf`, else all that it has.

    Some bring modules of common names besides (`example`, `pydevd_plugins`), which a host may have from elsewhere.
    """
    packages = {file.parent for file in files if file.name == "__init__.py"}
    roots = {".".join(package.parts) for package in packages if package.parent not in packages and package.parts}
    alone = {match[1] for file in files if len(file.parts) == 1 and (match := _IMPORTABLE.fullmatch(file.name))}
    importable = {module for module in roots if "-" not in module and not module.endswith(_NO_PART)} | alone
    of_own_name = {module for module in importable if _normal(module.rpartition(".")[2]) == name}
    return tuple(sorted(of_own_name or importable))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
