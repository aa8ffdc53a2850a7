"""Recording a cell: what is seen of modules, functions, arguments and gradients, and that nothing is changed by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_release
from diagnose_scene import ask, folder_of, write
from forked import Forked


@pytest.fixture(scope="module")
def recorded(forked: Forked, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The answer of a sound miniature's contract."""
    room = tmp_path_factory.mktemp("recorded")
    install_dir, folder = write(room / "release", {}), folder_of(room / "model")
    answer: dict[str, Any] = forked(
        ask, install_dir=str(install_dir), folder=str(folder), check="loss_contract", wish={"passes": [0]}
    )
    return answer


def trace(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = answer["evidence"]["trace"]
    return found


def calls(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {call["name"]: call for call in trace(answer)["passes"][0]["calls"]}


def test_every_module_and_function_is_there_in_the_order_of_its_beginning(recorded: dict[str, Any]) -> None:
    names = [(call["kind"], call["name"]) for call in trace(recorded)["passes"][0]["calls"]]
    assert names == [
        ("module", ""),
        ("module", "encoder"),
        ("module", "encoder.linear"),
        ("module", "encoder.dropout"),
        ("module", "predictor"),
        ("function", "weighted"),
        ("module", "decoder"),
        ("module", "decoder.output_layer"),
        ("module", "criterion_att"),
    ]


def test_each_argument_is_reported_with_the_parameter_it_landed_in(recorded: dict[str, Any]) -> None:
    landed = [(each["parameter"], each["how"]) for each in calls(recorded)["decoder"]["arguments"]]
    assert landed == [("hidden", "positional 1"), ("mask", "positional 2"), ("return_hidden", "default")]
    assert [each["how"] for each in calls(recorded)[""]["arguments"]] == ["keyword"] * 4


def test_a_call_is_reported_with_the_place_where_it_is_written(recorded: dict[str, Any]) -> None:
    caller = calls(recorded)["decoder"]["caller"]
    assert (caller["file"], caller["function"]) == ("funasr/models/tiny.py", "Tiny.forward")
    assert "/" not in caller["file"].removeprefix("funasr/models/")
    assert caller["column"] > 0


def test_results_are_reported_by_shape_and_digest(recorded: dict[str, Any]) -> None:
    output = calls(recorded)["decoder.output_layer"]["output"]
    assert (output["kind"], output["shape"]) == ("tensor", [4, 8, 23])
    assert len(output["digest"]) == 16
    assert output["largest"] > 0


def test_modules_are_reported_with_shapes_settings_and_gradients(recorded: dict[str, Any]) -> None:
    modules = {module["name"]: module for module in trace(recorded)["modules"]}
    assert modules["decoder.output_layer"]["parameters"] == {"weight": [23, 6], "bias": [23]}
    assert modules["encoder"]["settings"]["scale"] == 2.0
    assert modules["encoder"]["ancestors"] == [{"class": "Encoder", "module": "funasr.models.tiny"}]
    gradients = trace(recorded)["passes"][0]["gradients"]
    assert sorted(gradients) == ["decoder.output_layer", "encoder.linear", "predictor"]
    assert all(gradient["norm"] > 0 for gradient in gradients.values())


def test_constructions_are_reported_with_what_they_were_given(recorded: dict[str, Any]) -> None:
    built = {one["class"]: one for one in trace(recorded)["built"]}
    given = {each["parameter"]: (each["how"], each["value"]) for each in built["Encoder"]["arguments"]}
    assert given["dropout_rate"] == ("", {"kind": "float", "value": 0.0})
    assert given["scale"] == ("**kwargs", {"kind": "float", "value": 2.0})


def test_functions_that_ran_are_reported_and_no_others(recorded: dict[str, Any]) -> None:
    ran = {(one["file"], one["function"]) for one in trace(recorded)["functions"]}
    assert ("funasr/models/tiny.py", "weighted") in ran
    assert ("funasr/losses/label_smoothing_loss.py", "LabelSmoothingLoss.forward") in ran
    assert all(file.startswith("funasr/") for file, _ in ran)
    assert not any(function.startswith("<") for _, function in ran)


def plain(install_dir: str, folder: str) -> dict[str, Any]:
    from harness.core import wire
    from harness.worker.checks import dispatch

    answer: dict[str, Any] = wire.strict(
        dispatch.run(tiny_release.request(Path(install_dir), "loss_contract", Path(folder)))
    )
    return answer


def test_recording_changes_nothing_of_the_answer(forked: Forked, recorded: dict[str, Any], tmp_path: Path) -> None:
    install_dir, folder = (
        write(tmp_path / "release", {"Dropout(dropout_rate)": "Dropout(0.5)"}),
        folder_of(tmp_path / "model"),
    )
    without = forked(plain, install_dir=str(install_dir), folder=str(folder))
    beside = forked(ask, install_dir=str(install_dir), folder=str(folder), check="loss_contract", wish={"passes": [0]})
    assert without["metrics"] == beside["metrics"]
    assert without["metrics"] != recorded["metrics"]
    assert "trace" not in without["evidence"]


def test_of_a_pass_that_was_not_asked_for_nothing_is_kept_unless_it_raises(forked: Forked, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model")
    install_dir = write(tmp_path / "sound", {})
    sound = forked(ask, install_dir=str(install_dir), folder=str(folder), check="loss_contract", wish={"passes": [7]})
    assert trace(sound)["passes"] == []
    broken = write(tmp_path / "broken", {"hidden, mask=None, return_hidden=False": "hidden, return_hidden=False"})
    died = forked(ask, install_dir=str(broken), folder=str(folder), check="loss_contract", wish={"passes": [7]})
    (one,) = trace(died)["passes"]
    assert (one["whole"], one["raised"]) == (False, died["failure"]["type"])
    assert "digest" not in str(one["calls"])


def test_what_is_trained_in_a_child_is_recorded_there(forked: Forked, tmp_path: Path) -> None:
    install_dir, folder = write(tmp_path / "release", {}), folder_of(tmp_path / "model")
    answer = forked(ask, install_dir=str(install_dir), folder=str(folder), check="finetune", wish={"passes": [0, 3]})
    assert answer["status"] == "passed", answer["reason"]
    passes = trace(answer)["passes"]
    assert [one["number"] for one in passes] == [0, 3]
    assert passes[0]["weights"] != passes[1]["weights"]
    assert all(one["gradients"]["predictor"] for one in passes)
    assert any(one["function"] == "main_hydra" for one in trace(answer)["functions"])
