"""Parameters and defaults of the functions that ran, and the objects of their files, as griffe reads them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from harness.compare.diagnose.source import ReleaseSource


class Of(StrEnum):
    """What a change is a change of."""

    PARAMETER_ADDED = "parameter_added"
    PARAMETER_REMOVED = "parameter_removed"
    PARAMETER_RENAMED = "parameter_renamed"
    PARAMETER_MOVED = "parameter_moved"
    DEFAULT_CHANGED = "default_changed"
    OBJECT_ADDED = "object_added"
    OBJECT_REMOVED = "object_removed"
    KEY_ADDED = "key_added"
    KEY_REMOVED = "key_removed"
    KEY_DEFAULT = "key_default"
    KEY_RENAMED = "key_renamed"
    REGISTERED = "registered"
    UNREGISTERED = "unregistered"
    REGISTERED_ELSEWHERE = "registered_elsewhere"
    RETURN_LENGTH = "return_length"
    YAML_KEY_ADDED = "yaml_key_added"
    YAML_KEY_REMOVED = "yaml_key_removed"


@dataclass(frozen=True, kw_only=True)
class ApiChange:
    """One change of what a caller, a config or a file can say."""

    of: Of
    file: str
    function: str
    """With its class; empty for what is not a function's."""
    name: str
    """The parameter, key, object or registry's name."""
    text: str
    """One line, which names both releases by their places: the first is `is`, the other `was`."""
    line: int | None = None
    """In the first release; None where it has nothing of it."""
    was: str = ""
    """The other release's name, default, place or length."""
    now: str = ""


@dataclass(frozen=True, kw_only=True)
class _Parameter:
    name: str
    place: int
    """Counted from 1, `self` left out; 0 for one that is given by keyword only."""
    default: str | None


def parameter_changes(file: str, function: str, mine: ReleaseSource, theirs: ReleaseSource) -> Iterator[ApiChange]:
    """What changed in the parameters of one function that both releases have."""
    my_function, their_function = _griffe(file, function, mine), _griffe(file, function, theirs)
    if my_function is None or their_function is None:
        return
    my_parameters, their_parameters = _parameters(my_function), _parameters(their_function)
    removed = [name for name in their_parameters if name not in my_parameters]
    new = [name for name in my_parameters if name not in their_parameters]
    renamed = _renamed(my_parameters, their_parameters, removed, new)

    def change(kind_of_change: Of, name: str, text: str, before_value: str = "", now_value: str = "") -> ApiChange:
        return ApiChange(
            of=kind_of_change,
            file=file,
            function=function,
            name=name,
            text=text,
            line=my_function.lineno,
            was=before_value,
            now=now_value,
        )

    for old_name, new_name in renamed.items():
        yield change(Of.PARAMETER_RENAMED, new_name, f"parameter `{new_name}` was `{old_name}`", old_name, new_name)
    for name in removed:
        if name not in renamed:
            yield change(Of.PARAMETER_REMOVED, name, f"parameter `{name}` is missing")
    for name in new:
        if name not in renamed.values():
            yield change(Of.PARAMETER_ADDED, name, f"parameter `{name}` is there, was not")
    for name, parameter in my_parameters.items():
        before = their_parameters.get(name)
        if before is None:
            continue
        if before.place != parameter.place:
            text = f"parameter `{name}` is at place {parameter.place}, was at {before.place}"
            yield change(Of.PARAMETER_MOVED, name, text, str(before.place), str(parameter.place))
        if before.default != parameter.default:
            text = f"default of `{name}` is {parameter.default}, was {before.default}"
            yield change(Of.DEFAULT_CHANGED, name, text, str(before.default), str(parameter.default))


def object_changes(file: str, mine: ReleaseSource, theirs: ReleaseSource) -> Iterator[ApiChange]:
    """Functions, classes and module attributes that only one of the releases has in this file."""
    my_module, their_module = _module(file, mine), _module(file, theirs)
    my_objects = dict(_objects(my_module)) if my_module is not None else {}
    their_objects = dict(_objects(their_module)) if their_module is not None else {}
    for name in _outermost(their_objects.keys() - my_objects.keys()):
        text = f"{their_objects[name].kind.value} `{name}` is missing"
        yield ApiChange(of=Of.OBJECT_REMOVED, file=file, function="", name=name, text=text)
    for name in _outermost(my_objects.keys() - their_objects.keys()):
        added = my_objects[name]
        yield ApiChange(
            of=Of.OBJECT_ADDED,
            file=file,
            function="",
            name=name,
            text=f"{added.kind.value} `{name}` is there, was not",
            line=added.lineno,
        )


def _outermost(names: Collection[str]) -> list[str]:
    """These names without the methods of classes that are among them."""
    return sorted(name for name in names if name.rpartition(".")[0] not in names)


def _renamed(
    my_parameters: dict[str, _Parameter], their_parameters: dict[str, _Parameter], removed: list[str], new: list[str]
) -> dict[str, str]:
    """Old names by what took their place with the same default; only where no two could have."""
    renamed: dict[str, str] = {}
    for name in removed:
        same = [other for other in new if my_parameters[other].place == their_parameters[name].place]
        if len(same) == 1 and my_parameters[same[0]].default == their_parameters[name].default:
            renamed[name] = same[0]
    return renamed


def _parameters(function: Any) -> dict[str, _Parameter]:
    parameters: dict[str, _Parameter] = {}
    place = 0
    for parameter in function.parameters:
        kind = parameter.kind.value if parameter.kind else ""
        if parameter.name in ("self", "cls") and not parameters:
            continue
        if "variadic" in kind:
            continue
        place += 1
        by_keyword = kind == "keyword-only"
        default = None if parameter.default is None else str(parameter.default)
        parameters[parameter.name] = _Parameter(name=parameter.name, place=0 if by_keyword else place, default=default)
    return parameters


def _objects(module: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, member in module.members.items():
        if member.is_alias:
            continue
        yield f"{prefix}{name}", member
        if member.is_class:
            yield from (
                (f"{prefix}{name}.{inner}", function)
                for inner, function in member.members.items()
                if function.is_function
            )


def _griffe(file: str, function: str, source: ReleaseSource) -> Any:
    module = _module(file, source)
    for part in function.split("."):
        if module is None:
            return None
        module = module.members.get(part)
    return module if module is not None and not module.is_alias and module.is_function else None


_modules: dict[tuple[str, str], Any] = {}


def _module(file: str, source: ReleaseSource) -> Any:
    """What griffe makes of one file by reading it; None where there is none, or it is no Python."""
    key = (str(source.install_dir), file)
    if key not in _modules:
        import griffe

        try:
            text = (source.install_dir / file).read_text(encoding="utf-8", errors="replace")
            name = file.removesuffix(".py").replace("/", ".")
            _modules[key] = griffe.visit(name, filepath=source.install_dir / file, code=text)
        except (OSError, SyntaxError, ValueError):
            _modules[key] = None
    return _modules[key]
