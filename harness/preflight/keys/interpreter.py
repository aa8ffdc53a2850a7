"""Following the settings through a release's code: from `main_hydra` to constructors, samplers and the trainer.

The code is read, not run: each function with what its arguments may denote. Both arms of a branch are read, so that a
key counts as read where some path reads it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.preflight.keys import calls, conditions, expressions
from harness.preflight.keys.denoted import NOTHING, Defined, Instance, Scope, Several, Value, united
from harness.preflight.keys.reader import Reader

DEEPEST = 60
MOST_FUNCTIONS = 6_000


@dataclass
class KeyInterpreter(Reader):
    """Reads functions, statement by statement."""

    answered: dict[Any, Value] = field(default_factory=dict)
    depth: int = 0

    def run(self, function: Defined, bound: Mapping[str, Value], *, owner: Defined | None, certain: bool) -> Value:
        """Read a function with what its parameters denote; what it returns."""
        key = (function.module, function.name, function.node.lineno, certain, frozenset(bound.items()), function.scope)
        if key in self.answered:
            return self.answered[key]
        if self.depth > DEEPEST or len(self.answered) > MOST_FUNCTIONS:
            self.goes_on(united(bound.values()), function.module, function.node)
            return NOTHING
        self.answered[key] = NOTHING
        scope = Scope(function.module, function.scope, owner)
        scope.names.update(bound)
        scope.certain = certain
        self.depth += 1
        try:
            self.block(function.node.body, scope, weak=False)
        finally:
            self.depth -= 1
        self.answered[key] = scope.returned
        return scope.returned

    def block(self, body: list[ast.stmt], scope: Scope, *, weak: bool) -> None:
        """Read statements; `weak` where they may not run, so that a variable keeps what it denoted before."""
        for node in body:
            self.statement(node, scope, weak)

    def statement(self, node: ast.stmt, scope: Scope, weak: bool) -> None:
        """Read one statement."""
        match node:
            case ast.Assign():
                value = self.evaluate(node.value, scope)
                for target in node.targets:
                    self.assign(target, value, scope, weak)
            case ast.AnnAssign() | ast.AugAssign():
                self.assign(node.target, self.evaluate(node.value, scope), scope, weak=True)
            case ast.Expr():
                self.evaluate(node.value, scope)
            case ast.Return():
                scope.returned |= self.evaluate(node.value, scope)
            case ast.If():
                self._branch(node, scope)
            case ast.For() | ast.AsyncFor():
                self.assign(node.target, self.elements(node.iter, scope), scope, weak=True)
                self.block([*node.body, *node.orelse], scope, weak=True)
            case ast.While():
                self.evaluate(node.test, scope)
                self.block([*node.body, *node.orelse], scope, weak=True)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    value = self.evaluate(item.context_expr, scope)
                    if item.optional_vars is not None:
                        self.assign(item.optional_vars, value, scope, weak)
                self.block(node.body, scope, weak=weak)
            case ast.Try():
                self.block([*node.body, *node.orelse, *node.finalbody], scope, weak=True)
                for handler in node.handlers:
                    self._perhaps(handler.body, scope)
            case ast.FunctionDef():
                scope.names[node.name] = frozenset([Defined(scope.module, node.name, node, scope)])
            case ast.Import() | ast.ImportFrom():
                self._import(node, scope)
            case ast.Assert():
                self.evaluate(node.test, scope)
            case ast.Raise():
                self.evaluate(node.exc, scope)
            case _:
                pass

    def _import(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
        for alias in node.names:
            if isinstance(node, ast.ImportFrom) and not node.level:
                scope.names[alias.asname or alias.name] = self.source.dotted(f"{node.module}.{alias.name}")
            elif isinstance(node, ast.Import):
                name = alias.name if alias.asname else alias.name.split(".")[0]
                scope.names[alias.asname or name] = self.source.dotted(name)

    def _branch(self, node: ast.If, scope: Scope) -> None:
        self.evaluate(node.test, scope)
        holds = self.truth(node.test, scope)
        for body, runs in ((node.body, holds), (node.orelse, None if holds is None else not holds)):
            if runs:
                self.block(body, scope, weak=False)
            else:
                self._perhaps(body, scope)

    def _perhaps(self, body: list[ast.stmt], scope: Scope) -> None:
        before, scope.certain = scope.certain, False
        self.block(body, scope, weak=True)
        scope.certain = before

    def assign(self, target: ast.expr, value: Value, scope: Scope, weak: bool) -> None:
        """Bind a target to what is denoted."""
        match target:
            case ast.Name():
                scope.names[target.id] = value | (scope.names.get(target.id, NOTHING) if weak else NOTHING)
            case ast.Tuple() | ast.List():
                self._unpack(target.elts, value, scope, weak)
            case ast.Attribute():
                for owner in self.evaluate(target.value, scope):
                    if isinstance(owner, Instance):
                        key = (owner.of.module, owner.of.name, target.attr)
                        self.attributes[key] = self.attributes.get(key, NOTHING) | value
            case ast.Subscript():
                self.evaluate(target.slice, scope)
            case _:
                pass

    def _unpack(self, targets: list[ast.expr], value: Value, scope: Scope, weak: bool) -> None:
        tuples = [atom.items for atom in value if isinstance(atom, Several) and len(atom.items) == len(targets)]
        others: Value = frozenset(atom for atom in value if not isinstance(atom, Several))
        for number, target in enumerate(targets):
            self.assign(target, united([others, *(items[number] for items in tuples)]), scope, weak)

    def evaluate(self, node: ast.expr | None, scope: Scope) -> Value:
        """What an expression denotes."""
        return expressions.evaluate(self, node, scope)

    def elements(self, node: ast.expr, scope: Scope) -> Value:
        """What the elements of an iterable denote."""
        return expressions.elements(self, node, scope)

    def attribute(self, owner: Value, node: ast.Attribute, scope: Scope) -> Value:
        """What an attribute of what is denoted denotes."""
        return expressions.attribute(self, owner, node, scope)

    def call(self, node: ast.Call, scope: Scope) -> Value:
        """What a call returns."""
        return calls.call(self, node, scope)

    def truth(self, test: ast.expr, scope: Scope) -> bool | None:
        """Whether a condition holds with the settings in force; None where that is not known."""
        return conditions.truth(self, test, scope)
