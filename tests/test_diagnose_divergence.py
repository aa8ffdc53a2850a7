"""Where two recordings part, and which call answers to which."""

from __future__ import annotations

from typing import Any

import pytest

from harness.compare.diagnose.divergence import (
    DivergenceKind,
    align,
    divergences,
    first_divergence,
    moved_arguments,
    ordinal,
)
from harness.compare.diagnose.traces import Trace, Value
from harness.compare.drift.recordings import TrainingStage
from harness.compare.drift.tracing import _where


def tensor(*shape: int, digest: str = "aa") -> dict[str, Any]:
    return {"kind": "tensor", "shape": list(shape), "dtype": "float32", "digest": digest, "mean": 0.5, "largest": 1.0}


def call(
    name: str, parent: int | None, given: dict[str, Any], gives: dict[str, Any] | None, **more: Any
) -> dict[str, Any]:
    place = {"file": f"funasr/{name or 'model'}.py", "line": 1, "function": f"{name or 'Model'}.forward"}
    argument = {"parameter": "x", "how": "positional 1", "value": given}
    base = {"kind": "module", "name": name, "class": name or "Model", "caller": None, "arguments": [argument]}
    state = {"binding_error": "", "drawn": "d0", "parent": parent, "raised": None}
    return {**place, **base, **state, "ended": gives is not None, "output": gives, **more}


def trace(calls: list[dict[str, Any]], *, raised: str | None = None, whole: bool = True, **more: Any) -> Trace:
    one = {"number": 0, "whole": whole, "training": True, "raised": raised, "weights": {}, "gradients": {}}
    modules = [
        {
            "name": each["name"],
            "class": each["class"],
            "forward": None,
            "ancestors": [],
            "parameters": {},
            "settings": {},
        }
        for each in calls
    ]
    data = {"schema": 1, "model": "Model", "modules": modules, "built": [], "functions": []}
    return Trace.from_json({**data, "passes": [{**one, "calls": calls, **more}]})


def model(*inner: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [call("", None, tensor(4, 9), tensor(1), **more), *inner]


ENCODER = call("encoder", 0, tensor(4, 9), tensor(4, 9, 6))
DECODER = call("decoder", 0, tensor(4, 9, 6), tensor(4, 9, 23))
PROJECTION = call("decoder.output_layer", 2, tensor(4, 9, 6), tensor(4, 9, 23))
LOSS = call("criterion", 0, tensor(4, 9, 23), tensor(1))
SOUND = [*model(ENCODER, DECODER, PROJECTION, LOSS)]


def kinds(one: Trace, other: Trace) -> list[tuple[str, DivergenceKind]]:
    return [(each.name, each.kind) for each in divergences(one, other)]


def test_equal_recordings_do_not_part() -> None:
    assert divergences(trace(SOUND), trace(SOUND)) == ()
    assert first_divergence(trace(SOUND), trace(SOUND)) is None


def test_a_module_that_gives_another_value_comes_before_those_around_it() -> None:
    changed = {**PROJECTION, "output": tensor(4, 9, 23, digest="bb")}
    outer = {**DECODER, "output": tensor(4, 9, 23, digest="bb")}
    found = first_divergence(trace([*model(ENCODER, outer, changed, LOSS)]), trace(SOUND))
    assert found is not None
    assert (found.name, found.kind) == ("decoder.output_layer", DivergenceKind.OUTPUT_VALUE)


def test_a_module_that_is_skipped_is_not_called() -> None:
    short = {**DECODER, "output": tensor(4, 9, 6)}
    died = {**LOSS, "arguments": [{**LOSS["arguments"][0], "value": tensor(4, 9, 6)}], "ended": False, "output": None}
    mine = trace([*model(ENCODER, short, {**died, "raised": "AssertionError"}, ended=False, output=None)], raised="A")
    assert kinds(mine, trace(SOUND)) == [
        ("decoder.output_layer", DivergenceKind.NOT_CALLED),
        ("decoder", DivergenceKind.OUTPUT_SHAPE),
        ("criterion", DivergenceKind.INPUT_SHAPE),
        ("criterion", DivergenceKind.RAISED),
    ]


def test_what_comes_after_an_exception_is_not_reached_and_not_blamed() -> None:
    died = {**DECODER, "ended": False, "output": None, "raised": "RuntimeError"}
    mine = trace([*model(ENCODER, died, ended=False, output=None)], raised="RuntimeError")
    assert kinds(mine, trace(SOUND)) == [
        ("decoder.output_layer", DivergenceKind.NOT_REACHED),
        ("decoder", DivergenceKind.RAISED),
        ("criterion", DivergenceKind.NOT_REACHED),
    ]
    assert first_divergence(mine, trace(SOUND)) is None


def test_a_pass_of_which_only_forms_are_known_is_compared_by_forms() -> None:
    other_values = {**ENCODER, "output": tensor(4, 9, 6, digest="zz")}
    mine = trace([*model(other_values, DECODER, PROJECTION, LOSS)], whole=False)
    assert divergences(mine, trace(SOUND)) == ()


def test_other_weights_come_before_all_that_follows_from_them() -> None:
    mine = trace(SOUND, weights={"encoder": "1", "decoder": "2"})
    found = first_divergence(mine, trace(SOUND, weights={"encoder": "1", "decoder": "3"}))
    assert found is not None
    assert (found.name, found.kind) == ("decoder", DivergenceKind.WEIGHTS)


def test_gradients_are_reported_from_the_loss_backwards() -> None:
    mine = trace(SOUND, gradients={"encoder": None, "decoder.output_layer": {"digest": "1", "norm": 2.0}})
    theirs = {"encoder": {"digest": "1", "norm": 1.0}, "decoder.output_layer": {"digest": "2", "norm": 2.5}}
    found = divergences(mine, trace(SOUND, gradients=theirs))
    assert [each.name for each in found] == ["decoder.output_layer", "encoder"]
    assert found[1].detail == "no gradient instead of a gradient of norm 1"


def test_a_wrapper_function_moves_no_module_to_another_place() -> None:
    wrapper = {**call("encode", 0, tensor(4, 9), tensor(4, 9, 6)), "kind": "function"}
    wrapped = [*model(wrapper, {**ENCODER, "parent": 1}, DECODER, {**PROJECTION, "parent": 3}, LOSS)]
    found = divergences(trace(wrapped), trace(SOUND))
    assert [(each.name, each.kind, each.is_module) for each in found] == [("encode", DivergenceKind.EXTRA_CALL, False)]


def test_calls_are_matched_in_order_within_their_surroundings() -> None:
    twice = [*model(DECODER, {**PROJECTION, "parent": 1}, DECODER, {**PROJECTION, "parent": 3})]
    once = [*model(DECODER, {**PROJECTION, "parent": 1})]
    aligned = align(trace(twice).passes[0], trace(once).passes[0])
    assert aligned.pairs == ((0, 0), (1, 1), (2, 2))
    assert (aligned.extra, aligned.missing) == ((3, 4), ())


def test_an_argument_that_landed_elsewhere_is_reported_once() -> None:
    def given(*names: str) -> list[dict[str, Any]]:
        return [
            {"parameter": name, "how": f"positional {place}", "value": tensor(4, digest=str(place))}
            for place, name in enumerate(names, 1)
        ]

    mine = trace([*model({**ENCODER, "arguments": given("hidden", "return_hidden")})])
    other = trace([*model({**ENCODER, "arguments": given("hidden", "mask")})])
    found = divergences(mine, other)
    assert [each.kind for each in found] == [DivergenceKind.BINDING]
    assert found[0].detail == "second positional argument: was `mask`, is `return_hidden`"
    assert len(moved_arguments(mine.passes[0].calls[1], other.passes[0].calls[1])) == 1


@pytest.mark.parametrize(("number", "word"), [(1, "first"), (5, "fifth"), (11, "11th")])
def test_places_are_reported_in_words(number: int, word: str) -> None:
    assert ordinal(number) == word


def test_a_list_and_a_tuple_of_the_same_are_of_one_form() -> None:
    one = Value(data={"kind": "tuple", "length": 1, "items": [tensor(3)]})
    other = Value(data={"kind": "list", "length": 1, "items": [tensor(3)]})
    assert one.form == other.form
    assert str(one) == "([3])"


def returned(loss: dict[str, Any], **metrics: dict[str, Any]) -> dict[str, Any]:
    """As FunASR's models return it: the loss, metrics by name, the weight of the batch."""
    return {"kind": "tuple", "length": 3, "items": [loss, {"kind": "dict", "named": metrics}, tensor(1)]}


def test_a_metric_that_only_one_release_returns_explains_no_loss() -> None:
    def first(older: dict[str, Any], newer: dict[str, Any]) -> tuple[TrainingStage, str]:
        found = _where(trace(model(output=newer)), trace(model(output=older)), 1)
        return found["stage"], found["first"].detail if found["first"] else ""

    def model(output: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**call("", None, tensor(4, 9), output), "ended": True}]

    plain = returned(tensor(1), acc=tensor(1))
    assert first(plain, returned(tensor(1), acc=tensor(1), batch_size=tensor(1))) == (TrainingStage.NONE, "")
    for other in (
        returned(tensor(1, digest="bb"), acc=tensor(1), batch_size=tensor(1)),
        returned(tensor(1), acc=tensor(1, digest="bb"), batch_size=tensor(1)),
        returned(tensor(2), acc=tensor(1)),
        returned(tensor(1), accuracy=tensor(1)),
        tensor(1),
    ):
        assert first(plain, other)[0] is TrainingStage.MODEL


def test_a_recording_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="recording of schema 9"):
        Trace.from_json({"schema": 9})
