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
    reads = [read for node in ast.walk(function) if (read := _read(node)) is not None]
    return tuple(sorted(reads, key=lambda read: read.line))


def _read(node: ast.AST) -> KeyRead | None:
    match node:
        case ast.Call(
            func=ast.Attribute(value=mapping, attr="get" | "pop" as method),
            args=[ast.Constant(value=str(key)), *defaults],
        ):
            default = ast.unparse(defaults[0]) if defaults else "None" if method == "get" else None
            return KeyRead(mapping=ast.unparse(mapping), key=key, default=default, line=node.lineno)
        case ast.Subscript(value=mapping, slice=ast.Constant(value=str(key)), ctx=ast.Load()):
            return KeyRead(mapping=ast.unparse(mapping), key=key, default=None, line=node.lineno)
    return None


def key_changes(file: str, function: str, mine: ReleaseSource, theirs: ReleaseSource) -> Iterator[ApiChange]:
    """Keys that one function reads in one release and not in the other, or with another default.

    In files of `funasr/datasets` these are the fields of a jsonl row among others.
    """
    my_function, their_function = mine.function(file, function), theirs.function(file, function)
    if my_function is None or their_function is None:
        return
    my_reads = {(read.mapping, read.key): read for read in key_reads(my_function)}
    their_reads = {(read.mapping, read.key): read for read in key_reads(their_function)}
    removed = [key for key in their_reads if key not in my_reads]
    new = [key for key in my_reads if key not in their_reads]
    renamed = {}
    for mapping, key in removed:
        same = [name for where, name in new if where == mapping]
        if len(same) == 1 and sum(where == mapping for where, _ in removed) == 1:
            renamed[mapping, key] = (mapping, same[0])

    def change(kind_of_change: Of, read: KeyRead, text: str, before_value: str = "", now_value: str = "") -> ApiChange:
        line = read.line if (read.mapping, read.key) in my_reads else None
        return ApiChange(
            of=kind_of_change,
            file=file,
            function=function,
            name=read.key,
            text=text,
            line=line,
            was=before_value,
            now=now_value,
        )

    for old, fresh in renamed.items():
        text = f'`{fresh[0]}["{fresh[1]}"]` is read, was `["{old[1]}"]`'
        yield change(Of.KEY_RENAMED, my_reads[fresh], text, old[1], fresh[1])
    for lost in removed:
        if lost not in renamed:
            yield change(Of.KEY_REMOVED, their_reads[lost], f'`{lost[0]}["{lost[1]}"]` is not read, was')
    for fresh in new:
        if fresh not in renamed.values():
            default = f", without it {my_reads[fresh].default}" if my_reads[fresh].default else ""
            yield change(Of.KEY_ADDED, my_reads[fresh], f'`{fresh[0]}["{fresh[1]}"]` is read{default}')
    for shared_key in my_reads.keys() & their_reads.keys():
        their_default, my_default = their_reads[shared_key].default, my_reads[shared_key].default
        if their_default != my_default:
            text = f'without `{shared_key[0]}["{shared_key[1]}"]` it is {my_default}, was {their_default}'
            yield change(Of.KEY_DEFAULT, my_reads[shared_key], text, str(their_default), str(my_default))


def return_changes(file: str, function: str, mine: ReleaseSource, theirs: ReleaseSource) -> Iterator[ApiChange]:
    """Another number of results: the lengths of the tuples that a function returns."""
    my_function, their_function = mine.function(file, function), theirs.function(file, function)
    if my_function is None or their_function is None:
        return
    my_lengths, their_lengths = _lengths(my_function), _lengths(their_function)
    if my_lengths != their_lengths:
        text = f"returns {_lengths_in_words(my_lengths)}, was {_lengths_in_words(their_lengths)}"
        yield ApiChange(
            of=Of.RETURN_LENGTH,
            file=file,
            function=function,
            name=function,
            text=text,
            line=my_function.lineno,
            was=_lengths_in_words(their_lengths),
            now=_lengths_in_words(my_lengths),
        )


def _lengths(function: Definition) -> frozenset[int]:
    lengths = set()
    for node in _nodes_of_function(function):
        if isinstance(node, ast.Return) and node.value is not None:
            lengths.add(len(node.value.elts) if isinstance(node.value, ast.Tuple) else 1)
    return frozenset(lengths)


def _nodes_of_function(function: Definition) -> Iterator[ast.AST]:
    """What belongs to a function and not to one within it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def _lengths_in_words(lengths: Iterable[int]) -> str:
    return " or ".join(map(str, sorted(lengths))) + (" values" if lengths else "nothing")


def registry_changes(mine: ReleaseSource, theirs: ReleaseSource, files: Iterable[str]) -> Iterator[ApiChange]:
    """Components that the executed files register, and where else one of the releases registers them, or not at all."""
    my_modules, their_modules = registrations(str(mine.install_dir)), registrations(str(theirs.install_dir))
    modules = {file.removesuffix(".py").replace("/", ".") for file in files}
    for key in sorted(my_modules.keys() | their_modules.keys()):
        mine_here, theirs_here = my_modules.get(key, ()), their_modules.get(key, ())
        if mine_here == theirs_here or not {*mine_here, *theirs_here} & modules:
            continue
        kind_of_change = (
            Of.UNREGISTERED if not mine_here else Of.REGISTERED if not theirs_here else Of.REGISTERED_ELSEWHERE
        )
        my_text, their_text = " and ".join(mine_here), " and ".join(theirs_here)
        name = f"{key[0]}.{key[1]}"
        text = f"`{name}` is registered in {my_text or 'no module'}, was in {their_text or 'no module'}"
        file = f"{(*mine_here, *theirs_here)[0].replace('.', '/')}.py"
        yield ApiChange(of=kind_of_change, file=file, function="", name=name, text=text, was=their_text, now=my_text)


def yaml_changes(mine: ReleaseSource, theirs: ReleaseSource, files: Iterable[str]) -> Iterator[ApiChange]:
    """Keys of the YAML files in the folders of the executed files; most releases ship none."""
    folders = sorted({str(Path(file).parent) for file in files})
    for folder in folders:
        names = {path.name for source in (mine, theirs) for path in (source.install_dir / folder).glob("*.yaml")}
        for name in sorted(names):
            file = f"{folder}/{name}"
            my_keys, their_keys = _keys_of(mine.install_dir / file), _keys_of(theirs.install_dir / file)
            for key in sorted(their_keys - my_keys):
                yield ApiChange(
                    of=Of.YAML_KEY_REMOVED, file=file, function="", name=key, text=f"key `{key}` is missing"
                )
            for key in sorted(my_keys - their_keys):
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
    touched = sorted({change.file for change in changed})
    return tuple(
        chain(
            _of_functions(changed, mine, theirs),
            chain.from_iterable(object_changes(file, mine, theirs) for file in touched),
            registry_changes(mine, theirs, files),
            yaml_changes(mine, theirs, files),
        )
    )


def _of_functions(changed: Sequence[FunctionChange], mine: ReleaseSource, theirs: ReleaseSource) -> Iterator[ApiChange]:
    for change in changed:
        if change.is_whole:
            continue
        for compare in (parameter_changes, key_changes, return_changes):
            yield from compare(change.file, change.function, mine, theirs)
