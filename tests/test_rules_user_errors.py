"""What is a user's own doing: each kind, beside a failure of the release in the same configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from golden_files import assert_golden

from harness.core.cells import Cell, Check, Failure, Frame, Outcome, Status, Verdict
from harness.core.evidence import OWN_SETTINGS
from harness.rules.apply import apply_rules
from harness.rules.known_issues import KnownIssues
from harness.rules.user_input import names_setting
from harness.rules.verdicts import judge
from harness.variants.catalogue import available, load_variant, own_settings

CELL = Cell.parse("1.4.16/mine/v8404-h320/reduced/finetune@train_ds/cpu-fp32")
MAIN = "funasr/bin/train_ds.py:main"
MODEL = "funasr/models/paraformer/model.py:forward"


def failed(
    kind: str,
    message: str,
    settings: dict[str, Any] | None = None,
    *,
    place: str = MAIN,
    control: object = None,
    rows: str = "",
    near: dict[str, str] | None = None,
    on_stock_input: dict[str, str] | None = None,
) -> Outcome:
    """A cell that ended with this exception, with what is known of the user's own beside it."""
    evidence: dict[str, Any] = {}
    if settings is not None:
        evidence[OWN_SETTINGS] = {"file": "mine.yaml", "settings": settings, "near": near or {}}
    if control is not None:
        evidence["control"] = control
    if rows:
        evidence["user_rows"] = {"file": rows, "listed": 3, "trainable": 3, "reasons": []}
    if on_stock_input is not None:
        evidence["on_stock_input"] = on_stock_input
    file, _, function = place.partition(":")
    frame = Frame(file=file, line=1, function=function, code="")
    failure = Failure(type=kind, message=message, frames=(frame,), signature=f"{kind}@{place}")
    return Outcome(cell=CELL, status=Status.FAILED, reason=message, failure=failure, evidence=evidence)


LRR = "Adam.__init__() got an unexpected keyword argument 'lrr'"
SAME = {"failure": f"TypeError@{MAIN}"}
PASSES = {"failure": None}
FINITE = {"failure": None, "finite": True}
DIVERGES = {"failure": None, "finite": False}
NAN = "The loss of step 3 is nan, not a finite number."


@pytest.mark.parametrize(
    "outcome",
    [
        failed("TypeError", LRR, {"optim_conf.lrr": 0.1}),
        failed("KeyError", "'lrr'", {"optim_conf.lrr": 0.1}),
        failed("NameError", "name 'encoder' is not defined", {"freeze_param": "[encoder]"}),
        failed("KeyError", "'adamm'", {"optim": "adamm"}),
        failed("AssertionError", "assert optim in optim_classes", {"optim": "adamm"}),
        failed("FileNotFoundError", "[Errno 2] … 'noise.scp'", {"dataset_conf.noise": "/data/noise.scp"}),
        failed("ValueError", "not enough values to unpack", {"optim": "adamw"}, control=PASSES),
        failed("NotTrained", "`init_param` a.pt does not exist: …", {"init_param": "/a.pt"}, place="start"),
        failed("NotTrained", NAN, {"optim_conf.lr": 100.0}, place="losses", control=FINITE),
        failed("NotTrained", NAN, {"optim_conf.lr": 100.0}, place="steps+losses+parameters+clipping", control=FINITE),
        failed("IndexError", "index out of range", {"optim_conf.lr": 100.0}, place=MODEL, control=FINITE),
        failed("LibsndfileError", "Error opening '/speech/a.wav': unknown format", rows="mine.jsonl"),
        failed("JSONDecodeError", "Expecting value in mine.jsonl", rows="mine.jsonl"),
    ],
)
def test_what_names_the_users_own_is_theirs(outcome: Outcome) -> None:
    (judged,) = judge([apply_rules(outcome)], KnownIssues())
    assert judged.verdict is Verdict.YOURS


def a_failure(kind: str, message: str, place: str = MODEL) -> Failure:
    failure = failed(kind, message, place=place).failure
    assert failure is not None
    return failure


START = "`init_param` a.pt does not exist"


@pytest.mark.parametrize(
    ("failure", "path", "value", "names"),
    [
        # The key's last part or the value, in quotes of any kind or alone.
        (a_failure("TypeError", "unexpected 'lrr'"), "optim_conf.lrr", 0.1, True),
        (a_failure("TypeError", 'unexpected "lrr"'), "optim_conf.lrr", 0.1, True),
        (a_failure("TypeError", "unexpected `lrr`"), "optim_conf.lrr", 0.1, True),
        (a_failure("KeyError", "lrr"), "optim_conf.lrr", 0.1, True),
        (a_failure("KeyError", "lrr"), "lrr", 0.1, True),
        (a_failure("TypeError", "unexpected lrr"), "optim_conf.lrr", 0.1, False),
        (a_failure("TypeError", "unexpected 'optim_conf'"), "optim_conf.lrr", 0.1, False),
        (a_failure("KeyError", "'adamm'"), "optim", "adamm", True),
        (a_failure("KeyError", "'ab'"), "optim", "ab", True),
        (a_failure("KeyError", "'a'"), "optim", "a", False),
        (a_failure("KeyError", "'5'"), "optim", 5, False),
        # A name in an expression, of an exception about names alone.
        (a_failure("NameError", "name 'encoder' is not defined"), "freeze_param", "[encoder, x1]", True),
        (a_failure("NameError", "name 'x1' is not defined"), "freeze_param", "[encoder, x1]", True),
        (a_failure("NameError", "name 'Encoder' is not defined"), "freeze_param", "[Encoder]", True),
        (a_failure("KeyError", "'encoder'"), "freeze_param", "[encoder]", False),
        (a_failure("NameError", "name 'encoder' is not defined"), "freeze_param", ["encoder"], False),
        # A bare assertion, whose message is its code, where the configuration is read.
        (a_failure("AssertionError", "assert optim in classes", MAIN), "optim", "x", True),
        (a_failure("AssertionError", "assert a.optim", "funasr/train_utils/x.py:f"), "optim", 5, True),
        (a_failure("AssertionError", "assert Optim", MAIN), "Optim", 5, True),
        (a_failure("AssertionError", "assert optimizer in classes", MAIN), "optim", "x", False),
        (a_failure("AssertionError", "assert xy in optims", MAIN), "optim", "xy", False),
        (a_failure("AssertionError", "assert optim in classes", MODEL), "optim", "x", False),
        (a_failure("ValueError", "assert optim in classes", MAIN), "optim", "x", False),
        (replace(a_failure("AssertionError", "assert optim", MAIN), frames=()), "optim", "x", False),
        # A path by its file's name.
        (a_failure("OSError", "[Errno 2] noise.scp"), "dataset_conf.noise", "/data/noise.scp", True),
        (a_failure("OSError", "[Errno 2] noise.scp"), "dataset_conf.noise", "noise.scp", False),
        (a_failure("OSError", "[Errno 2] other.scp"), "dataset_conf.noise", "/data/noise.scp", False),
        # Of the harness's own findings a start that is missing, and nothing else.
        (a_failure("NotTrained", START, "start"), "init_param", "/a.pt", True),
        (a_failure("NotTrained", START, "start"), "optim_conf.init_param", "/a.pt", False),
        (a_failure("NotTrained", START, "start+epochs"), "init_param", "/a.pt", False),
        (a_failure("NotTrained", "`init_param` is another", "start"), "init_param", "/a.pt", False),
        (a_failure("NotTrained", "a.pt does not exist", "start"), "init_param", "/a.pt", False),
        (a_failure("DataDiffers", "'lrr'", "rows"), "optim_conf.lrr", 0.1, False),
        (a_failure("WeightsDiffer", "'lrr'", "folder"), "optim_conf.lrr", 0.1, False),
    ],
)
def test_an_exception_names_a_setting(failure: Failure, path: str, value: object, names: bool) -> None:
    assert names_setting(failure, path, value) is names


@pytest.mark.parametrize(
    "outcome",
    [
        # The same configuration, and a failure that does not come from it.
        failed("TypeError", "forward() got an unexpected keyword argument 'return_hidden'", {"optim_conf.lrr": 0.1}),
        failed("AttributeError", "'ParaformerStreaming' object has no attribute 'step_cur'", {"optim": "adamw"}),
        failed("AttributeError", "'X' object has no attribute 'encoder'", {"freeze_param": "[encoder]"}),
        failed("AssertionError", "assert size == self.size", {"model_conf.size": 3}, place=MODEL),
        # Without the user's settings it ends alike, whatever it names.
        failed("TypeError", LRR, {"optim_conf.lrr": 0.1}, control=SAME),
        failed("ValueError", "planted", {"optim": "adamw"}, control={"failure": "OSError@funasr/bin/train_ds.py:main"}),
        # Findings of the harness's own are about the release.
        failed("NotTrained", "`optim_conf.lr` is 0.1 by …, and the trainer works with 0.2", {"optim_conf.lr": 0.1}),
        failed("NotTrained", "`init_param` a.pt does not exist", {"init_param": "/a.pt"}, place="start+schedule"),
        # Without the user's settings the losses run away too, or what is wrong does not follow from them.
        failed("NotTrained", NAN, {"optim_conf.lr": 0.1}, place="losses", control=DIVERGES),
        failed("NotTrained", NAN, {"optim_conf.lr": 0.1}, place="losses+ranks", control=FINITE),
        failed("NotTrained", "the rate is another", {"optim_conf.lr": 0.1}, place="schedule", control=FINITE),
        failed("IndexError", "index out of range", {"optim_conf.lr": 100.0}, place=MODEL, control=DIVERGES),
        # The harness's own findings name no file of the user's.
        failed("DataDiffers", "mine.jsonl", rows="mine.jsonl", place="rows"),
        # Nothing of the user's own.
        failed("TypeError", LRR),
        failed("LibsndfileError", "Error opening 'a.wav'"),
        failed("RuntimeError", "CUDA error", rows="mine.jsonl"),
    ],
)
def test_what_does_not_come_from_the_user_stays_a_regression(outcome: Outcome) -> None:
    """Where stock input ends alike, or where nothing is the user's own."""
    assert outcome.failure is not None
    alike = {"cell": "1.4.16/paraformer/…", "status": "failed", "signature": outcome.failure.signature}
    evidence = {**outcome.evidence, **({"on_stock_input": alike} if outcome.evidence else {})}
    (judged,) = judge([apply_rules(replace(outcome, evidence=evidence))], KnownIssues())
    assert judged.verdict is Verdict.REGRESSION


SETTINGS = {"optim_conf.lr": 100.0, "optim_conf.lrr": 0.1}
REPORTED = {
    "the nearest key": failed("TypeError", LRR, SETTINGS, near={"optim_conf.lrr": "optim_conf.lr"}),
    "no key is near": failed("TypeError", LRR, SETTINGS),
    "settings and a file": failed("TypeError", f"{LRR} in mine.jsonl", SETTINGS, rows="mine.jsonl"),
    "without the settings it passes": failed("IndexError", "out of range", SETTINGS, place=MODEL, control=FINITE),
    "the file": failed("JSONDecodeError", "Expecting value in mine.jsonl", rows="mine.jsonl"),
    "a recording": failed("LibsndfileError", "Error opening '/speech/a.WAV': unknown format", rows="mine.jsonl"),
    "settings that are not the cause, and the file": failed(
        "JSONDecodeError", "Expecting value in mine.jsonl", SETTINGS, rows="mine.jsonl"
    ),
}


def test_the_wording_of_what_is_the_users_own() -> None:
    reasons = ((scene, apply_rules(given).evidence["yours"]["reason"]) for scene, given in REPORTED.items())
    assert_golden("user_errors.txt", "".join(f"{scene}\n  {reason}\n" for scene, reason in reasons))


def test_a_check_that_trains_nothing_knows_no_training_without_the_settings() -> None:
    given = failed("TypeError", LRR, {"optim_conf.lrr": 0.1})
    built = replace(given, cell=replace(CELL, check=Check.CONSTRUCT, entry=None))
    assert apply_rules(built).evidence["yours"]["reason"]
    other = replace(built, evidence={OWN_SETTINGS: {"file": "mine.yaml", "settings": {"optim": "adamw"}, "near": {}}})
    assert apply_rules(other) is other


def test_a_cause_that_is_named_already_stays() -> None:
    given = failed("TypeError", LRR, {"optim_conf.lrr": 0.1})
    named = replace(given, evidence={**given.evidence, "yours": {"reason": "as stated"}})
    assert apply_rules(named) is named
    crashed = apply_rules(replace(given, status=Status.CRASHED))
    assert crashed.evidence["yours"]["reason"]
    for status in (Status.TIMED_OUT, Status.OUT_OF_MEMORY, Status.ERRORED):
        other = replace(given, status=status)
        assert apply_rules(other) is other


def test_a_pass_has_nothing_to_attribute() -> None:
    passed = Outcome(
        cell=CELL, status=Status.SKIPPED, reason="", evidence={OWN_SETTINGS: {"file": "m", "settings": {"optim": "x"}}}
    )
    assert apply_rules(passed) is passed


def write_variant(folder: Path, training: str, config: tuple[str, str] = ("", "")) -> Path:
    text = (Path(__file__).parent.parent / "harness/variants/paraformer.yaml").read_text("utf-8")
    text = text.replace("harness:\n", f"harness:\n  training: {training}\n", 1).replace(*config, 1)
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_settings_of_a_users_variant_are_what_differs_from_the_harness_s(tmp_path: Path) -> None:
    path = write_variant(tmp_path, "{optim_conf.lrr: 0.1, optim: adamw}", ("grad_clip: 5", "grad_clip: 1.0"))
    own = own_settings(load_variant(str(path)))
    assert own == {
        "file": "mine.yaml",
        "settings": {"train_conf.grad_clip": 1.0, "optim_conf.lrr": 0.1, "optim": "adamw"},
        "near": {"optim_conf.lrr": "optim_conf.lr"},
        "stock": "paraformer",
        "shared": ["train_conf.grad_clip", "optim"],
    }


@pytest.mark.parametrize("name", available())
def test_a_variant_of_the_harness_s_own_sets_nothing_of_its_own(name: str) -> None:
    variant = load_variant(name)
    own = own_settings(variant)["settings"]
    assert (
        set(own) <= set(variant.training)
        or sum(load_variant(other).config["model"] == variant.config["model"] for other in available()) > 1
    )
