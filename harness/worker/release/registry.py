"""The class behind each key of a release's registry, and the modules that registered it.

FunASR builds a model from names: `encoder: SANMEncoder` is looked up in `tables.encoder_classes`. If two modules
register one name, the later one wins, so the class depends on the order of imports. A full `import funasr`, as in a
user's job, is the reference; a check's own imports must give the same classes.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import inspect
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from harness.worker.release import importer

MODULE = "funasr.register"
EVIDENCE = "registry"
"""Evidence of an `import` cell: `registrations` in their order, and `winners` by key."""
CHOSEN = "classes"
"""Evidence of every other cell with a variant: the class behind each key of its config."""
DUPLICATE = "duplicate-registration"
REFUSED = "registration-refused"

_watched: list[tuple[str, str]] = []
_from_children: dict[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Registration:
    """One call of `tables.register`."""

    table: str
    name: str
    module: str
    class_name: str
    refused: str = ""
    """The exception type with which the release refused it: 1.0.0 to 1.0.5 and 1.1.13 refuse a name that is taken."""

    @property
    def key(self) -> str:
        """As in the evidence: `encoder_classes/SANMEncoder`."""
        return key_of(self.table, self.name)

    @property
    def place(self) -> str:
        """Module and class: `funasr.models.sanm.encoder:SANMEncoder`."""
        return f"{self.module}:{self.class_name}"


class RegistryRecorder(importlib.abc.MetaPathFinder):
    """Records each registration from the import of the release's register on."""

    def __init__(self, *, without_lines: bool = False) -> None:
        """See the class; `without_lines` says that the register need not find out where a class begins."""
        self._without_lines = without_lines
        self.registrations: list[Registration] = []
        self._same_code: dict[str, bool] = {}
        self._classes: dict[str, Any] = {}

    def find_spec(self, fullname: str, path: Any, _target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Find the register as Python would, and hook its tables once its code has run."""
        if fullname != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_hook(module: ModuleType) -> None:
                run(module)
                if self._without_lines:
                    importer.skip_lines(module)
                self._hook(getattr(module, "tables", None))

            spec.loader.exec_module = run_and_hook  # type: ignore[method-assign]
        return spec

    def to_dict(self) -> dict[str, Any]:
        """`registrations` as lists of table, name, module, class and refusing exception; and `winners`."""
        rows = [
            [registration.table, registration.name, registration.module, registration.class_name, registration.refused]
            for registration in self.registrations
        ]
        return {"registrations": rows, "winners": winners()}

    def findings(self) -> list[dict[str, Any]]:
        """A finding for each key under which classes of several modules were registered."""
        return list(_findings(self.registrations, winners(), self._same_code))

    def _hook(self, tables: Any) -> None:
        original = getattr(type(tables), "register", None)
        if original is None:
            return

        def register(this: Any, table: str, key: str | None = None, *args: Any, **kwargs: Any) -> Any:
            decorate = original(this, table, key, *args, **kwargs)

            def noting(target: Any) -> Any:
                name = key if key is not None else getattr(target, "__name__", "")
                try:
                    result = decorate(target)
                except Exception as error:
                    self._note(table, name, target, type(error).__name__)
                    raise
                self._note(table, name, target)
                return result

            return noting

        type(tables).register = register

    def _note(self, table: str, name: str, target: Any, refused: str = "") -> None:
        module, class_name = getattr(target, "__module__", ""), getattr(target, "__qualname__", "")
        registration = Registration(table=table, name=name, module=module, class_name=class_name, refused=refused)
        self.registrations.append(registration)
        first = self._classes.setdefault(registration.key, target)
        if first is not target and not self._without_lines:
            self._same_code[registration.key] = self._same_code.get(registration.key, True) and _code(first) == _code(
                target
            )


def key_of(table: str, name: str) -> str:
    """A registry key in the form of the evidence."""
    return f"{table}/{name}"


def winners() -> dict[str, str]:
    """The class behind each key now, as `module:class`; empty if the release's register is not imported."""
    return {
        key_of(table, name): f"{registered.__module__}:{registered.__qualname__}"
        for table, classes in _tables()
        for name, registered in classes.items()
        if hasattr(registered, "__qualname__")
    }


def watch(components: Iterable[tuple[str, str]]) -> None:
    """Set the pairs of table and name that `classes_in_process` and `chosen` report."""
    _watched[:] = components
    _from_children.clear()


def classes_in_process() -> dict[str, str]:
    """The class behind each watched key, in this process now."""
    now = winners()
    return {key: now[key] for key in (key_of(*pair) for pair in _watched) if key in now}


def add(classes: Mapping[str, str]) -> None:
    """Add the classes that a child process saw."""
    _from_children.update(classes)


def chosen() -> dict[str, str]:
    """The class behind each watched key, in the children that built the model or else in this process."""
    return {**classes_in_process(), **_from_children}


def _tables() -> Iterator[tuple[str, Mapping[str, Any]]]:
    tables = getattr(sys.modules.get(MODULE), "tables", None)
    for name in dir(tables) if tables is not None else ():
        value = getattr(tables, name)
        if isinstance(value, dict) and not name.startswith("__") and not name.endswith("_meta"):
            yield name, value


def _findings(
    registrations: Sequence[Registration], winners_by_key: Mapping[str, str], same_code: Mapping[str, bool]
) -> Iterator[dict[str, Any]]:
    by_key: dict[str, list[Registration]] = defaultdict(list)
    for registration in registrations:
        # A module that failed and was imported again registers the same class again.
        if registration.place not in (known.place for known in by_key[registration.key]):
            by_key[registration.key].append(registration)
    for key, registered in sorted(by_key.items()):
        if len({registration.module for registration in registered}) < 2:
            continue
        winner = winners_by_key.get(key, "")
        refused = [registration for registration in registered if registration.refused]
        detail = {
            "registered": [registration.place for registration in registered],
            "winner": winner,
            "same_code": same_code.get(key, False),
        }
        others = " and ".join(registration.module for registration in registered if registration.place != winner)
        code = REFUSED if refused else DUPLICATE
        yield {
            "code": f"{code}.{key.replace('_', '-').replace('/', '.').lower()}",
            "message": _message(key, registered, winner, others, refused),
            "place": " and ".join(
                f"{registration.module.replace('.', '/')}.py:{registration.class_name}" for registration in registered
            ),
            "detail": detail,
        }


def _message(
    key: str, registered: Sequence[Registration], winner: str, others: str, refused: Sequence[Registration]
) -> str:
    if refused:
        names = " and ".join(registration.module for registration in refused)
        return (
            f"{registered[0].module} has registered {key}, and the release refuses a second registration "
            f"({refused[0].refused}): {names} does not import."
        )
    return (
        f"{' and '.join(registration.module for registration in registered)} register {key}; after "
        f"`import funasr` the class is that of {winner.partition(':')[0]}, so a change of {others} "
        f"has no effect on a model that is built by this name."
    )


def _code(target: Any) -> str:
    """A class's code without comments, docstrings and layout; empty if its source is not available."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(target)))
    except (OSError, TypeError, SyntaxError):
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)
