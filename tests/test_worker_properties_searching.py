"""The search for a counter-example, on properties made up for it: no release is needed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from forked import Forked

from harness.worker.checks import properties
from harness.worker.checks.properties import examples, searching
from harness.worker.checks.properties.examples import Example, ExampleSpec
from harness.worker.checks.properties.property import ModelUnderTest, Property, Undecided, Violation

BASE: dict[str, Any] = {
    "model": "Made",
    "model_conf": {"ctc_weight": 0.0},
    "encoder_conf": {
        **{"output_size": 512, "attention_heads": 4, "linear_units": 2048, "num_blocks": 50, "kernel_size": 11},
        **{"dropout_rate": 0.1, "chunk_size": [12, 15], "stride": [8, 10], "pad_left": [0, 0]},
    },
    "decoder_conf": {"num_blocks": 16, "att_layer_num": 16, "kernel_size": 11, "sanm_shfit": 5},
    "predictor_conf": {"idim": 512, "r_order": 1},
    "frontend": "WavFrontend",
    "optim_conf": {"lr": 1},
}


def subject(base: dict[str, Any] | None = None) -> ModelUnderTest:
    return ModelUnderTest(base=base or BASE, install_dir="/nowhere", groups={}, vocab_size=8404, hidden_size=320)


def too_many_rows(example: Example, _subject: ModelUnderTest) -> None:
    if len(example.frames) > 2:
        raise Violation(f"{len(example.frames)} rows")


def says_nothing(example: Example, _subject: ModelUnderTest) -> None:
    raise Undecided


def holds(example: Example, _subject: ModelUnderTest) -> None:
    return


def many_ways_down(example: Example, _subject: ModelUnderTest) -> None:
    """What fails has much that can be made smaller, in small steps."""
    if sum(example.frames) + example.vocab_size > 30:
        raise Violation("large")


def wrong(example: Example, _subject: ModelUnderTest) -> None:
    raise KeyError("ours")


def look(holding: str, examples: int = 50, over_after: int | None = None, **more: Any) -> dict[str, Any]:
    seed = more.pop("seed", 0)
    asked = Property(name=holding, spec=ExampleSpec(**more), holds=globals()[holding])
    found = searching.search(asked, subject(), examples=examples, seed=seed, is_over=limit(over_after))
    return {"status": found.status, "message": found.message, "examples": found.examples, "text": found.counterexample}


def limit(over_after: int | None) -> Callable[[], bool]:
    """A time limit that is met when so many examples were begun; no clock."""
    begun = itertools.count()
    return searching.never if over_after is None else lambda: next(begun) >= over_after


def judged(holding: str) -> int:
    """How many examples a search judges in all, those of shrinking among them."""
    count = 0

    def counted(example: Example, one: ModelUnderTest) -> None:
        nonlocal count
        count += 1
        globals()[holding](example, one)

    found = searching.search(Property(name=holding, spec=ExampleSpec(), holds=counted), subject(), examples=50, seed=0)
    return count - found.examples


def answer(over_after: int | None) -> dict[str, Any]:
    """The whole check's answer about two made-up properties, one of which fails."""
    both = tuple(Property(name=name, spec=ExampleSpec(), holds=globals()[name]) for name in ("too_many_rows", "holds"))
    request = {"seed": 0, "settings": {"examples": 40, "timeout_seconds": 60.0}}
    with (
        mock.patch.object(properties, "PROPERTIES", both),
        mock.patch.object(properties, "model_under_test", return_value=subject()),
        mock.patch.object(properties, "_not_for", return_value=""),
        mock.patch.object(properties, "_limit", return_value=limit(over_after)),
    ):
        return properties.check(request)


def look_wrongly() -> str:
    try:
        look("wrong")
    except searching.HarnessFault as fault:
        return str(fault)
    return "nothing was raised"


def drawn(count: int, seed: int = 0, **more: Any) -> list[Any]:
    """The examples that are drawn, as plain values."""
    kept: list[Example] = []

    def keep(example: Example, _subject: ModelUnderTest) -> None:
        kept.append(example)

    searching.search(
        Property(name="keep", spec=ExampleSpec(**more), holds=keep), subject(), examples=count, seed=seed,
    )  # fmt: skip
    return [[dict(one.config), one.frames, one.tokens, one.targets, one.key, one.text] for one in kept]


def reread(text: str) -> list[Any]:
    one = Example.parse(text)
    return [dict(one.config), one.frames, one.tokens, one.targets, one.key, one.text]


def stored(text: str, holding: str) -> dict[str, Any] | None:
    found = searching.replay(Property(name=holding, spec=ExampleSpec(), holds=globals()[holding]), subject(), text)
    return None if found is None else {"status": found.status, "message": found.message, "text": found.counterexample}


def own() -> list[Any]:
    one = examples.own_dimensions(BASE, ExampleSpec(), vocab_size=8404, hidden_size=320)
    return [dict(one.config), one.frames, one.tokens]


def test_what_is_found_is_made_small(forked: Forked) -> None:
    found = forked(look, holding="too_many_rows")
    assert (found["status"], found["message"]) == ("fails", "3 rows")
    assert 0 < found["examples"] <= 50
    config, frames, tokens, *_ = forked(reread, text=found["text"])
    assert len(frames) == len(tokens) == 3
    # Hypothesis takes each number down as far as it goes.
    assert (config["vocab_size"], config["encoder_conf"]["num_blocks"]) == (5, 1)


def test_what_holds_was_held_against_as_many_examples_as_asked_for(forked: Forked) -> None:
    assert forked(look, holding="holds", examples=40) == {
        "status": "holds", "message": "", "examples": 40, "text": ""
    }  # fmt: skip


def test_examples_that_say_nothing_are_not_counted(forked: Forked) -> None:
    found = forked(look, holding="says_nothing")
    assert (found["status"], found["examples"]) == ("not_tested", 0)


def test_a_time_limit_that_is_met_is_reported_with_how_far_the_search_came(forked: Forked) -> None:
    for begun in (0, 7):
        found = forked(look, holding="holds", over_after=begun)
        told = f"the time limit stopped the search after {begun} of 50 examples"
        assert (found["status"], found["message"], found["examples"]) == ("not_tested", told, begun)


def test_a_time_limit_that_is_met_while_shrinking_loses_nothing_that_was_found(forked: Forked) -> None:
    drawn = forked(look, holding="too_many_rows")["examples"]
    found = forked(look, holding="too_many_rows", over_after=drawn + 3)
    assert (found["status"], found["examples"]) == ("fails", drawn)
    assert "\nexample:\n" in found["text"]


def test_no_clock_decides_how_far_a_counter_example_is_shrunk(forked: Forked) -> None:
    assert forked(judged, holding="many_ways_down") == searching.SHRINK_EXAMPLES


def test_a_check_that_the_time_limit_stopped_is_not_passed_and_says_how_far_it_came(forked: Forked) -> None:
    whole = forked(answer, over_after=None)
    assert (whole["status"], whole["failure"]["signature"]) == ("failed", "PropertyFails@too_many_rows")
    assert [each["planned"] for each in whole["evidence"]["properties"]] == [20, 20]
    stopped = forked(answer, over_after=45)
    drawn = stopped["metrics"]["examples_by_property"]["holds"]
    assert 0 < drawn < 20
    assert (stopped["status"], stopped["failure"]["signature"]) == ("timed_out", "Timeout@holds")
    assert stopped["reason"] == (
        f"the time limit of 60 s stopped the search: holds drew {drawn} of 20 examples; failed by then: too_many_rows"
    )
    assert [each["property"] for each in stopped["evidence"]["counterexamples"]] == ["too_many_rows"]
    assert stopped["evidence"][properties.STOPPED] == ["holds"]
    assert properties.STOPPED not in whole["evidence"]


def test_what_the_harness_does_wrong_is_no_counter_example(forked: Forked) -> None:
    assert forked(look_wrongly).startswith("wrong: KeyError: 'ours'\nmodel: Made")


def test_one_seed_draws_the_same_and_another_does_not(forked: Forked) -> None:
    first, again, other = (forked(drawn, count=20, seed=seed) for seed in (3, 3, 4))
    assert first == again != other


def test_an_example_is_what_its_text_says(forked: Forked) -> None:
    for example in forked(drawn, count=10, options={"chunk": [0, 1, 2]}):
        assert forked(reread, text=example[-1]) == example


def test_drawn_configs_are_legal_and_derived_from_the_variants_own(forked: Forked) -> None:
    for config, frames, tokens, targets, *_ in forked(drawn, count=60):
        encoder, decoder = config["encoder_conf"], config["decoder_conf"]
        assert encoder["output_size"] % (2 * encoder["attention_heads"]) == 0
        assert encoder["output_size"] == config["predictor_conf"]["idim"]
        assert encoder["kernel_size"] == decoder["kernel_size"]
        assert decoder["sanm_shfit"] == (decoder["kernel_size"] - 1) // 2
        assert decoder["att_layer_num"] == decoder["num_blocks"]
        assert encoder["dropout_rate"] == 0.0
        for size, stride, before in zip(encoder["chunk_size"], encoder["stride"], encoder["pad_left"], strict=True):
            assert size >= stride + before
        assert not {"frontend", "optim_conf"} & set(config)
        assert len(frames) == len(tokens)
        assert min(targets) >= 2
        assert all(2 * count - 1 <= length for count, length in zip(tokens, frames, strict=True))


def test_wishes_are_met(forked: Forked) -> None:
    for config, frames, _, targets, *_ in forked(
        drawn,
        count=30,
        fewest_targets=1,
        ctc=0.3,
        rows=[2, 3],
        one_chunk=True,
        one_long=True,
        look_ahead=True,
        dropout=0.2,
    ):
        assert 2 <= len(frames) <= 3
        assert frames[0] == examples.MOST_FRAMES > max(frames[1:])
        assert min(targets) >= 1
        assert config["model_conf"]["ctc_weight"] == 0.3
        assert config["model_conf"]["predictor_bias"] == 0
        assert len(config["encoder_conf"]["chunk_size"]) == 1
        assert config["predictor_conf"]["r_order"] == 1
        assert config["encoder_conf"]["dropout_rate"] == 0.2


def test_the_cells_own_shape_has_few_blocks_and_its_own_chunks(forked: Forked) -> None:
    config, frames, tokens = forked(own)
    assert (config["vocab_size"], config["encoder_conf"]["output_size"]) == (8404, 320)
    assert (config["encoder_conf"]["num_blocks"], config["decoder_conf"]["num_blocks"]) == (2, 1)
    assert config["encoder_conf"]["chunk_size"] == [12, 15]
    assert len(frames) == len(tokens) == 3


def test_a_stored_counter_example_is_held_against_the_property_once(forked: Forked) -> None:
    text = forked(look, holding="too_many_rows")["text"]
    assert forked(stored, text=text, holding="too_many_rows") == {"status": "known", "message": "3 rows", "text": text}
    for holding in ("holds", "says_nothing"):
        assert forked(stored, text=text, holding=holding) is None
    assert forked(stored, text="not: [an example", holding="too_many_rows") is None


SETTINGS = [(smoothing, by_token) for smoothing in (0.0, 0.1, 0.5) for by_token in (False, True)]


def references(smoothing: float, by_token: bool) -> list[float]:
    """The loss of one batch by its definition, by torch's, and by hand where nothing is smoothed."""
    import torch

    from harness.worker.checks.properties.loss import by_cross_entropy, definition, scores_and_targets

    config = {"vocab_size": 7, "model_conf": {}}
    scores, targets = scores_and_targets(Example(config=config, frames=(9, 9), tokens=(4, 2), seed=1))
    settings: dict[str, Any] = {"smoothing": smoothing, "by_token": by_token}
    plain = torch.nn.functional.cross_entropy(
        scores.double().transpose(1, 2), targets, ignore_index=-1, reduction="sum"
    )
    return [
        float(definition(scores, targets, **settings)[0].detach()),
        float(by_cross_entropy(scores, targets, **settings).detach()),
        float(plain.detach()) / (6 if by_token else 2),
    ]


@pytest.mark.parametrize(("smoothing", "by_token"), SETTINGS)
def test_the_two_references_of_the_loss_agree(forked: Forked, smoothing: float, by_token: bool) -> None:
    written, torchs, plain = forked(references, smoothing=smoothing, by_token=by_token)
    assert written == pytest.approx(torchs, rel=1e-9)
    assert (written == pytest.approx(plain, rel=1e-9)) is (smoothing == 0.0)
