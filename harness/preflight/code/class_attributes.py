"""The attributes of a model's class as its code shows them: which it sets, and to what with the user's settings."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.preflight.code.release_code import Definition, ReleaseCode

UNKNOWN = object()
"""A value that the code and the settings do not say."""

_OF_MODULES = frozenset(
    (
        *("training", "device", "dtype", "parameters", "named_parameters", "modules", "named_modules", "children"),
        *("named_children", "buffers", "named_buffers", "forward", "train", "eval", "apply", "to", "cuda", "cpu"),
        *("half", "float", "double", "type", "state_dict", "load_state_dict", "zero_grad", "requires_grad_"),
        *("register_buffer", "register_parameter", "register_module", "add_module", "get_submodule"),
        *("get_parameter", "extra_repr", "share_memory", "_modules", "_parameters", "_buffers", "__class__"),
    )
)
"""Attributes of every torch module."""


_TRAINERS = ("train_utils/trainer.py", "train_utils/trainer_ds.py", "bin/train.py", "bin/train_ds.py")


@dataclass(frozen=True, kw_only=True)
class ClassAttributes:
    """A class with its bases: the attributes that it sets, and the values that the settings give them."""

    code: ReleaseCode
    model: Definition
    settings: Mapping[str, Any]

    @cached_property
    def nodes(self) -> tuple[ast.ClassDef, ...]:
        """The class and its bases within the release."""
        return tuple(node for _, node in self.code.lineage(self.model))

    @cached_property
    def open(self) -> bool:
        """Whether it has attributes that its text does not name."""
        texts = {file.text for owner, _ in self.code.lineage(self.model) if (file := self.code.file(owner.file))}
        return any(word in text for text in texts for word in ("setattr(self", "__getattr__", "self.__dict__"))

    @cached_property
    def set_here(self) -> frozenset[str]:
        """Names of attributes that the class, its bases or any torch module has."""
        names = set(_OF_MODULES)
        for node in self.nodes:
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.ClassDef):
                    names.add(inner.name)
            for part in ast.walk(node):
                if isinstance(part, ast.Attribute | ast.Name) and isinstance(part.ctx, ast.Store):
                    names.add(part.attr if isinstance(part, ast.Attribute) else part.id)
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    # Such as the name of a buffer, or of what `hasattr` looks for.
                    names.add(part.value)
        return frozenset(names)

    def never_set(self, name: str) -> bool:
        """Whether no code of the release's models or trainers sets an attribute of this name."""
        if name in self.set_here:
            return False
        setting = re.compile(rf"^(?!\s*#).*\w\.{re.escape(name)}\s*(?::[^=]+)?=[^=]", re.MULTILINE)
        files = {owner.file for owner, _ in self.code.lineage(self.model)}
        files |= set(self.trainers(self.code))
        return not any(setting.search(file.text) for path in files if (file := self.code.file(path)))

    @staticmethod
    def trainers(code: ReleaseCode) -> tuple[Path, ...]:
        """The files besides the class that may set an attribute of a model."""
        return tuple(code.root / name for name in _TRAINERS)

    @cached_property
    def values(self) -> Mapping[str, Any]:
        """Attributes that are an argument of the constructor and nothing else, with the value that they get."""
        stored: dict[str, list[Any]] = {}
        for node in self.nodes:
            for function in (statement for statement in node.body if isinstance(statement, ast.FunctionDef)):
                arguments = _Arguments.of(function, self.settings) if function.name == "__init__" else None
                for part in ast.walk(function):
                    if isinstance(part, ast.Assign):
                        for target in part.targets:
                            if isinstance(target, ast.Attribute) and is_own(target):
                                value = arguments.value(part.value) if arguments else UNKNOWN
                                stored.setdefault(target.attr, []).append(value)
        return {name: all_[0] for name, all_ in stored.items() if UNKNOWN not in all_ and _all_equal(all_)}


@dataclass(frozen=True, kw_only=True)
class _Arguments:
    """What a constructor gets for its arguments."""

    known: Mapping[str, Any]
    rest: str
    """The name of its `**kwargs`."""
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, function: ast.FunctionDef, settings: Mapping[str, Any]) -> _Arguments:
        arguments = function.args
        placed = [*arguments.posonlyargs, *arguments.args]
        pairs = list(zip(placed[len(placed) - len(arguments.defaults) :], arguments.defaults, strict=True))
        alone = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        pairs += [(argument, default) for argument, default in alone if default is not None]
        names = {argument.arg for argument in (*placed, *arguments.kwonlyargs)}
        known = {argument.arg: default.value for argument, default in pairs if isinstance(default, ast.Constant)}
        known |= {name: value for name, value in settings.items() if name in names}
        changed = {
            part.id for part in ast.walk(function) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        }
        kwargs_name = arguments.kwarg.arg if arguments.kwarg else ""
        return cls(
            known={name: value for name, value in known.items() if name not in changed},
            rest=kwargs_name,
            settings=settings,
        )

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.known.get(node.id, UNKNOWN)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"{self.rest}.get" and node.args:
            name, default = node.args[0], node.args[1] if len(node.args) > 1 else ast.Constant(None)
            if isinstance(name, ast.Constant) and isinstance(default, ast.Constant):
                return self.settings.get(str(name.value), default.value)
        return UNKNOWN


def _all_equal(values: list[Any]) -> bool:
    return all(type(value) is type(values[0]) and value == values[0] for value in values)


def is_own(node: ast.AST) -> bool:
    """Whether an expression is `self.NAME`."""
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
