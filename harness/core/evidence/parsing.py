"""Parsing a cell's metrics and evidence into the records of its check: once, where they enter the harness.

JSON has no NaN and no infinities; in a number's place they are the strings "nan", "inf" and "-inf". Keys that no record
declares are ignored, so that a run of a newer harness can be read; `strict` refuses them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from harness.core.evidence.training import Figure, RanksTraining

if TYPE_CHECKING:
    from cattrs import Converter

Parsed = TypeVar("Parsed")

_WORDS = ("nan", "inf", "-inf")
_MOST_PROBLEMS = 3


class EvidenceMismatch(ValueError):
    """Metrics or evidence that do not have their declared form; the message names keys and what was expected."""


def parse(kind: type[Parsed], data: object, *, place: str, strict: bool = False) -> Parsed:
    """A record of the given class.

    Args:
        kind: One of the records of `harness.core.evidence`.
        data: Parsed JSON.
        place: The name of `data` in messages, such as `metrics`.
        strict: Whether keys that the record does not declare are an error.

    Raises:
        EvidenceMismatch: `data` does not have the record's form.
    """
    try:
        return _converter(strict, detailed=False).structure(data, kind)
    except Exception:
        # The converter that knows the places of errors takes twice as long.
        try:
            return _converter(strict, detailed=True).structure(data, kind)
        except Exception as error:
            raise EvidenceMismatch(_explained(error, place)) from error


def _explained(error: Exception, place: str) -> str:
    from cattrs import transform_error

    try:
        lines = transform_error(error, path=place, format_exception=_problem)
    except Exception:
        lines = [f"{error} @ {place}"]
    problems = []
    for text in lines[:_MOST_PROBLEMS]:
        problem, _, where = text.rpartition(" @ ")
        problems.append(f"{where}: {problem}")
    more = f"; and {len(lines) - _MOST_PROBLEMS} more" if len(lines) > _MOST_PROBLEMS else ""
    return "; ".join(problems) + more


def _problem(error: BaseException, _kind: type | None) -> str:
    from cattrs import ForbiddenExtraKeysError

    if isinstance(error, KeyError):
        return "a key is missing"
    if isinstance(error, ForbiddenExtraKeysError):
        return f"no record declares {', '.join(sorted(error.extra_fields))}"
    return str(error)


def _refused(expected: str, value: object) -> ValueError:
    return ValueError(f"expected {expected}, found {value!r:.60}")


def _float(value: object, _kind: object) -> float:
    if isinstance(value, float):
        return value
    if (isinstance(value, int) and not isinstance(value, bool)) or value in _WORDS:
        return float(value)
    raise _refused("a number", value)


def _int(value: object, _kind: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _refused("a whole number", value)


def _bool(value: object, _kind: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _refused("true or false", value)


def _str(value: object, kind: object) -> str:
    """A text; of an enumeration of texts, which this is called for as well, its member."""
    if not isinstance(value, str):
        raise _refused("a text", value)
    if not (isinstance(kind, type) and issubclass(kind, StrEnum)):
        return value
    try:
        return kind(value)
    except ValueError:
        raise _refused(f"one of {', '.join(kind)}", value) from None


def _figure(value: object, _kind: object) -> Figure:
    return None if value is None else _float(value, float)


@cache
def _converter(strict: bool, *, detailed: bool) -> Converter:
    # Imported here: `--help` and a cell's process do without it.
    from cattrs import Converter
    from cattrs.cols import homogenous_tuple_structure_factory, is_mapping, mapping_structure_factory
    from cattrs.gen import make_dict_structure_fn

    converter = Converter(forbid_extra_keys=strict, detailed_validation=detailed)
    for kind, hook in ((float, _float), (int, _int), (bool, _bool), (str, _str)):
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook(Any, lambda value, _: value)
    converter.register_structure_hook(Figure, _figure)

    def training_or_reason(value: object, _kind: object) -> RanksTraining | str:
        return value if isinstance(value, str) else converter.structure(value, RanksTraining)

    converter.register_structure_hook(RanksTraining | str, training_or_reason)

    def register(
        fits: Callable[[Any], bool], factory: Callable[[Any, Converter], Callable[..., Any]], expected: Any, name: str
    ) -> None:
        def guarded(kind: Any, inner: Converter) -> Callable[[Any, Any], Any]:
            structure = factory(kind, inner)

            def hook(value: object, _kind: object) -> Any:
                if not isinstance(value, expected):
                    raise _refused(name, value)
                return structure(value, kind)

            return hook

        converter.register_structure_hook_factory(fits, guarded)

    def tuple_factory(kind: Any, inner: Converter) -> Callable[[Any, Any], Any]:
        structure, plain = homogenous_tuple_structure_factory(kind, inner), _PLAIN.get(kind.__args__[0])

        def hook(value: Any, _kind: object) -> Any:
            # Most lists are long and hold nothing to convert.
            return tuple(value) if plain and plain.issuperset(map(type, value)) else structure(value, kind)

        return hook

    register(is_mapping, mapping_structure_factory, Mapping, "an object")
    register(_is_tuple, tuple_factory, list | tuple, "a list")
    register(dataclasses.is_dataclass, make_dict_structure_fn, Mapping, "an object")
    return converter


_PLAIN: Mapping[Any, frozenset[type]] = {
    int: frozenset({int}),
    str: frozenset({str}),
    float: frozenset({float}),
    int | None: frozenset({int, type(None)}),
    float | None: frozenset({float, type(None)}),
}
"""By the declared type of a list's items: the types that need no conversion."""


def _is_tuple(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is tuple
