"""Entering a release: only what is needed is imported, from where the release itself would have it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_release
from forked import Forked

from harness.worker.release import importer

MODULE = """
from funasr.register import tables

@tables.register("model_classes", "Model")
class Model:
    pass
"""


def write(install_dir: Path, files: dict[str, str], init: str = "") -> str:
    return str(tiny_release.write_package(install_dir, {"register.py": tiny_release.REGISTER, **files}, init=init))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('@tables.register("model_classes", "A")', {("model_classes", "A")}),
        ("@tables.register('model_classes', 'A.b-c')", {("model_classes", "A.b-c")}),
        ('@tables.register(\n    "model_classes",\n    "A"\n)', {("model_classes", "A")}),
        ('@tables.register("x", "A")\n@tables.register("x", "B")\nclass A: ...', {("x", "A"), ("x", "B")}),
        ('if True:\n    @tables.register("x", "A")\n    class A: ...', {("x", "A")}),
        ('# @tables.register("x", "A")', set()),
        ("@tables.register(table, name)", set()),
        ("print('nothing')", set()),
    ],
)
def test_registrations_are_read_from_the_text(tmp_path: Path, text: str, found: set[tuple[str, str]]) -> None:
    install_dir = write(tmp_path, {"models/a/model.py": text})
    assert importer.registrations(install_dir) == dict.fromkeys(found, ("funasr.models.a.model",))


def test_a_package_is_named_without_its_init(tmp_path: Path) -> None:
    install_dir = write(tmp_path, {"models/a/__init__.py": '@tables.register("model_classes", "A")'})
    assert importer.registrations(install_dir) == {("model_classes", "A"): ("funasr.models.a",)}


def test_only_python_counts_and_odd_bytes_are_skipped(tmp_path: Path) -> None:
    install_dir = write(tmp_path, {"models/notes.txt": '@tables.register("model_classes", "Text")'})
    (tmp_path / "funasr/models/odd.py").write_bytes(b'# \xff\xfe\n@tables.register("model_classes", "Odd")\n')
    assert importer.registrations(install_dir) == {("model_classes", "Odd"): ("funasr.models.odd",)}


def test_modules_that_register_the_same_stand_by_name_however_the_disk_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_dir = write(
        tmp_path, {f"models/{name}.py": MODULE for name in ("m/model", "z/model", "a/model", "a/cif", "a/x", "k/model")}
    )
    walk = importer.os.walk

    def backwards(top: str) -> Any:
        for folder, folders, names in walk(top):
            folders.sort(reverse=True)
            yield folder, folders, sorted(names, reverse=True)

    monkeypatch.setattr(importer.os, "walk", backwards)
    names = ("a.cif", "a.model", "a.x", "k.model", "m.model", "z.model")
    assert importer.registrations(install_dir)["model_classes", "Model"] == tuple(
        f"funasr.models.{name}" for name in names
    )


def enter(install_dir: str, components: list[list[str]]) -> dict[str, Any]:
    importer.import_components_only(install_dir, "1.2.3")
    try:
        importer.import_components(install_dir, [(table, name) for table, name in components])
    except importer.NotInRelease as absent:
        return {"absent": str(absent)}
    import funasr

    return {
        "imported": sorted(name for name in sys.modules if name.partition(".")[0] == "funasr"),
        "version": funasr.__version__,
        "front": sys.path[0],
        "spec": funasr.__spec__.submodule_search_locations,
        "strange": hasattr(funasr, "strange"),
        "auto": funasr.AutoModel.__module__ if Path(install_dir, "funasr/auto").exists() else None,
    }


def test_the_packages_own_code_is_not_run(forked: Forked, tmp_path: Path) -> None:
    files = {"models/a/model.py": MODULE, "models/b/model.py": 'raise RuntimeError("not needed")'}
    install_dir = write(tmp_path, files, init='raise RuntimeError("the package was imported whole")')
    seen = forked(enter, install_dir=install_dir, components=[["model_classes", "Model"]])
    assert seen == {
        "imported": ["funasr", "funasr.models", "funasr.models.a", "funasr.models.a.model", "funasr.register"],
        "version": "1.2.3",
        "front": install_dir,
        "spec": [f"{install_dir}/funasr"],
        "strange": False,
        "auto": None,
    }


def test_what_the_init_would_export_is_there_when_asked_for(forked: Forked, tmp_path: Path) -> None:
    install_dir = write(tmp_path, {"auto/auto_model.py": "class AutoModel: ...\n"}, init="raise RuntimeError")
    assert forked(enter, install_dir=install_dir, components=[])["auto"] == "funasr.auto.auto_model"


def test_a_component_that_a_release_lacks_is_reported_by_its_kind(forked: Forked, tmp_path: Path) -> None:
    install_dir = write(tmp_path, {"models/a/model.py": MODULE})
    seen = forked(enter, install_dir=install_dir, components=[["encoder_classes", "SANMEncoderChunkOpt"]])
    assert seen == {"absent": "the release has no encoder 'SANMEncoderChunkOpt'"}


def enter_twice(first: str, second: str) -> list[Any]:
    seen = []
    for install_dir in (first, second):
        importer.import_all(install_dir)
        import funasr
        from funasr import sub

        seen.append([funasr.__file__, sub.__file__])
    return [*seen, sys.path.count(first), sys.path.count(second), sys.path[0]]


def test_leaving_a_release_forgets_it(forked: Forked, tmp_path: Path) -> None:
    first, second = (write(tmp_path / name, {"sub.py": ""}) for name in ("first", "second"))
    seen = forked(enter_twice, first=first, second=second)
    wanted = [[f"{install_dir}/funasr/__init__.py", f"{install_dir}/funasr/sub.py"] for install_dir in (first, second)]
    assert seen == [*wanted, 1, 1, second]


def states(install_dir: str, other: str) -> list[list[bool]]:
    """Whether a release is entered, whether another is, and whether it is in part; before, in part, wholly, after."""
    seen = []

    def look() -> None:
        seen.append([importer.is_imported(install_dir), importer.is_imported(other), importer.is_partial()])

    look()
    importer.import_components_only(install_dir, "1.0.0")
    look()
    importer.import_all(install_dir)
    look()
    importer.unload()
    look()
    return seen


def test_it_is_known_how_far_a_release_is_entered(forked: Forked, tmp_path: Path) -> None:
    install_dir = write(tmp_path / "release", {})
    seen = forked(states, install_dir=install_dir, other=str(tmp_path / "rel"))
    assert seen == [[False, False, False], [True, False, True], [True, False, False], [False, False, False]]
