"""What all parts of the reading share: the source, what was read, and how to go on."""

from __future__ import annotations

import ast
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.preflight.keys.denoted import NOTHING, Conf, Defined, Scope, Value, all_within, confs
from harness.preflight.keys.reading import ReadAt, Reading
from harness.preflight.keys.source import Source

_KEY = re.compile(r"^[\w-]+$")
_OTHER_MODELS = frozenset({"vad_kwargs", "punc_kwargs", "spk_kwargs"})
"""Settings of models that a recogniser calls and no training does; they are not followed."""


@dataclass
class Reader(ABC):
    """One reading of a release's code with the settings of a user."""

    source: Source
    value_of: Callable[[str], Any]
    """The setting in force at a path; None where there is none."""
    kind_of: Callable[[str], str]
    """What it is: `section`, `list`, `text`, `other`, or empty where there is none."""
    reading: Reading = field(default_factory=Reading)
    attributes: dict[tuple[str, str, str], Value] = field(default_factory=dict)
    """Of instances: module, class and attribute."""
    scanned: set[tuple[str, str]] = field(default_factory=set)
    """Classes of which all methods were read."""

    def where(self, module: str, node: ast.AST) -> str:
        """A place in the release's code."""
        return f"{self.source.file(module) or module}:{getattr(node, 'lineno', 0)}"

    def read_key(
        self, conf: Conf, key: str, *, module: str, node: ast.AST, default: ast.expr | None = None, annotation: str = ""
    ) -> Value:
        """Note that a key of a section is read; what it denotes."""
        if key in conf.without or not _KEY.match(key):
            return NOTHING
        path = conf.below(key)
        written = ast.unparse(default) if isinstance(default, ast.Constant | ast.UnaryOp) else ""
        known = self.reading.read.get(path)
        if known is None or (written and not known.default):
            self.reading.read[path] = ReadAt(
                where=self.where(module, node), default="" if written == "None" else written, annotation=annotation
            )
        if not conf.path and key in _OTHER_MODELS:
            self.reading.whole.setdefault(path, self.where(module, node))
            return NOTHING
        return frozenset([Conf(path)])

    def goes_on(self, value: Value, module: str, node: ast.AST) -> None:
        """Note that sections go on to code that is not followed."""
        for conf in confs(value):
            if conf.path:
                self.reading.whole.setdefault(conf.path, self.where(module, node))

    def matters(self, value: Value) -> bool:
        """Whether something below it can be read: a number has no keys, and names no component."""
        for atom in all_within(value):
            if isinstance(atom, Conf) and (
                not atom.path or atom.path.endswith("_conf") or self.kind_of(atom.path) in {"section", "list", "text"}
            ):
                return True
        return False

    def keeps_settings(self, class_defined: Defined) -> bool:
        """Whether objects of a class keep a section, so that any of their methods may read it."""
        owners = {
            (owner_class.module, owner_class.name) for owner_class in (class_defined, *self.source.bases(class_defined))
        }
        return any(
            self.matters(value) for (module, name, _), value in self.attributes.items() if (module, name) in owners
        )

    # What the modules about expressions, calls and conditions need of each other.

    @abstractmethod
    def run(self, function: Defined, bound: Mapping[str, Value], *, owner: Defined | None, certain: bool) -> Value:
        """Read a function with what its parameters denote; what it returns."""

    @abstractmethod
    def assign(self, target: ast.expr, value: Value, scope: Scope, weak: bool) -> None:
        """Bind a target to what is denoted; `weak` where it may denote what it did before."""

    @abstractmethod
    def evaluate(self, node: ast.expr | None, scope: Scope) -> Value:
        """What an expression denotes."""

    @abstractmethod
    def elements(self, node: ast.expr, scope: Scope) -> Value:
        """What the elements of an iterable denote."""

    @abstractmethod
    def attribute(self, owner: Value, node: ast.Attribute, scope: Scope) -> Value:
        """What an attribute of what is denoted denotes."""

    @abstractmethod
    def call(self, node: ast.Call, scope: Scope) -> Value:
        """What a call returns."""
