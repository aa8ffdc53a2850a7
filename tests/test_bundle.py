"""A bundle from making it at home over its run on a host to the report at home; only torch and the index are fakes."""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from pathlib import PurePosixPath as P
from typing import Any

import pytest
from bundle_scene import HERE, PLATFORM
from cli_scene import CELL, World, make_world, write_wave

from harness.bundle import bootstrap, libraries
from harness.bundle.result import ORIGIN
from harness.commands import bundle_host
from harness.core.cells import Check, Outcome, Status
from harness.core.errors import FetchError, InputError, StoreError
from harness.releases import package_index
from harness.run import Plan, runner

PIN = "{}==1.0 \\\n    --hash=sha256:{}\n"


def lay_out_pins(pins: str, target: Path, **_: str) -> None:
    """Stands in for uv: a library of one module for each pin, and the script that some bring."""
    for line in pins.splitlines():
        name, found, _rest = line.partition("==")
        if found:
            module = name.replace("-", "_")
            files = {f"{module}/__init__.py": "", f"{name}-1.0.dist-info/METADATA": f"Name: {name}\nVersion: 1.0\n"}
            rows = [*files, f"{name}-1.0.dist-info/RECORD", "../../bin/script", "bin/script"]
            files[f"{name}-1.0.dist-info/RECORD"] = "".join(f"{file},,\n" for file in rows)
            for file, text in files.items():
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                (target / file).write_text(text)


@pytest.fixture
def world(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> World:
    world = make_world(tmp_path / "w", tmp_path / "cache", capsys, monkeypatch)
    monkeypatch.setattr(package_index, "install_pins", lay_out_pins)
    names = libraries.libraries_for(Check)
    (world.folder / "requirements.lock").write_text("".join(PIN.format(name, "0" * 64) for name in names))
    write_wave(world.folder / "one.wav")
    row = {"key": "one", "source": "one.wav", "target": "你好"}
    (world.folder / "speech.jsonl").write_text(json.dumps(row) + "\n")
    world.write_matrix('check = ["construct"', 'check = ["import", "construct"')
    return world


def bundle(world: World, *options: str) -> str:
    """Make `small.pyz`; what was said."""
    said = world.call(
        *("bundle", "matrices/small.toml", "-o", "small.pyz", "--cache", str(world.cache), "--jsonl", "speech.jsonl"),
        *("--python", HERE, "--platform", PLATFORM, *options),
    )
    assert said.status == 0, said.err
    return said.err


def run_there(world: World, *, only: list[str] | None = None) -> int:
    """Unpack `small.pyz` and run it, with the stand-ins for torch and the process tree."""
    with bootstrap.open_bundle("small.pyz") as opened:
        manifest, digest = bootstrap.read_manifest(opened)
        root = bootstrap.unpack(opened, manifest, digest, str(world.folder / "host"))
    given = argparse.Namespace(output="out.zip", only=only or [], jobs=1, require_gpu=False, debug=True)
    return bundle_host.main(root, given)


def test_a_matrix_goes_out_and_its_report_comes_home(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told = bundle(world)
    assert "left out: the cells of import" in told
    reason = {"status": Status.FAILED, "reason": "the loss is not finite"}
    world.tree.failing = {CELL.format("loss_contract"): reason}
    with monkeypatch.context() as host:
        # There is no synthesizer on the host, no index, and nothing that makes model folders.
        host.setattr("harness.run.prepare.build_corpus", pytest.fail)
        host.setattr("harness.releases.cache.move_into_place", pytest.fail)
        host.setattr("harness.corpus.features.measure", pytest.fail)
        host.setattr(package_index, "install_published", pytest.fail)
        assert run_there(world) == 0
    assert len(world.tree.asked) == 4
    assert not any("/import/" in cell for cell in world.tree.asked)
    said = world.call("report", "--import", "out.zip")
    assert said.status == 1
    assert (world.output / "compatibility.html").is_file()
    assert len(world.written()) == 4
    told_of = json.loads((world.output / "run.json").read_text())
    kept = json.loads((world.output / ORIGIN).read_text())
    assert told_of["matrix"] == kept["matrix"] == "small"
    assert told_of["harness_commit"] == kept["harness_commit"]
    assert kept["left_out"] == {"import": Check.IMPORT.facts.not_in_bundles}


def test_a_users_rows_are_trained_on_there_as_they_were_chosen_here(world: World) -> None:
    world.write_matrix('"loss_contract"', '"loss_contract", "finetune@train"')
    (world.folder / "other").mkdir()
    write_wave(world.folder / "other" / "two.wav", seconds=2.0)
    rows = [{"key": f"k{n}", "source": "one.wav", "target": "两  个", "more": n} for n in range(4)]
    (world.folder / "speech.jsonl").write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
    valid = {"source": str(world.folder / "other" / "two.wav"), "target": "你好"}
    (world.folder / "valid.jsonl").write_text(json.dumps(valid))
    told = bundle(world, "--valid", "valid.jsonl", "--rows", "2")
    assert "speech.jsonl: 2 of its 4 rows are carried, evenly spaced" in told
    assert "spaces at an end of the text" in told
    asked: list[tuple[Any, bytes, bytes]] = []

    def look(plan: Plan, on_outcome: Callable[[Outcome], None], **others: Any) -> None:
        for planned in plan.planned().values():
            if plan.cells[planned.number].entry:
                data = planned.request["data"]
                asked.append((data["own"], Path(data["train"]).read_bytes(), Path(data["valid"]).read_bytes()))
        world.tree(plan, on_outcome, **others)

    world.monkeypatch.setattr(runner, "execute", look)
    assert run_there(world) == 0
    assert len(asked) == 2
    own, train, validated = asked[0]
    assert Path(own["root"]).match("host/*/inputs")
    assert [json.loads(one) for one in train.decode().splitlines()] == [
        {**rows[0], "source": "audio/00000.wav"},
        {**rows[2], "source": "audio/00000.wav"},
    ]
    assert json.loads(validated) == {**valid, "source": "audio/00001.wav"}
    world.call("report", "--import", "out.zip")
    kept = json.loads((world.output / "run.json").read_text())
    assert kept["speech"] == "speech.jsonl: 2 rows, as in the file; validated on valid.jsonl"


def test_a_part_of_the_cells_can_be_run_there(world: World) -> None:
    bundle(world)
    assert run_there(world, only=["1.4.16/*/construct/*"]) == 0
    assert world.tree.asked == [CELL.format("construct")]


def test_cells_that_are_not_in_the_bundle_are_one_error(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    bundle(world, "--only", "*/construct/*")
    assert run_there(world, only=["*/loss_contract/*"]) == 2
    assert "none of the 2 selected cells can be run from this bundle" in capsys.readouterr().err


def test_what_was_not_learned_gives_its_own_exit_status_and_its_reason(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle(world)
    world.tree.failing = {CELL.format("construct"): {"status": Status.ERRORED, "reason": "the disk is full"}}
    assert run_there(world) == 3
    assert "not measured, 1 cell: the disk is full" in capsys.readouterr().err


def test_a_run_that_was_stopped_still_gives_what_was_measured(world: World) -> None:
    bundle(world)

    def stop(cell: object) -> None:
        if len(world.tree.asked) == 2:
            raise KeyboardInterrupt

    world.tree.before_each = stop
    assert run_there(world) == 130
    said = world.call("report", "--import", "out.zip", "-o", "there")
    assert said.status == 3
    assert "cells have no outcome: the run was broken off" in said.err
    assert len((world.folder / "there" / "outcomes.jsonl").read_text().splitlines()) == 2


def test_a_result_is_not_mixed_into_another_run(world: World) -> None:
    bundle(world)
    run_there(world)
    world.call("report", "--import", "out.zip")
    said = world.call("report", "--import", "out.zip")
    assert said.status == StoreError.exit_code
    assert "runs/small has a run already" in said.err


@pytest.mark.parametrize("name", ["outcomes.jsonl", "run.json", "result.json"])
def test_a_result_that_was_changed_is_refused(world: World, name: str) -> None:
    bundle(world)
    run_there(world)
    with zipfile.ZipFile("out.zip") as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile("out.zip", "w") as archive:
        for entry, content in files.items():
            archive.writestr(entry, content.replace(b"e", b"E") if entry == name else content)
    said = world.call("report", "--import", "out.zip")
    assert said.status == InputError.exit_code
    assert "out.zip is no result of a bundle, or is damaged" in said.err
    assert not world.output.exists()


def rewrite(description: dict[str, Any], contents: dict[str, bytes]) -> None:
    """A result whose hashes are right."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    with zipfile.ZipFile("out.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("result.json", json.dumps({**description, "files": sums}))
        for name, content in contents.items():
            archive.writestr(name, content)


def refused(world: World, *options: str) -> str:
    before = {path for path in world.folder.parent.rglob("*") if "cache" not in path.parts}
    said = world.call("report", "--import", "out.zip", *options)
    assert said.status == InputError.exit_code, said.err
    assert "a fault of the harness" not in said.err
    assert {path for path in world.folder.parent.rglob("*") if "cache" not in path.parts} == before
    return said.err


def test_a_hostile_result_leads_nowhere_and_is_one_clear_error(world: World) -> None:
    bundle(world)
    run_there(world)
    with zipfile.ZipFile("out.zip") as archive:
        description = json.loads(archive.read("result.json"))
        contents = {name: archive.read(name) for name in ("outcomes.jsonl", "run.json")}
    run = json.loads(contents["run.json"])
    for name in ("../../elsewhere", "/tmp/elsewhere", "..", ".", "", "a/b", "a\x00b", "x" * 300, None, ["small"]):
        rewrite(description, {**contents, "run.json": json.dumps({**run, "matrix": name}).encode()})
        assert "out.zip is" in refused(world)
    for changed in ({"bundle": []}, {"bundle": {}}, {"bundle": {"harness_commit": 1, "harness_dirty": None}}):
        rewrite({**description, **changed}, contents)
        refused(world)
    for planted in (b"[" * 200_000, b"null", b'{"cells": "many"}', json.dumps({**run, "gpus": 3}).encode()):
        rewrite(description, {**contents, "run.json": planted})
        refused(world)
    rewrite(description, {**contents, "outcomes.jsonl": b" " * (64 << 20)})
    assert Path("out.zip").stat().st_size < 2 << 20
    assert "more than any run of its size" in refused(world)
    sound = Path("out.zip").read_bytes()
    Path("out.zip").write_bytes(sound[: len(sound) // 2])
    refused(world)
    rewrite(description, contents)
    assert world.call("report", "--import", "out.zip").status == 0


def test_report_wants_a_run_or_a_result(world: World) -> None:
    assert world.call("report").status == InputError.exit_code
    assert world.call("report", "runs/small", "--import", "out.zip").status == InputError.exit_code


def test_a_checkout_in_the_matrix_is_refused(world: World, tmp_path: Path) -> None:
    package = world.folder / "checkout" / "funasr"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "version.txt").write_text("1.9.9\n")
    world.write_matrix('release = ["1.4.15", "latest"]', 'release = ["../checkout"]')
    said = world.call("bundle", "matrices/small.toml", "-o", "small.pyz", "--cache", str(world.cache))
    assert said.status == InputError.exit_code
    assert "names files of this machine: 1.9.9+local." in said.err


@pytest.mark.parametrize(
    ("option", "value"), [("--python", "three"), ("--platform", "windows"), ("--requirements", "none.lock")]
)
def test_a_target_that_makes_no_sense_is_one_error(world: World, option: str, value: str) -> None:
    options = ("--cache", str(world.cache), "--jsonl", "speech.jsonl", option, value)
    said = world.call("bundle", "matrices/small.toml", "-o", "small.pyz", *options)
    assert said.status == InputError.exit_code
    assert value in said.err
    assert not Path("small.pyz").exists()


def test_a_library_that_the_lock_does_not_pin_is_named(world: World) -> None:
    (world.folder / "requirements.lock").write_text(PIN.format("numpy", "0" * 64))
    with pytest.raises(InputError, match="does not pin six"):
        libraries.lay_out(("numpy", "six"), Path("requirements.lock"), Path("x"), python="3.12", platform=PLATFORM)


def test_a_library_that_is_not_installed_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_index, "install_pins", lambda pins, target, **_: lay_out_pins("six==1.0", target))
    with pytest.raises(StoreError, match="not installed: numpy"):
        libraries.lay_out(("numpy", "six"), Path("requirements.lock"), Path("x"), python="3.12", platform=PLATFORM)


def test_each_library_lies_by_itself_without_its_scripts(world: World) -> None:
    found = libraries.lay_out(("numpy",), Path("requirements.lock"), Path("x"), python="3.12", platform=PLATFORM)
    assert found["numpy"].modules == ("numpy",)
    assert {str(file.relative_to("x")) for file in Path("x").rglob("*") if file.is_file()} == {
        f"numpy/site-packages/{file}"
        for file in ("numpy/__init__.py", "numpy-1.0.dist-info/METADATA", "numpy-1.0.dist-info/RECORD")
    }


def test_a_module_within_a_namespace_is_reported_by_its_whole_name() -> None:
    files = [P("google/protobuf/__init__.py"), P("google/protobuf/internal/__init__.py"), P("six.py")]
    files += [P("_cffi_backend.cpython-312-x86_64-linux-gnu.so"), P("numpy.libs/libopenblas.so")]
    assert libraries._modules("several", files) == ("_cffi_backend", "google.protobuf", "six")
    assert libraries._modules("protobuf", files) == ("google.protobuf",)


def test_a_module_of_a_common_name_does_not_stand_for_a_library() -> None:
    files = [P("omegaconf/__init__.py"), P("pydevd_plugins/__init__.py")]
    assert libraries._modules("omegaconf", files) == ("omegaconf",)


def test_the_lock_pins_every_library_that_a_bundle_may_need() -> None:
    lock = Path(__file__).parent.parent / "requirements.lock"
    assert libraries._pins(libraries.libraries_for(Check), lock).count("==")


def test_an_index_that_cannot_be_reached_is_one_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise FetchError("cannot fetch the libraries for Python 3.12")

    monkeypatch.setattr(package_index, "install_pins", refuse)
    said = world.call(
        *("bundle", "matrices/small.toml", "-o", "small.pyz", "--cache", str(world.cache), "--jsonl", "speech.jsonl")
    )
    assert said.status == FetchError.exit_code
    assert said.err.rstrip().endswith("cannot fetch the libraries for Python 3.12")
