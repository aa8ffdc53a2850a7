"""What changed between two releases in the functions that ran, statement by statement.

Comments, docstrings, annotations and layout do not count: a release that was put through a formatter has not changed.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.compare.diagnose.source import MODULE, Definition, ReleaseSource, SourceLine, module_statements, statements
from harness.compare.diagnose.traces import Executed, Trace


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Statements that stand in one release in the place of those in the other."""

    mine: tuple[SourceLine, ...]
    other: tuple[SourceLine, ...]


@dataclass(frozen=True, kw_only=True)
class FunctionChange:
    """A function that ran and is not the same in both releases."""

    file: str
    function: str
    line: int | None
    """Where it begins in the first release; None where that lacks it."""
    other_line: int | None
    edits: tuple[Edit, ...]
    """Empty where one of the two lacks the function."""
    ran: bool
    """Whether it ran in the first release."""
    other_ran: bool

    @property
    def place(self) -> str:
        """File, line and name."""
        line = self.line if self.line is not None else self.other_line
        return f"{self.file}:{line} {self.function}"

    @property
    def statements(self) -> int:
        """How many statements differ, on the side that has more of them."""
        return sum(max(len(edit.mine), len(edit.other)) for edit in self.edits)

    @property
    def is_whole(self) -> bool:
        """Whether one release lacks the function."""
        return self.line is None or self.other_line is None


def executed_changes(one: tuple[Trace, Path], other: tuple[Trace, Path]) -> tuple[FunctionChange, ...]:
    """The functions that ran in either recording and differ in their statements, by file and line.

    Args:
        one: The first recording, and the folder in which its release lies.
        other: The second.
    """
    return function_changes(
        {(each.file, each.function) for each in one[0].functions},
        {(each.file, each.function) for each in other[0].functions},
        ReleaseSource(one[1]),
        ReleaseSource(other[1]),
    )


def function_changes(
    ran: Iterable[tuple[str, str]], other_ran: Iterable[tuple[str, str]], mine: ReleaseSource, theirs: ReleaseSource
) -> tuple[FunctionChange, ...]:
    """The same for functions given by file and name."""
    ran, other_ran = set(ran), set(other_ran)
    found = []
    for file, name in sorted(ran | other_ran | _unseen(ran | other_ran, mine, theirs)):
        if name == MODULE:
            found += _module_change(file, mine, theirs)
            continue
        here, there = mine.function(file, name), theirs.function(file, name)
        if here is None and there is None:
            continue
        edits: tuple[Edit, ...] = ()
        if here is not None and there is not None:
            edits = tuple(_edits(statements(here), statements(there)))
            if not edits:
                continue
        found.append(
            FunctionChange(
                file=file,
                function=name,
                line=here.lineno if here else None,
                other_line=there.lineno if there else None,
                edits=edits,
                ran=(file, name) in ran,
                other_ran=(file, name) in other_ran,
            )
        )
    found.sort(key=lambda each: (each.file, each.line or each.other_line or 0))
    return tuple(found)


def _unseen(ran: set[tuple[str, str]], mine: ReleaseSource, theirs: ReleaseSource) -> set[tuple[str, str]]:
    """What runs in these files and no recorder sees: their own statements, and functions that torch compiles."""
    found = set()
    for file in {file for file, _ in ran}:
        found.add((file, MODULE))
        for source in (mine, theirs):
            found |= {(file, name) for name, node in source.functions(file).items() if _is_compiled(node)}
    return found


def _is_compiled(node: Definition) -> bool:
    return any("jit." in ast.unparse(decorator) for decorator in node.decorator_list)


def _module_change(file: str, mine: ReleaseSource, theirs: ReleaseSource) -> list[FunctionChange]:
    here, there = mine.tree(file), theirs.tree(file)
    if here is None or there is None:
        return []
    edits = tuple(_edits(module_statements(here), module_statements(there)))
    whole = FunctionChange(file=file, function=MODULE, line=1, other_line=1, edits=edits, ran=True, other_ran=True)
    return [whole] if edits else []


def executed_files(*traces: Trace | None) -> tuple[str, ...]:
    """The release's files of which a function ran in one of the recordings."""
    every: Iterator[Executed] = (one for trace in traces if trace for one in trace.functions)
    return tuple(sorted({one.file for one in every}))


def _edits(mine: tuple[SourceLine, ...], theirs: tuple[SourceLine, ...]) -> Iterator[Edit]:
    matcher = difflib.SequenceMatcher(
        a=[(line.depth, line.text) for line in mine], b=[(line.depth, line.text) for line in theirs], autojunk=False
    )
    for tag, my_start, my_end, start, end in matcher.get_opcodes():
        if tag != "equal":
            yield Edit(mine=mine[my_start:my_end], other=theirs[start:end])
