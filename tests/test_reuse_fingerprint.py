"""Which changes of a release bring a cell to run, and which do not: each is planted in a copy of a small release."""

from __future__ import annotations

import pytest
from reuse_scene import FILES, Ran, changed, fingerprint_of, lay_out, outcome, release, run_cell

from harness.core.cells import Frame, Status
from harness.run.reuse import source_units
from harness.run.reuse.fingerprint import (
    CodeUsed,
    DependencyKind,
    Fingerprint,
    NotReusable,
    differences,
    equals,
    fingerprint,
)
from harness.run.reuse.source_units import SourceUnits

MODEL, LAYERS, ENCODER = "funasr/models/model.py", "funasr/models/layers.py", "funasr/models/encoder.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lay_out(tmp_path_factory.mktemp("release") / "base")


@pytest.fixture(scope="module")
def ran(folder) -> Ran:
    return run_cell(folder)


@pytest.fixture(scope="module")
def known(folder, ran) -> Fingerprint:
    return fingerprint_of(ran, folder)


REACHING = {
    "a default argument": (ENCODER, "gain=3", "gain=4"),
    "a constant of a module": (LAYERS, "SCALE = 2", "SCALE = 3"),
    "a YAML": ("funasr/models/defaults.yaml", "7", "8"),
    "a decorator": (MODEL, "    @twice\n", ""),
    "what a decorator does": (LAYERS, "return 2 *", "return 3 *"),
    "a base class": (LAYERS, "offset = 1", "offset = 2"),
    "a base class's method": (LAYERS, "value + self.offset", "value - self.offset"),
    "other bases": (ENCODER, "Encoder(Base)", "Encoder(Base, dict)"),
    "a monkey patch at import": ("funasr/models/patches.py", "value: value", "value: value + 1"),
    "a lazily imported module": ("funasr/models/lazy.py", "STEP = 5", "STEP = 6"),
    "a function of it": ("funasr/models/lazy.py", "value + STEP", "value - STEP"),
    "a module that was looked for": ("funasr/models/extension.py", "", "import math\nmath.harness_trial = abs\n"),
    "a package in place of a module": ("funasr/models/lazy/__init__.py", "", "def step(value):\n    return value\n"),
    "compiled code in place of a module": ("funasr/models/lazy.abi3.so", "", "no library"),
    "another component of that name": (
        "funasr/models/another_encoder.py", "", FILES["funasr/models/other_encoder.py"]
    ),
    "a file beside the package": ("torch/__init__.py", "", "\n"),
    "a data file that may be looked for": ("funasr/models/extra.yaml", "", "gain: 1\n"),
    "a global that is shadowed": (MODEL, "", "\ntwice = None\n"),
    "a function that yields, though it is not called": (LAYERS, "    return value\n", "    yield value\n"),
    "a function that is compiled from its source": (
        "funasr/models/compiled.py", "return value + 1", "return value + 2"
    ),
    "a method of a class that a decorator of the release may read": (
        "funasr/models/compiled.py", "return value + 3", "return value + 4"
    ),
    "an argument of a function that is not called": (LAYERS, "def unused(value)", "def unused(value, more)"),
}  # fmt: skip


@pytest.mark.parametrize("change", REACHING.values(), ids=REACHING.keys())
def test_a_change_that_may_reach_the_cell_brings_it_to_run(folder, known, change, tmp_path) -> None:
    other = changed(folder, *change, to=tmp_path / "other")
    assert not equals(known, release(other))
    assert differences(known, release(other))


NOT_REACHING = {
    "nothing": (LAYERS, "", ""),
    "a comment": (LAYERS, "# by the offset", "# by what it is"),
    "a docstring": (LAYERS, '"""The base of all encoders."""', '"""What encoders are."""'),
    "a docstring of a function": (LAYERS, '"""Shift a value."""', '"""Add."""'),
    "a docstring that was not there": (
        MODEL,
        "def forward(self, value):\n",
        'def forward(self, value):\n        "One."\n',
    ),
    "blank lines": (LAYERS, "SCALE = 2\n", "\n\nSCALE = 2\n\n"),
    "a function that was not called": (LAYERS, "    return value\n", "    return value * 3\n"),
    "a method that only another value calls": (MODEL, "value + 100", "value + 200"),
    "a module that nothing imports": ("funasr/models/new.py", "", "raise ImportError\n"),
    "a module that the cell does not import": ("funasr/models/other_encoder.py", "return -value", "return value"),
}


@pytest.mark.parametrize("change", NOT_REACHING.values(), ids=NOT_REACHING.keys())
def test_a_change_that_cannot_reach_the_cell_lets_it_be_reused(folder, ran, known, change, tmp_path) -> None:
    other = changed(folder, *change, to=tmp_path / "other")
    assert differences(known, release(other)) == []


@pytest.mark.parametrize("change", ["a comment", "a function that was not called"])
def test_what_is_reused_is_what_running_would_have_given(folder, ran, change, tmp_path) -> None:
    other = changed(folder, *NOT_REACHING[change], to=tmp_path / "other")
    assert run_cell(other).answer == ran.answer


def test_a_function_that_only_one_seed_calls_counts_for_that_seed(folder, tmp_path) -> None:
    known = fingerprint_of(run_cell(folder, value=11), folder)
    other = changed(folder, MODEL, "value + 100", "value + 200", to=tmp_path / "other")
    assert differences(known, release(other)) == [(DependencyKind.FUNCTION, f"{MODEL}:rare")]


def test_the_order_of_registrations_counts(folder) -> None:
    first, second = "funasr.models.encoder", "funasr.models.other_encoder"
    registered = lambda *modules: tuple(("encoder_classes", "Encoder", module) for module in modules)  # noqa: E731
    known = fingerprint_of(run_cell(folder, order=registered(second, first)), folder, registered(second, first))
    assert equals(known, release(folder, registered(second, first)))
    assert not equals(known, release(folder, registered(first, second)))


def test_who_looks_for_a_library_sees_the_release_without_its_version(tmp_path) -> None:
    above = "os.listdir(os.path.join(os.path.dirname(__file__), '..', '..'))"
    looking = {**FILES, MODEL: FILES[MODEL].replace("gain = int(", f"gain = bool({above}) * int(")}
    first, second = (
        lay_out(tmp_path / version, {**looking, f"funasr-{version}.dist-info/METADATA": ""})
        for version in ("1.0.0", "1.0.1")
    )
    known = fingerprint_of(run_cell(first), first)
    assert (DependencyKind.FOLDER, ".") in known
    assert differences(known, release(second)) == []
    assert differences(known, release(changed(second, "torch-9.dist-info/METADATA", "", "", to=tmp_path / "other")))


def test_a_warning_prints_its_line_and_depends_on_no_other(folder, tmp_path) -> None:
    warning = changed(
        folder, MODEL, "value > 10", "value > 10 or __import__('warnings').warn('odd')", to=tmp_path / "one"
    )
    known = fingerprint_of(run_cell(warning), warning)
    other = changed(warning, MODEL, "import os\n", "import os\n\n\n", to=tmp_path / "other")
    assert differences(known, release(other)) == []


def test_the_version_counts_where_code_that_ran_reads_it(folder, ran, known, tmp_path) -> None:
    assert equals(known, release(folder, version="1.4.17"))
    reading = changed(folder, MODEL, "value > 10", "value > 10 and funasr.__version__", to=tmp_path / "other")
    read = fingerprint_of(run_cell(reading), reading)
    assert differences(read, release(reading, version="1.4.17")) == [(DependencyKind.VERSION, "")]


COMPARISON = source_units._COMPARISON.replace("\n", "\n    ")
PRINTING = f"def check_for_update():\n    {COMPARISON}\n"


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        (PRINTING, set()),
        (PRINTING.replace("print(f", "MODES.append(f", 1), {source_units.VERSION}),
        (f"{PRINTING}    return current_version\n", {source_units.VERSION}),
        (PRINTING.replace("    current", "    if enable:\n        return\n    current", 1), {source_units.VERSION}),
    ],
)
def test_a_version_that_is_only_printed_does_not_count(source, reads) -> None:
    found = SourceUnits.of(source.encode()).functions["check_for_update"]
    assert found.reads == reads


def test_a_line_of_a_traceback_counts_to_the_byte(folder, ran, tmp_path) -> None:
    frame = Frame(file=LAYERS, line=20, function="shift", code="return value + self.offset")
    known = fingerprint_of(ran, folder, made=lambda one: outcome(one, Status.FAILED, (frame,)))
    other = changed(folder, *NOT_REACHING["blank lines"], to=tmp_path / "other")
    assert differences(known, release(other)) == [(DependencyKind.TEXT, LAYERS)]


REFUSED = {
    "reading sources": (MODEL, "value > 10", "value > 10 and __import__('inspect').getsource(rare)"),
    "code that the release made": (MODEL, "gain = int(", "gain = eval('7') and int("),
    "docstrings": (MODEL, "value > 10", "value > 10 and Model.__doc__"),
    "a search for a module": (
        MODEL,
        "value > 10",
        "value > 10 and __import__('importlib.util').util.find_spec(__name__)",
    ),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_known_is_refused(folder, change, tmp_path) -> None:
    other = changed(folder, *change, to=tmp_path / "other")
    with pytest.raises(NotReusable):
        fingerprint_of(run_cell(other), other)


@pytest.mark.parametrize("status", [Status.TIMED_OUT, Status.CRASHED, Status.OUT_OF_MEMORY, Status.ERRORED])
def test_what_the_machine_may_have_done_is_refused(folder, ran, status) -> None:
    with pytest.raises(NotReusable):
        fingerprint_of(ran, folder, made=lambda one: outcome(one, status))


@pytest.mark.parametrize("used", [None, {}, {"modules": [1]}, {"modules": "x"}, []])
def test_a_record_of_another_form_is_refused(used) -> None:
    with pytest.raises(NotReusable):
        CodeUsed.from_json(used)


def test_registrations_that_the_files_do_not_show_are_refused(folder, ran) -> None:
    used = {**ran.used, "registry": [{**ran.used["registry"][0], "order": []}]}
    with pytest.raises(NotReusable):
        fingerprint(CodeUsed.from_json(used), outcome(ran), release(folder))
