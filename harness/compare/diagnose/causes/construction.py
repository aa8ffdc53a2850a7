"""Causes in how the model is built: a key that is read by another name, a default that changed, another argument."""

from __future__ import annotations

from collections.abc import Iterator

from harness.compare.diagnose.api import ApiChange, Of
from harness.compare.diagnose.causes.cause import Cause, expression, written
from harness.compare.diagnose.evidence import Evidence, literal
from harness.compare.diagnose.traces import Argument, Built


def renamed_key(evidence: Evidence) -> Cause | None:
    """What the config calls by one name is read by another, so that a default takes its place."""
    for constructed, _ in evidence.built:
        kinds = (Of.KEY_RENAMED, Of.PARAMETER_RENAMED)
        for change in evidence.api_of(constructed.file, constructed.function, *kinds):
            config_arguments = _other_arguments(constructed)
            if (
                change.was not in config_arguments
                or change.now in config_arguments
                or not (effect := evidence.shows(constructed.class_name))
            ):
                continue
            sentence = (
                f"`{constructed.function}` ({constructed.file}:{change.line or constructed.line}) reads "
                f"`{change.now}`, which in"
                f" {evidence.other.label} is `{change.was}`: the config gives `{change.was}` ="
                f" {config_arguments[change.was].value}, which nothing there reads any more, and {effect}."
            )
            return Cause(
                rule="renamed_key",
                sentence=sentence,
                setting=f"state `{change.now}` in addition to `{change.was}` in the config",
            )
    return None


def _other_arguments(constructed: Built) -> dict[str, Argument]:
    """What came by the rest parameter, `**kwargs`."""
    return {argument.parameter: argument for argument in constructed.arguments if argument.how.startswith("**")}


def changed_default(evidence: Evidence) -> Cause | None:
    """A parameter or key that the config does not give has another default; held where it is the only such change."""
    defaults: dict[tuple[str, str, str], tuple[Built, ApiChange, str]] = {}
    for constructed, other in evidence.built:
        for change in _defaulted(evidence, constructed, other):
            if effect := evidence.shows(constructed.class_name):
                defaults.setdefault(
                    (constructed.file, constructed.function, change.name), (constructed, change, effect)
                )
    if len(defaults) != 1:
        return None
    ((constructed, change, effect),) = defaults.values()
    subject = "default of the key" if change.of is Of.KEY_DEFAULT else "default of"
    sentence = (
        f"In `{constructed.function}` ({constructed.file}:{change.line or constructed.line}) the {subject} "
        f"`{change.name}` is {change.now}, in"
        f" {evidence.other.label} {change.was}; the config does not give it, and {effect}."
    )
    return Cause(
        rule="changed_default", sentence=sentence, setting=f"state `{change.name}: {change.was}` in the config"
    )


def _defaulted(evidence: Evidence, mine: Built, theirs: Built) -> Iterator[ApiChange]:
    my_arguments = {argument.parameter: argument for argument in mine.arguments}
    their_arguments = {argument.parameter: argument for argument in theirs.arguments}
    for change in evidence.api_of(mine.file, mine.function, Of.DEFAULT_CHANGED):
        if change.name not in my_arguments or change.name not in their_arguments:
            continue
        values = (my_arguments[change.name].value.plain, their_arguments[change.name].value.plain)
        if values == (literal(change.now), literal(change.was)):
            yield change
    for change in evidence.api_of(mine.file, mine.function, Of.KEY_DEFAULT):
        if change.name not in my_arguments and change.name not in their_arguments:
            yield change


def changed_argument(evidence: Evidence) -> Cause | None:
    """One object is built with another argument, because the code that builds it says so."""
    for constructed, other in evidence.built:
        for argument in constructed.arguments:
            before = next(
                (candidate for candidate in other.arguments if candidate.parameter == argument.parameter), None
            )
            if before is None or argument.value.content == before.value.content:
                continue
            my_expression = expression(
                evidence.mine, constructed.caller, argument.parameter, _place(constructed, argument)
            )
            their_expression = expression(evidence.other, other.caller, argument.parameter, _place(other, before))
            effect = evidence.shows(constructed.class_name)
            if not my_expression or not their_expression or my_expression == their_expression or not effect:
                continue
            sentence = (
                f"{written(constructed.caller)} builds `{constructed.class_name}` with "
                f"`{argument.parameter}={my_expression}`"
                f" ({argument.value}), where {evidence.other.label} gives `{their_expression}` ({before.value}): "
                f"{effect}."
            )
            return Cause(rule="changed_argument", sentence=sentence)
    return None


def _place(constructed: Built, argument: Argument) -> int | None:
    """Where it stands if it was passed by its place; None for what came by the rest parameter."""
    return None if argument.how else constructed.arguments.index(argument) + 1
