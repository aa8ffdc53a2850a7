"""Faults in a model's training forward that its code shows for the user's settings, without running it.

The statements that certainly run are followed from `forward` through the class's own methods: a branch whose condition
the settings do not decide is left out, so what is found happens. Twice: as in training and as in validation.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from harness.preflight.code.class_attributes import UNKNOWN, ClassAttributes, is_own
from harness.preflight.code.release_code import Definition, ReleaseCode, functions

_DEEPEST = 6
_THREE_TAKEN, _TAKEN = "loss, stats, weight = retval", 3
"""How the trainers take a forward pass apart."""


@dataclass(frozen=True, kw_only=True)
class ForwardFault:
    """An exception that the training forward ends with."""

    exception: str
    """`AttributeError` or `ValueError`."""
    file: str
    """Within the release: `funasr/models/transformer/model.py`."""
    line: int
    function: str
    what: str
    """In words."""
    in_training: bool
    """Otherwise only in validation."""

    @property
    def signature(self) -> str:
        """As known issues have it."""
        return f"{self.exception}@{self.file}:{self.function}"


def forward_faults(code: ReleaseCode, model: Definition, settings: Mapping[str, Any]) -> tuple[ForwardFault, ...]:
    """The faults of a model's forward; none where the class or its bases cannot be read whole.

    Args:
        code: Of the release.
        model: The class.
        settings: The arguments of its constructor that are set, by name.
    """
    files = {owner.file for owner, _ in code.lineage(model)} | set(ClassAttributes.trainers(code))
    digests = sorted((str(path.relative_to(code.root)), file.digest) for path in files if (file := code.file(path)))
    text = json.dumps(settings, sort_keys=True, default=str)
    return _faults(_Subject(files=tuple(digests), name=model.name, settings=text, of=(code, model, settings)))


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """A model's class and settings; equal where all files that matter have the same content."""

    files: tuple[tuple[str, str], ...]
    name: str
    settings: str
    of: tuple[ReleaseCode, Definition, Mapping[str, Any]] = field(compare=False)


@lru_cache(maxsize=256)
def _faults(subject_key: _Subject) -> tuple[ForwardFault, ...]:
    code, model, settings = subject_key.of
    if not code.whole_lineage(model) or code.method(model, "forward") is None:
        return ()
    if (fault := _mapping(code, model)) is not None:
        return (fault,)
    subject = ClassAttributes(code=code, model=model, settings=settings)
    if subject.open:
        return ()
    faults: dict[tuple[str, int], ForwardFault] = {}
    for training in (True, False):
        for fault in _Walk(subject=subject, training=training).faults():
            faults.setdefault((fault.file, fault.line), fault)
    return tuple(faults.values())


def _mapping(code: ReleaseCode, model: Definition) -> ForwardFault | None:
    """The fault of a forward that returns a mapping of two, where every trainer takes three values of it."""
    method = code.method(model, "forward")
    trainers = [code.text(path.relative_to(code.root).as_posix()) for path in ClassAttributes.trainers(code)]
    if method is None or not all(_THREE_TAKEN in text for text in trainers if "retval" in text):
        return None
    returned = [statement.value for statement in ast.walk(method.node) if isinstance(statement, ast.Return)]
    mappings = [value for value in returned if isinstance(value, ast.Dict) and len(value.keys) != _TAKEN]
    if not returned or len(mappings) < len(returned) or len(list(functions(method.node))) > 1:
        return None
    first = mappings[0]
    keys = ", ".join(ast.unparse(key) for key in first.keys if key is not None)
    return ForwardFault(
        exception="ValueError",
        file=f"funasr/{method.owner.file.relative_to(code.root).as_posix()}",
        line=first.lineno,
        function="forward",
        what=f"`forward` returns a mapping with {keys}, and the trainer takes loss, statistics and weight of it",
        in_training=True,
    )


@dataclass(kw_only=True)
class _Walk:
    """One pass over what certainly runs."""

    subject: ClassAttributes
    training: bool
    _seen: set[str] = field(default_factory=set)
    _file: str = ""
    _function: str = ""

    def faults(self) -> Iterator[ForwardFault]:
        return self._method("forward", depth=0)

    def _method(self, name: str, *, depth: int) -> Iterator[ForwardFault]:
        method = self.subject.code.method(self.subject.model, name)
        if method is None or name in self._seen or depth > _DEEPEST:
            return
        self._seen.add(name)
        before = self._file, self._function
        self._file = f"funasr/{method.owner.file.relative_to(self.subject.code.root).as_posix()}"
        self._function = name
        yield from self._block(method.node.body, depth)
        self._file, self._function = before

    def _block(self, statements: list[ast.stmt], depth: int) -> Iterator[ForwardFault]:
        for statement in statements:
            if isinstance(statement, ast.If):
                yield from self._expression(statement.test, depth)
                holds = self._truth(statement.test)
                if holds is None and any(isinstance(part, ast.Return | ast.Raise) for part in ast.walk(statement)):
                    return
                if holds is not None:
                    yield from self._block(statement.body if holds else statement.orelse, depth)
            elif isinstance(statement, ast.With):
                yield from self._block(statement.body, depth)
            elif isinstance(statement, ast.Return | ast.Raise):
                yield from self._expression(statement, depth)
                return
            elif isinstance(statement, ast.Assign):
                yield from self._expression(statement.value, depth)
                yield from self._unpacking(statement)
            elif isinstance(statement, ast.Expr | ast.AugAssign | ast.AnnAssign):
                yield from self._expression(statement, depth)

    def _expression(self, node: ast.AST, depth: int) -> Iterator[ForwardFault]:
        """Attributes that are certainly read, and methods that are certainly called."""
        for part in self._certain(node):
            if not is_own(part) or not isinstance(part, ast.Attribute) or not isinstance(part.ctx, ast.Load):
                continue
            if self.subject.never_set(part.attr):
                problem = f"`self.{part.attr}` is read and set nowhere"
                yield self._fault("AttributeError", part.lineno, problem)
            yield from self._method(part.attr, depth=depth + 1)

    def _certain(self, node: ast.AST) -> Iterator[ast.AST]:
        yield node
        if isinstance(node, ast.BoolOp):
            for value in node.values:
                yield from self._certain(value)
                stops = isinstance(node.op, ast.Or)
                if self._truth(value) is not (not stops):
                    return
        elif isinstance(node, ast.IfExp):
            yield from self._certain(node.test)
            holds = self._truth(node.test)
            if holds is not None:
                yield from self._certain(node.body if holds else node.orelse)
        elif not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            for child in ast.iter_child_nodes(node):
                yield from self._certain(child)

    def _unpacking(self, statement: ast.Assign) -> Iterator[ForwardFault]:
        target, value = statement.targets[0], statement.value
        if not isinstance(target, ast.Tuple) or any(
            isinstance(target_item, ast.Starred) for target_item in target.elts
        ):
            return
        if not isinstance(value, ast.Call) or not is_own(value.func) or not isinstance(value.func, ast.Attribute):
            return
        lengths = self._lengths(value.func.attr)
        if len(lengths) == 1 and (count := lengths.pop()) != len(target.elts):
            problem = f"`{value.func.attr}` returns {count} values, and {len(target.elts)} are taken"
            yield self._fault("ValueError", statement.lineno, problem)

    def _lengths(self, name: str) -> set[int]:
        """How many values a method returns; empty where that is not written down."""
        method = self.subject.code.method(self.subject.model, name)
        if method is None or len(list(functions(method.node))) > 1:
            return set()
        returned = [statement.value for statement in ast.walk(method.node) if isinstance(statement, ast.Return)]
        tuples = [value for value in returned if isinstance(value, ast.Tuple)]
        starred = any(isinstance(part, ast.Starred) for returned_tuple in tuples for part in returned_tuple.elts)
        return (
            {len(returned_tuple.elts) for returned_tuple in tuples}
            if tuples and len(tuples) == len(returned) and not starred
            else set()
        )

    def _truth(self, node: ast.expr) -> bool | None:
        value = self._value(node)
        return None if value is UNKNOWN else bool(value)

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Attribute) and is_own(node):
            return self.training if node.attr == "training" else self.subject.values.get(node.attr, UNKNOWN)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            truth = self._truth(node.operand)
            return UNKNOWN if truth is None else not truth
        if isinstance(node, ast.BoolOp):
            truths = [self._truth(operand) for operand in node.values]
            decisive = isinstance(node.op, ast.Or)
            if decisive in truths:
                return decisive
            return UNKNOWN if None in truths else not decisive
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and (compare := _COMPARE.get(type(node.ops[0]))):
            left, right = self._value(node.left), self._value(node.comparators[0])
            try:
                return UNKNOWN if left is UNKNOWN or right is UNKNOWN else compare(left, right)
            except TypeError:
                return UNKNOWN
        return UNKNOWN

    def _fault(self, exception: str, line: int, problem: str) -> ForwardFault:
        return ForwardFault(
            exception=exception,
            file=self._file,
            line=line,
            function=self._function,
            what=problem,
            in_training=self.training,
        )


_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: lambda left, right: bool(left == right),
    ast.NotEq: lambda left, right: bool(left != right),
    ast.Gt: lambda left, right: bool(left > right),
    ast.GtE: lambda left, right: bool(left >= right),
    ast.Lt: lambda left, right: bool(left < right),
    ast.LtE: lambda left, right: bool(left <= right),
    ast.Is: lambda left, right: left is right,
    ast.IsNot: lambda left, right: left is not right,
}
