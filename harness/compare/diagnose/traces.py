"""A recording as typed values: what `harness.worker.record.tracing` recorded of one cell.

The fields are those of the JSON in an outcome's evidence under `trace`: docs/investigating.md#file-formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Value:
    """What is recorded of an argument or a result."""

    data: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """`tensor`, `none`, `int`, `tuple` …"""
        return str(self.data["kind"])

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of a tensor."""
        return tuple(self.data["shape"]) if self.kind == "tensor" else None

    @property
    def digest(self) -> str | None:
        """Of a tensor whose values were recorded."""
        return self.data.get("digest")

    @property
    def items(self) -> tuple[Value, ...]:
        """Of a tuple or list, as far as they were recorded."""
        return tuple(Value(data=item) for item in self.data.get("items", ()))

    @property
    def named(self) -> Mapping[str, Value]:
        """Of a mapping, as far as they were recorded."""
        return {name: Value(data=item) for name, item in self.data.get("named", {}).items()}

    @property
    def plain(self) -> bool | int | float | str | None:
        """The value itself where it is a number, a word or nothing; else None."""
        value = self.data.get("value")
        return value if isinstance(value, bool | int | float | str) else None

    @property
    def form(self) -> object:
        """Everything but the numbers: kind, shape, precision, and the same of what it holds."""
        if self.kind == "tensor":
            return (self.kind, self.shape, self.data.get("dtype"))
        if self.kind in ("tuple", "list"):
            # A release may return a list where another returns a tuple; nothing that follows can tell.
            return ("sequence", self.data.get("length"), tuple(item.form for item in self.items))
        if self.kind == "dict":
            return (self.kind, tuple((name, item.form) for name, item in sorted(self.named.items())))
        if self.kind == "object":
            return (self.kind, self.data.get("type"))
        return (self.kind,)

    @property
    def content(self) -> object:
        """The form and the numbers, as far as they were recorded."""
        if self.kind == "tensor":
            return (self.form, self.digest)
        if self.kind in ("tuple", "list"):
            return (self.form, tuple(item.content for item in self.items))
        if self.kind == "dict":
            return (self.kind, tuple((name, item.content) for name, item in sorted(self.named.items())))
        return (self.form, self.data.get("value"))

    def equals_in_shared_names(self, other: Value) -> bool:
        """Whether both hold the same, but for entries of a mapping that one of them lacks: one metric more, say."""
        mine, theirs = self.named, other.named
        if mine.keys() & theirs.keys():
            return all(mine[name].equals_in_shared_names(theirs[name]) for name in mine.keys() & theirs.keys())
        if self.items and len(self.items) == len(other.items):
            return all(
                mine.equals_in_shared_names(theirs) for mine, theirs in zip(self.items, other.items, strict=True)
            )
        return self.content == other.content

    def tensors(self) -> Iterator[Value]:
        """The tensors in it, in order."""
        if self.kind == "tensor":
            yield self
        for item in (*self.items, *self.named.values()):
            yield from item.tensors()

    def __str__(self) -> str:
        """`[4, 40, 320]`, `None`, `([4, 9, 320], [4])`."""
        if self.kind == "tensor":
            return str(list(self.shape or ()))
        if self.kind == "none":
            return "None"
        if self.kind in ("tuple", "list"):
            inner = ", ".join(map(str, self.items))
            return f"({inner})" if self.kind == "tuple" else f"[{inner}]"
        if self.kind == "dict":
            return "{" + ", ".join(f"{name}: {item}" for name, item in self.named.items()) + "}"
        if self.kind == "str":
            return repr(self.data.get("value"))
        return str(self.data.get("value", f"<{self.data.get('type', self.kind)}>"))


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a call is written."""

    file: str
    function: str
    line: int
    end_line: int
    column: int | None
    """Of the first character of the expression; None where the interpreter does not know."""
    end_column: int | None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Argument:
    """The argument of one parameter."""

    parameter: str
    how: str
    """`positional 5`, `keyword`, `default`; empty for a function, of which that is not seen."""
    value: Value

    @property
    def place(self) -> int | None:
        """Its place among the positional arguments, counted from 1."""
        word, _, number = self.how.partition(" ")
        return int(number) if word == "positional" else None


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a module, or of a function of the release."""

    kind: Literal["module", "function"]
    name: str
    """Of a module its name in the model, empty for the model itself; of a function its name with its class."""
    class_name: str
    """Of a module."""
    file: str
    line: int
    function: str
    """The function that runs: for a module its class's forward."""
    caller: Site | None
    arguments: tuple[Argument, ...]
    binding_error: str
    drawn: str
    """A digest of the random generator's state when it began."""
    parent: int | None
    """The place of the call around it."""
    ended: bool
    raised: str | None
    output: Value | None

    @property
    def label(self) -> str:
        """How it is called in texts."""
        if self.kind == "function":
            return f"{self.name}()"
        return self.name or self.class_name

    @property
    def place(self) -> str:
        """File and line of the code that runs."""
        return f"{self.file}:{self.line}" if self.file else ""

    def argument(self, parameter: str) -> Argument | None:
        """The argument of this parameter."""
        return next((argument for argument in self.arguments if argument.parameter == parameter), None)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read one call."""
        names = ("kind", "name", "file", "line", "function", "binding_error", "drawn", "parent", "ended", "raised")
        return cls(
            **{name: data[name] for name in names},
            class_name=data["class"],
            caller=Site(**data["caller"]) if data["caller"] else None,
            arguments=_arguments(data["arguments"]),
            output=Value(data=data["output"]) if data["output"] is not None else None,
        )


@dataclass(frozen=True, kw_only=True)
class Built:
    """The construction of an object of the release."""

    class_name: str
    function: str
    """The `__init__` that ran: the class's own or one that it inherits."""
    file: str
    line: int
    caller: Site | None
    arguments: tuple[Argument, ...]
    """With `**` and the name in `how` for what came by the rest parameter."""


@dataclass(frozen=True, kw_only=True)
class Module:
    """What the model is made of."""

    name: str
    class_name: str
    forward: Mapping[str, Any] | None
    ancestors: tuple[Mapping[str, str], ...]
    """`class` and `module`, itself first, the release's only."""
    parameters: Mapping[str, tuple[int, ...]]
    settings: Mapping[str, Any]
    """Attributes that are numbers, words or nothing."""

    @property
    def widths(self) -> str:
        """`320 → 8404` for a projection; empty for what has no weight of two dimensions."""
        weight = self.parameters.get("weight")
        return f"{weight[1]} → {weight[0]}" if weight and len(weight) == 2 else ""


@dataclass(frozen=True, kw_only=True)
class TracedPass:
    """One forward pass of the model."""

    number: int
    """Counted from 0 over the passes of training; -1 for one of evaluation."""
    whole: bool
    training: bool
    raised: str | None
    calls: tuple[Call, ...]
    weights: Mapping[str, str]
    gradients: Mapping[str, Mapping[str, Any] | None]

    @cached_property
    def calls_by_owner(self) -> Mapping[int | None, tuple[int, ...]]:
        """The calls within each call of a module, those within a module called there left out.

        Functions are no walls: one that is put around a call moves nothing to another place.
        """
        by_owner: dict[int | None, list[int]] = {}
        for place in range(len(self.calls)):
            by_owner.setdefault(self.owner(place), []).append(place)
        return {owner: tuple(places) for owner, places in by_owner.items()}

    def owner(self, index: int) -> int | None:
        """The nearest call of a module around a call."""
        return next((place for place in self.above(index) if self.calls[place].kind == "module"), None)

    def last_within(self, index: int) -> int:
        """The last call that began within this one, itself if there is none."""
        last = index
        for place in range(index + 1, len(self.calls)):
            parent = self.calls[place].parent
            if parent is None or parent < index:
                break
            last = place
        return last

    def above(self, index: int) -> Iterator[int]:
        """The calls around this one, the nearest first."""
        parent = self.calls[index].parent
        while parent is not None:
            yield parent
            parent = self.calls[parent].parent


@dataclass(frozen=True, kw_only=True)
class Executed:
    """A function of the release that ran."""

    file: str
    function: str
    line: int
    end_line: int
    times: int


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A whole recording."""

    model: str
    modules: tuple[Module, ...]
    built: tuple[Built, ...]
    passes: tuple[TracedPass, ...]
    functions: tuple[Executed, ...]
    called: Mapping[str, int] = field(default_factory=dict)
    """How often each module was called in the recorded passes."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read a recording.

        Raises:
            ValueError: it is of another schema.
            KeyError: a field is missing.
        """
        if data["schema"] != SCHEMA:
            raise ValueError(f"recording of schema {data['schema']}, this harness reads {SCHEMA}")
        passes = tuple(_pass(record) for record in data["passes"])
        called: dict[str, int] = {}
        for call in (call for traced_pass in passes for call in traced_pass.calls if call.kind == "module"):
            called[call.name] = called.get(call.name, 0) + 1
        return cls(
            model=data["model"],
            modules=tuple(_module(record) for record in data["modules"]),
            built=tuple(_built(record) for record in data["built"]),
            passes=passes,
            functions=tuple(Executed(**record) for record in data["functions"]),
            called=called,
        )

    def module(self, name: str) -> Module | None:
        """The module of this name."""
        return next((module for module in self.modules if module.name == name), None)

    def numbered(self, number: int) -> TracedPass | None:
        """The pass of training with this number."""
        return next((traced_pass for traced_pass in self.passes if traced_pass.number == number), None)

    @property
    def died_in(self) -> TracedPass | None:
        """The pass that raised."""
        return next((traced_pass for traced_pass in self.passes if traced_pass.raised), None)


def _arguments(data: Sequence[Mapping[str, Any]]) -> tuple[Argument, ...]:
    return tuple(
        Argument(parameter=record["parameter"], how=record["how"], value=Value(data=record["value"])) for record in data
    )


def _pass(data: Mapping[str, Any]) -> TracedPass:
    names = ("number", "whole", "training", "raised", "weights", "gradients")
    return TracedPass(**{name: data[name] for name in names}, calls=tuple(map(Call.from_json, data["calls"])))


def _module(data: Mapping[str, Any]) -> Module:
    return Module(
        name=data["name"],
        class_name=data["class"],
        forward=data["forward"],
        ancestors=tuple(data["ancestors"]),
        parameters={name: tuple(shape) for name, shape in data["parameters"].items()},
        settings=data["settings"],
    )


def _built(data: Mapping[str, Any]) -> Built:
    return Built(
        class_name=data["class"],
        function=data["function"],
        file=data["file"],
        line=data["line"],
        caller=Site(**data["caller"]) if data["caller"] else None,
        arguments=_arguments(data["arguments"]),
    )
