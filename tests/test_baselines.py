"""Baselines accepted from runs, written, read again, and refused when they are damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from baseline_scene import CPU_CELL, GPU_CELL, LOSSES, MIB, accepted, cell, gpu_run, run

from harness.core.cells import Device, Precision, Status
from harness.core.errors import InputError, StoreError
from harness.performance.baselines import Baseline, Key, load_baselines, write_baseline
from harness.performance.baselines.accept import BaselineChange, offer
from harness.performance.baselines.files import text_of
from harness.performance.baselines.keys import NoKey, key_of

NOW = "2026-01-02T00:00:00Z"
OTHER = CPU_CELL.replace("1.4.16", "1.4.15")


# Keys.


def test_a_gpus_key_is_its_name_its_drivers_first_number_torch_and_precision() -> None:
    now = gpu_run()
    key = key_of(now.outcomes[0], now.provenance)
    assert isinstance(key, Key)
    assert str(key) == "Imaginary GPU 80GB, driver 550, torch 2.9.1+cu128, bf16"
    assert key.name == "imaginary-gpu-80gb_driver-550_torch-2.9.1+cu128_bf16"
    assert Key.from_json(json.loads(json.dumps(key.to_json()))) == key


def test_a_processors_key_is_its_model_and_cores() -> None:
    now = run()
    key = key_of(now.outcomes[0], now.provenance)
    assert isinstance(key, Key)
    assert key.name == "imaginary-cpu-2.00ghz_cores-2_torch-2.13.0+cpu_fp32"
    assert Key.from_json(json.loads(json.dumps(key.to_json()))) == key


def test_a_key_is_a_file_name_whatever_the_machine_is_called() -> None:
    key = Key(
        device=Device.CPU,
        hardware="../\x00 Ünï/c:ode",
        cores=1,
        driver=None,
        torch="",
        precision=Precision.FP32,
    )
    assert "/" not in key.name
    assert not key.name.startswith(".")
    assert key.name.isascii()


def test_what_is_not_known_well_enough_has_no_key() -> None:
    now = gpu_run(gpus=("A", "B"))
    assert isinstance(key_of(now.outcomes[0], now.provenance), NoKey)


# Accepting.


def test_three_runs_make_a_baseline_with_its_origin_and_its_noise() -> None:
    baseline = accepted(run(0), run(1), run(2))
    (acceptance,) = baseline.acceptances
    assert (acceptance.accepted, acceptance.matrix, acceptance.matrix_sha256) == (NOW, "small", "ab" * 32)
    assert [one.started for one in acceptance.runs] == [f"2026-01-01T08:0{number}:00Z" for number in range(3)]
    assert {one.harness_commit for one in acceptance.runs} == {"0123456789abcdef"}
    assert acceptance.noise["step_seconds"].spread == pytest.approx(0.01, rel=1e-3)
    assert acceptance.noise["peak_resident_bytes"].spread == 0.0
    assert acceptance.equal_curves == 2
    assert baseline.cells[CPU_CELL].values("step_seconds") == pytest.approx((0.495, 0.5, 0.505))


def test_each_precision_has_a_baseline_of_its_own() -> None:
    both = [gpu_run(number, cell(GPU_CELL), cell(GPU_CELL.replace("bf16", "fp16"))) for number in range(3)]
    made = offer(both, (), accepted=NOW)
    assert sorted(one.key.precision for one in made.baselines) == ["bf16", "fp16"]


def test_what_stays_and_what_goes_when_more_is_accepted() -> None:
    before = accepted(*(run(number, cell(), cell(OTHER)) for number in range(3)))
    made = offer([run(number, cell(seconds=0.7)) for number in range(10, 13)], (before,), accepted="later")
    (after,) = made.baselines
    assert [one.accepted for one in after.acceptances] == [NOW, "later"]
    assert after.cells[OTHER] == before.cells[OTHER]
    assert after.acceptance_of(after.cells[CPU_CELL]).accepted == "later"
    step, memory = made.changes[after.key]
    assert (step.figure, step.old, step.new, step.repeats) == (
        "step_seconds",
        pytest.approx(0.5),
        pytest.approx(0.7),
        3,
    )
    assert memory == BaselineChange(
        cell=CPU_CELL, figure="peak_resident_bytes", old=memory.new, new=memory.new, repeats=3
    )
    (rest,) = offer([run(20, cell(OTHER))], (after,), accepted="last").baselines
    assert [one.accepted for one in rest.acceptances] == ["later", "last"]


def test_other_losses_are_a_change_and_equal_ones_are_not() -> None:
    before = accepted(run(0), run(1), run(2))
    other = offer([run(9, cell(losses=[loss + 1 for loss in LOSSES]))], (before,), accepted=NOW)
    assert {one.figure for one in other.changes[before.key]} >= {"first_loss", "mean_loss"}


def test_a_failure_is_never_a_baseline() -> None:
    flaky = [run(0, cell(), cell(OTHER)), run(1, cell(), cell(OTHER, Status.FAILED))]
    made = offer(flaky, (), accepted=NOW)
    assert set(made.baselines[0].cells) == {CPU_CELL}
    assert made.left_out == (f"{OTHER}: failed in 1 of 2 runs: The cell is failed.",)
    with pytest.raises(InputError, match="nothing to accept") as caught:
        offer([run(0, cell(status=Status.FAILED))], (), accepted=NOW)
    assert caught.value.exit_code == 2
    assert CPU_CELL in str(caught.value)


def test_a_run_without_a_fine_tune_has_nothing_to_accept() -> None:
    empty = replace(run(0), outcomes=())
    with pytest.raises(InputError, match="no fine-tune"):
        offer([empty], (), accepted=NOW)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"processor": "Another CPU"}, "processor: Imaginary CPU @ 2.00GHz there, Another CPU now"),
        ({"torch": "2.14.0+cpu"}, "torch: 2.13.0"),
        ({"matrix_sha256": "ef" * 32}, "matrix sha256"),
        ({"corpus_sha256": "ef" * 32}, "corpus: sha256 "),
        ({"libraries": {}}, "numpy: 2.4.0 there, none now"),
    ],
)
def test_runs_of_another_machine_stack_or_matrix_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        offer([run(0), run(1, **fields)], (), accepted=NOW)
    assert "is no repeat of" in str(caught.value)
    assert said in str(caught.value)
    assert "next: " in str(caught.value)


def test_a_run_is_no_repeat_of_itself() -> None:
    with pytest.raises(InputError, match="are one run"):
        offer([run(0), run(1), run(0)], (), accepted=NOW)


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([run(0, harness_dirty=True), run(1), run(2)], "changes that are in no commit"),
        ([run(0, finished=None), run(1), run(2)], "was not finished"),
        ([run(0, harness_commit="beef"), run(1), run(2)], "different commits"),
        ([run(0), run(1)], "2 of 3 runs"),
    ],
)
def test_what_makes_a_baseline_doubtful_is_said(runs: list[Any], said: str) -> None:
    assert any(said in warning for warning in offer(runs, (), accepted=NOW).warnings)
    assert offer([run(0), run(1), run(2)], (), accepted=NOW).warnings == ()


# Files.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "baselines"


def baselines() -> list[Baseline]:
    noisy = [gpu_run(number, cell(GPU_CELL, losses=[*LOSSES[:-1], 1.0 + number])) for number in range(3)]
    missing = [run(number, cell(peak_resident_bytes=None if number else 900 * MIB)) for number in range(2)]
    return [accepted(*noisy), accepted(*missing), accepted(run(0, cell(losses=["nan"] * 25)))]


@pytest.mark.parametrize("which", range(3))
def test_a_baseline_comes_back_as_it_was_written(folder: Path, which: int) -> None:
    baseline = baselines()[which]
    path = write_baseline(baseline, folder)
    assert path == folder / f"{baseline.key.name}.json"
    assert load_baselines(folder) == (baseline,)


def test_where_there_is_no_folder_there_are_no_baselines(folder: Path) -> None:
    assert load_baselines(folder) == ()


def test_a_file_is_strict_json_that_a_person_can_read() -> None:
    text = text_of(accepted(run(0), run(1), run(2)))
    told = json.loads(text, parse_constant=lambda constant: pytest.fail(constant))
    assert told["schema"] == 1
    assert told["cells"][CPU_CELL]["losses"] == {"each": list(LOSSES)}
    # A figure and its repeats stand in one line, and equal losses are told once.
    assert '      "step_seconds": [0.495, 0.5, 0.505],\n' in text
    assert len(text.splitlines()) < 90


def drop(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda told: told.pop(name)


def entry(**changed: Any) -> Callable[[dict[str, Any]], object]:
    return lambda told: told["cells"][CPU_CELL].update(changed)


def acceptance(**changed: Any) -> Callable[[dict[str, Any]], object]:
    return lambda told: told["acceptances"][0].update(changed)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (drop("schema"), "schema None"),
        (drop("cells"), "has not the fields"),
        (lambda told: told.update(schema=2), "schema 2"),
        (lambda told: told.update(key={"device": "cpu"}), "its key has not the fields"),
        (lambda told: told["key"].update(device="tpu"), "'tpu' is not a valid Device"),
        (lambda told: told["key"].update(hardware="Another"), "its key is that of another_cores-2"),
        (lambda told: told["cells"].update({"1.4.16": told["cells"][CPU_CELL]}), "1.4.16: not a cell id"),
        (entry(acceptance=1), f"{CPU_CELL}: there is no acceptance 1"),
        (entry(repeats=0), "no repeats"),
        (entry(step_seconds=[0.5, 0.5]), "step_seconds is not 3 numbers above 0"),
        (entry(step_seconds=[0.5, 0.5, "nan"]), "step_seconds is not 3 numbers above 0"),
        (entry(step_seconds=[0.5, 0.5, 0.0]), "step_seconds is not 3 numbers above 0"),
        (entry(step_second=[0.5] * 3), "no figure is called step_second"),
        (entry(losses={"each": [1.0, "nan"]}), "losses are not those of 3 runs"),
        (entry(losses={}), "no field 'by_run'"),
        (acceptance(noise={"step_seconds": {"spread": -1, "degrees_of_freedom": 2}}), "acceptance 0: step_seconds: "),
        (acceptance(noise={"x": {"spread": 1, "degrees_of_freedom": 2}}), "no figure is called x"),
        (acceptance(equal_curves=None), "equal_curves is None"),
        (acceptance(colour="red"), "unexpected keyword argument 'colour'"),
    ],
)
def test_a_damaged_file_is_one_error_that_names_it_and_says_what_to_do(
    folder: Path, damage: Callable[[dict[str, Any]], object], said: str
) -> None:
    path = write_baseline(accepted(run(0), run(1), run(2)), folder)
    told = json.loads(path.read_text())
    damage(told)
    path.write_text(json.dumps(told))
    with pytest.raises(StoreError) as caught:
        load_baselines(folder)
    assert str(caught.value).startswith(f"{path} is not a baseline: ")
    assert said in str(caught.value)
    assert "accept runs again" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": NaN}', "[" * 100_000, "\udce4"])
def test_what_is_no_json_is_the_same_error(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "x.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreError, match=r"x\.json is not a baseline"):
        load_baselines(folder)


def test_a_place_that_cannot_be_written_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_baseline(accepted(run(0)), tmp_path / "file" / "baselines")
