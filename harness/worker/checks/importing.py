"""The `import` check: does the release import, and does its metadata declare what it needs?

It runs in its own process, which has imported nothing yet. Every library outside the closure of the release's declared
requirements (plus torch and torchaudio, which FunASR leaves to its users) is hidden, as on a machine with nothing else
installed. If the import fails because one of them is missing, that one is recorded and made visible, and the import is
tried again in a fresh child.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import json
import os
import pkgutil
import re
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from harness.core import wire
from harness.worker.process import failures
from harness.worker.release import importer, registry

LEFT_TO_THE_USER = ("torch", "torchaudio")
"""Libraries that users install themselves, by FunASR's installation guide."""
_MOST_TRIES = 12
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Import the whole release with nothing but its declared requirements."""
    install_dir = request["release"]["install_dir"]
    importer.put_on_path(install_dir)
    declared = declared_requirements(install_dir)
    hidden = Hidden(declared, install_dir)
    sys.meta_path.insert(0, hidden)
    importlib.import_module("torch")
    undeclared: list[str] = []
    for _ in range(_MOST_TRIES):
        answer = import_in_child(install_dir, hidden)
        missing = answer.get("missing")
        if answer["imported"] or missing is None or missing in undeclared:
            break
        undeclared.append(missing)
        hidden.show(missing)
    # Only children import the release; from here on this process needs its own libraries.
    sys.meta_path.remove(hidden)
    evidence = {
        "declared": declared,
        "undeclared": undeclared,
        "hidden_and_asked_for": sorted(set(answer.get("asked_for", [])) - set(undeclared)),
        "submodule_errors": answer.get("submodule_errors", []),
        "unmet": unmet_requirements(install_dir),
        **({registry.EVIDENCE: answer["registry"], "findings": answer["findings"]} if "registry" in answer else {}),
    }
    metrics = {
        "import_seconds": answer.get("seconds"),
        "modules_imported": answer.get("modules_imported"),
        "modules_failed": len(evidence["submodule_errors"]),
    }
    if answer["imported"]:
        return {"status": "passed", "reason": "", "metrics": metrics, "evidence": evidence}
    return {
        "status": answer["status"],
        "reason": answer["reason"],
        "failure": answer["failure"],
        "metrics": metrics,
        "evidence": evidence,
    }


def registrations(request: Mapping[str, Any]) -> dict[str, Any]:
    """In which order an import of the whole release registers its components; the process is of no use afterwards.

    Most of the time of an import goes into the number of each class's first line, which only `tables.print` shows: here
    the release's register gets none.
    """
    recorder = registry.RegistryRecorder(without_lines=True)
    sys.meta_path.insert(0, recorder)
    importer.import_all(request["release"]["install_dir"])
    return {"status": "passed", "reason": "", "evidence": {registry.EVIDENCE: recorder.to_dict()}}


def declared_requirements(install_dir: str) -> list[str]:
    """Normalised names of the distributions that the release requires unconditionally."""
    names = set()
    for distribution in importlib.metadata.distributions(name="funasr", path=[install_dir]):
        for line in distribution.requires or []:
            requirement, _, marker = line.partition(";")
            match = _NAME.match(requirement)
            if match and "extra" not in marker:
                names.add(_normal(match[0]))
    return sorted(names)


def unmet_requirements(install_dir: str) -> list[dict[str, str]]:
    """Requirements that the environment does not meet: a missing distribution, or one of another version."""
    from packaging.requirements import Requirement

    unmet = []
    for distribution in importlib.metadata.distributions(name="funasr", path=[install_dir]):
        for line in distribution.requires or []:
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            try:
                version = importlib.metadata.version(requirement.name)
            except importlib.metadata.PackageNotFoundError:
                version = ""
            if not version or not requirement.specifier.contains(version, prereleases=True):
                required = f"{requirement.name}{requirement.specifier}"
                unmet.append({"requirement": required, "stack": version or "not installed"})
    return unmet


class Hidden(importlib.abc.MetaPathFinder):
    """Hides every installed library outside the closure of a release's declared requirements."""

    def __init__(self, declared: Sequence[str], install_dir: str) -> None:
        self._install_dir = install_dir
        self._providers = {
            module: {_normal(name) for name in names}
            for module, names in importlib.metadata.packages_distributions().items()
        }
        self._visible = _closure([*declared, *LEFT_TO_THE_USER])
        self.asked_for: set[str] = set()
        """Hidden modules that the release's own code tried to import."""

    def find_spec(self, fullname: str, _path: Any, _target: Any = None) -> importlib.machinery.ModuleSpec | None:
        top = fullname.partition(".")[0]
        providers = self._providers.get(top)
        if providers is None or top == "funasr" or providers & self._visible or top in sys.stdlib_module_names:
            return None
        if self._asked_by_release():
            self.asked_for.add(top)
        raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)

    def show(self, module: str) -> None:
        """Make a module visible, with everything that its distribution requires."""
        self._visible |= _closure(sorted(self._providers.get(module, {_normal(module)})))

    def knows(self, module: str) -> bool:
        """Whether the environment has the module."""
        return module in self._providers

    def _asked_by_release(self) -> bool:
        frame = sys._getframe(2)
        while frame is not None and "importlib" in frame.f_code.co_filename:
            frame = frame.f_back  # type: ignore[assignment]
        return frame is not None and frame.f_code.co_filename.startswith(self._install_dir + os.sep)


def _closure(names: Sequence[str]) -> set[str]:
    """These distributions and everything that they require, as installed in the environment."""
    closure: set[str] = set()
    waiting = [_normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in closure:
            continue
        closure.add(name)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in requires:
            requirement, _, marker = line.partition(";")
            match = _NAME.match(requirement)
            if match and "extra" not in marker:
                waiting.append(_normal(match[0]))
    return closure


def import_in_child(install_dir: str, hidden: Hidden) -> dict[str, Any]:
    """Try the import in a child, so that the next attempt starts in a fresh process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = wire.OWN_FAULT
        try:
            os.close(reading)
            with os.fdopen(writing, "w", encoding="utf-8") as out:
                json.dump(_try_import(install_dir, hidden), out)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    if status or not text:
        # The check's own process ends as its child did, so that the outcome records it.
        if os.WIFSIGNALED(status):
            os.kill(os.getpid(), os.WTERMSIG(status))
        os._exit(os.waitstatus_to_exitcode(status))
    return dict(json.loads(text))


def _try_import(install_dir: str, hidden: Hidden) -> dict[str, Any]:
    recorder = registry.RegistryRecorder()
    sys.meta_path.insert(0, recorder)
    started = time.perf_counter()
    try:
        package = importlib.import_module("funasr")
    except (Exception, SystemExit) as error:
        failure = failures.describe(error, install_dir)
        missing = error.name.partition(".")[0] if isinstance(error, ModuleNotFoundError) and error.name else None
        available = missing is not None and missing != "funasr" and hidden.knows(missing)
        return {
            "imported": False,
            "missing": missing if available else None,
            "asked_for": sorted(hidden.asked_for),
            "status": failures.status_of(error, install_dir),
            "reason": f"import funasr: {failure['type']}: {failure['message']}",
            "failure": failure,
        }
    seconds = time.perf_counter() - started
    loaded = sum(1 for name in sys.modules if name.startswith("funasr."))
    return {
        "imported": True,
        "seconds": seconds,
        "modules_imported": loaded,
        # Before submodules are imported again: the registry as a user's `import funasr` leaves it.
        "registry": recorder.to_dict(),
        "findings": recorder.findings(),
        "submodule_errors": _submodule_errors(package, install_dir),
        "asked_for": sorted(hidden.asked_for),
    }


def _submodule_errors(package: Any, install_dir: str) -> list[dict[str, str]]:
    """Submodules that failed to import with the package: most releases ignore them silently."""
    recorded_errors: Mapping[str, str] = getattr(package, "get_import_errors", dict)()
    errors = []
    for info in pkgutil.walk_packages(package.__path__, "funasr.", onerror=lambda _: None):
        if info.name in sys.modules or info.name.endswith(".__main__"):
            continue
        try:
            importlib.import_module(info.name)
        except BaseException as error:  # a submodule may call sys.exit when it is imported
            text = f"{type(error).__name__}: {error}"
        else:
            if info.name not in recorded_errors:
                continue
            text = f"{recorded_errors[info.name]} (imports when tried again)"
        errors.append({"module": info.name, "error": " ".join(text.replace(install_dir + os.sep, "").split())[:200]})
    return errors


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
