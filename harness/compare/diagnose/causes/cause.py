"""A cause, and the words that several rules use."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from harness.compare.diagnose.changes import Edit, FunctionChange
from harness.compare.diagnose.divergence import Divergence, DivergenceKind
from harness.compare.diagnose.evidence import ComparedSide, Evidence
from harness.compare.diagnose.source import SourceLine
from harness.compare.diagnose.traces import Call, Site

_MOST_QUOTED = 3
_LONGEST_QUOTE = 160


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why the cell fails in one release and passes in the other."""

    rule: str
    """The rule that found it."""
    sentence: str
    setting: str = ""
    """What a user can set to avoid it; empty where nothing of the sort is known."""


def quoted(lines: Iterable[SourceLine]) -> str:
    """Statements as code, a few of them."""
    texts = [line.text for line in lines]
    quotes = [f"`{_cut(text)}`" for text in texts[:_MOST_QUOTED]]
    return ", ".join(quotes) + (f" and {len(texts) - _MOST_QUOTED} more" if len(texts) > _MOST_QUOTED else "")


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 2] + " …"


def edit_told(edit: Edit, other: str) -> str:
    """One edit in words; `other` is the other release."""
    if not edit.other:
        return f"it has {quoted(edit.mine)} (line {edit.mine[0].number}), which {other} has not"
    if not edit.mine:
        return f"it lacks {quoted(edit.other)}, which {other} has (line {edit.other[0].number})"
    return f"it has {quoted(edit.mine)} (line {edit.mine[0].number}) where {other} has {quoted(edit.other)}"


def change_told(change: FunctionChange, other: str) -> str:
    """The edits of one function in words."""
    sentence = "; ".join(edit_told(edit, other) for edit in change.edits[:_MOST_QUOTED])
    return sentence + (
        f"; and {len(change.edits) - _MOST_QUOTED} places more" if len(change.edits) > _MOST_QUOTED else ""
    )


def runs(call: Call) -> str:
    """`decoder` (ParaformerSANMDecoder.forward, funasr/models/paraformer/decoder.py:354)."""
    place = f"{call.function}, {call.place}" if call.place else call.function
    return f"`{call.label}` ({place})" if call.kind == "module" else f"`{call.label}` ({call.place})"


def written(site: Site | None) -> str:
    """`f` (file:line); empty words where it is not known."""
    return f"`{site.function}` ({site})" if site else "the caller"


def expression(side: ComparedSide, site: Site | None, parameter: str, place: int | None) -> str:
    """What a call's source gives for a parameter, as code; empty where it is not known."""
    call = side.source.call_at(site.file, site.line, site.column) if site else None
    if call is None:
        return ""
    for word in call.keywords:
        if word.arg == parameter:
            return ast.unparse(word.value)
    starred = any(isinstance(argument, ast.Starred) for argument in call.args)
    if place and place <= len(call.args) and not starred:
        return ast.unparse(call.args[place - 1])
    return ""


def consequence(evidence: Evidence) -> str:
    """How it ends, as a clause after a colon; empty where there is nothing to add."""
    raised = [candidate for candidate in evidence.divergences if candidate.kind is DivergenceKind.RAISED]
    for divergence in sorted(raised, key=lambda candidate: candidate.moment):
        for received in evidence.divergences:
            if received.kind is DivergenceKind.INPUT_SHAPE and received.my_place == divergence.my_place:
                return f": `{divergence.label}` receives {received.detail.partition(': ')[2]}"
    wrong = [
        candidate
        for candidate in evidence.divergences
        if candidate.is_module and candidate.kind is DivergenceKind.INPUT_SHAPE
    ]
    if wrong:
        return f": `{wrong[-1].label}` receives {wrong[-1].detail.partition(': ')[2]}"
    return ""


def before(evidence: Evidence, divergence: Divergence) -> tuple[Divergence, ...]:
    """What parts before this, in modules."""
    return tuple(
        earlier for earlier in evidence.divergences if earlier.moment < divergence.moment and earlier.is_module
    )
