"""Every command makes the same plan for the same cell, but for what it states as an option of the runner."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cli_scene import World, make_world
from drift_scene import tuned_to
from faults.cells import RepeatedRequests, Scheme
from report_factory import run_of
from test_bundle import HERE, PIN, PLATFORM, lay_out_pins, run_there

from harness.bundle import libraries
from harness.commands.common import cell_runner
from harness.config.matrix import load_matrix
from harness.core.cells import Cell, Check, Depth, Dimensions, Outcome, Precision
from harness.core.errors import HarnessError
from harness.core.temporary import temporary_folder
from harness.performance.prediction.measure import LIMITS, MeasureContext, MeasureRequest, measure
from harness.releases import load_lock, package_index, resolve
from harness.run import Plan, runner
from harness.run.outcome_lines import line_of
from harness.run.runner import PRELOADED, PRELOADED_FOR_TRAINERS, SLOWER_WHEN_TRACED
from harness.variants.catalogue import available, load_variant

NAME = "1.4.16/paraformer/v8404-h320/reduced/{}"
CELLS = [NAME.format(rest) for rest in ("properties/cpu-fp32", "finetune@train/cpu-fp32", "finetune@train/cuda-fp32")]
ISSUE = """schema = 1
[[issue]]
id = "planted"
title = "Planted"
severity = "wrong"
releases = ">=1.0.0"
variants = ["paraformer"]
checks = ["properties"]
signatures = ["PropertyFails@padding"]
cause = "not yet explained"
seen = "1.4.16/paraformer/v8404-h320/reduced/properties/cpu-fp32"
"""
EXAMPLE = "config: planted\n"
LIMIT = 123.0
GPUS = ("one GPU", "another GPU")


@dataclass
class Plans:
    """Keeps each plan in place of running it."""

    world: World
    made: list[Plan] = field(default_factory=list)

    def __call__(self, plan: Plan, on_outcome: Callable[[Outcome], None], **others: Any) -> None:
        self.made.append(plan)
        self.world.tree(plan, on_outcome, **others)

    def of(self, cell: Cell) -> dict[str, Any]:
        """What the process tree gets for a cell, without this machine's folders."""
        plan = next(plan for plan in self.made if cell in plan.cells.values())
        number = next(number for number, planned in plan.cells.items() if planned == cell)
        batch = next(batch for batch in plan.batches if any(one.number == number for one in batch.cells))
        planned, settings = plan.planned()[number], plan.settings
        made = {
            "timeout_seconds": planned.timeout_seconds,
            "memory_bytes": settings.memory_bytes,
            "jobs": settings.jobs,
            "gpus of the machine": settings.gpus,
            "gpus of the cell": planned.gpus,
            "fresh": planned.fresh,
            "preload": settings.preload,
            "sys_path": settings.sys_path,
            "enter_timeout_seconds": settings.enter_timeout_seconds,
            "preload_timeout_seconds": settings.preload_timeout_seconds,
            "release": batch.release,
            "request": planned.request,
        }
        text = json.dumps(made)
        for folder, word in settings.places.items():
            text = text.replace(folder, word)
        return dict(json.loads(text))


@pytest.fixture(scope="session")
def runner_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech and model folders are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def world(
    tmp_path: Path, runner_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> World:
    world = make_world(tmp_path / "w", runner_cache, capsys, monkeypatch)
    world.use_stack(cuda_available=True, gpu_names=GPUS)
    (world.folder / "matrices" / "known_issues.toml").write_text(ISSUE)
    folder = world.folder / "matrices" / "counterexamples"
    folder.mkdir()
    (folder / "planted.paraformer.yaml").write_text(EXAMPLE)
    return world


@pytest.fixture
def plans(world: World, monkeypatch: pytest.MonkeyPatch) -> Plans:
    plans = Plans(world)
    monkeypatch.setattr(runner, "execute", plans)
    # The stand-in's outcomes have no metrics that a rule could judge.
    monkeypatch.setattr("harness.commands.common.apply_rules", lambda outcome: outcome)
    return plans


@pytest.fixture(params=CELLS)
def cell(request: pytest.FixtureRequest, world: World) -> Cell:
    """A cell of the only check of the matrix, on the only device."""
    cell = Cell.parse(request.param)
    check = f"{cell.check}@{cell.entry}" if cell.entry else str(cell.check)
    limits = f"\n[limits]\ntimeout_seconds = {{ {cell.check} = {LIMIT} }}"
    world.write_matrix(
        '["cpu"]\ncheck = ["construct", "loss_contract"]', f'["{cell.device}"]\ncheck = ["{check}"]{limits}'
    )
    return cell


@pytest.fixture
def expected(world: World, plans: Plans, cell: Cell) -> dict[str, Any]:
    """The plan of `run`."""
    world.run("-o", "runs/expected")
    made = plans.of(cell)
    plans.made.clear()
    return made


def traced(expected: dict[str, Any]) -> dict[str, Any]:
    """What recording a trace changes, and nothing else."""
    request = {**expected["request"], "trace": {"passes": [0]}}
    if "finetune" in request:
        request["finetune"] = {**request["finetune"], "seeds": 1, "accumulate": 1, "processes": 1}
    return {**expected, "timeout_seconds": SLOWER_WHEN_TRACED * LIMIT, "request": request}


def test_run_plans_what_the_matrix_says(expected: dict[str, Any], cell: Cell) -> None:
    on_gpu, trains = cell.device == "cuda", cell.check is Check.FINETUNE
    assert expected["timeout_seconds"] == LIMIT
    assert expected["gpus of the cell"] == int(on_gpu)
    assert expected["gpus of the machine"] == len(GPUS)
    assert expected["preload"] == [*PRELOADED, *(PRELOADED_FOR_TRAINERS if trains and not on_gpu else ())]
    if not trains:
        assert expected["request"]["settings"]["known"] == {"padding": EXAMPLE}


def test_gate_makes_the_plan_of_run(world: World, plans: Plans, cell: Cell, expected: dict[str, Any]) -> None:
    arguments = ("--source", "1.4.15", "--against", "1.4.16", "--no-diagnosis")
    said = world.call("gate", *arguments, "--matrix", "matrices/small.toml", "--cache", str(world.cache))
    assert said.status == 0, said.err
    assert plans.of(cell) == expected


def test_bisect_makes_the_plan_of_run(world: World, plans: Plans, cell: Cell, expected: dict[str, Any]) -> None:
    check = f"{cell.check}@{cell.entry}" if cell.entry else str(cell.check)
    model = ("--variant", "paraformer", "--dimensions", "v8404-h320", "--depth", "reduced")
    arguments = (*model, "--check", check, "--device", cell.device, "--fresh")
    said = world.call("bisect", *arguments, "--matrix", "matrices/small.toml", "--cache", str(world.cache))
    assert said.status == 0, said.err
    assert plans.of(cell) == expected


def test_diagnose_makes_the_plan_of_run_with_a_trace(
    world: World, plans: Plans, cell: Cell, expected: dict[str, Any]
) -> None:
    arguments = (cell.id, "--against", "1.4.15", "--run", "runs/expected")
    said = world.call("diagnose", *arguments, "--matrix", "matrices/small.toml", "--cache", str(world.cache))
    assert said.status == 0, said.err
    changed = traced(expected)
    if cell.check is Check.PROPERTIES:
        changed["request"]["trace"] = {"passes": [0, 1, 2, 3]}
    assert plans.of(cell) == changed


def test_drift_makes_the_plan_of_run_with_a_trace(
    world: World, plans: Plans, cell: Cell, expected: dict[str, Any]
) -> None:
    if cell.check is not Check.FINETUNE:
        pytest.skip("drift compares the losses of finetune")
    folder = world.folder / "runs" / "drifting"
    folder.mkdir(parents=True)
    sides = [tuned_to("1.4.15"), tuned_to("1.4.16", (8.9, 8.5, 8.0, 7.5))]
    outcomes = [replace(one, cell=replace(cell, release=one.cell.release)) for one in sides]
    (folder / "outcomes.jsonl").write_bytes(b"".join(map(line_of, outcomes)))
    (folder / "run.json").write_text(json.dumps(run_of().provenance.to_json()))
    arguments = ("--trace", "1", "--matrix", "matrices/small.toml", "--cache", str(world.cache))
    said = world.call("drift", "runs/drifting", *arguments)
    assert said.status == 0, said.err
    assert plans.of(cell) == traced(expected)


def test_a_bundle_makes_the_plan_of_run_without_saved_counterexamples(
    world: World, plans: Plans, cell: Cell, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_index, "install_pins", lay_out_pins)
    names = libraries.libraries_for(Check)
    (world.folder / "requirements.lock").write_text("".join(PIN.format(name, "0" * 64) for name in names))
    arguments = ("bundle", "matrices/small.toml", "-o", "small.pyz", "--cache", str(world.cache))
    said = world.call(*arguments, "--python", HERE, "--platform", PLATFORM)
    assert said.status == 0, said.err
    # All libraries are here, as they are on a host for which the bundle was made.
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: True)
    assert run_there(world) == 0
    if cell.check is Check.PROPERTIES:
        expected["request"]["settings"]["known"] = {}
    # On the command line of the test.
    expected["jobs"] = 1
    assert plans.of(cell) == expected


def test_planted_faults_make_the_plan_of_run(world: World, plans: Plans, cell: Cell, expected: dict[str, Any]) -> None:
    locked = load_lock(world.folder / "matrices" / "releases.lock.toml")
    matrix = load_matrix(
        world.matrix, resolve=lambda spec: resolve(spec, locked), variants=available(), gpu_present=True
    )
    cells = cell_runner(argparse.Namespace(cache=world.cache, jobs=None))
    scheme = Scheme(sound=resolve("1.4.16", locked)[0], faults=(), repeats={})
    with temporary_folder() as workspace:
        prepared = cells.prepare(matrix, matrix.cells, workspace)
        plans.made.append(cells.plan(RepeatedRequests(prepared=prepared, scheme=scheme), matrix.cells, workspace))
    assert plans.of(cell) == expected


def test_the_memory_prediction_states_what_it_changes(world: World, plans: Plans) -> None:
    locked = load_lock(world.folder / "matrices" / "releases.lock.toml")
    question = MeasureRequest(
        release=resolve("1.4.16", locked)[0],
        variant=load_variant("paraformer"),
        dimensions=Dimensions.parse("v8404-h320"),
        depth=Depth.REDUCED,
        precision=Precision.FP32,
        frames=30,
        characters=6,
    )
    context = MeasureContext(runner=cell_runner(argparse.Namespace(cache=world.cache)), threads=1)
    with pytest.raises(HarnessError, match="footprint"):
        measure(question, (2,), context)
    (plan,) = plans.made
    (planned,) = plan.planned().values()
    assert planned.request["check"] == "footprint"
    assert {planned.timeout_seconds} == set(LIMITS.timeout_seconds.values())
    assert plan.settings.memory_bytes == LIMITS.memory_bytes
    assert set(plan.settings.preload) < set(PRELOADED)
    assert plan.settings.gpus == len(GPUS)
