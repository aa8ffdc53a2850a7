"""What is known of a failing cell and of a passing one: all that a cause may be derived from."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

from harness.compare.diagnose.api import ApiChange, Of
from harness.compare.diagnose.changes import FunctionChange, executed_files, function_changes
from harness.compare.diagnose.divergence import SHAPES, VALUES, Divergence, DivergenceKind, divergences
from harness.compare.diagnose.runner import Traced
from harness.compare.diagnose.source import ReleaseSource
from harness.compare.diagnose.static_changes import api_changes
from harness.compare.diagnose.traces import Built, Trace, TracedPass
from harness.core.cells import Failure


@dataclass(frozen=True, kw_only=True)
class ComparedSide:
    """One of the two cells."""

    traced: Traced

    @property
    def label(self) -> str:
        """The release."""
        return self.traced.outcome.cell.release

    @property
    def trace(self) -> Trace | None:
        """The recording."""
        return self.traced.trace

    @cached_property
    def source(self) -> ReleaseSource:
        """The release's code."""
        return ReleaseSource(self.traced.install_dir)

    def ran(self) -> set[tuple[str, str]]:
        """The functions that ran; where nothing was recorded, those of the traceback."""
        failure = self.traced.outcome.failure
        frames = [frame for frame in failure.frames if frame.file.startswith("funasr/")] if failure else []
        named = {(frame.file, self._qualified(frame.file, frame.function, frame.line)) for frame in frames}
        return named | {(executed.file, executed.function) for executed in (self.trace.functions if self.trace else ())}

    def _qualified(self, file: str, function: str, line: int) -> str:
        """The function with its class: a traceback has the bare name."""
        for name, node in self.source.functions(file).items():
            if name.rpartition(".")[2] == function and node.lineno <= line <= (node.end_lineno or line):
                return name
        return function

    @cached_property
    def innermost(self) -> tuple[str, str, int] | None:
        """File, function with its class, and line of the innermost frame of the release's own in the traceback."""
        failure = self.traced.outcome.failure
        release_frames = [frame for frame in failure.frames if frame.file.startswith("funasr/")] if failure else []
        if not release_frames:
            return None
        last = release_frames[-1]
        return last.file, self._qualified(last.file, last.function, last.line), last.line


@dataclass(frozen=True, kw_only=True)
class ComparedSettings:
    """An attribute of a module that is another in the two models."""

    module: str
    attribute: str
    mine: object
    other: object

    def __str__(self) -> str:
        return f"`{self.module}.{self.attribute}` is {self.mine!r} instead of {self.other!r}"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A failing cell (`mine`) and a passing one (`other`)."""

    mine: ComparedSide
    other: ComparedSide

    @property
    def failure(self) -> Failure | None:
        """What the failing cell told."""
        return self.mine.traced.outcome.failure

    @cached_property
    def number(self) -> int:
        """The pass that is compared: the one that raised where both have it, else the first that parts."""
        mine, other = self.mine.trace, self.other.trace
        if mine is None or other is None:
            return 0
        if mine.died_in and mine.died_in.number >= 0 and other.numbered(mine.died_in.number):
            return mine.died_in.number
        shared = [
            recorded.number for recorded in mine.passes if recorded.number >= 0 and other.numbered(recorded.number)
        ]
        return next((number for number in shared if divergences(mine, other, number=number)), 0)

    @cached_property
    def passes(self) -> tuple[TracedPass, TracedPass] | None:
        """The two passes that are compared."""
        mine, other = self.mine.trace, self.other.trace
        both = (mine and mine.numbered(self.number), other and other.numbered(self.number))
        return (both[0], both[1]) if both[0] and both[1] else None

    @cached_property
    def divergences(self) -> tuple[Divergence, ...]:
        """All differences of these passes, in the order of time."""
        mine, other = self.mine.trace, self.other.trace
        return divergences(mine, other, number=self.number) if mine and other else ()

    @cached_property
    def first(self) -> Divergence | None:
        """The first module that differs: in never being called where there is one, else in shape, else in value."""
        modules = [candidate for candidate in self.divergences if candidate.is_module]
        if differing := next((candidate for candidate in modules if self.never_called(candidate)), None):
            return differing
        for kinds in (SHAPES, VALUES | {DivergenceKind.RAISED}):
            if differing := next((candidate for candidate in modules if candidate.kind in kinds), None):
                return differing
        return None

    def never_called(self, divergence: Divergence) -> bool:
        """Whether a module exists, is called in the other recording, and in this one not a single time."""
        mine = self.mine.trace
        return (
            divergence.kind is DivergenceKind.NOT_CALLED and mine is not None and not mine.called.get(divergence.name)
        )

    @cached_property
    def settings(self) -> tuple[ComparedSettings, ...]:
        """Attributes that differ, of modules that both models have under the same name and class."""
        return tuple(self._settings())

    def _settings(self) -> Iterator[ComparedSettings]:
        if self.mine.trace is None or self.other.trace is None:
            return
        for module in self.mine.trace.modules:
            other = self.other.trace.module(module.name)
            if other is None or other.class_name != module.class_name:
                continue
            for name in module.settings.keys() & other.settings.keys():
                if module.settings[name] != other.settings[name]:
                    yield ComparedSettings(
                        module=module.name or module.class_name,
                        attribute=name,
                        mine=module.settings[name],
                        other=other.settings[name],
                    )

    @cached_property
    def changes(self) -> tuple[FunctionChange, ...]:
        """What changed in the functions that ran."""
        return function_changes(self.mine.ran(), self.other.ran(), self.mine.source, self.other.source)

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The files of which something ran."""
        traced = set(executed_files(self.mine.trace, self.other.trace))
        return tuple(sorted(traced | {file for file, _ in self.mine.ran() | self.other.ran()}))

    @cached_property
    def api(self) -> tuple[ApiChange, ...]:
        """What changed in signatures, keys, results and registries."""
        return api_changes(self.changes, self.files, self.mine.source, self.other.source)

    def change_of(self, file: str, function: str) -> FunctionChange | None:
        """The change of one function."""
        return next((change for change in self.changes if (change.file, change.function) == (file, function)), None)

    def api_of(self, file: str, function: str, *kinds: Of) -> tuple[ApiChange, ...]:
        """The changes of these kinds in one function."""
        return tuple(
            change for change in self.api if (change.file, change.function) == (file, function) and change.of in kinds
        )

    @cached_property
    def built(self) -> tuple[tuple[Built, Built], ...]:
        """Constructions that answer to each other: those of the same `__init__` for the same class, in order."""
        if self.mine.trace is None or self.other.trace is None:
            return ()
        sides: list[dict[tuple[str, str], list[Built]]] = []
        for trace in (self.mine.trace, self.other.trace):
            by_class: dict[tuple[str, str], list[Built]] = {}
            for constructed in trace.built:
                by_class.setdefault((constructed.class_name, constructed.function), []).append(constructed)
            sides.append(by_class)
        return tuple(
            (mine, theirs)
            for key, built in sides[0].items()
            for mine, theirs in zip_longest(built, sides[1].get(key, []))
            if mine is not None and theirs is not None
        )

    def modules_of(self, class_name: str) -> tuple[str, ...]:
        """The names of the modules of this class."""
        trace = self.mine.trace
        return tuple(module.name for module in trace.modules if module.class_name == class_name) if trace else ()

    def shows(self, class_name: str) -> str:
        """Where a change in the construction of this class is seen: a setting that differs, or the first divergence.

        Returns:
            In words; empty where it is not seen at all.
        """
        names = self.modules_of(class_name)
        for setting in self.settings:
            if any(_within(setting.module, name, class_name) for name in names):
                return str(setting)
        first = self.first
        if (
            first is not None
            and first.call is not None
            and any(_within(first.name, name, class_name) for name in names)
        ):
            return f"`{first.label}` is the first module that differs"
        return ""

    def widths(self, name: str) -> str:
        """` (320 → 8404)` for a projection; empty for another module."""
        for trace in (self.mine.trace, self.other.trace):
            module = trace.module(name) if trace else None
            if module and module.widths:
                return f" ({module.widths})"
        return ""


def _within(module: str, name: str, class_name: str) -> bool:
    return module in (name, class_name) or name == "" or module.startswith(f"{name}.")


def literal(text: str) -> object:
    """The value of a default's expression; the text itself where it is no literal."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
