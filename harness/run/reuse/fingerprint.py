"""A cell's fingerprint: everything of its release that it depended on, each with a value that another release can have.

A process with the same inputs that reads the same data at every step takes the same steps. So a cell of another release
with the same request and environment can only end as this one did if all that this one read has the same value there:
the code that ran on import and in the functions that were entered, where each module was looked for and found, what the
registrations decide, files and folders that were read. What follows from these, such as which modules are loaded, need
not be compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from harness.core.cells import Outcome, Status
from harness.run.reuse.release_files import ReleaseFiles
from harness.run.reuse.source_units import ANNOUNCED, SOURCES, VERSION, CodeUnit
from harness.worker.record import code_used
from harness.worker.release import importer

_UPDATE_CHECK = ("funasr/utils/version_checker.py", "get_pypi_version")
"""Where it is entered, the version decides what happens."""

REUSED = frozenset({Status.PASSED, Status.FAILED, Status.SKIPPED})
"""What follows from a release's code alone; the others may be the machine's doing."""


class DependencyKind(StrEnum):
    """What kind of thing a cell depended on."""

    MODULE = "module"
    """The name of a module; the path of the file that is found."""
    ON_IMPORT = "on import"
    """The path of a file; what it runs when it is imported."""
    FUNCTION = "function"
    """`PATH:NAME`; the function's code."""
    TEXT = "file"
    """The path of a file; its content, to the byte."""
    FOLDER = "folder"
    """The path of a folder; the names in it."""
    VERSION = "version"
    """The release's version."""
    REGISTRY = "registrations"
    """Components as JSON; which modules are imported for them, and in which order."""
    BESIDE = "beside the package"
    """The names next to `funasr`, where every import looks first."""
    DATA = "data files"
    """The paths of all files that are no source."""
    RELEASE = "whole release"
    """All its files, to the byte, and its version."""


class NotReusable(Exception):
    """Why a cell says nothing about another release."""


@dataclass(frozen=True, kw_only=True)
class CodeUsed:
    """What a cell recorded; see `harness.worker.record.code_used`."""

    modules: tuple[str, ...]
    entered: tuple[tuple[str, str], ...]
    sought: tuple[str, ...]
    texts: tuple[str, ...]
    folders: tuple[str, ...]
    refused: str
    registry: tuple[Mapping[str, Any], ...]

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read a record, which a release's process wrote.

        Raises:
            NotReusable: it does not have the form of one.
        """
        try:
            texts = {name: tuple(map(_text, data[name])) for name in ("modules", "sought", "texts", "folders")}
            entered = tuple((_text(path), _text(name)) for path, name in data["entered"])
            registry = tuple(dict(registered) for registered in data["registry"])
            return cls(**texts, entered=entered, registry=registry, refused=_text(data["refused"]))
        except (KeyError, TypeError, ValueError):
            raise NotReusable("what it used was not recorded") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


@dataclass(frozen=True, kw_only=True)
class ReleaseSeen:
    """A release as its cells see it."""

    files: ReleaseFiles
    order: importer.FullImport | None
    """The order of registrations that its `import` check found, if the plan has one that passed."""
    _values: dict[tuple[DependencyKind, str], str] = field(default_factory=dict, compare=False, repr=False)

    def value(self, need: tuple[DependencyKind, str]) -> str:
        """The value of one dependency."""
        if need not in self._values:
            self._values[need] = value(need, self)
        return self._values[need]


Fingerprint = Mapping[tuple[DependencyKind, str], str]
"""What was depended on, by kind and name, and its value."""


def fingerprint(used: CodeUsed, outcome: Outcome, release: ReleaseSeen) -> Fingerprint:
    """What an outcome of `release` depended on.

    Raises:
        NotReusable: that cannot be known.
    """
    if outcome.status not in REUSED:
        raise NotReusable(f"it {outcome.status}")
    if used.refused:
        raise NotReusable(used.refused)
    needs = list(dict.fromkeys(_needs(used, outcome, release)))
    values = {need: release.value(need) for need in needs}
    for kind, name in needs:
        if kind is DependencyKind.REGISTRY and json.loads(values[kind, name]) not in [
            _plain(registered) for registered in used.registry
        ]:
            raise NotReusable("its registrations are not those that its files show")
        if kind is DependencyKind.MODULE and values[kind, name].endswith((".so", ".pyd", ".pyc")):
            raise NotReusable(f"{values[kind, name]} has no source")
    return values


def whole_release(outcome: Outcome, release: ReleaseSeen) -> Fingerprint:
    """What an outcome of `release` depended on, where it is not known what its cell used.

    Raises:
        NotReusable: it may be the machine's doing.
    """
    if outcome.status not in REUSED:
        raise NotReusable(f"it {outcome.status}")
    need = (DependencyKind.RELEASE, "")
    return {need: release.value(need)}


def equals(recorded: Fingerprint, release: ReleaseSeen) -> bool:
    """Whether everything has the same value in another release."""
    return all(release.value(need) == known for need, known in recorded.items())


def differences(recorded: Fingerprint, release: ReleaseSeen) -> list[tuple[DependencyKind, str]]:
    """What has another value in that release."""
    return [need for need, known in recorded.items() if release.value(need) != known]


def value(need: tuple[DependencyKind, str], release: ReleaseSeen) -> str:
    """The value of one dependency in a release."""
    kind, name = need
    files = release.files
    match kind:
        case DependencyKind.MODULE:
            return files.module(name)
        case DependencyKind.ON_IMPORT | DependencyKind.FUNCTION:
            unit = _unit(files, kind, name)
            return unit.sha256 if unit else ""
        case DependencyKind.TEXT:
            return files.text(name)
        case DependencyKind.FOLDER:
            return files.folder(name)
        case DependencyKind.VERSION:
            return files.version
        case DependencyKind.REGISTRY:
            return _registry(name, release)
        case DependencyKind.BESIDE:
            return files.beside
        case DependencyKind.DATA:
            return files.data_files
        case DependencyKind.RELEASE:
            return files.everything


def _unit(files: ReleaseFiles, kind: DependencyKind, name: str) -> CodeUnit | None:
    path, _, function = name.partition(":")
    units = files.units(path)
    if units is None:
        return None
    return units.on_import if kind is DependencyKind.ON_IMPORT else units.functions.get(function)


def _needs(used: CodeUsed, outcome: Outcome, release: ReleaseSeen) -> Iterator[tuple[DependencyKind, str]]:
    yield DependencyKind.BESIDE, ""
    yield DependencyKind.DATA, ""
    for registered in used.registry:
        yield DependencyKind.REGISTRY, json.dumps([name.partition("/")[::2] for name in registered.get("modules", {})])
    for name in used.sought:
        yield DependencyKind.MODULE, name
    units = list(_units(used, release))
    yield from units
    yield from _hidden(units, release)
    for path in (*used.texts, *_places(outcome)):
        yield DependencyKind.TEXT, path
    for path in used.folders:
        yield DependencyKind.FOLDER, path


def _units(used: CodeUsed, release: ReleaseSeen) -> Iterator[tuple[DependencyKind, str]]:
    """The parts of source files that ran; a whole file where the parts are not known."""
    for path in used.modules:
        units = release.files.units(path)
        if units is None or units.on_import is None:
            yield DependencyKind.TEXT, path
        else:
            yield DependencyKind.ON_IMPORT, path
    for path, name in used.entered:
        units = release.files.units(path)
        if units is None or units.on_import is None:
            continue
        if name == code_used.WHOLE:
            yield from ((DependencyKind.FUNCTION, f"{path}:{function}") for function in units.functions)
            continue
        unit = units.unit_of(name)
        if unit is None:
            yield DependencyKind.TEXT, path
        elif unit:
            yield DependencyKind.FUNCTION, f"{path}:{unit}"


def _hidden(units: Iterable[tuple[DependencyKind, str]], release: ReleaseSeen) -> Iterator[tuple[DependencyKind, str]]:
    """What the code reads that neither its syntax nor the record shows."""
    reads: dict[str, str] = {}
    names = {name for _, name in units}
    for kind, name in units:
        if kind is DependencyKind.TEXT:
            continue
        unit = _unit(release.files, kind, name)
        for read in unit.reads if unit else ():
            if (read, name.partition(":")[0]) != (SOURCES, code_used.READS_POSITIONS):
                reads.setdefault(read, name)
    checks = ":".join(_UPDATE_CHECK) in names
    if VERSION in reads or (ANNOUNCED in reads and checks):
        yield DependencyKind.VERSION, ""
    for read, name in reads.items():
        if read not in (VERSION, ANNOUNCED):
            raise NotReusable(f"{name} depends on its {read}")


def _places(outcome: Outcome) -> Iterator[str]:
    """Files whose lines stand in the outcome."""
    if outcome.failure:
        yield from sorted({frame.file for frame in outcome.failure.frames if frame.file.startswith("funasr/")})


def _registry(name: str, release: ReleaseSeen) -> str:
    pairs = [(table, component) for table, component in json.loads(name)]
    install_dir = str(release.files.install_dir)
    return json.dumps(_plain(importer.import_order(install_dir, pairs, release.order)))


def _plain(registered: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(registered))
