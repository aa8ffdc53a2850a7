"""From a matrix file to cells: the expansion, and every problem that a file can have."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version
from strategies import cells as any_cells

from harness import releases
from harness.config.expansion import in_order
from harness.config.matrix import FinetuneSettings, Matrix, load_matrix, select
from harness.config.settings import CHECK_SETTINGS, DecodeSettings, PropertiesSettings
from harness.core.cells import Cell, Check, Depth, Device, Precision, Release
from harness.core.errors import MatrixError, ReleaseError, SelectionError
from harness.releases import load_lock
from harness.variants.catalogue import available

ROOT = Path(__file__).parent.parent
OWN = ("paraformer", "paraformer_streaming")
VERSIONS = ("1.0.2", "1.0.12", "1.0.18", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.4.9", "1.4.10", "1.4.16")

SMALL = """
schema = 1
name = "small"
description = "A small matrix."
[axes]
release = ["1.0.2"]
variant = ["paraformer"]
vocab_size = [8404]
hidden_size = [320]
check = ["construct"]
depth = ["reduced"]
device = ["cpu"]
"""


def published(version: str) -> Release:
    return Release(label=version, version=version, kind="wheel", filename=f"funasr-{version}.whl", sha256="0" * 64)


def resolve(spec: str) -> tuple[Release, ...]:
    """A miniature index of releases."""
    if spec == "all":
        return tuple(published(version) for version in VERSIONS)
    if spec == "latest":
        return (published(VERSIONS[-1]),)
    if "/" in spec:
        if not Path(spec).exists():
            raise ReleaseError(f"{spec}: no such file")
        return (Release(label="1.0.3+local.1a2b3c4d", version="1.0.3", kind="wheel", filename="x", sha256="1" * 64),)
    try:
        wanted = SpecifierSet(spec if spec[0] in "<>=!~" else f"=={spec}")
    except InvalidSpecifier:
        raise ReleaseError(f'"{spec}" is not a release') from None
    found = tuple(published(version) for version in VERSIONS if Version(version) in wanted)
    if not found:
        raise ReleaseError(f'no release matches "{spec}"', cause="it was never published")
    return found


Load = Callable[..., Matrix]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, *, gpu_present: bool = False) -> Matrix:
        path = tmp_path / "some.toml"
        path.write_text(text, encoding="utf-8")
        return load_matrix(path, resolve=resolve, variants=OWN, gpu_present=gpu_present)

    return load


def problems(load: Load, text: str) -> tuple[str, ...]:
    with pytest.raises(MatrixError) as caught:
        load(text)
    return caught.value.problems


def ids(matrix: Matrix) -> list[str]:
    return [cell.id for cell in matrix.cells]


def test_axes_are_multiplied(load: Load) -> None:
    text = SMALL.replace("[320]", "[320, 512]").replace('["construct"]', '["construct", "loss_contract"]')
    assert ids(load(text)) == [
        "1.0.2/paraformer/v8404-h320/reduced/construct/cpu-fp32",
        "1.0.2/paraformer/v8404-h320/reduced/loss_contract/cpu-fp32",
        "1.0.2/paraformer/v8404-h512/reduced/construct/cpu-fp32",
        "1.0.2/paraformer/v8404-h512/reduced/loss_contract/cpu-fp32",
    ]


def test_the_record_says_what_the_file_says(load: Load, tmp_path: Path) -> None:
    matrix = load(SMALL)
    assert (matrix.name, matrix.description) == ("small", "A small matrix.")
    assert matrix.source == tmp_path / "some.toml"
    assert len(matrix.sha256) == 64
    assert matrix.limits.timeout_seconds[Check.FINETUNE] == 600
    assert matrix.limits.memory_bytes == 6 * 1024**3
    assert matrix.finetune == FinetuneSettings()
    assert [variant.name for variant in matrix.variants] == ["paraformer"]


def test_releases_stand_in_the_order_of_versions_not_of_letters(load: Load) -> None:
    matrix = load(SMALL.replace('["1.0.2"]', '["latest", "1.4.9", "1.4.10", "1.0.2"]'))
    assert [release.label for release in matrix.releases] == ["1.0.2", "1.4.9", "1.4.10", "1.4.16"]
    assert [cell.release for cell in matrix.cells] == ["1.0.2", "1.4.9", "1.4.10", "1.4.16"]


def test_only_releases_that_a_cell_asks_about_are_listed(load: Load) -> None:
    matrix = load(SMALL.replace('["1.0.2"]', '["all"]') + '[[exclude]]\nrelease = [">1.0.12"]\n')
    assert [release.label for release in matrix.releases] == ["1.0.2", "1.0.12"]


def test_a_release_meant_twice_gives_its_cells_once(load: Load) -> None:
    matrix = load(SMALL.replace('["1.0.2"]', '["1.4.16", "latest", ">=1.4.16"]'))
    assert ids(matrix) == ["1.4.16/paraformer/v8404-h320/reduced/construct/cpu-fp32"]


def test_the_import_cell_of_a_release_appears_once_whatever_the_axes(load: Load) -> None:
    text = SMALL.replace('["construct"]', '["import", "construct"]').replace("[320]", "[320, 512]")
    matrix = load(text.replace('["cpu"]', '["cpu", "cuda"]'))
    assert [cell.id for cell in matrix.cells if cell.check is Check.IMPORT] == ["1.0.2/-/-/-/import/cpu-fp32"]
    assert matrix.cells[0].check is Check.IMPORT


def test_a_matrix_of_imports_alone_needs_no_model(load: Load) -> None:
    text = 'schema = 1\nname = "i"\ndescription = "d"\n[axes]\nrelease = ["all"]\ncheck = ["import"]\n'
    assert len(load(text).cells) == len(VERSIONS)


def test_finetune_stands_for_both_entry_points(load: Load) -> None:
    matrix = load(SMALL.replace('"construct"', '"finetune"'))
    assert [cell.id.split("/")[4] for cell in matrix.cells] == ["finetune@train", "finetune@train_ds"]


def test_one_entry_point_can_be_named(load: Load) -> None:
    matrix = load(SMALL.replace('"construct"', '"finetune@train_ds"'))
    assert [cell.id.split("/")[4] for cell in matrix.cells] == ["finetune@train_ds"]


def test_an_include_takes_what_it_leaves_out_from_the_axes(load: Load) -> None:
    matrix = load(SMALL + '[[include]]\nhidden_size = [512]\ncheck = ["loss_contract"]\n')
    assert ids(matrix) == [
        "1.0.2/paraformer/v8404-h320/reduced/construct/cpu-fp32",
        "1.0.2/paraformer/v8404-h512/reduced/loss_contract/cpu-fp32",
    ]


def test_includes_can_stand_alone(load: Load) -> None:
    matrix = load(SMALL.replace("[axes]", "[[include]]"))
    assert len(matrix.cells) == 1


def test_an_exclude_drops_what_matches_every_key(load: Load) -> None:
    text = SMALL.replace('["1.0.2"]', '["1.0.2", "1.0.12"]').replace("[320]", "[320, 512]")
    matrix = load(text + '[[exclude]]\nrelease = ["<1.0.12"]\nhidden_size = [512]\n')
    assert [cell.id.split("/")[0] + cell.id.split("/")[2] for cell in matrix.cells] == [
        "1.0.2v8404-h320",
        "1.0.12v8404-h320",
        "1.0.12v8404-h512",
    ]


def test_an_exclude_of_one_entry_point_leaves_the_other(load: Load) -> None:
    matrix = load(SMALL.replace('"construct"', '"finetune"') + '[[exclude]]\ncheck = ["finetune@train"]\n')
    assert [cell.id.split("/")[4] for cell in matrix.cells] == ["finetune@train_ds"]


def test_an_exclude_by_model_or_place_leaves_the_import_cells(load: Load) -> None:
    text = SMALL.replace('["construct"]', '["import", "construct"]')
    for key in ('variant = ["paraformer"]', 'device = ["cpu"]', "vocab_size = [8404]", 'precision = ["fp32"]'):
        assert ids(load(f"{text}[[exclude]]\n{key}\n")) == ["1.0.2/-/-/-/import/cpu-fp32"]


def test_an_exclude_by_release_or_check_drops_import_cells(load: Load) -> None:
    text = SMALL.replace('["construct"]', '["import", "construct"]').replace('["1.0.2"]', '["1.0.2", "1.0.12"]')
    assert not [c for c in load(text + '[[exclude]]\ncheck = ["import"]\n').cells if c.check is Check.IMPORT]
    assert {c.release for c in load(text + '[[exclude]]\nrelease = ["1.0.2"]\n').cells} == {"1.0.12"}


def test_auto_is_the_gpu_at_the_published_depth_where_there_is_one(load: Load) -> None:
    text = SMALL.replace('["reduced"]', '["auto"]').replace('["cpu"]', '["auto"]')
    [cell] = load(text, gpu_present=True).cells
    assert (cell.device, cell.depth) == (Device.CUDA, Depth.FULL)
    [cell] = load(text, gpu_present=False).cells
    assert (cell.device, cell.depth) == (Device.CPU, Depth.REDUCED)


def test_auto_depth_goes_by_the_device_of_the_cell_not_of_the_machine(load: Load) -> None:
    text = SMALL.replace('["reduced"]', '["auto"]').replace('["cpu"]', '["cpu", "cuda"]')
    assert {(cell.device, cell.depth) for cell in load(text, gpu_present=True).cells} == {
        (Device.CPU, Depth.REDUCED),
        (Device.CUDA, Depth.FULL),
    }


def test_half_precision_is_left_out_where_auto_gives_the_cpu(load: Load) -> None:
    text = SMALL.replace('["cpu"]', '["auto"]') + 'precision = ["fp32", "bf16"]\n'
    assert [cell.precision for cell in load(text).cells] == ["fp32"]
    assert [cell.precision for cell in load(text, gpu_present=True).cells] == ["fp32", "bf16"]


def test_depth_device_and_precision_need_not_be_given(load: Load) -> None:
    text = SMALL.replace('depth = ["reduced"]\n', "").replace('device = ["cpu"]\n', "")
    assert ids(load(text)) == ["1.0.2/paraformer/v8404-h320/reduced/construct/cpu-fp32"]


def test_expansion_does_not_depend_on_the_order_within_the_file(load: Load) -> None:
    text = SMALL.replace('["1.0.2"]', '["all"]').replace('["paraformer"]', '["paraformer", "paraformer_streaming"]')
    other = SMALL.replace('["1.0.2"]', '["latest", "all"]').replace(
        '["paraformer"]', '["paraformer_streaming", "paraformer"]'
    )
    assert load(text).cells == load(other).cells


@given(st.lists(any_cells(), max_size=12))
def test_order_is_the_same_whatever_came_first_and_each_cell_appears_once(cells: list[Cell]) -> None:
    ordered = in_order(cells)
    assert ordered == in_order(reversed(cells))
    assert len({cell.id for cell in ordered}) == len(ordered)
    assert set(ordered) == set(cells)


@given(st.lists(any_cells(), max_size=12))
def test_no_cell_comes_before_one_that_it_depends_on(cells: list[Cell]) -> None:
    ordered = in_order(cells)
    for place, cell in enumerate(ordered):
        assert not any(cell.depends_on(later) for later in ordered[place + 1 :])


def test_a_variant_of_the_users_is_found_beside_the_matrix(load: Load, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("model: x\n")
    matrix = load(SMALL.replace('"paraformer"', '"mine.yaml"'))
    assert ids(matrix) == ["1.0.2/mine/v8404-h320/reduced/construct/cpu-fp32"]
    assert [(variant.name, variant.path) for variant in matrix.variants] == [("mine", tmp_path / "mine.yaml")]


def test_a_path_to_a_release_is_relative_to_the_matrix(load: Load, tmp_path: Path) -> None:
    (tmp_path / "checkout").mkdir()
    matrix = load(SMALL.replace('"1.0.2"', '"1.0.2", "./checkout", "1.0.12"'))
    assert [cell.release for cell in matrix.cells] == ["1.0.2", "1.0.3+local.1a2b3c4d", "1.0.12"]


def test_limits_and_finetune_keep_the_defaults_of_what_is_left_out(load: Load) -> None:
    matrix = load(
        SMALL + "[limits]\ntimeout_seconds = { import = 7 }\n[finetune]\nsteps = 42\nseed = 3\nwarmup_steps = 2\n"
    )
    assert matrix.limits.timeout_seconds[Check.IMPORT] == 7
    assert matrix.limits.timeout_seconds[Check.FINETUNE] == 600
    assert matrix.finetune == replace(FinetuneSettings(), steps=42, seed=3, warmup_steps=2)


def test_a_table_for_a_gpu_has_cells_only_where_there_is_one(load: Load) -> None:
    text = SMALL + '[[include]]\nwhen = "gpu"\ndevice = ["cuda"]\nrelease = ["1.4.16"]\n'
    assert ids(load(text)) == ids(load(SMALL))
    assert [release.label for release in load(text).releases] == ["1.0.2"]
    assert ids(load(text, gpu_present=True)) == [
        "1.0.2/paraformer/v8404-h320/reduced/construct/cpu-fp32",
        "1.4.16/paraformer/v8404-h320/reduced/construct/cuda-fp32",
    ]


def test_a_table_for_a_gpu_may_ask_for_imports_too(load: Load) -> None:
    text = SMALL + '[[include]]\nwhen = "gpu"\ncheck = ["import"]\n'
    assert len(load(text).cells) == 1
    assert len(load(text, gpu_present=True).cells) == 2


def test_when_knows_the_gpu_and_nothing_else(load: Load) -> None:
    found = problems(load, SMALL.replace("[axes]", '[axes]\nwhen = "gpu"') + '[[include]]\nwhen = "cpu"\n')
    assert any(line.startswith("[axes] when: unknown key") for line in found)
    assert "[[include]] #1 when: expected \"gpu\", or nothing, found 'cpu'" in found


def test_a_training_may_be_another_where_there_is_a_gpu(load: Load) -> None:
    text = SMALL + "[finetune]\nsteps = 70\n[finetune.gpu]\nbatch_size = 10\nutterances = 100\n"
    assert load(text).finetune == FinetuneSettings(steps=70)
    assert load(text, gpu_present=True).finetune == FinetuneSettings(steps=70, batch_size=10, utterances=100)


def test_what_is_wrong_with_a_training_for_a_gpu_is_reported_without_one_too(load: Load) -> None:
    found = problems(load, SMALL + "[finetune.gpu]\nstep = 5\nutterances = 13\n")
    assert any("[finetune] gpu step: unknown key" in line for line in found)
    assert any("end within an epoch" in line for line in found)


def test_an_epoch_ends_with_a_smaller_batch_when_it_has_to() -> None:
    settings = FinetuneSettings(steps=15, utterances=9, distinct=9, batch_size=4)
    assert (settings.steps_per_epoch, settings.epochs, settings.problems()) == (3, 5, ())


def test_the_default_training_can_be_judged() -> None:
    assert FinetuneSettings().problems() == ()


def test_all_problems_are_reported_at_once_each_with_its_place(load: Load) -> None:
    text = """
schema = 2
name = "small"
descripton = "?"
[axes]
release = ["1.0.2", "9.9.9"]
varaint = ["paraformer"]
variant = ["parafromer"]
vocab_size = ["8404"]
hidden_size = [0, true]
check = ["construct", "finetun"]
depth = "reduced"
device = []
precision = ["double"]
[[include]]
hidden_size = [320]
[[include]]
check = ["loss_contrct"]
[[exclude]]
device = ["auto"]
[limits]
timeout_seconds = { finetun = 3, construct = -1 }
memory_bytes = 6
[finetune]
steps = 11
utterances = 8
"""
    assert problems(load, text) == (
        'descripton: unknown key, did you mean "description"?',
        "schema: expected 1, the form that this harness reads, found 2",
        "description: missing",
        "[limits] memory_bytes: expected a whole number of at least 268435456, found 6",
        '[limits] timeout_seconds finetun: unknown key, did you mean "finetune"?',
        "[limits] timeout_seconds construct: expected a number above 0, found -1",
        "[finetune] steps: 11 optimizer steps; the rules need at least 12",
        "[finetune] steps: 11 steps end within an epoch of 2 (8 utterances in batches of 4); take a multiple of it",
        '[[exclude]] #1 device: "auto" is no device, legal here: cpu, cuda',
        '[axes] varaint: unknown key, did you mean "variant"?',
        '[axes] release: no release matches "9.9.9" (it was never published)',
        '[axes] check: "finetun" is no check, did you mean "finetune"?',
        '[axes] variant: "parafromer" is no variant, did you mean "paraformer"?',
        '[axes] vocab_size: expected whole numbers above 0, found "8404"',
        "[axes] hidden_size: expected whole numbers above 0, found 0",
        "[axes] hidden_size: expected whole numbers above 0, found true",
        '[axes] depth: expected a list of strings, found "reduced"',
        "[axes] device: the list is empty; expected strings",
        '[axes] precision: "double" is no precision, legal here: fp32, bf16, fp16',
        '[[include]] #2 check: "loss_contrct" is no check, did you mean "loss_contract"?',
    )


@pytest.mark.parametrize("key", ["release", "variant", "vocab_size", "hidden_size", "check"])
def test_an_axis_without_a_default_must_be_given(load: Load, key: str) -> None:
    lines = [line for line in SMALL.splitlines() if not line.startswith(key)]
    [problem] = problems(load, "\n".join(lines))
    assert problem.startswith(f"[axes] {key}: expected a list of")


def test_a_matrix_without_axes_is_reported_what_is_missing(load: Load) -> None:
    found = problems(load, 'schema = 1\nname = "x"\ndescription = "y"\n')
    assert found[0].startswith("[axes] release: expected a list")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_on_the_cpu_is_a_problem(load: Load, precision: str) -> None:
    [problem] = problems(load, SMALL + f'precision = ["fp32", "{precision}"]\n')
    assert problem.startswith(f'[axes] precision: "{precision}" is for a GPU')


def test_half_precision_on_the_cpu_may_be_excluded(load: Load) -> None:
    text = SMALL.replace('["cpu"]', '["cpu", "cuda"]') + 'precision = ["fp32", "fp16"]\n'
    matrix = load(text + '[[exclude]]\ndevice = ["cpu"]\nprecision = ["fp16"]\n')
    assert [cell.id.split("/")[5] for cell in matrix.cells] == ["cpu-fp32", "cuda-fp32", "cuda-fp16"]


def test_an_expansion_of_no_cell_is_a_problem(load: Load) -> None:
    [problem] = problems(load, SMALL + '[[exclude]]\nrelease = ["1.0.2"]\n')
    assert problem.startswith("the matrix: has no cell")


def test_a_part_of_the_matrix_that_vanishes_is_a_problem(load: Load) -> None:
    part = '[[include]]\nrelease = ["1.0.12"]\n'
    [problem] = problems(load, SMALL + part + '[[exclude]]\nrelease = ["1.0.12"]\n')
    assert problem == "[[include]] #1: has no cell left: everything that it lists is excluded"
    # What is meant for a GPU is not expected where there is none, and what is half excluded is meant so.
    assert load(SMALL + part + 'when = "gpu"\n').cells
    assert load(SMALL + part + '[[exclude]]\nrelease = ["1.0.12"]\ncheck = ["loss_contract"]\n').cells


def test_an_exclude_without_keys_is_a_problem(load: Load) -> None:
    [problem] = problems(load, SMALL + "[[exclude]]\n")
    assert problem == "[[exclude]] #1: gives no key, and would drop every cell"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('axes = "x"\n', "[axes]"),
        ("include = 3\n", "[[include]]"),
        ("[exclude]\n", "[[exclude]]"),
        ("limits = []\n", "[limits]"),
        ("finetune = true\n", "[finetune]"),
    ],
)
def test_a_table_of_another_kind_is_a_problem(load: Load, text: str, place: str) -> None:
    head, _, rest = SMALL.partition("[axes]")
    rest = "[axes]" + rest if not text.startswith("axes") else ""
    text = head + text + rest if "=" in text else head + rest + text
    assert any(problem.startswith(f"{place}: expected") for problem in problems(load, text))


@pytest.mark.parametrize("value", ["true", '"16"', "16.0", "0", "-1"])
def test_the_number_of_steps_is_a_whole_number_above_zero(load: Load, value: str) -> None:
    [problem] = problems(load, f"{SMALL}[finetune]\nsteps = {value}\n")
    assert problem.startswith("[finetune] steps: expected a whole number")


@pytest.mark.parametrize("value", ["true", '"x"', "0", "-0.1", "nan", "inf"])
def test_the_learning_rate_is_a_number_above_zero(load: Load, value: str) -> None:
    [problem] = problems(load, f"{SMALL}[finetune]\nlearning_rate = {value}\n")
    assert problem.startswith("[finetune] learning_rate: expected a number")


def test_a_training_that_could_not_be_judged_is_a_problem(load: Load) -> None:
    [problem] = problems(load, SMALL + "[finetune]\nsteps = 16\nutterances = 32\n")
    assert "16 steps in epochs of 8 make 2; the rules need at least 3 epochs" in problem


def test_more_utterances_than_rows_are_a_problem(load: Load) -> None:
    [problem] = problems(load, SMALL + "[finetune]\nutterances = 4\ndistinct = 5\n")
    assert "4 rows cannot hold 5 utterances" in problem


def test_fewer_rows_than_utterances_take_as_many_utterances(load: Load) -> None:
    assert load(SMALL + "[finetune]\nutterances = 8\nsteps = 30\n").finetune.distinct == 8
    assert load(SMALL + "[finetune]\nutterances = 56\nsteps = 42\n").finetune.distinct == FinetuneSettings().distinct


@pytest.mark.parametrize("name", ["seeds", "distinct", "accumulate", "processes"])
def test_what_is_counted_in_a_training_is_one_at_least(load: Load, name: str) -> None:
    assert getattr(load(SMALL + f"[finetune]\n{name} = 1\n").finetune, name) == 1
    [problem] = problems(load, SMALL + f"[finetune]\n{name} = 0\n")
    assert problem.startswith(f"[finetune] {name}: expected a whole number")


def test_a_syntax_error_is_reported_with_its_line(load: Load) -> None:
    [problem] = problems(load, SMALL + "[limits\n")
    line = SMALL.count("\n") + 1
    assert problem.startswith("not TOML: ")
    assert f"line {line}" in problem


def test_a_file_that_is_not_utf8_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_bytes(b'schema = 1\nname = "\xff"\n')
    with pytest.raises(MatrixError, match=r"not UTF-8 \(at line 2\)"):
        load_matrix(path, resolve=resolve, variants=OWN, gpu_present=False)


def test_a_missing_file_is_reported_with_near_names(tmp_path: Path) -> None:
    for name in ("nightly.toml", "atlas.toml"):
        (tmp_path / name).write_text(SMALL)
    with pytest.raises(MatrixError, match="no such file") as caught:
        load_matrix(tmp_path / "nigthly.toml", resolve=resolve, variants=OWN, gpu_present=False)
    assert caught.value.next_step == f"did you mean {tmp_path / 'nightly.toml'}?"


def test_a_missing_file_in_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match="no such file"):
        load_matrix(tmp_path / "no" / "x.toml", resolve=resolve, variants=OWN, gpu_present=False)


def test_a_folder_in_the_place_of_the_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match="cannot be read"):
        load_matrix(tmp_path, resolve=resolve, variants=OWN, gpu_present=False)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("gone.yaml", "no such file"),
        ("with space.yaml", "becomes part of cell ids"),
        ("paraformer.yaml", "another variant named"),
    ],
)
def test_a_variant_file_that_cannot_be_used_is_a_problem(load: Load, tmp_path: Path, file: str, text: str) -> None:
    if file != "gone.yaml":
        (tmp_path / file).write_text("model: x\n")
    [problem] = problems(load, SMALL.replace('"paraformer"', f'"{file}"'))
    assert text in problem


def test_two_variant_files_of_one_name_are_a_problem(load: Load, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text("model: x\n")
    [problem] = problems(load, SMALL.replace('"paraformer"', '"one/mine.yaml", "two/mine.yaml"'))
    assert 'there is another variant named "mine"' in problem


def test_one_wrong_axis_is_reported_once_though_includes_take_it_too(load: Load) -> None:
    text = SMALL.replace('"paraformer"', '"paraformr"') + "[[include]]\nhidden_size = [512]\n"
    assert len(problems(load, text)) == 1


def test_without_globs_every_cell_is_selected(load: Load) -> None:
    cells = load(SMALL).cells
    assert select(cells, []) == cells


def test_several_globs_are_a_union_in_the_order_of_the_cells(load: Load) -> None:
    cells = load(SMALL.replace('["1.0.2"]', '["all"]')).cells
    assert [cell.release for cell in select(cells, ["1.4.16/*", "1.0.*"])] == ["1.0.2", "1.0.12", "1.0.18", "1.4.16"]


def test_a_whole_id_selects_its_cell(load: Load) -> None:
    cells = load(SMALL.replace('["1.0.2"]', '["all"]')).cells
    assert select(cells, [cells[3].id]) == (cells[3],)


def test_a_glob_that_matches_nothing_is_an_error_even_beside_one_that_does(load: Load) -> None:
    cells = load(SMALL).cells
    with pytest.raises(SelectionError, match=r'"9\.\*" matches none of the 1 cells') as caught:
        select(cells, ["1.*", "9.*"])
    assert "funasr-harness list" in caught.value.next_step


def test_a_part_of_an_id_is_answered_with_the_glob_that_was_meant(load: Load) -> None:
    with pytest.raises(SelectionError) as caught:
        select(load(SMALL).cells, ["construct"])
    assert '"*construct*" matches 1 of them' in caught.value.cause


def test_a_misspelt_id_is_answered_with_the_nearest(load: Load) -> None:
    cells = load(SMALL).cells
    with pytest.raises(SelectionError) as caught:
        select(cells, [cells[0].id.replace("paraformer", "parafromer")])
    assert caught.value.cause == f"near ids are {cells[0].id}"


def test_selecting_from_no_cells_is_an_error() -> None:
    with pytest.raises(SelectionError, match="none of the 0 cells"):
        select([], ["*"])


LOCKED = load_lock(ROOT / "matrices" / "releases.lock.toml")


def locked_resolve(spec: str) -> tuple[Release, ...]:
    return releases.resolve(spec, LOCKED)


def committed_matrices() -> list[Path]:
    paths = sorted((ROOT / "matrices").glob("*.toml"))
    return [path for path in paths if "axes" in tomllib.loads(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", committed_matrices(), ids=lambda path: path.stem)
@pytest.mark.parametrize("gpu_present", [False, True])
def test_every_committed_matrix_loads_and_is_named_like_its_file(path: Path, gpu_present: bool) -> None:
    matrix = load_matrix(path, resolve=locked_resolve, variants=available(), gpu_present=gpu_present)
    assert matrix.name == path.stem
    assert {cell.variant for cell in matrix.cells} <= {None, *available()}


def test_the_atlas_is_what_it_is_said_to_be() -> None:
    matrix = load_matrix(ROOT / "matrices" / "atlas.toml", resolve=locked_resolve, variants=OWN, gpu_present=True)
    each = [cell for cell in matrix.cells if cell.release == "1.0.12"]
    assert [release.label for release in matrix.releases] == [release.label for release in LOCKED]
    assert sum(cell.check is Check.CONSTRUCT for cell in each) == 2 * 4
    assert sum(cell.check is Check.LOSS_CONTRACT for cell in each) == 2 * 4
    assert sum(cell.check is Check.FINETUNE for cell in each) == 2 * 2
    assert {str(cell.dimensions) for cell in each if cell.check is Check.FINETUNE} == {"v8404-h320"}
    assert {cell.device for cell in each} == {Device.CPU}


def test_the_default_matrix_is_small_without_a_gpu() -> None:
    matrix = load_matrix(ROOT / "matrices" / "gpu.toml", resolve=locked_resolve, variants=OWN, gpu_present=False)
    assert {(cell.device, cell.precision) for cell in matrix.cells} == {(Device.CPU, Precision.FP32)}
    assert {cell.depth for cell in matrix.cells} == {None, Depth.REDUCED}
    assert matrix.finetune == FinetuneSettings()
    # Six releases: an import each; two models in four shapes by two checks; both trainers of each model.
    assert len(matrix.cells) == 6 * (1 + 2 * 4 * 2 + 2 * 2)


def test_the_default_matrix_trains_at_the_published_depth_where_there_is_a_gpu() -> None:
    matrix = load_matrix(ROOT / "matrices" / "gpu.toml", resolve=locked_resolve, variants=OWN, gpu_present=True)
    trained = [cell for cell in matrix.cells if cell.check is Check.FINETUNE]
    assert {(cell.device, cell.depth) for cell in trained} == {(Device.CUDA, Depth.FULL)}
    newest = [cell for cell in trained if cell.release == LOCKED[-1].label]
    assert {cell.precision for cell in newest} == set(Precision)
    for precision in (Precision.FP32, Precision.BF16):
        assert len({(cell.variant, cell.dimensions) for cell in newest if cell.precision is precision}) == 2 * 4
    # As little as the goal of ten minutes allows: some forty trainings.
    assert len(trained) <= 45
    assert (matrix.finetune.steps, matrix.finetune.seeds) == (126, 1)


@pytest.mark.parametrize("gpu_present", [False, True])
def test_large_batches_are_for_a_gpu(gpu_present: bool) -> None:
    path = ROOT / "matrices" / "gpu_batch.toml"
    matrix = load_matrix(path, resolve=locked_resolve, variants=OWN, gpu_present=gpu_present)
    assert any(cell.check is Check.FINETUNE for cell in matrix.cells) is gpu_present
    assert matrix.finetune.batch_size == (32 if gpu_present else FinetuneSettings.batch_size)


def test_the_pull_request_matrix_climbs_to_the_trainer_without_a_gpu() -> None:
    matrix = load_matrix(ROOT / "matrices" / "pr.toml", resolve=locked_resolve, variants=OWN, gpu_present=True)
    assert {cell.check for cell in matrix.cells} >= {Check.IMPORT, Check.CONSTRUCT, Check.LOSS_CONTRACT, Check.FINETUNE}
    assert {cell.device for cell in matrix.cells} == {Device.CPU}
    assert len({cell.dimensions for cell in matrix.cells if cell.dimensions}) == 2


def test_native_means_the_trainer_that_the_releases_own_recipe_calls(load: Load) -> None:
    matrix = load(
        SMALL.replace('"1.0.2"', '"1.0.18", "1.1.0", "./some.toml"').replace('"construct"', '"checkpoint@native"')
    )
    assert {cell.release: cell.id.split("/")[4] for cell in matrix.cells} == {
        "1.0.18": "checkpoint@train",
        "1.0.3+local.1a2b3c4d": "checkpoint@train",
        "1.1.0": "checkpoint@train_ds",
    }


def test_the_native_trainer_can_be_excluded(load: Load) -> None:
    small = SMALL.replace('"1.0.2"', '"1.0.18", "1.1.0"').replace('"construct"', '"decode"')
    matrix = load(small + '[[exclude]]\ncheck = ["decode@native"]\n')
    assert {cell.release: cell.id.split("/")[4] for cell in matrix.cells} == {
        "1.0.18": "decode@train_ds",
        "1.1.0": "decode@train",
    }


def test_a_check_has_settings_of_its_own(load: Load) -> None:
    assert load(SMALL).check_settings == CHECK_SETTINGS
    changed = load(SMALL + "[properties]\nexamples = 7\nseed = 3\n[decode]\nsteps = 8\n").check_settings
    assert changed[Check.PROPERTIES] == PropertiesSettings(examples=7, seed=3)
    assert changed[Check.DECODE] == DecodeSettings(steps=8)


def test_what_is_wrong_with_a_checks_settings_is_reported_with_its_place(load: Load) -> None:
    with pytest.raises(MatrixError) as caught:
        load(SMALL + "[properties]\nexample = 7\nseed = -1\n[decode]\nsteps = 0\n")
    told = str(caught.value)
    assert '[properties] example: unknown key, did you mean "examples"?' in told
    assert "[properties] seed: expected a whole number of at least 0" in told
    assert "[decode] steps: expected a whole number of at least 1" in told


def test_a_processor_time_for_the_search_is_refused_with_what_takes_its_place(load: Load) -> None:
    with pytest.raises(MatrixError) as caught:
        load(SMALL + "[properties]\nseconds = 20\n")
    told = str(caught.value)
    assert "[properties] seconds: no longer a setting" in told
    assert "timeout_seconds = { properties = 900 }" in told
    assert "unknown key" not in told
