"""Causes in how the model is built: a key that is read by another name, a default that changed, another argument."""

from __future__ import annotations

from collections.abc import Iterator

from harness.compare.diagnose.api import ApiChange, Of
from harness.compare.diagnose.causes.cause import Cause, expression, written
from harness.compare.diagnose.evidence import Evidence, literal
from harness.compare.diagnose.traces import Argument, Built


def renamed_key(evidence: Evidence) -> Cause | None:
    """What the config calls by one name is read by another, so that a default takes its place."""
    for one, _ in evidence.built:
        kinds = (Of.KEY_RENAMED, Of.PARAMETER_RENAMED)
        for change in evidence.api_of(one.file, one.function, *kinds):
            given = _rest(one)
            if change.was not in given or change.now in given or not (seen := evidence.shows(one.class_name)):
                continue
            sentence = (
                f"`{one.function}` ({one.file}:{change.line or one.line}) reads `{change.now}`, which in"
                f" {evidence.other.label} is `{change.was}`: the config gives `{change.was}` ="
                f" {given[change.was].value}, which nothing there reads any more, and {seen}."
            )
            return Cause(
                rule="renamed_key",
                sentence=sentence,
                setting=f"state `{change.now}` in addition to `{change.was}` in the config",
            )
    return None


def _rest(one: Built) -> dict[str, Argument]:
    """What came by the rest parameter, `**kwargs`."""
    return {argument.parameter: argument for argument in one.arguments if argument.how.startswith("**")}


def changed_default(evidence: Evidence) -> Cause | None:
    """A parameter or key that the config does not give has another default; held where it is the only such change."""
    found: dict[tuple[str, str, str], tuple[Built, ApiChange, str]] = {}
    for one, other in evidence.built:
        for change in _defaulted(evidence, one, other):
            if seen := evidence.shows(one.class_name):
                found.setdefault((one.file, one.function, change.name), (one, change, seen))
    if len(found) != 1:
        return None
    ((one, change, seen),) = found.values()
    what = "default of the key" if change.of is Of.KEY_DEFAULT else "default of"
    sentence = (
        f"In `{one.function}` ({one.file}:{change.line or one.line}) the {what} `{change.name}` is {change.now}, in"
        f" {evidence.other.label} {change.was}; the config does not give it, and {seen}."
    )
    return Cause(
        rule="changed_default", sentence=sentence, setting=f"state `{change.name}: {change.was}` in the config"
    )


def _defaulted(evidence: Evidence, one: Built, other: Built) -> Iterator[ApiChange]:
    mine = {argument.parameter: argument for argument in one.arguments}
    theirs = {argument.parameter: argument for argument in other.arguments}
    for change in evidence.api_of(one.file, one.function, Of.DEFAULT_CHANGED):
        if change.name not in mine or change.name not in theirs:
            continue
        values = (mine[change.name].value.plain, theirs[change.name].value.plain)
        if values == (literal(change.now), literal(change.was)):
            yield change
    for change in evidence.api_of(one.file, one.function, Of.KEY_DEFAULT):
        if change.name not in mine and change.name not in theirs:
            yield change


def changed_argument(evidence: Evidence) -> Cause | None:
    """One object is built with another argument, because the code that builds it says so."""
    for one, other in evidence.built:
        for argument in one.arguments:
            before = next((each for each in other.arguments if each.parameter == argument.parameter), None)
            if before is None or argument.value.content == before.value.content:
                continue
            mine = expression(evidence.mine, one.caller, argument.parameter, _place(one, argument))
            theirs = expression(evidence.other, other.caller, argument.parameter, _place(other, before))
            seen = evidence.shows(one.class_name)
            if not mine or not theirs or mine == theirs or not seen:
                continue
            sentence = (
                f"{written(one.caller)} builds `{one.class_name}` with `{argument.parameter}={mine}`"
                f" ({argument.value}), where {evidence.other.label} gives `{theirs}` ({before.value}): {seen}."
            )
            return Cause(rule="changed_argument", sentence=sentence)
    return None


def _place(one: Built, argument: Argument) -> int | None:
    """Where it stands if it was passed by its place; None for what came by the rest parameter."""
    return None if argument.how else one.arguments.index(argument) + 1
