"""Calls in a release's code: which arguments the settings become, and what the callee does with them."""

from __future__ import annotations

import ast
import re
from operator import itemgetter

from harness.preflight.keys import libraries
from harness.preflight.keys.denoted import (
    NOTHING,
    Arguments,
    BoundMethod,
    Choices,
    ComponentTable,
    Conf,
    ConstantDict,
    Defined,
    External,
    Instance,
    Literal,
    Parent,
    Scope,
    Value,
    confs,
    literals,
    united,
)
from harness.preflight.keys.reader import Reader
from harness.preflight.keys.reading import Fixed, Lookup

NOT_IN_TRAINING = re.compile(r"^(generate|inference\w*|infer|infer_\w+|export|export_\w+|streaming_\w+|recognize)$")
"""Methods that a training does not call."""

MERGES = "deep_update"
"""A release's function that puts the second mapping into the first."""

_READS = frozenset({"get", "pop", "setdefault"})
_SAME = frozenset({"copy", "items", "split", "strip", "lower", "upper", "replace", "to_container", "format"})
_LISTS = frozenset({"keys", "values"})


def call(reader: Reader, node: ast.Call, scope: Scope) -> Value:
    """What a call returns."""
    if isinstance(node.func, ast.Attribute):
        owner = reader.evaluate(node.func.value, scope)
        if isinstance(node.func.value, ast.Call) and ast.unparse(node.func.value.func) == "super":
            owner = _parent(scope)
        known = _of_settings(reader, owner, node, scope)
        callees = _callees(reader, owner, node.func, scope)
        if known is not None and not callees:
            return known
    else:
        callees = reader.evaluate(node.func, scope)
        if isinstance(node.func, ast.Name) and node.func.id in {"getattr", "hasattr"} and len(node.args) > 1:
            return _getattr(reader, node, scope)
        if isinstance(node.func, ast.Name) and not callees:
            callees = frozenset([External(node.func.id)])
    if isinstance(node.func, ast.Name) and node.func.id == MERGES and len(node.args) == 2:
        reader.assign(node.args[0], reader.evaluate(node.args[1], scope), scope, weak=True)
        return NOTHING
    return _apply(reader, callees, arguments(reader, node, scope), node, scope)


def arguments(reader: Reader, node: ast.Call, scope: Scope) -> Arguments:
    """What the arguments of a call denote."""
    found = Arguments(certain=scope.certain)
    for one in node.args:
        if isinstance(one, ast.Starred):
            reader.evaluate(one.value, scope)
        else:
            found.positional.append(reader.evaluate(one, scope))
    for keyword in node.keywords:
        value = reader.evaluate(keyword.value, scope)
        if keyword.arg is None:
            found.spread |= value
        else:
            found.named[keyword.arg] = value
            found.explicit.add(keyword.arg)
    for atom in found.spread:
        if isinstance(atom, ConstantDict):
            found.named.update({name: value for name, value in atom.items if name not in found.named})
    return found


def _parent(scope: Scope) -> Value:
    around: Scope | None = scope
    while around is not None:
        selves = [atom for atom in around.names.get("self", NOTHING) if isinstance(atom, Instance)]
        if around.owner is not None and selves:
            return frozenset([Parent(around.owner, selves[0])])
        around = around.around
    return NOTHING


def _callees(reader: Reader, owner: Value, func: ast.Attribute, scope: Scope) -> Value:
    return reader.attribute(frozenset(a for a in owner if not isinstance(a, Conf)), func, scope)


def _getattr(reader: Reader, node: ast.Call, scope: Scope) -> Value:
    owner, keys = reader.evaluate(node.args[0], scope), literals(reader.evaluate(node.args[1], scope))
    default = node.args[2] if len(node.args) > 2 else None
    found = reader.evaluate(default, scope)
    for conf in confs(owner):
        for key in keys:
            found |= reader.read_key(conf, key, module=scope.module, node=node, default=default)
    return found


def _of_settings(reader: Reader, owner: Value, node: ast.Call, scope: Scope) -> Value | None:
    """A method of a section, a table or a dictionary; None where it is none of these."""
    assert isinstance(node.func, ast.Attribute)
    name = node.func.attr
    if not any(isinstance(atom, Conf | ComponentTable | Choices | ConstantDict) for atom in owner):
        return None
    if name in _READS and node.args:
        return _got(reader, owner, node, scope)
    if name == "update":
        found = arguments(reader, node, scope)
        reader.assign(node.func.value, owner | united(found.positional) | found.spread, scope, weak=True)
        return NOTHING
    if name in _SAME:
        return owner
    if name in _LISTS and confs(owner):
        if name == "values":
            reader.goes_on(owner, scope.module, node)
        return NOTHING
    arguments(reader, node, scope)
    return NOTHING


def _got(reader: Reader, owner: Value, node: ast.Call, scope: Scope) -> Value:
    wanted = reader.evaluate(node.args[0], scope)
    default = node.args[1] if len(node.args) > 1 else None
    fallback = reader.evaluate(default, scope)
    found: Value = NOTHING
    for atom in owner:
        match atom:
            case Conf():
                keys = literals(wanted)
                for key in keys:
                    one = reader.read_key(atom, key, module=scope.module, node=node, default=default)
                    found |= one
                    if not reader.kind_of(atom.below(key)):
                        found |= fallback
                if not keys:
                    reader.goes_on(frozenset([atom]), scope.module, node)
            case ComponentTable():
                found |= _component(reader, atom.name, wanted, node, scope)
            case Choices():
                found |= _chosen(reader, atom, wanted, node, scope)
            case ConstantDict():
                keys = literals(wanted)
                found |= united(item for name, item in atom.items if not keys or name in keys) | fallback
            case _:
                pass
    return found


def _names(reader: Reader, wanted: Value) -> list[tuple[str, str | None]]:
    """The path and the name of each component that may be looked up."""
    found: list[tuple[str, str | None]] = []
    for conf in confs(wanted):
        value = reader.value_of(conf.path)
        listed = value if isinstance(value, list) else str(value).split(",") if value is not None else [None]
        found += [(conf.path, None if name is None else str(name)) for name in listed]
    return found


def _component(reader: Reader, table: str, wanted: Value, node: ast.Call, scope: Scope) -> Value:
    names, fixed = _names(reader, wanted), literals(wanted)
    known = tuple(reader.source.known(table))
    found: list[Defined] = []
    for path, name in names:
        found += reader.source.components(table, name) if name is not None else []
        _note(reader, path, name, table, known, node, scope, fixed)
    for name in fixed:
        found += reader.source.components(table, name)
    return frozenset(found)


def _chosen(reader: Reader, choices: Choices, wanted: Value, node: ast.Call, scope: Scope) -> Value:
    members: dict[str, ast.expr] = {}
    if isinstance(choices.node, ast.Call):
        members = {one.arg: one.value for one in choices.node.keywords if one.arg}
    elif isinstance(choices.node, ast.Dict):
        members = {
            str(key.value): value
            for key, value in zip(choices.node.keys, choices.node.values, strict=True)
            if isinstance(key, ast.Constant)
        }
    inside = Scope(choices.module)
    names, fixed = _names(reader, wanted), literals(wanted)
    for path, name in names:
        _note(reader, path, name, choices.name, tuple(members), node, scope, fixed)
    asked = [name for _, name in names if name is not None] + fixed
    return united(reader.evaluate(members[name], inside) for name in asked if name in members)


def _note(
    reader: Reader,
    path: str,
    name: str | None,
    table: str,
    known: tuple[str, ...],
    node: ast.Call,
    scope: Scope,
    fixed: list[str],
) -> None:
    lookup = Lookup(
        path=path,
        name=name,
        table=table,
        known=known,
        found=name in known,
        where=reader.where(scope.module, node),
        default=fixed[0] if fixed else "",
    )
    if known and lookup not in reader.reading.lookups:
        reader.reading.lookups.append(lookup)


def _apply(reader: Reader, callees: Value, given: Arguments, node: ast.Call, scope: Scope) -> Value:
    """What the callees return, and what they do with the settings they get."""
    found: Value = NOTHING
    followed = 0
    signatures: list[Fixed | None] = []
    for atom in sorted(callees, key=repr):
        match atom:
            case Defined(node=ast.ClassDef()):
                found |= _construct(reader, atom, given, node, scope, signatures)
            case Defined():
                found |= _enter(reader, atom, given, NOTHING, None, signatures)
            case BoundMethod(function, owner) if not NOT_IN_TRAINING.match(function.node.name):
                defined = _definer(reader, owner, function)
                found |= _enter(reader, function, given, frozenset([owner]), defined, signatures)
            case BoundMethod():
                pass
            case External():
                found |= libraries.apply(reader, atom.name, given, node, scope, signatures)
            case _:
                continue
        followed += 1
    if not followed:
        reader.goes_on(given.everything, scope.module, node)
    _note_fixed(reader, signatures, given, node, scope)
    return found


def _definer(reader: Reader, owner: Instance, function: Defined) -> Defined | None:
    for one in (owner.of, *reader.source.bases(owner.of)):
        if function.node in one.node.body:
            return one
    return None


def _construct(
    reader: Reader,
    of: Defined,
    given: Arguments,
    node: ast.Call,
    scope: Scope,
    signatures: list[Fixed | None],
) -> Value:
    made = frozenset([Instance(of)])
    constructor = reader.source.method(of, "__init__")
    if constructor is None:
        if reader.source.is_derived_from_other_libraries(of):
            reader.goes_on(given.everything, scope.module, node)
        signatures.append(None)
        return made
    owner = _definer(reader, Instance(of), constructor)
    _enter(reader, constructor, given, made, owner, signatures)
    key = (of.module, of.name)
    if key not in reader.scanned and reader.keeps_settings(of):
        reader.scanned.add(key)
        for method, defined in reader.source.methods(of):
            assert isinstance(method.node, ast.FunctionDef)
            if method.node.name != "__init__" and not NOT_IN_TRAINING.match(method.node.name):
                first = method.node.args.args[:1]
                bound = {one.arg: made for one in first if one.arg == "self"}
                reader.run(method, bound, owner=defined, certain=False)
    return made


def _enter(
    reader: Reader,
    function: Defined,
    given: Arguments,
    first: Value,
    owner: Defined | None,
    signatures: list[Fixed | None],
) -> Value:
    """Bind the arguments to the parameters, note the keys that these read, and read the function."""
    assert isinstance(function.node, ast.FunctionDef)
    spec = function.node.args
    parameters = [*spec.posonlyargs, *spec.args]
    bound: dict[str, Value] = {}
    static = any(ast.unparse(one) == "staticmethod" for one in function.node.decorator_list)
    positional = list(given.positional)
    if first and parameters and not static:
        bound[parameters[0].arg] = first
        parameters = parameters[1:]
    for one, value in zip(parameters, positional, strict=False):
        bound[one.arg] = value
    free = [*parameters[len(positional) :], *spec.kwonlyargs]
    defaults = dict(zip([one.arg for one in [*spec.posonlyargs, *spec.args]][::-1], spec.defaults[::-1], strict=False))
    defaults |= {one.arg: d for one, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if d is not None}
    for one in free:
        bound[one.arg] = _parameter(reader, function, one, given, defaults.get(one.arg))
    rest = {name: value for name, value in given.named.items() if name not in bound}
    if spec.kwarg:
        spread = frozenset(atom for atom in given.spread if not isinstance(atom, ConstantDict))
        items = tuple(sorted(((name, value) for name, value in rest.items() if value), key=itemgetter(0)))
        bound[spec.kwarg.arg] = spread | (frozenset([ConstantDict(items)]) if items else NOTHING)
    taken = tuple(one.arg for one in free)
    place = reader.where(function.module, function.node)
    signatures.append(None if spec.kwarg else Fixed(callee=function.name, takes=taken, where=place))
    if function.scope is None and not reader.matters(united(bound.values())):
        return NOTHING
    return reader.run(function, bound, owner=owner, certain=given.certain)


def _parameter(reader: Reader, function: Defined, one: ast.arg, given: Arguments, default: ast.expr | None) -> Value:
    if one.arg in given.named:
        return given.named[one.arg]
    found: Value = NOTHING
    missing = True
    for conf in confs(given.spread):
        annotation = ast.unparse(one.annotation) if one.annotation else ""
        found |= reader.read_key(
            conf, one.arg, module=function.module, node=one, default=default, annotation=annotation
        )
        missing = missing and not reader.kind_of(conf.below(one.arg))
    if missing and isinstance(default, ast.Constant) and isinstance(default.value, str):
        found |= frozenset([Literal(default.value)])
    return found


def _note_fixed(reader: Reader, signatures: list[Fixed | None], given: Arguments, node: ast.Call, scope: Scope) -> None:
    """Note sections whose further keys are a TypeError: where every candidate takes fixed parameters."""
    sections = confs(given.spread)
    if not given.certain or not sections:
        return
    where = reader.where(scope.module, node)
    for conf in sections:
        taken = reader.reading.given.setdefault(conf.path, {})
        taken.update({name: where for name in given.explicit if name not in conf.without})
    if len(sections) > 1:
        # The same section at the top level and in model_conf: the one that is set counts.
        sections = [conf for conf in sections if reader.kind_of(conf.path)]
    if len(sections) != 1 or not sections[0].path or not signatures:
        return
    closed = [one for one in signatures if one is not None]
    if len(closed) == len(signatures):
        takes = sorted({name for one in closed for name in one.takes} | sections[0].without)
        one = Fixed(callee=closed[0].callee, takes=tuple(takes), where=closed[0].where)
        noted = reader.reading.fixed.setdefault(sections[0].path, [])
        if one not in noted:
            noted.append(one)
