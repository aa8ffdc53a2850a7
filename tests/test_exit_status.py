"""Exit statuses: one table for all commands, and a command that returns what its `--help` says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_scene import CELL, STACK, World, make_world

from harness.commands import diagnose, estimate
from harness.commands.exit_status import BY_COMMAND, FAULT, FINE, FOUND, GENERAL, PLAIN
from harness.core.cells import Failure, Status

CONSTRUCT, LOSS = CELL.format("construct"), CELL.format("loss_contract")
FAILURE = Failure(type="E", message="m", signature="E@funasr/x.py:f")
FAILED: dict[str, Any] = {"status": Status.FAILED, "reason": "it fails", "failure": FAILURE}


@pytest.fixture(scope="session")
def status_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech and model folders are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def world(
    tmp_path: Path, status_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> World:
    return make_world(tmp_path / "user", status_cache, capsys, monkeypatch)


def test_no_command_has_a_status_that_the_general_table_lacks() -> None:
    for statuses in BY_COMMAND.values():
        assert {FINE, FAULT} <= set(statuses) <= set(GENERAL)


def test_the_documentation_has_every_status_that_means_more_than_in_general() -> None:
    text = (Path(__file__).parent.parent / "docs" / "reading-reports.md").read_text(encoding="utf-8")
    for status, meaning in GENERAL.items():
        assert f"| {status} | {meaning} |" in text
    for command, statuses in BY_COMMAND.items():
        own = {status: meaning for status, meaning in statuses.items() if PLAIN.get(status) != meaning}
        first, *others = [f"| {status} | {meaning} |" for status, meaning in own.items()]
        rows = "\n".join([f"| `{command}` {first}", *(f"|  {row}" for row in others)])
        assert (rows in text) == (set(own) != {FINE}), command


RUN = ("runs/small",)
ASKED = ("--matrix", "matrices/small.toml")


@pytest.mark.parametrize(
    ("status", "arguments"),
    [
        (0, ("list", "small")),
        (2, ("list", "smal")),
        (0, ("releases", "list")),
        (2, ("releases", "list", "9.9.9")),
        (2, ("merge", *RUN)),
        (3, ("merge", "runs/none")),
        (0, ("report", *RUN)),
        (3, ("report", "runs/none")),
        (0, ("show", CONSTRUCT)),
        (2, ("show", CONSTRUCT.replace("320", "512"))),
        (3, ("show", CONSTRUCT, "--run", "runs/none")),
        (2, ("gate", *ASKED)),
        (2, ("bisect", "--check", "loss_contract", *ASKED)),
        (2, ("drift", *RUN)),
        (3, ("drift", "runs/none")),
        (2, ("bundle", "small", "-o", "x.pyz", "--python", "two")),
        (0, ("baseline", "show")),
        (3, ("baseline", "accept", "runs/none")),
        (2, ("estimate", "--variant", "paraformr", "--dimensions", "v8404-h320", "--batch", "1")),
        (0, ("pack", *RUN)),
        (3, ("pack", "runs/none")),
        (0, ("completion", "bash")),
        (2, ("completion", "basic")),
    ],
)
def test_a_command_returns_what_its_help_says(world: World, status: int, arguments: tuple[str, ...]) -> None:
    assert world.run().status == 0
    said = world.call(*arguments)
    assert said.status == status, said.err
    assert status in BY_COMMAND[arguments[0]]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ({}, FINE),
        ({"status": Status.SKIPPED, "reason": "this release has no such model"}, FINE),
        (FAILED, FOUND),
        ({"status": Status.TIMED_OUT, "reason": "slow"}, FOUND),
        ({"status": Status.ERRORED, "reason": "the disk is full"}, FAULT),
    ],
)
def test_diagnose_returns_how_the_cell_ends(world: World, outcome: dict[str, Any], status: int) -> None:
    world.tree.failing = {LOSS: outcome} if outcome else {}
    said = world.call("diagnose", LOSS, "--against", "1.4.15", *ASKED, "--cache", str(world.cache))
    assert said.status == status, said.err


def test_diagnose_returns_1_for_a_cell_that_fails_though_its_cause_is_known(world: World) -> None:
    known = SimpleNamespace(cell=LOSS, against="1.4.15", cause="an argument", status=Status.FAILED, seconds=1.0)
    world.monkeypatch.setattr(diagnose, "investigate", lambda *_, **__: known)
    world.monkeypatch.setattr(diagnose, "terminal", lambda found: f"Cause: {found.cause}")
    world.monkeypatch.setattr(diagnose, "store", lambda *_: (Path("a"), Path("b")))
    said = world.call("diagnose", LOSS, "--against", "1.4.15", *ASKED, "--cache", str(world.cache))
    assert "Cause: an argument" in said.out
    assert said.status == FOUND, said.err


@pytest.mark.parametrize(("shown", "status"), [((True, True), FINE), ((True, False), FAULT), ((None,), FINE)])
def test_show_returns_3_when_a_script_of_as_issue_does_not_show_its_fault(
    world: World, shown: tuple[bool | None, ...], status: int
) -> None:
    world.tree.failing[LOSS] = FAILED
    world.run()
    written = [
        SimpleNamespace(folder=Path("issues"), sentence="", trial=None if one is None else SimpleNamespace(shown=one))
        for one in shown
    ]
    world.monkeypatch.setattr("harness.report.upstream.write", lambda *_, **__: written)
    world.monkeypatch.setattr("harness.environments.environment.probe", lambda **_: STACK)
    said = world.call("show", LOSS, "--as-issue", "--cache", str(world.cache))
    assert said.status == status, said.err


@pytest.mark.parametrize(("fits", "status"), [((1, 8), FINE), ((0, 8), FOUND), ((), FINE)])
def test_estimate_returns_1_when_not_one_utterance_fits_a_card(
    world: World, fits: tuple[int, ...], status: int
) -> None:
    left = list(fits)
    predictor = SimpleNamespace(at=lambda count: f"{count} utterances", largest=lambda *_: left.pop(0))
    world.monkeypatch.setattr(estimate, "Predictor", SimpleNamespace(of=lambda *_, **__: predictor))
    world.monkeypatch.setattr(estimate, "render_prediction", lambda *_: "the prediction")
    cards = [word for _ in fits for word in ("--fit", "24GB")]
    arguments = ("--variant", "paraformer", "--dimensions", "v8404-h320", "--batch", "1", *cards)
    said = world.call("estimate", *arguments, "--cache", str(world.cache))
    assert said.status == status, said.err
