"""Causes in a call: an argument that lands elsewhere, two that are swapped, one that is left to another default."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from harness.compare.diagnose.api import Of
from harness.compare.diagnose.causes.cause import Cause, before, consequence, expression, runs, written
from harness.compare.diagnose.divergence import SHAPES, VALUES, Divergence, DivergenceKind, moved_arguments, ordinal
from harness.compare.diagnose.evidence import Evidence, literal
from harness.compare.diagnose.traces import Argument, Call

_AFTER = SHAPES | VALUES | {DivergenceKind.RAISED}


def moved(evidence: Evidence) -> Cause | None:
    """A positional argument lands in another parameter, and what that parameter decides goes another way.

    Held only where no module parts in shape before, and the call itself ends otherwise or leaves out a module.
    """
    divergence = next(
        (candidate for candidate in evidence.divergences if candidate.kind is DivergenceKind.BINDING), None
    )
    if divergence is None or divergence.mine is None or divergence.other is None:
        return None
    if any(earlier.kind in SHAPES for earlier in before(evidence, divergence)):
        return None
    call, moved_args = divergence.mine, moved_arguments(divergence.mine, divergence.other)
    left_out = _left_out(evidence, divergence)
    if left_out is None and not _ends_otherwise(evidence, divergence):
        return None
    for moved_arg in moved_args:
        mechanism = _decides(evidence, call, moved_arg.mine, left_out) if left_out else ""
        if left_out and not mechanism:
            continue
        expression_text = expression(evidence.mine, call.caller, moved_arg.mine.parameter, moved_arg.place)
        subject = f"`{expression_text}`" if expression_text else "an argument"
        nth = ordinal(moved_arg.place)
        sentence = (
            f"{written(call.caller)} passes {subject} as {nth} positional argument to {runs(call)}, whose {nth} "
            "parameter"
            f" is `{moved_arg.mine.parameter}`; in {evidence.other.label} it is `{moved_arg.other.parameter}`."
        )
        return Cause(rule="moved_argument", sentence=f"{sentence}{mechanism}")
    return None


def _left_out(evidence: Evidence, around: Divergence) -> Divergence | None:
    """The first module within a call that is not called."""
    return next(
        (
            candidate
            for candidate in evidence.divergences
            if candidate.kind is DivergenceKind.NOT_CALLED
            and candidate.is_module
            and _is_below(candidate.name, around.name)
        ),
        None,
    )


def _is_below(name: str, above: str) -> bool:
    return bool(name) and (not above or name.startswith(f"{above}."))


def _ends_otherwise(evidence: Evidence, divergence: Divergence) -> bool:
    kinds = {DivergenceKind.OUTPUT_SHAPE, DivergenceKind.OUTPUT_VALUE, DivergenceKind.RAISED}
    return any(
        candidate.my_place == divergence.my_place and candidate.kind in kinds for candidate in evidence.divergences
    )


def _decides(evidence: Evidence, call: Call, argument: Argument, left_out: Divergence) -> str:
    """The condition on this parameter that keeps the module from being called, as a sentence; empty without one."""
    function = evidence.mine.source.function(call.file, call.function)
    if function is None:
        return ""
    attribute = left_out.name.removeprefix(f"{call.name}.").partition(".")[0]
    for node in ast.walk(function):
        if not isinstance(node, ast.If) or argument.parameter not in _names(node.test):
            continue
        module_attribute = f"self.{attribute}"
        in_body, in_else = _mentions(node.body, module_attribute), _mentions(node.orelse, module_attribute)
        if in_body == in_else:
            continue
        verb = "does not hold" if in_body else "holds"
        return (
            f" With {argument.value} in `{argument.parameter}`, `{ast.unparse(node.test)}` (line {node.lineno}) {verb},"
            f" and `{left_out.label}`{evidence.widths(left_out.name)} is never called{consequence(evidence)}."
        )
    return ""


def _names(node: ast.AST) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def _mentions(body: list[ast.stmt], attribute: str) -> bool:
    calls = (child for node in body for child in ast.walk(node) if isinstance(child, ast.Call))
    return any(ast.unparse(call.func).startswith(attribute) for call in calls)


def swapped(evidence: Evidence) -> Cause | None:
    """Two arguments change places: what one parameter gets is what the other gets in the other release."""
    kinds = (DivergenceKind.INPUT_SHAPE, DivergenceKind.INPUT_VALUE)
    for divergence in evidence.divergences:
        if divergence.kind not in kinds or divergence.mine is None or divergence.other is None:
            continue
        if any(
            earlier.kind in _AFTER
            for earlier in before(evidence, divergence)
            if earlier.my_place != divergence.my_place
        ):
            return None
        for first, second in _crosswise(divergence.mine, divergence.other):
            call = divergence.mine
            sentence = (
                f"{written(call.caller)} gives {runs(call)} two arguments the other way round: `{first}` gets what is"
                f" `{second}` in {evidence.other.label}, and `{second}` what is `{first}`{consequence(evidence)}."
            )
            return Cause(rule="swapped_arguments", sentence=sentence)
    return None


def _crosswise(mine: Call, other: Call) -> Iterator[tuple[str, str]]:
    names = [argument.parameter for argument in mine.arguments if other.argument(argument.parameter)]
    my_contents = {argument.parameter: argument.value.content for argument in mine.arguments}
    their_contents = {argument.parameter: argument.value.content for argument in other.arguments}
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            if (
                my_contents[first] != my_contents[second]
                and my_contents[first] == their_contents[second]
                and my_contents[second] == their_contents[first]
            ):
                yield first, second


def changed_default(evidence: Evidence) -> Cause | None:
    """A parameter that the caller leaves out has another default, and the call ends otherwise."""
    pairs = [
        pair
        for pair in evidence.divergences
        if pair.mine and pair.other and pair.kind in (DivergenceKind.INPUT_SHAPE, DivergenceKind.INPUT_VALUE)
    ]
    for divergence in pairs:
        call, other = divergence.mine, divergence.other
        if call is None or other is None or not _ends_otherwise(evidence, divergence):
            continue
        if any(
            earlier.kind in _AFTER
            for earlier in before(evidence, divergence)
            if earlier.my_place != divergence.my_place
        ):
            return None
        for change in evidence.api_of(call.file, call.function, Of.DEFAULT_CHANGED):
            mine, theirs = call.argument(change.name), other.argument(change.name)
            if mine is None or theirs is None or not _left_to_default(evidence, call, change.name):
                continue
            if mine.value.plain != literal(change.now) or theirs.value.plain != literal(change.was):
                continue
            sentence = (
                f"{written(call.caller)} leaves `{change.name}` of {runs(call)} to its default, which is {change.now}"
                f" and in {evidence.other.label} {change.was}{consequence(evidence)}."
            )
            return Cause(
                rule="changed_default", sentence=sentence, setting=f"pass `{change.name}={change.was}` explicitly"
            )
    return None


def _left_to_default(evidence: Evidence, call: Call, parameter: str) -> bool:
    argument = call.argument(parameter)
    if argument is not None and argument.how:
        return argument.how == "default"
    site = call.caller
    node = evidence.mine.source.call_at(site.file, site.line, site.column) if site else None
    if node is None or any(word.arg in (None, parameter) for word in node.keywords):
        return False
    names = [passed.parameter for passed in call.arguments]
    return not any(isinstance(expr, ast.Starred) for expr in node.args) and len(node.args) <= names.index(parameter)
