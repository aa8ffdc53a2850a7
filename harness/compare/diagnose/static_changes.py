"""Static differences of two releases in the code that a cell ran: keys, results, registries, YAML, signatures."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import yaml

from harness.compare.diagnose.api import ApiChange, Of, object_changes, parameter_changes
from harness.compare.diagnose.changes import FunctionChange
from harness.compare.diagnose.source import Definition, ReleaseSource
from harness.worker.release.importer import registrations


@dataclass(frozen=True, kw_only=True)
class KeyRead:
    """A key that a function reads from a mapping by its name."""

    mapping: str
    """The expression that it is read from, such as `kwargs`."""
    key: str
    default: str | None
    """The expression that takes its place; None where there is none."""
    line: int


def key_reads(function: Definition) -> tuple[KeyRead, ...]:
    """The keys that a function reads with `m["k"]`, `m.get("k", …)`, `m.pop("k", …)`, in the order of its lines."""
    found = [read for node in ast.walk(function) if (read := _read(node)) is not None]
    return tuple(sorted(found, key=lambda read: read.line))


def _read(node: ast.AST) -> KeyRead | None:
    match node:
        case ast.Call(
            func=ast.Attribute(value=mapping, attr="get" | "pop"), args=[ast.Constant(value=str(key)), *rest]
        ):
            default = ast.unparse(rest[0]) if rest else "None" if node.func.attr == "get" else None  # type: ignore[attr-defined]
            return KeyRead(mapping=ast.unparse(mapping), key=key, default=default, line=node.lineno)
        case ast.Subscript(value=mapping, slice=ast.Constant(value=str(key)), ctx=ast.Load()):
            return KeyRead(mapping=ast.unparse(mapping), key=key, default=None, line=node.lineno)
    return None


def key_changes(file: str, function: str, mine: ReleaseSource, theirs: ReleaseSource) -> Iterator[ApiChange]:
    """Keys that one function reads in one release and not in the other, or with another default.

    In files of `funasr/datasets` these are the fields of a jsonl row among others.
    """
    one, other = mine.function(file, function), theirs.function(file, function)
    if one is None or other is None:
        return
    here = {(read.mapping, read.key): read for read in key_reads(one)}
    there = {(read.mapping, read.key): read for read in key_reads(other)}
    gone = [key for key in there if key not in here]
    new = [key for key in here if key not in there]
    renamed = {}
    for mapping, key in gone:
        same = [name for where, name in new if where == mapping]
        if len(same) == 1 and sum(where == mapping for where, _ in gone) == 1:
            renamed[mapping, key] = (mapping, same[0])

    def change(of: Of, read: KeyRead, text: str, was: str = "", now: str = "") -> ApiChange:
        line = read.line if (read.mapping, read.key) in here else None
        return ApiChange(of=of, file=file, function=function, name=read.key, text=text, line=line, was=was, now=now)

    for old, fresh in renamed.items():
        text = f'`{fresh[0]}["{fresh[1]}"]` is read, was `["{old[1]}"]`'
        yield change(Of.KEY_RENAMED, here[fresh], text, old[1], fresh[1])
    for lost in gone:
        if lost not in renamed:
            yield change(Of.KEY_REMOVED, there[lost], f'`{lost[0]}["{lost[1]}"]` is not read, was')
    for fresh in new:
        if fresh not in renamed.values():
            default = f", without it {here[fresh].default}" if here[fresh].default else ""
            yield change(Of.KEY_ADDED, here[fresh], f'`{fresh[0]}["{fresh[1]}"]` is read{default}')
    for kept in here.keys() & there.keys():
        was, now = there[kept].default, here[kept].default
        if was != now:
            text = f'without `{kept[0]}["{kept[1]}"]` it is {now}, was {was}'
            yield change(Of.KEY_DEFAULT, here[kept], text, str(was), str(now))


def return_changes(file: str, function: str, mine: ReleaseSource, theirs: ReleaseSource) -> Iterator[ApiChange]:
    """Another number of results: the lengths of the tuples that a function returns."""
    one, other = mine.function(file, function), theirs.function(file, function)
    if one is None or other is None:
        return
    now, was = _lengths(one), _lengths(other)
    if now != was:
        text = f"returns {_told(now)}, was {_told(was)}"
        yield ApiChange(
            of=Of.RETURN_LENGTH,
            file=file,
            function=function,
            name=function,
            text=text,
            line=one.lineno,
            was=_told(was),
            now=_told(now),
        )


def _lengths(function: Definition) -> frozenset[int]:
    found = set()
    for node in _own(function):
        if isinstance(node, ast.Return) and node.value is not None:
            found.add(len(node.value.elts) if isinstance(node.value, ast.Tuple) else 1)
    return frozenset(found)


def _own(function: Definition) -> Iterator[ast.AST]:
    """What belongs to a function and not to one within it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def _told(lengths: Iterable[int]) -> str:
    return " or ".join(map(str, sorted(lengths))) + (" values" if lengths else "nothing")


def registry_changes(mine: ReleaseSource, theirs: ReleaseSource, files: Iterable[str]) -> Iterator[ApiChange]:
    """Components that the executed files register, and where else one of the releases registers them, or not at all."""
    here, there = registrations(str(mine.install_dir)), registrations(str(theirs.install_dir))
    modules = {file.removesuffix(".py").replace("/", ".") for file in files}
    for key in sorted(here.keys() | there.keys()):
        ours, others = here.get(key, ()), there.get(key, ())
        if ours == others or not {*ours, *others} & modules:
            continue
        of = Of.UNREGISTERED if not ours else Of.REGISTERED if not others else Of.REGISTERED_ELSEWHERE
        now, was = " and ".join(ours), " and ".join(others)
        name = f"{key[0]}.{key[1]}"
        text = f"`{name}` is registered in {now or 'no module'}, was in {was or 'no module'}"
        file = f"{(*ours, *others)[0].replace('.', '/')}.py"
        yield ApiChange(of=of, file=file, function="", name=name, text=text, was=was, now=now)


def yaml_changes(mine: ReleaseSource, theirs: ReleaseSource, files: Iterable[str]) -> Iterator[ApiChange]:
    """Keys of the YAML files that lie beside the executed files; most releases ship none."""
    folders = sorted({str(Path(file).parent) for file in files})
    for folder in folders:
        names = {path.name for source in (mine, theirs) for path in (source.install_dir / folder).glob("*.yaml")}
        for name in sorted(names):
            file = f"{folder}/{name}"
            here, there = _keys_of(mine.install_dir / file), _keys_of(theirs.install_dir / file)
            for key in sorted(there - here):
                yield ApiChange(
                    of=Of.YAML_KEY_REMOVED, file=file, function="", name=key, text=f"key `{key}` is missing"
                )
            for key in sorted(here - there):
                yield ApiChange(
                    of=Of.YAML_KEY_ADDED, file=file, function="", name=key, text=f"key `{key}` is there, was not"
                )


def _keys_of(path: Path) -> set[str]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError):
        return set()
    return set(_keys(content, ""))


def _keys(content: object, prefix: str) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield f"{prefix}{key}"
            yield from _keys(value, f"{prefix}{key}.")


def api_changes(
    changed: Sequence[FunctionChange], files: Sequence[str], mine: ReleaseSource, theirs: ReleaseSource
) -> tuple[ApiChange, ...]:
    """What changed in parameters, defaults, keys, results, objects and registries.

    Args:
        changed: The functions that ran and differ; in all others nothing of the sort can have changed.
        files: The files of which something ran.
    """
    touched = sorted({each.file for each in changed})
    return tuple(
        chain(
            _of_functions(changed, mine, theirs),
            chain.from_iterable(object_changes(file, mine, theirs) for file in touched),
            registry_changes(mine, theirs, files),
            yaml_changes(mine, theirs, files),
        )
    )


def _of_functions(changed: Sequence[FunctionChange], mine: ReleaseSource, theirs: ReleaseSource) -> Iterator[ApiChange]:
    for each in changed:
        if each.is_whole:
            continue
        for compare in (parameter_changes, key_changes, return_changes):
            yield from compare(each.file, each.function, mine, theirs)
