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


def executed_changes(first: tuple[Trace, Path], second: tuple[Trace, Path]) -> tuple[FunctionChange, ...]:
    """The functions that ran in either recording and differ in their statements, by file and line.

    Args:
        one: The first recording, and the folder in which its release lies.
        other: The second.
    """
    return function_changes(
        {(executed.file, executed.function) for executed in first[0].functions},
        {(executed.file, executed.function) for executed in second[0].functions},
        ReleaseSource(first[1]),
        ReleaseSource(second[1]),
    )


def function_changes(
    ran: Iterable[tuple[str, str]], other_ran: Iterable[tuple[str, str]], mine: ReleaseSource, theirs: ReleaseSource
) -> tuple[FunctionChange, ...]:
    """The same for functions given by file and name."""
    ran, other_ran = set(ran), set(other_ran)
    changes = []
    for file, name in sorted(ran | other_ran | _unseen(ran | other_ran, mine, theirs)):
        if name == MODULE:
            changes += _module_change(file, mine, theirs)
            continue
        my_node, their_node = mine.function(file, name), theirs.function(file, name)
        if my_node is None and their_node is None:
            continue
        edits: tuple[Edit, ...] = ()
        if my_node is not None and their_node is not None:
            edits = tuple(_edits(statements(my_node), statements(their_node)))
            if not edits:
                continue
        changes.append(
            FunctionChange(
                file=file,
                function=name,
                line=my_node.lineno if my_node else None,
                other_line=their_node.lineno if their_node else None,
                edits=edits,
                ran=(file, name) in ran,
                other_ran=(file, name) in other_ran,
            )
        )
    changes.sort(key=lambda change: (change.file, change.line or change.other_line or 0))
    return tuple(changes)


def _unseen(ran: set[tuple[str, str]], mine: ReleaseSource, theirs: ReleaseSource) -> set[tuple[str, str]]:
    """What runs in these files and no recorder sees: their own statements, and functions that torch compiles."""
    unrecorded = set()
    for file in {file for file, _ in ran}:
        unrecorded.add((file, MODULE))
        for source in (mine, theirs):
            unrecorded |= {(file, name) for name, node in source.functions(file).items() if _is_compiled(node)}
    return unrecorded


def _is_compiled(node: Definition) -> bool:
    return any("jit." in ast.unparse(decorator) for decorator in node.decorator_list)


def _module_change(file: str, mine: ReleaseSource, theirs: ReleaseSource) -> list[FunctionChange]:
    my_tree, their_tree = mine.tree(file), theirs.tree(file)
    if my_tree is None or their_tree is None:
        return []
    edits = tuple(_edits(module_statements(my_tree), module_statements(their_tree)))
    change = FunctionChange(file=file, function=MODULE, line=1, other_line=1, edits=edits, ran=True, other_ran=True)
    return [change] if edits else []


def executed_files(*traces: Trace | None) -> tuple[str, ...]:
    """The release's files of which a function ran in one of the recordings."""
    all_executed: Iterator[Executed] = (executed for trace in traces if trace for executed in trace.functions)
    return tuple(sorted({executed.file for executed in all_executed}))


def _edits(mine: tuple[SourceLine, ...], theirs: tuple[SourceLine, ...]) -> Iterator[Edit]:
    matcher = difflib.SequenceMatcher(
        a=[(line.depth, line.text) for line in mine], b=[(line.depth, line.text) for line in theirs], autojunk=False
    )
    for tag, my_start, my_end, start, end in matcher.get_opcodes():
        if tag != "equal":
            yield Edit(mine=mine[my_start:my_end], other=theirs[start:end])
