"""Causes planted in a laid-out release are named, each by the rule that it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnose_scene import compare
from forked import Forked

from harness.compare.diagnose.divergence import DivergenceKind
from harness.core.cells import Status

CALL = "self.decoder(hidden[:, : text.size(1)], mask)"


def test_a_moved_parameter_is_named_with_what_it_decides(forked: Forked, tmp_path: Path) -> None:
    edits = {"hidden, mask=None, return_hidden=False": "hidden, return_hidden=False, mask=None"}
    found, evidence = compare(forked, tmp_path, edits)
    assert found.status is Status.FAILED
    assert found.against_status is Status.PASSED
    assert found.rule == "moved_argument"
    assert "`mask` as second positional argument to `decoder`" in found.cause
    assert "whose second parameter is `return_hidden`; in 1.0.0 it is `mask`" in found.cause
    assert "`self.output_layer is not None and return_hidden is False`" in found.cause
    assert "`decoder.output_layer` (6 → 23) is never called" in found.cause
    assert "`criterion_att` receives [4, 8, 6] instead of [4, 8, 23]" in found.cause
    assert found.first == "`decoder.output_layer` (6 → 23) exists and was never called"
    assert [call.text for call in found.calls] == ["second positional argument: was `mask`, is `return_hidden`"]
    assert evidence.first is not None
    assert evidence.first.kind is DivergenceKind.NOT_CALLED


def test_swapped_arguments_are_named(forked: Forked, tmp_path: Path) -> None:
    edits = {"self.criterion_att(scores, text)": "self.criterion_att(text, scores)"}
    found, _ = compare(forked, tmp_path, edits)
    assert found.status is Status.FAILED
    assert found.rule == "swapped_arguments"
    assert "`Tiny.forward` (funasr/models/tiny.py:" in found.cause
    assert "`x` gets what is `target` in 1.0.0, and `target` what is `x`" in found.cause


def test_a_renamed_key_is_named_with_the_setting_that_nothing_reads(forked: Forked, tmp_path: Path) -> None:
    found, _ = compare(forked, tmp_path, {'kwargs.get("scale", 1.0)': 'kwargs.get("gain", 1.0)'})
    assert found.rule == "renamed_key"
    assert "reads `gain`, which in 1.0.0 is `scale`: the config gives `scale` = 2.0" in found.cause
    assert "`encoder.scale` is 1.0 instead of 2.0" in found.cause
    assert found.setting == "state `gain` in addition to `scale` in the config"


def test_a_changed_default_is_named_with_the_setting_that_it_changes(forked: Forked, tmp_path: Path) -> None:
    found, evidence = compare(forked, tmp_path, {"dropout_rate=0.0": "dropout_rate=0.5"})
    assert found.rule == "changed_default"
    assert "the default of `dropout_rate` is 0.5, in 1.0.0 0.0" in found.cause
    assert "`encoder.dropout.p` is 0.5 instead of 0.0" in found.cause
    assert found.setting == "state `dropout_rate: 0.0` in the config"
    assert evidence.first is not None
    assert evidence.first.name == "encoder.dropout"


def test_the_default_of_a_call_is_named(forked: Forked, tmp_path: Path) -> None:
    found, _ = compare(forked, tmp_path, {"mask=None, return_hidden=False": "mask=None, return_hidden=None"})
    assert found.rule == "changed_default"
    assert "leaves `return_hidden` of `decoder`" in found.cause
    assert "to its default, which is None and in 1.0.0 False" in found.cause


@pytest.mark.parametrize(
    ("old", "new", "module"),
    [
        ("(self.linear(speech)) * self.scale", "(self.linear(speech)) + self.scale", "encoder"),
        ("return hidden * weights", "return hidden * weights * 1.0001", "decoder"),
        ("hidden = hidden * mask", "hidden = hidden * mask * 1.5", "decoder.output_layer"),
    ],
)  # fmt: skip
def test_a_numeric_change_is_found_in_the_first_module_and_its_code(
    forked: Forked, tmp_path: Path, old: str, new: str, module: str
) -> None:
    found, evidence = compare(forked, tmp_path, {old: new})
    assert found.status is Status.PASSED
    assert found.rule == "changed_code"
    assert new in found.cause
    assert old in found.cause
    assert evidence.first is not None
    assert evidence.first.name == module


def test_another_function_in_the_place_of_one_is_named(forked: Forked, tmp_path: Path) -> None:
    edits = {
        "class Encoder(": "def weighed(hidden, weights):\n    return (hidden * weights).repeat(1, 2, 1)\n\n"
        "class Encoder(",
        "hidden = weighted(hidden, weights)": "hidden = weighed(hidden, weights)",
    }
    found, _ = compare(forked, tmp_path, edits)
    assert found.rule == "replaced_call"
    assert "calls `weighed` (funasr/models/tiny.py:" in found.cause
    assert "where 1.0.0 calls `weighted`" in found.cause
    assert "from equal inputs it gives [4, 80, 6] instead of [4, 40, 6]" in found.cause


def test_an_attribute_that_nothing_sets_is_named(forked: Forked, tmp_path: Path) -> None:
    edits = {"scores = self.decoder": "assert self.step_cur >= 0\n        scores = self.decoder"}
    found, _ = compare(forked, tmp_path, edits)
    assert found.rule == "attribute"
    assert "reads `step_cur`, which nothing in funasr/models/tiny.py sets; 1.0.0 does not read it there" in found.cause


def test_an_attribute_that_is_set_no_more_is_named_with_where_it_was_set(forked: Forked, tmp_path: Path) -> None:
    found, _ = compare(forked, tmp_path, {'        self.scale = kwargs.get("scale", 1.0)\n': ""})
    assert found.rule == "attribute"
    assert (
        "`scale`, which nothing in funasr/models/tiny.py sets; 1.0.0 sets it in funasr/models/tiny.py:" in found.cause
    )


def test_another_argument_of_a_construction_is_named(forked: Forked, tmp_path: Path) -> None:
    edits = {"LabelSmoothingLoss(vocab_size, strict=True)": "LabelSmoothingLoss(size=vocab_size - 1, strict=True)"}
    found, _ = compare(forked, tmp_path, edits, check="construct")
    assert found.status is Status.FAILED
    assert found.rule == "changed_argument"
    assert (
        "builds `LabelSmoothingLoss` with `size=vocab_size - 1` (22), where 1.0.0 gives `vocab_size` (23)"
        in found.cause
    )
    assert "`criterion_att.size` is 22 instead of 23" in found.cause


def test_a_parameter_that_a_function_no_longer_has_is_named(forked: Forked, tmp_path: Path) -> None:
    edits = {"hidden_size, dropout_rate=0.0, **kwargs": "hidden_size, *, width=0, scale=1.0, predictor_weight=0.0"}
    edits |= {'kwargs.get("scale", 1.0)': "scale", "Dropout(dropout_rate)": "Dropout(0.0)"}
    edits |= {"Encoder(hidden_size, **kwargs)": "Encoder(hidden_size, dropout_rate=0.0, **kwargs)"}
    found, _ = compare(forked, tmp_path, edits, check="construct")
    assert found.status is Status.FAILED
    assert found.rule == "call_that_does_not_fit"
    assert "gives it `dropout_rate`" in found.cause


def test_a_gradient_that_is_cut_off_is_the_only_change(forked: Forked, tmp_path: Path) -> None:
    edits = {
        "weights = torch.sigmoid(self.predictor(hidden))": "weights = torch.sigmoid(self.predictor(hidden)).detach()"
    }
    found, evidence = compare(forked, tmp_path, edits)
    assert found.status is Status.FAILED
    assert found.rule == "only_change"
    assert ".detach()" in found.cause
    assert evidence.first is not None
    assert evidence.first.kind is DivergenceKind.GRADIENT
    assert evidence.first.name == "predictor"


def test_where_nothing_changed_no_cause_is_made_up(forked: Forked, tmp_path: Path) -> None:
    found, evidence = compare(forked, tmp_path, {"def weighted": "# a comment, and nothing else\ndef weighted"})
    assert evidence.divergences == ()
    assert (found.cause, found.changes, found.rule) == ("", (), "")


def test_where_several_things_changed_and_none_is_proven_it_says_what_is_known(forked: Forked, tmp_path: Path) -> None:
    edits = {
        "self.linear = torch": "torch.manual_seed(5)\n        self.linear = torch",
        "scores = self.decoder": "torch.manual_seed(3)\n        scores = self.decoder",
    }
    found, evidence = compare(forked, tmp_path, edits)
    assert evidence.first is not None
    assert evidence.first.kind is DivergenceKind.WEIGHTS
    assert found.cause == ""
    assert any("functions that ran differ" in each for each in found.known)
    assert found.unknown == ("which of the changes brought it",)


def test_what_breaks_off_in_a_training_is_compared_in_its_pass(forked: Forked, tmp_path: Path) -> None:
    edits = {"hidden, mask=None, return_hidden=False": "hidden, return_hidden=False, mask=None"}
    found, evidence = compare(forked, tmp_path, edits, check="finetune")
    assert found.status is Status.FAILED
    assert found.rule == "moved_argument"
    assert evidence.number == 0


def test_another_difference_in_shape_is_not_taken_for_the_cause_of_a_finding(forked: Forked, tmp_path: Path) -> None:
    edits = {
        "mask = torch.ones(hidden.size(0), text.size(1), 1)": "mask = torch.ones(1, text.size(1), 1)",
        "weights = torch.sigmoid(self.predictor(hidden))": "weights = torch.sigmoid(self.predictor(hidden)).detach()",
        "return hidden * weights": "return weights * hidden",
    }
    found, evidence = compare(forked, tmp_path, edits)
    assert found.status is Status.FAILED
    assert "predictor" in found.reason
    assert any(each.kind is DivergenceKind.INPUT_SHAPE for each in evidence.divergences)
    assert found.cause == ""
    assert any("the first difference arises in `Tiny.forward`" in each for each in found.known)
