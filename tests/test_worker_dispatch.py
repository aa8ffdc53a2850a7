"""What the process tree calls: a release is entered once, and each cell gets an answer of one form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_release
from forked import Forked

from harness.worker.checks import dispatch

FORM = {"status", "reason", "failure", "metrics", "evidence", "shims"}


def run_all(requests: list[dict[str, Any]], *, enter: bool = True) -> list[dict[str, Any]]:
    if enter:
        dispatch.enter(requests[0]["release"])
    return [dispatch.run(request) for request in requests]


def chain(install_dir: Path, folder: Path, **others: Any) -> list[dict[str, Any]]:
    return [tiny_release.request(install_dir, check, folder, **others) for check in ("construct", "loss_contract")]


def test_a_release_that_is_imported_whole_needs_no_shim(forked: Forked, tmp_path: Path) -> None:
    install_dir = tiny_release.write_release(tmp_path / "release")
    folder = tiny_release.write_model_folder(tmp_path / "model")
    for answer in forked(run_all, requests=chain(install_dir, folder, whole=True)):
        assert (answer["status"], answer["shims"]) == ("passed", [])


def test_a_component_that_one_variant_lacks_takes_nothing_from_the_others(forked: Forked, tmp_path: Path) -> None:
    install_dir = tiny_release.write_release(tmp_path / "release")
    requests = chain(install_dir, tiny_release.write_model_folder(tmp_path / "model"))
    for request in requests:
        request["release"]["components"] = [["model_classes", "Absent"], *tiny_release.COMPONENTS]
    assert [answer["status"] for answer in forked(run_all, requests=requests)] == ["passed", "passed"]


def enter_and_list(release: dict[str, Any]) -> list[str]:
    """What of the release is imported once it is entered, before any cell."""
    import sys

    dispatch.enter(release)
    return sorted(name for name in sys.modules if name.startswith("funasr."))


def test_entering_imports_for_all_cells_what_each_would_import(forked: Forked, tmp_path: Path) -> None:
    install_dir = tiny_release.write_release(tmp_path / "release")
    (request, _) = chain(install_dir, tmp_path)
    entered = forked(enter_and_list, release=request["release"])
    assert {"funasr.models.tiny", "funasr.auto.auto_model", "funasr.losses.label_smoothing_loss"} <= set(entered)


@pytest.mark.parametrize("enter", [True, False])
def test_every_answer_has_the_whole_form(forked: Forked, tmp_path: Path, enter: bool) -> None:
    install_dir = tiny_release.write_release(tmp_path / "release")
    folder = tiny_release.write_model_folder(tmp_path / "model")
    for answer in forked(run_all, requests=chain(install_dir, folder), enter=enter):
        assert set(answer) == FORM
        assert (answer["status"], answer["reason"], answer["failure"]) == ("passed", "", None)


@pytest.mark.parametrize(
    ("module", "signature", "message"),
    [
        ('raise ValueError("planted")\n', "ValueError@funasr/models/tiny.py:<module>", "planted"),
        ("import nowhere_to_be_found\n", "ModuleNotFoundError@funasr/models/tiny.py:<module>",
         "No module named 'nowhere_to_be_found'"),
        ("class Tiny(:\n", "SyntaxError@funasr/models/tiny.py:<module>", "invalid syntax (tiny.py, line 1)"),
    ],
)  # fmt: skip
def test_a_release_that_cannot_be_entered_fails_each_of_its_cells(
    forked: Forked, tmp_path: Path, module: str, signature: str, message: str
) -> None:
    install_dir = tiny_release.write_release(tmp_path / "release")
    # Never run, and found in the text all the same.
    registered = '"""\n@tables.register("model_classes", "Tiny")\n"""\n'
    (install_dir / "funasr/models/tiny.py").write_text(module + registered)
    answers = forked(run_all, requests=chain(install_dir, tiny_release.write_model_folder(tmp_path / "model")))
    assert len(answers) == 2
    for answer in answers:
        assert set(answer) == FORM
        assert (answer["status"], answer["failure"]["signature"]) == ("failed", signature)
        kind, _, place = signature.partition("@")
        assert answer["reason"] == f"{kind} in {place}: {message}"


def test_a_model_that_the_release_never_had_is_skipped(forked: Forked, tmp_path: Path) -> None:
    install_dir = tiny_release.write_release(tmp_path / "release")
    requests = chain(install_dir, tmp_path / "none")
    for request in requests:
        request["components"] = [["model_classes", "Tiny"], ["encoder_classes", "SANMEncoderChunkOpt"]]
    for answer in forked(run_all, requests=requests):
        assert set(answer) == FORM
        assert (answer["status"], answer["failure"]) == ("skipped", None)
        assert answer["reason"] == "the release has no encoder 'SANMEncoderChunkOpt'"


def test_a_model_folder_that_is_not_there_is_the_harnesss_fault(forked: Forked, tmp_path: Path) -> None:
    install_dir = tiny_release.write_release(tmp_path / "release")
    (answer,) = forked(run_all, requests=chain(install_dir, tmp_path / "none")[:1])
    assert (answer["status"], answer["failure"]["type"]) == ("errored", "FileNotFoundError")


def test_shims_are_reported_when_they_took_effect_and_those_of_the_stack_always(forked: Forked, tmp_path: Path) -> None:
    install_dir = tiny_release.write_release(tmp_path / "release")
    model = install_dir / "funasr/models/tiny.py"
    model.write_text(model.read_text().replace("self.encoder(speech)", "self.encoder(speech.cuda())"))
    folder = tiny_release.write_model_folder(tmp_path / "model")
    built, trained = forked(run_all, requests=chain(install_dir, folder, environment_shims=["planted-by-the-stack"]))
    assert built["shims"] == ["import-what-is-needed", "planted-by-the-stack"]
    assert trained["shims"] == ["cuda-calls-stay-on-cpu", *built["shims"]]
    assert trained["status"] == "passed"
