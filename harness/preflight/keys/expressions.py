"""What the expressions of a release's code denote, and the keys that they read."""

from __future__ import annotations

import ast

from harness.preflight.keys.denoted import (
    NOTHING,
    Atom,
    BoundMethod,
    Choices,
    Conf,
    ConstantDict,
    Defined,
    External,
    Instance,
    Literal,
    Parent,
    ReleaseModule,
    Scope,
    Several,
    Value,
    confs,
    literals,
    united,
)
from harness.preflight.keys.reader import Reader

COUNTERS = frozenset({"i", "j", "k", "idx", "index", "n"})
"""Names of variables that number the elements of a list."""


def evaluate(reader: Reader, node: ast.expr | None, scope: Scope) -> Value:
    """What an expression denotes."""
    match node:
        case ast.Name():
            in_scope = scope.find(node.id)
            return reader.source.resolve(scope.module, node.id) if in_scope is None else in_scope
        case ast.Constant(value=str() as text):
            return frozenset([Literal(text)])
        case ast.Attribute():
            return attribute(reader, evaluate(reader, node.value, scope), node, scope)
        case ast.Subscript():
            return _subscript(reader, node, scope)
        case ast.Call():
            return reader.call(node, scope)
        case ast.Compare():
            return _compare(reader, node, scope)
        case ast.BoolOp():
            return united(evaluate(reader, operand, scope) for operand in node.values)
        case ast.IfExp():
            evaluate(reader, node.test, scope)
            return evaluate(reader, node.body, scope) | evaluate(reader, node.orelse, scope)
        case ast.BinOp():
            return evaluate(reader, node.left, scope) | evaluate(reader, node.right, scope)
        case ast.UnaryOp():
            return evaluate(reader, node.operand, scope)
        case ast.List() | ast.Set():
            return united(evaluate(reader, element, scope) for element in node.elts)
        case ast.Tuple():
            return frozenset([Several(tuple(evaluate(reader, element, scope) for element in node.elts))])
        case ast.Dict():
            return _dictionary(reader, node, scope)
        case ast.DictComp():
            return _filtered(reader, node, scope)
        case ast.ListComp() | ast.GeneratorExp() | ast.SetComp():
            for part in node.generators:
                reader.assign(part.target, elements(reader, part.iter, scope), scope, weak=True)
                for test in part.ifs:
                    evaluate(reader, test, scope)
            return evaluate(reader, node.elt, scope)
        case ast.JoinedStr():
            for piece in node.values:
                if isinstance(piece, ast.FormattedValue):
                    evaluate(reader, piece.value, scope)
            return NOTHING
        case ast.NamedExpr():
            value = evaluate(reader, node.value, scope)
            reader.assign(node.target, value, scope, weak=True)
            return value
        case ast.Starred() | ast.Await():
            return evaluate(reader, node.value, scope)
        case ast.Lambda():
            return evaluate(reader, node.body, scope)
        case _:
            return NOTHING


def elements(reader: Reader, node: ast.expr, scope: Scope) -> Value:
    """What the elements of an iterable denote; a list of settings stands for its elements."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "enumerate" and node.args:
        return frozenset([Several((NOTHING, elements(reader, node.args[0], scope)))])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip":
        return frozenset([Several(tuple(elements(reader, argument, scope) for argument in node.args))])
    value = evaluate(reader, node, scope)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "items":
        # Whatever is done with each pair may be done with any key.
        reader.goes_on(value, scope.module, node)
        return NOTHING
    return united([frozenset(a for a in value if not isinstance(a, Several)), *_inner(value)])


def _inner(value: Value) -> list[Value]:
    return [item for atom in value if isinstance(atom, Several) for item in atom.items]


def attribute(reader: Reader, owner: Value, node: ast.Attribute, scope: Scope) -> Value:
    """What an attribute of what is denoted denotes."""
    members: set[Atom] = set()
    for atom in owner:
        match atom:
            case ReleaseModule():
                members |= reader.source.member(atom, node.attr)
            case External():
                members.add(External(f"{atom.name}.{node.attr}"))
            case Instance():
                members |= _member(reader, atom, node.attr)
            case Defined(node=ast.ClassDef()):
                method = reader.source.method(atom, node.attr)
                members |= {method} if method else set()
            case Parent():
                method = reader.source.method(atom.of, node.attr, above=True)
                members |= {BoundMethod(method, atom.owner)} if method else set()
            case Conf():
                members |= reader.read_key(atom, node.attr, module=scope.module, node=node) if atom.path else NOTHING
    return frozenset(members)


def _member(reader: Reader, instance: Instance, name: str) -> Value:
    values: Value = NOTHING
    for owner in (instance.of, *reader.source.bases(instance.of)):
        values |= reader.attributes.get((owner.module, owner.name, name), NOTHING)
    method = reader.source.method(instance.of, name)
    return values | frozenset([BoundMethod(method, instance)]) if method else values


def _subscript(reader: Reader, node: ast.Subscript, scope: Scope) -> Value:
    value, keys = evaluate(reader, node.value, scope), literals(evaluate(reader, node.slice, scope))
    values: Value = united(_inner(value))
    values |= frozenset(atom for atom in value if isinstance(atom, Instance | Defined | Choices))
    for conf in confs(value):
        for key in keys:
            values |= reader.read_key(conf, key, module=scope.module, node=node)
        if not keys:
            counts = isinstance(node.slice, ast.Constant | ast.Slice | ast.UnaryOp)
            counts = counts or (isinstance(node.slice, ast.Name) and node.slice.id in COUNTERS)
            if not counts:
                reader.goes_on(frozenset([conf]), scope.module, node)
            values |= frozenset([conf])
    return values | _of_records(value, keys)


def _of_records(value: Value, keys: list[str]) -> Value:
    return united(
        item
        for atom in value
        if isinstance(atom, ConstantDict)
        for name, item in atom.items
        if not keys or name in keys
    )


def _compare(reader: Reader, node: ast.Compare, scope: Scope) -> Value:
    left = evaluate(reader, node.left, scope)
    for op, other in zip(node.ops, node.comparators, strict=True):
        right = evaluate(reader, other, scope)
        if isinstance(op, ast.In | ast.NotIn):
            for conf in confs(right):
                for key in literals(left):
                    reader.read_key(conf, key, module=scope.module, node=node)
    return NOTHING


def _dictionary(reader: Reader, node: ast.Dict, scope: Scope) -> Value:
    items: list[tuple[str, Value]] = []
    unpacked: Value = NOTHING
    for key, item in zip(node.keys, node.values, strict=True):
        value = evaluate(reader, item, scope)
        if key is None:
            unpacked |= value
        elif isinstance(key, ast.Constant) and value:
            items.append((str(key.value), value))
    return unpacked | (frozenset([ConstantDict(tuple(items))]) if items else NOTHING)


def _filtered(reader: Reader, node: ast.DictComp, scope: Scope) -> Value:
    """`{key: value for key, value in conf.items() if key not in KEYS}` is the section without these keys."""
    part = node.generators[0]
    value = evaluate(reader, part.iter, scope)
    without: set[str] = set()
    for test in part.ifs:
        if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.NotIn):
            listed = evaluate(reader, test.comparators[0], scope)
            nodes = [atom.node for atom in listed if isinstance(atom, Choices)] or [test.comparators[0]]
            for collection in nodes:
                without |= {str(n.value) for n in ast.walk(collection) if isinstance(n, ast.Constant)}
    return frozenset(
        Conf(atom.path, atom.without | frozenset(without)) if isinstance(atom, Conf) else atom for atom in value
    )
