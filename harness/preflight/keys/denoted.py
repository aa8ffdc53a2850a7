"""What an expression of a release's code may denote, as far as settings are concerned."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Conf:
    """The setting or the section of settings at a path; the empty path is the whole configuration."""

    path: str
    without: frozenset[str] = frozenset()
    """Keys that the code has taken out."""

    def below(self, key: str) -> str:
        """The path of a key in this section."""
        return f"{self.path}.{key}" if self.path else key


@dataclass(frozen=True)
class Literal:
    """A constant that can be a key, or the name of a component."""

    value: str


@dataclass(frozen=True)
class Defined:
    """A class or function of the release."""

    module: str
    name: str
    node: ast.ClassDef | ast.FunctionDef
    scope: Scope | None = None
    """Of a function within a function: the variables around it."""


@dataclass(frozen=True)
class Instance:
    """An object of a class of the release; all objects of a class are one."""

    of: Defined


@dataclass(frozen=True)
class BoundMethod:
    """A function of a class, with the object."""

    function: Defined
    owner: Instance


@dataclass(frozen=True)
class Parent:
    """`super()` within a class."""

    of: Defined
    owner: Instance


@dataclass(frozen=True)
class ComponentTable:
    """A table of registered components, such as `encoder_classes`."""

    name: str


@dataclass(frozen=True)
class Choices:
    """A dictionary in which the code looks up a component by its name, such as `optim_classes`."""

    module: str
    name: str
    node: ast.expr


@dataclass(frozen=True)
class ConstantDict:
    """A dictionary with constant keys."""

    items: tuple[tuple[str, Value], ...]


@dataclass(frozen=True)
class Several:
    """A tuple, as a function returns it."""

    items: tuple[Value, ...]


@dataclass(frozen=True)
class ReleaseModule:
    """A module of the release."""

    name: str


@dataclass(frozen=True)
class External:
    """An object of another library, such as `torch.optim.Adam`."""

    name: str


Atom = (
    Conf
    | Literal
    | Defined
    | Instance
    | BoundMethod
    | Parent
    | ComponentTable
    | Choices
    | ConstantDict
    | Several
    | ReleaseModule
    | External
)
Value = frozenset[Atom]
"""All that an expression may denote; empty where it has nothing to do with settings."""

NOTHING: Value = frozenset()


class Scope:
    """The variables of a function while it is read."""

    def __init__(self, module: str, around: Scope | None = None, owner: Defined | None = None) -> None:
        self.module = module
        self.around = around
        self.owner = owner
        """The class in whose body the function is defined."""
        self.names: dict[str, Value] = {}
        self.returned: Value = NOTHING
        self.certain = True
        """Whether a training comes here whatever the settings say."""

    def find(self, name: str) -> Value | None:
        """What a variable denotes; None where it is none of the function's."""
        if name in self.names:
            return self.names[name]
        return self.around.find(name) if self.around else None


def confs(value: Value) -> list[Conf]:
    """The settings among what is denoted."""
    return sorted((atom for atom in value if isinstance(atom, Conf)), key=lambda conf: conf.path)


def literals(value: Value) -> list[str]:
    """The constants among what is denoted."""
    return sorted(atom.value for atom in value if isinstance(atom, Literal))


def united(values: Iterable[Value]) -> Value:
    """All that one of them may denote."""
    return frozenset(atom for value in values for atom in value)


def all_within(value: Value) -> Value:
    """The settings in it and in the dictionaries and tuples that it holds."""
    atoms: set[Atom] = set()
    for atom in value:
        if isinstance(atom, Conf):
            atoms.add(atom)
        elif isinstance(atom, ConstantDict):
            atoms |= all_within(united(item for _, item in atom.items))
        elif isinstance(atom, Several):
            atoms |= all_within(united(atom.items))
    return frozenset(atoms)


@dataclass
class Arguments:
    """The arguments of a call, by what they denote."""

    positional: list[Value] = field(default_factory=list)
    named: dict[str, Value] = field(default_factory=dict)
    spread: Value = NOTHING
    """Of `**x`."""
    explicit: set[str] = field(default_factory=set)
    """Names that the call itself gives."""
    certain: bool = True

    @property
    def everything(self) -> Value:
        """All settings in them."""
        return all_within(united([*self.positional, *self.named.values(), self.spread]))
