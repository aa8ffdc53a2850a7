"""The parts together: measurements share one process tree, and a part that fails takes no other along."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from user_folders import inputs_of

from harness.core.cells import Outcome, Release, Status
from harness.environments.environment import probe
from harness.preflight import preflight
from harness.preflight.command import TrainingCommand
from harness.preflight.findings import PreflightFact, PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.release.release_questions import ReleaseQuestion, _cell, ask_all, ask_release
from harness.preflight.settings import SettingsInForce
from harness.preflight.verdict import record, sentence
from harness.releases import default_cache, resolve


@pytest.fixture
def inputs(layout: Callable[[str], Path], locked: tuple[Release, ...], tmp_path: Path) -> Inputs:
    (release,) = resolve("1.4.16", locked)
    return Inputs(
        model=tmp_path,
        release=release,
        install_dir=layout("1.4.16"),
        cache=default_cache(),
        environment=probe(cache=default_cache()),
        train=None,
        valid=None,
        command=TrainingCommand(),
        config=SettingsInForce(),
        gpus=None,
        card=None,
        root=tmp_path,
    )


def test_a_part_that_fails_is_named_and_the_others_are_kept(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    def sound(_: Inputs) -> PreflightPart:
        return PreflightPart(facts=(PreflightFact(section="data", label="rows", value="8"),))

    def faulty(_: Inputs) -> PreflightPart:
        raise KeyError("x")

    monkeypatch.setattr(preflight, "parts", lambda: (("one", faulty), ("two", sound)))
    monkeypatch.setattr(preflight, "questions", lambda: ())
    report = preflight.examine(inputs)
    assert report.faults == ("one: KeyError: 'x'",)
    assert [fact.value for fact in report.facts] == ["8"]


@pytest.mark.parametrize("status", [Status.TIMED_OUT, Status.ERRORED, Status.FAILED])
def test_a_release_that_does_not_answer_is_no_go_and_no_no_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: Status
) -> None:
    inputs = inputs_of(tmp_path)
    monkeypatch.setattr(preflight, "parts", lambda: (("weights", lambda _: PreflightPart(skipped="not compared")),))
    monkeypatch.setattr(preflight, "questions", lambda: ())
    question = ReleaseQuestion(name="preflight.tensors", request={})
    inputs.answers[question.key] = Outcome(cell=_cell(inputs, 0), status=status, reason="after 120 s")
    report = preflight.examine(inputs)
    if status is Status.FAILED:
        # The release's own exception is an answer: a finding says it, or the part is skipped with its reason.
        assert (report.go, report.unanswered) == (True, ())
        return
    assert (report.clean, report.go, report.unanswered) == (True, False, ("weights",))
    assert sentence(report).startswith("Not decided: nothing was found that stops or changes this training, but there")
    assert "no answer about weights." in sentence(report)
    assert record(report, {})["go"] is False


@pytest.mark.release
def test_questions_share_a_tree_and_are_not_repeated(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    def question(**request: Any) -> ReleaseQuestion:
        return ReleaseQuestion(name="preflight.no_such", request=request, whole=False)

    first, second = ask_all(inputs, [question(a=1), question(a=2)])
    assert {first.status, second.status} == {Status.ERRORED}
    monkeypatch.setattr("harness.preflight.release.release_questions._run", lambda *_: pytest.fail("asked again"))
    assert ask_release(inputs, question(a=2)) is second
    fresh = dataclasses.replace(inputs, answers={})
    with pytest.raises(BaseException, match="asked again"):
        ask_release(fresh, question(a=2))
