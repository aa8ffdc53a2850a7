"""Causes that an exception names itself: an attribute, a parameter, a name that is not there."""

from __future__ import annotations

import ast
import re

from harness.compare.diagnose.api import Of
from harness.compare.diagnose.causes.cause import Cause
from harness.compare.diagnose.evidence import ComparedSide, Evidence

_ATTRIBUTE = re.compile(r"'(?P<class>\w+)' object has no attribute '(?P<name>\w+)'")
_UNEXPECTED = re.compile(r"(?P<callee>[\w.]+)\(\) got an unexpected keyword argument '(?P<name>\w+)'")
_MISSING = re.compile(
    r"(?P<callee>[\w.]+)\(\) missing \d+ required (?:positional|keyword-only) arguments?: (?P<names>.+)"
)
_NAME = re.compile(r"cannot import name '(?P<name>\w+)' from '(?P<module>funasr[\w.]*)'")
_MODULE = re.compile(r"No module named '(?P<module>funasr[\w.]*)'")
_UNDEFINED = re.compile(r"name '(?P<name>\w+)' is not defined")


def attribute_that_nothing_sets(evidence: Evidence) -> Cause | None:
    """An attribute is read that no class of the object sets; the passing release sets it, or does not ask."""
    match, where = _match_of_exception(evidence, "AttributeError", _ATTRIBUTE), evidence.mine.innermost
    if match is None or where is None:
        return None
    name, owner = match["name"], match["class"]
    files = _files_of(evidence.mine, owner) or (where[0],)
    if any(_sets(evidence.mine, file, name) for file in files):
        return None
    file, function, line = where
    reads = f"`{function}` ({file}:{line}) reads `{name}`, which nothing in {_told_files(files)} sets"
    other = evidence.other
    setting = next((place for candidate in files if (place := _sets(other, candidate, name))), None)
    if setting:
        return Cause(rule="attribute", sentence=f"{reads}; {other.label} sets it in {setting}.")
    counterpart = other.source.function(file, function)
    if counterpart is not None and not _reads(counterpart, name):
        return Cause(rule="attribute", sentence=f"{reads}; {other.label} does not read it there.")
    return None


def _match_of_exception(evidence: Evidence, kind: str, pattern: re.Pattern[str]) -> re.Match[str] | None:
    failure = evidence.failure
    return pattern.search(failure.message) if failure is not None and failure.type == kind else None


def _files_of(side: ComparedSide, class_name: str) -> tuple[str, ...]:
    """The files of a class and of those that it inherits from, the release's only."""
    for module in side.trace.modules if side.trace else ():
        if module.class_name == class_name:
            return tuple(dict.fromkeys(f"{ancestor['module'].replace('.', '/')}.py" for ancestor in module.ancestors))
    return ()


def _told_files(files: tuple[str, ...]) -> str:
    return " or ".join(files)


def _sets(side: ComparedSide, file: str, name: str) -> str:
    """File and line where `self.name` is set, or `name` stands in a class; empty where it is not."""
    tree = side.source.tree(file)
    if tree is None:
        return ""
    for node in ast.walk(tree):
        stored = isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.ctx, ast.Store)
        defined = isinstance(node, ast.FunctionDef) and node.name == name
        if stored or defined:
            return f"{file}:{node.lineno}"  # type: ignore[attr-defined]
    return ""


def _reads(function: ast.AST, name: str) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == name for node in ast.walk(function))


def call_that_does_not_fit(evidence: Evidence) -> Cause | None:
    """A call gives what the function does not take, or leaves out what it needs, and in the passing release it fits."""
    where = evidence.mine.innermost
    unexpected, missing = (
        _match_of_exception(evidence, "TypeError", _UNEXPECTED),
        _match_of_exception(evidence, "TypeError", _MISSING),
    )
    match = unexpected or missing
    if match is None or where is None:
        return None
    file, function, line = where
    callee = match["callee"]
    names = [match["name"]] if unexpected else re.findall(r"'(\w+)'", match["names"])
    kinds = (Of.PARAMETER_REMOVED, Of.PARAMETER_RENAMED) if unexpected else (Of.PARAMETER_ADDED, Of.PARAMETER_RENAMED)
    for change in evidence.api:
        same = callee.endswith(change.function) or change.function.endswith(callee)
        if change.of not in kinds or not change.function or not same:
            continue
        if (change.was if unexpected and change.was else change.name) in names:
            deed = f"gives it `{names[0]}`" if unexpected else f"gives it no `{', '.join(names)}`"
            sentence = (
                f"`{function}` ({file}:{line}) calls `{callee}` and {deed}; since {evidence.other.label}"
                f" its {change.text} ({change.file}:{change.line})."
            )
            return Cause(rule="call_that_does_not_fit", sentence=_direction(sentence, evidence))
    return None


def _direction(sentence: str, evidence: Evidence) -> str:
    return sentence.replace(f"since {evidence.other.label} its", f"compared with {evidence.other.label} its")


def name_that_is_gone(evidence: Evidence) -> Cause | None:
    """A name is imported or used that the release does not have, and the passing one has."""
    match = _match_of_exception(evidence, "ImportError", _NAME)
    if match is not None:
        return _missing(evidence, match["module"], match["name"])
    match = _match_of_exception(evidence, "ModuleNotFoundError", _MODULE)
    if match is not None:
        return _missing(evidence, match["module"], "")
    match, where = _match_of_exception(evidence, "NameError", _UNDEFINED), evidence.mine.innermost
    if match is None or where is None or _defines(evidence.mine, where[0], match["name"]):
        return None
    definition_line = _defines(evidence.other, where[0], match["name"])
    if not definition_line:
        return None
    sentence = (
        f"`{where[1]}` ({where[0]}:{where[2]}) uses `{match['name']}`, which nothing in that file defines or imports;"
        f" {evidence.other.label} does so in line {definition_line}."
    )
    return Cause(rule="name", sentence=sentence)


def _missing(evidence: Evidence, module: str, name: str) -> Cause | None:
    file = _file_of(evidence.mine, module)
    theirs = _file_of(evidence.other, module)
    where = evidence.mine.innermost
    where_required = f"`{where[0]}:{where[2]}` asks for it" if where else "it is required"
    if not name:
        if file or not theirs:
            return None
        return Cause(
            rule="name",
            sentence=f"The release has no module `{module}`, and {where_required}; {evidence.other.label} has it in "
            f"{theirs}.",
        )
    if not file or _defines(evidence.mine, file, name):
        return None
    if theirs and (line := _defines(evidence.other, theirs, name)):
        sentence = (
            f"`{module}` has no `{name}`, and {where_required}; {evidence.other.label} has it in {theirs}:{line}."
        )
        return Cause(rule="name", sentence=sentence)
    if where is not None and where[0] in evidence.files and not _imports(evidence.other, where[0], name):
        sentence = f"`{module}` has no `{name}`, and {where_required}; {evidence.other.label} does not."
        return Cause(rule="name", sentence=sentence)
    return None


def _file_of(side: ComparedSide, module: str) -> str:
    path = module.replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if side.source.has(file)), "")


def _defines(side: ComparedSide, file: str, name: str) -> int:
    """The line of a file in which a name is defined, assigned or imported at its top; 0 where it is not."""
    tree = side.source.tree(file)
    for node in ast.walk(tree) if tree else ():
        match node:
            case ast.FunctionDef(name=defined) | ast.ClassDef(name=defined) if defined == name:
                return node.lineno
            case ast.Name(id=defined, ctx=ast.Store()) if defined == name:
                return node.lineno
            case ast.alias(name=imported, asname=alias) if name in (imported, alias):
                return node.lineno
    return 0


def _imports(side: ComparedSide, file: str, name: str) -> bool:
    tree = side.source.tree(file)
    return any(
        isinstance(node, ast.alias) and name in (node.name, node.asname) for node in (ast.walk(tree) if tree else ())
    )
