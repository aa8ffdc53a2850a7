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
    call_arguments = Arguments(certain=scope.certain)
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            reader.evaluate(argument.value, scope)
        else:
            call_arguments.positional.append(reader.evaluate(argument, scope))
    for keyword in node.keywords:
        value = reader.evaluate(keyword.value, scope)
        if keyword.arg is None:
            call_arguments.spread |= value
        else:
            call_arguments.named[keyword.arg] = value
            call_arguments.explicit.add(keyword.arg)
    for atom in call_arguments.spread:
        if isinstance(atom, ConstantDict):
            call_arguments.named.update({name: value for name, value in atom.items if name not in call_arguments.named})
    return call_arguments


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
    value = reader.evaluate(default, scope)
    for conf in confs(owner):
        for key in keys:
            value |= reader.read_key(conf, key, module=scope.module, node=node, default=default)
    return value


def _of_settings(reader: Reader, owner: Value, node: ast.Call, scope: Scope) -> Value | None:
    """A method of a section, a table or a dictionary; None where it is none of these."""
    assert isinstance(node.func, ast.Attribute)
    name = node.func.attr
    if not any(isinstance(atom, Conf | ComponentTable | Choices | ConstantDict) for atom in owner):
        return None
    if name in _READS and node.args:
        return _got(reader, owner, node, scope)
    if name == "update":
        update = arguments(reader, node, scope)
        reader.assign(node.func.value, owner | united(update.positional) | update.spread, scope, weak=True)
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
    key_value = reader.evaluate(node.args[0], scope)
    default = node.args[1] if len(node.args) > 1 else None
    fallback = reader.evaluate(default, scope)
    value: Value = NOTHING
    for atom in owner:
        match atom:
            case Conf():
                keys = literals(key_value)
                for key in keys:
                    read_value = reader.read_key(atom, key, module=scope.module, node=node, default=default)
                    value |= read_value
                    if not reader.kind_of(atom.below(key)):
                        value |= fallback
                if not keys:
                    reader.goes_on(frozenset([atom]), scope.module, node)
            case ComponentTable():
                value |= _component(reader, atom.name, key_value, node, scope)
            case Choices():
                value |= _chosen(reader, atom, key_value, node, scope)
            case ConstantDict():
                keys = literals(key_value)
                value |= united(item for name, item in atom.items if not keys or name in keys) | fallback
            case _:
                pass
    return value


def _names(reader: Reader, key_value: Value) -> list[tuple[str, str | None]]:
    """The path and the name of each component that may be looked up."""
    components: list[tuple[str, str | None]] = []
    for conf in confs(key_value):
        value = reader.value_of(conf.path)
        listed = value if isinstance(value, list) else str(value).split(",") if value is not None else [None]
        components += [(conf.path, None if name is None else str(name)) for name in listed]
    return components


def _component(reader: Reader, table: str, key_value: Value, node: ast.Call, scope: Scope) -> Value:
    names, fixed = _names(reader, key_value), literals(key_value)
    known = tuple(reader.source.known(table))
    definitions: list[Defined] = []
    for path, name in names:
        definitions += reader.source.components(table, name) if name is not None else []
        _note(reader, path, name, table, known, node, scope, fixed)
    for name in fixed:
        definitions += reader.source.components(table, name)
    return frozenset(definitions)


def _chosen(reader: Reader, choices: Choices, key_value: Value, node: ast.Call, scope: Scope) -> Value:
    members: dict[str, ast.expr] = {}
    if isinstance(choices.node, ast.Call):
        members = {keyword.arg: keyword.value for keyword in choices.node.keywords if keyword.arg}
    elif isinstance(choices.node, ast.Dict):
        members = {
            str(key.value): value
            for key, value in zip(choices.node.keys, choices.node.values, strict=True)
            if isinstance(key, ast.Constant)
        }
    inside = Scope(choices.module)
    names, fixed = _names(reader, key_value), literals(key_value)
    for path, name in names:
        _note(reader, path, name, choices.name, tuple(members), node, scope, fixed)
    names_wanted = [name for _, name in names if name is not None] + fixed
    return united(reader.evaluate(members[name], inside) for name in names_wanted if name in members)


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


def _apply(reader: Reader, callees: Value, call_arguments: Arguments, node: ast.Call, scope: Scope) -> Value:
    """What the callees return, and what they do with the settings they get."""
    returned: Value = NOTHING
    followed = 0
    signatures: list[Fixed | None] = []
    for atom in sorted(callees, key=repr):
        match atom:
            case Defined(node=ast.ClassDef()):
                returned |= _construct(reader, atom, call_arguments, node, scope, signatures)
            case Defined():
                returned |= _enter(reader, atom, call_arguments, NOTHING, None, signatures)
            case BoundMethod(function, owner) if not NOT_IN_TRAINING.match(function.node.name):
                defined = _definer(reader, owner, function)
                returned |= _enter(reader, function, call_arguments, frozenset([owner]), defined, signatures)
            case BoundMethod():
                pass
            case External():
                returned |= libraries.apply(reader, atom.name, call_arguments, node, scope, signatures)
            case _:
                continue
        followed += 1
    if not followed:
        reader.goes_on(call_arguments.everything, scope.module, node)
    _note_fixed(reader, signatures, call_arguments, node, scope)
    return returned


def _definer(reader: Reader, owner: Instance, function: Defined) -> Defined | None:
    for class_defined in (owner.of, *reader.source.bases(owner.of)):
        if function.node in class_defined.node.body:
            return class_defined
    return None


def _construct(
    reader: Reader,
    class_defined: Defined,
    call_arguments: Arguments,
    node: ast.Call,
    scope: Scope,
    signatures: list[Fixed | None],
) -> Value:
    instance = frozenset([Instance(class_defined)])
    constructor = reader.source.method(class_defined, "__init__")
    if constructor is None:
        if reader.source.is_derived_from_other_libraries(class_defined):
            reader.goes_on(call_arguments.everything, scope.module, node)
        signatures.append(None)
        return instance
    owner = _definer(reader, Instance(class_defined), constructor)
    _enter(reader, constructor, call_arguments, instance, owner, signatures)
    key = (class_defined.module, class_defined.name)
    if key not in reader.scanned and reader.keeps_settings(class_defined):
        reader.scanned.add(key)
        for method, defined in reader.source.methods(class_defined):
            assert isinstance(method.node, ast.FunctionDef)
            if method.node.name != "__init__" and not NOT_IN_TRAINING.match(method.node.name):
                first = method.node.args.args[:1]
                bound = {parameter.arg: instance for parameter in first if parameter.arg == "self"}
                reader.run(method, bound, owner=defined, certain=False)
    return instance


def _enter(
    reader: Reader,
    function: Defined,
    call_arguments: Arguments,
    first: Value,
    owner: Defined | None,
    signatures: list[Fixed | None],
) -> Value:
    """Bind the arguments to the parameters, note the keys that these read, and read the function."""
    assert isinstance(function.node, ast.FunctionDef)
    spec = function.node.args
    parameters = [*spec.posonlyargs, *spec.args]
    bound: dict[str, Value] = {}
    static = any(ast.unparse(decorator) == "staticmethod" for decorator in function.node.decorator_list)
    positional = list(call_arguments.positional)
    if first and parameters and not static:
        bound[parameters[0].arg] = first
        parameters = parameters[1:]
    for parameter, value in zip(parameters, positional, strict=False):
        bound[parameter.arg] = value
    free = [*parameters[len(positional) :], *spec.kwonlyargs]
    defaults = dict(
        zip([parameter.arg for parameter in [*spec.posonlyargs, *spec.args]][::-1], spec.defaults[::-1], strict=False)
    )
    defaults |= {
        parameter.arg: d for parameter, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if d is not None
    }
    for parameter in free:
        bound[parameter.arg] = _parameter(reader, function, parameter, call_arguments, defaults.get(parameter.arg))
    further = {name: value for name, value in call_arguments.named.items() if name not in bound}
    if spec.kwarg:
        spread = frozenset(atom for atom in call_arguments.spread if not isinstance(atom, ConstantDict))
        items = tuple(sorted(((name, value) for name, value in further.items() if value), key=itemgetter(0)))
        bound[spec.kwarg.arg] = spread | (frozenset([ConstantDict(items)]) if items else NOTHING)
    parameter_names = tuple(parameter.arg for parameter in free)
    place = reader.where(function.module, function.node)
    signatures.append(None if spec.kwarg else Fixed(callee=function.name, takes=parameter_names, where=place))
    if function.scope is None and not reader.matters(united(bound.values())):
        return NOTHING
    return reader.run(function, bound, owner=owner, certain=call_arguments.certain)


def _parameter(
    reader: Reader, function: Defined, parameter: ast.arg, call_arguments: Arguments, default: ast.expr | None
) -> Value:
    if parameter.arg in call_arguments.named:
        return call_arguments.named[parameter.arg]
    value: Value = NOTHING
    missing = True
    for conf in confs(call_arguments.spread):
        annotation = ast.unparse(parameter.annotation) if parameter.annotation else ""
        value |= reader.read_key(
            conf, parameter.arg, module=function.module, node=parameter, default=default, annotation=annotation
        )
        missing = missing and not reader.kind_of(conf.below(parameter.arg))
    if missing and isinstance(default, ast.Constant) and isinstance(default.value, str):
        value |= frozenset([Literal(default.value)])
    return value


def _note_fixed(
    reader: Reader, signatures: list[Fixed | None], call_arguments: Arguments, node: ast.Call, scope: Scope
) -> None:
    """Note sections whose further keys are a TypeError: where every candidate takes fixed parameters."""
    sections = confs(call_arguments.spread)
    if not call_arguments.certain or not sections:
        return
    where = reader.where(scope.module, node)
    for conf in sections:
        explicitly_given = reader.reading.given.setdefault(conf.path, {})
        explicitly_given.update({name: where for name in call_arguments.explicit if name not in conf.without})
    if len(sections) > 1:
        # The same section at the top level and in model_conf: the one that is set counts.
        sections = [conf for conf in sections if reader.kind_of(conf.path)]
    if len(sections) != 1 or not sections[0].path or not signatures:
        return
    closed = [signature for signature in signatures if signature is not None]
    if len(closed) == len(signatures):
        takes = sorted({name for signature in closed for name in signature.takes} | sections[0].without)
        fixed = Fixed(callee=closed[0].callee, takes=tuple(takes), where=closed[0].where)
        noted = reader.reading.fixed.setdefault(sections[0].path, [])
        if fixed not in noted:
            noted.append(fixed)
