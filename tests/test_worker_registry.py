"""Which class a registry key stands for: recorded of a full import, and the same after a partial one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_release
from forked import Forked

from harness.variants.catalogue import load_variant
from harness.worker.checks import dispatch
from harness.worker.release import importer, registry

REGISTER = """
class RegisterTables:
    decoder_classes = {}
    decoder_classes_meta = {"Decoder": ["text"]}

    def register(self, register_tables_key, key=None):
        def decorator(target_class):
            registry = getattr(self, register_tables_key)
            name = key if key is not None else target_class.__name__
            REFUSING
            registry[name] = target_class
            return target_class
        return decorator

tables = RegisterTables()
"""
REFUSING = {
    "": REGISTER.replace("REFUSING", "pass"),
    "AssertionError": REGISTER.replace("REFUSING", "assert name not in registry"),
    "ValueError": REGISTER.replace("REFUSING", "if name in registry: raise ValueError(name)"),
}
SWALLOWING = """
import importlib, pkgutil
for info in pkgutil.walk_packages(__path__, "funasr."):
    try:
        importlib.import_module(info.name)
    except Exception:
        pass
"""


def decoder(name: str = "Decoder", body: str = "pass", *, before: str = "", after: str = "") -> str:
    """A module that registers a class."""
    register = f'@tables.register("decoder_classes", "{name}")\nclass {name}:\n    {body}\n'
    return f"from funasr.register import tables\n{before}\n\n{register}\n{after}\n"


def write(install_dir: Path, files: dict[str, str], refusing: str = "") -> str:
    return str(tiny_release.write_package(install_dir, {"register.py": REFUSING[refusing], **files}, init=SWALLOWING))


KEY = ("decoder_classes", "Decoder")
TWO = {"models/a.py": decoder(), "models/z.py": decoder()}


def imported(install_dir: str) -> dict[str, Any]:
    """What is recorded of a full import."""
    recorder = registry.RegistryRecorder()
    sys.meta_path.insert(0, recorder)
    importer.import_all(install_dir)
    return {**recorder.to_dict(), "findings": recorder.findings()}


def order(install_dir: str) -> dict[str, Any]:
    return dispatch.run({"check": "registrations", "device": "cpu", "release": {"install_dir": install_dir}})


LINES = "import inspect\n" + REGISTER.replace("REFUSING", "self.line = inspect.getsourcelines(target_class)[1]")


def test_the_order_of_registrations_is_that_of_a_full_import_without_the_numbers_of_lines(
    forked: Forked, tmp_path: Path
) -> None:
    reads = "import inspect\nFOUND = len(inspect.getsourcelines(tables.register)[0])\nassert FOUND\n"
    files = {**TWO, "models/m.py": decoder("Other", before=reads), "register.py": LINES}
    install_dir = write(tmp_path, files)
    found = forked(order, install_dir=install_dir)
    assert found["status"] == "passed"
    assert found["evidence"]["registry"] == {
        name: part for name, part in forked(imported, install_dir=install_dir).items() if name != "findings"
    }


def line(install_dir: str, *, whole: bool) -> int:
    if whole:
        importer.import_all(install_dir)
    else:
        importer.import_components_only(install_dir, "1.0.0")
        importer.import_components(install_dir, [KEY])
    return int(importlib.import_module("funasr.register").tables.line)


def test_only_an_import_of_the_whole_release_finds_the_lines_of_classes(forked: Forked, tmp_path: Path) -> None:
    install_dir = write(tmp_path, {"models/a.py": decoder(), "register.py": LINES})
    assert forked(line, install_dir=install_dir, whole=True) > 0
    assert forked(line, install_dir=install_dir, whole=False) == 0


def test_every_registration_is_recorded_in_order_with_the_class_that_is_left(forked: Forked, tmp_path: Path) -> None:
    install_dir = write(tmp_path, {**TWO, "models/m.py": decoder("Other")})
    seen = forked(imported, install_dir=install_dir)
    assert seen["registrations"] == [
        ["decoder_classes", "Decoder", "funasr.models.a", "Decoder", ""],
        ["decoder_classes", "Other", "funasr.models.m", "Other", ""],
        ["decoder_classes", "Decoder", "funasr.models.z", "Decoder", ""],
    ]
    assert seen["winners"] == {
        "decoder_classes/Decoder": "funasr.models.z:Decoder",
        "decoder_classes/Other": "funasr.models.m:Other",
    }


@pytest.mark.parametrize(("body", "same"), [("pass", True), ('"""Another text."""', True), ("x = 1", False)])
def test_a_key_that_two_modules_register_is_a_finding_that_says_whose_class_is_left(
    forked: Forked, tmp_path: Path, body: str, same: bool
) -> None:
    install_dir = write(tmp_path, {**TWO, "models/z.py": decoder(body=body)})
    (finding,) = forked(imported, install_dir=install_dir)["findings"]
    assert finding["code"] == "duplicate-registration.decoder-classes.decoder"
    assert finding["place"] == "funasr/models/a.py:Decoder and funasr/models/z.py:Decoder"
    assert finding["detail"] == {
        "registered": ["funasr.models.a:Decoder", "funasr.models.z:Decoder"],
        "winner": "funasr.models.z:Decoder",
        "same_code": same,
    }
    assert "the class is that of funasr.models.z, so a change of funasr.models.a has no effect" in finding["message"]


@pytest.mark.parametrize("kind", ["AssertionError", "ValueError"])
def test_a_registration_that_the_release_refuses_is_a_finding_of_its_own(
    forked: Forked, tmp_path: Path, kind: str
) -> None:
    seen = forked(imported, install_dir=write(tmp_path, TWO, refusing=kind))
    assert seen["winners"] == {"decoder_classes/Decoder": "funasr.models.a:Decoder"}
    (finding,) = seen["findings"]
    assert finding["code"] == "registration-refused.decoder-classes.decoder"
    assert finding["message"].endswith(f"({kind}): funasr.models.z does not import.")


@pytest.mark.parametrize(
    "files",
    [
        {"models/a.py": decoder(), "models/z.py": decoder("Other")},
        {"models/a.py": decoder(), "models/z.py": "from funasr.models.a import Decoder"},
        # The same class under its key once more, from another module.
        {
            "models/a.py": decoder(),
            "models/z.py": "from funasr.models.a import Decoder\nfrom funasr.register import tables\n"
            'tables.register("decoder_classes", "Decoder")(Decoder)',
        },
        # A module that fails after it registered, and is imported again: each time it makes a new class.
        {"models/a.py": decoder(after="raise RuntimeError"), "models/z.py": "import funasr.models.a"},
        {"models/a.py": decoder(after='tables.register("decoder_classes", "Decoder")(Decoder)')},
    ],
)
def test_a_sound_release_has_no_finding(forked: Forked, tmp_path: Path, files: dict[str, str]) -> None:
    seen = forked(imported, install_dir=write(tmp_path, files))
    assert seen["findings"] == []
    assert seen["winners"]["decoder_classes/Decoder"] == "funasr.models.a:Decoder"


def partly(install_dir: str, components: list[list[str]], registrations: list[list[str]]) -> dict[str, str]:
    """The classes after a partial import, that of a full import being on record or not."""
    pairs = [(table, name) for table, name in components]
    registry.watch(pairs)
    importer.remember(
        install_dir, importer.FullImport(tuple((table, name, place) for table, name, place, *_ in registrations))
    )
    importer.import_components_only(install_dir, "1.0.0")
    importer.import_components(install_dir, pairs)
    assert importer.is_partial()
    return registry.classes_in_process()


@pytest.mark.parametrize("refusing", list(REFUSING))
def test_a_partial_import_leaves_the_class_of_the_full_one(forked: Forked, tmp_path: Path, refusing: str) -> None:
    # z is imported first, by a module that comes before it: a then overrules it, or is refused.
    files = {"models/_first.py": decoder("First", before="import funasr.models.z"), **TWO}
    install_dir = write(tmp_path, files, refusing)
    full = forked(imported, install_dir=install_dir)
    winner = {"decoder_classes/Decoder": "funasr.models.a:Decoder" if not refusing else "funasr.models.z:Decoder"}
    assert full["winners"] | winner == full["winners"]
    rows = full["registrations"]
    assert forked(partly, install_dir=install_dir, components=[list(KEY)], registrations=rows) == winner


def test_modules_come_in_the_full_imports_order_across_keys(forked: Forked, tmp_path: Path) -> None:
    # The second key's first module imports a module of the first key: in the full import that was there already.
    files = {
        "models/a.py": decoder("Decoder"),
        "models/b.py": decoder("Decoder"),
        "models/c.py": decoder("Another", before="import funasr.models.b"),
    }
    install_dir = write(tmp_path, files)
    full = forked(imported, install_dir=install_dir)
    pairs = [["decoder_classes", "Another"], list(KEY)]
    found = forked(partly, install_dir=install_dir, components=pairs, registrations=full["registrations"])
    assert found == full["winners"]


def test_a_module_whose_class_is_overruled_may_fail_as_in_a_full_import(forked: Forked, tmp_path: Path) -> None:
    install_dir = write(tmp_path, {**TWO, "models/a.py": decoder(after="raise ImportError('planted')")})
    full = forked(imported, install_dir=install_dir)
    found = forked(partly, install_dir=install_dir, components=[list(KEY)], registrations=full["registrations"])
    assert found == {"decoder_classes/Decoder": "funasr.models.z:Decoder"}


def entered(install_dir: str, below: list[dict[str, Any]]) -> dict[str, Any]:
    """The classes of a cell after its release was entered as the process tree does it, and whether it is in part."""
    pairs = [KEY]
    registry.watch(pairs)
    entering = {
        "install_dir": install_dir,
        "version": "1.0.0",
        "components": [list(KEY)],
        "whole": False,
        "below": below,
    }
    dispatch.enter(entering)
    dispatch.import_for(pairs, install_dir, "1.0.0")
    return {"classes": registry.classes_in_process(), "partial": importer.is_partial()}


def test_the_order_comes_from_the_result_of_the_import_check(forked: Forked, tmp_path: Path) -> None:
    install_dir = write(tmp_path / "release", TWO)
    told = forked(imported, install_dir=install_dir)
    other: dict[str, Any] = {"status": "passed", "evidence": {}}
    below = [other, {"status": "passed", "evidence": {"registry": told}}]
    winner = {"decoder_classes/Decoder": "funasr.models.z:Decoder"}
    assert forked(entered, install_dir=install_dir, below=below) == {"classes": winner, "partial": True}


@pytest.mark.parametrize("broken", [False, True])
def test_without_that_result_a_key_of_two_modules_makes_the_import_whole(
    forked: Forked, tmp_path: Path, broken: bool
) -> None:
    install_dir = write(tmp_path, TWO)
    if broken:
        (tmp_path / "funasr/__init__.py").write_text("raise RuntimeError('planted')")
    seen = forked(entered, install_dir=install_dir, below=[])
    # Where the whole import fails there is none to be like, and the check goes on as far as it can.
    name = "a" if broken else "z"
    assert seen == {"classes": {"decoder_classes/Decoder": f"funasr.models.{name}:Decoder"}, "partial": broken}


def test_where_one_module_registers_it_the_import_stays_partial(forked: Forked, tmp_path: Path) -> None:
    install_dir = write(
        tmp_path, {"models/a.py": decoder(), "models/z.py": "# @tables.register('decoder_classes', 'Decoder')"}
    )
    seen = forked(entered, install_dir=install_dir, below=[])
    assert seen == {"classes": {"decoder_classes/Decoder": "funasr.models.a:Decoder"}, "partial": True}


PARAFORMER = "decoder_classes/ParaformerSANMDecoder"


@pytest.mark.release
@pytest.mark.parametrize(
    ("version", "winner", "duplicate"),
    [
        ("1.0.18", "funasr.models.paraformer.decoder:ParaformerSANMDecoder", False),
        ("1.2.2", "funasr.models.e_paraformer.decoder:ParaformerSANMDecoder", True),
        ("1.4.16", "funasr.models.e_paraformer.decoder:ParaformerSANMDecoder", True),
    ],
)
def test_in_real_releases_the_partial_import_builds_from_the_winners(
    forked: Forked, layout: Callable[[str], Path], version: str, winner: str, duplicate: bool
) -> None:
    install_dir = str(layout(version))
    full = forked(imported_with_stack, install_dir=install_dir)
    assert full["winners"][PARAFORMER] == winner
    code = "duplicate-registration.decoder-classes.paraformersanmdecoder"
    assert (code in [one["code"] for one in full["findings"]]) is duplicate
    pairs = [list(pair) for pair in load_variant("paraformer").components]
    found = forked(partly_with_stack, install_dir=install_dir, components=pairs, registrations=full["registrations"])
    assert found == {key: full["winners"][key] for key in found}
    assert found[PARAFORMER] == winner


def imported_with_stack(install_dir: str) -> dict[str, Any]:
    """The same with the libraries that the harness gives a release."""
    _with_stack()
    return imported(install_dir)


def partly_with_stack(install_dir: str, components: list[list[str]], registrations: list[list[str]]) -> dict[str, str]:
    """The same with the libraries that the harness gives a release."""
    _with_stack()
    return partly(install_dir, components, registrations)


def _with_stack() -> None:
    from harness.environments.environment import probe

    sys.path[:0] = [str(path) for path in probe().extra_paths]
    importlib.invalidate_caches()
