"""Where code lies: functions of the release, the lines of a call, the signature that a module's forward has."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from harness.worker.process import failures


class Places:
    """Tells the release's own code from all other, and names it."""

    def __init__(self, overlay: str) -> None:
        self._overlay = overlay
        self._own = os.path.join(overlay, "funasr") + os.sep  # noqa: PTH118 - what code objects hold are strings
        self._known: dict[CodeType, dict[str, Any] | None] = {}

    def function(self, code: CodeType) -> dict[str, Any] | None:
        """`file`, `function` (with its class) and lines of a function of the release; None for any other code.

        Comprehensions and lambdas are part of the function around them.
        """
        if code not in self._known:
            own = code.co_filename.startswith(self._own) and not code.co_name.startswith("<")
            self._known[code] = self._described(code) if own else None
        return self._known[code]

    def _described(self, code: CodeType) -> dict[str, Any]:
        lines = [line for _, _, line in code.co_lines() if line]
        return {
            "file": failures.relative(code.co_filename, self._overlay),
            "function": code.co_qualname.replace("<locals>.", ""),
            "line": code.co_firstlineno,
            "end_line": max(lines, default=code.co_firstlineno),
        }

    def of_class(self, kind: type) -> dict[str, Any] | None:
        """File and line of a class's forward, or of the class where that is not Python."""
        forward = getattr(kind, "forward", None)
        code = getattr(inspect.unwrap(forward), "__code__", None) if callable(forward) else None
        if code is None:
            return None
        place = self.function(code) or self._described(code)
        return {"file": place["file"], "line": place["line"], "function": place["function"]}

    def ancestors(self, kind: type) -> list[dict[str, Any]]:
        """The classes that a class is made of, itself first, as far as they are the release's."""
        return [
            {"class": each.__qualname__, "module": each.__module__}
            for each in kind.__mro__
            if each.__module__.partition(".")[0] == "funasr"
        ]

    def call(self, frame: FrameType | None) -> dict[str, Any] | None:
        """Where the call that is going on in `frame` is written: file, function, first and last line and column.

        Frames of torch between the release's code and the module are passed over.
        """
        while frame is not None and not frame.f_code.co_filename.startswith(self._own):
            frame = frame.f_back
        if frame is None:
            return None
        positions = list(frame.f_code.co_positions())
        index = frame.f_lasti // 2
        line, end_line, column, end_column = positions[index] if index < len(positions) else (frame.f_lineno,) * 4
        return {
            "file": failures.relative(frame.f_code.co_filename, self._overlay),
            "function": frame.f_code.co_qualname.replace("<locals>.", ""),
            "line": line or frame.f_lineno,
            "end_line": end_line or frame.f_lineno,
            "column": column,
            "end_column": end_column,
        }


@functools.cache
def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def bound(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[tuple[str, str, Any]], str]:
    """Which argument landed in which parameter of a bound method.

    Returns:
        Parameter, how the argument came (`positional 5`, `keyword`, `default`) and the argument, in the order of the
        parameters; and what kept them from being bound, empty as a rule: then the parameters are not known.
    """
    signature = _signature(getattr(function, "__func__", function))
    raw = [("", f"positional {place}", value) for place, value in enumerate(args, 1)]
    raw += [(name, "keyword", value) for name, value in kwargs.items()]
    if signature is None:
        return raw, ""
    owner = getattr(function, "__self__", None)
    own = (owner, *args) if hasattr(function, "__func__") else args
    try:
        binding = signature.bind(*own, **kwargs)
    except TypeError as error:
        return raw, str(error)
    skipped = len(own) - len(args)
    return list(_told(signature, binding, len(own), skipped)), ""


def _told(signature: inspect.Signature, binding: inspect.BoundArguments, given: int, skipped: int) -> Any:
    for place, (name, parameter) in enumerate(signature.parameters.items()):
        if place < skipped:
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            for offset, value in enumerate(binding.arguments.get(name, ())):
                number = place - skipped + offset
                yield f"*{name}[{offset}]", f"positional {number + 1}", value
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            for key, value in binding.arguments.get(name, {}).items():
                yield key, "keyword", value
        elif name in binding.arguments:
            by_place = place < given and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            yield name, f"positional {place - skipped + 1}" if by_place else "keyword", binding.arguments[name]
        else:
            yield name, "default", parameter.default
