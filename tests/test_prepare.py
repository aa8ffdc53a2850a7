"""What lies ready before cells run, and what they are called with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_scene import MATRIX, STACK, carry_releases, write_wave

from harness.config.matrix import Matrix, load_matrix
from harness.core import wire
from harness.core.cells import Cell, Check, Device, Release
from harness.core.errors import IntegrityError
from harness.corpus.user_speech import OwnSpeech, read_own
from harness.releases import install_path, resolve
from harness.run import Settings, build_plan
from harness.run.prepare import VALIDATION_UTTERANCES, Prepared, lay_out_releases, prepare
from harness.variants.catalogue import available

ALL = MATRIX.replace('["construct", "loss_contract"]', '["import", "construct", "loss_contract", "finetune"]')


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def releases(cache: Path) -> list[Release]:
    return carry_releases(cache)


def read(folder: Path, releases: list[Release], text: str = ALL) -> Matrix:
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return load_matrix(path, resolve=lambda spec: resolve(spec, releases), variants=available(), gpu_present=False)


def ready(matrix: Matrix, cache: Path, workspace: Path, **options: Any) -> Prepared:
    return prepare(matrix, matrix.cells, STACK, cache=cache, workspace=workspace, **options)


def only(matrix: Matrix, check: Check) -> Cell:
    """The newest release's first cell of a check."""
    return next(cell for cell in matrix.cells if cell.check is check and cell.release == "1.4.16")


def test_every_request_is_json_and_names_files_that_are_there(
    tmp_path: Path, cache: Path, releases: list[Release]
) -> None:
    matrix = read(tmp_path, releases)
    prepared = ready(matrix, cache, tmp_path)
    lay_out_releases(prepared, matrix.cells)
    for cell in matrix.cells:
        request = json.loads(json.dumps(prepared.request_for(cell)))
        assert request["check"] == cell.check
        assert (Path(request["release"]["install_dir"]) / "funasr" / "__init__.py").is_file()
        if cell.check is not Check.IMPORT:
            folder = Path(request["model_folder"])
            assert {path.name for path in folder.iterdir()} >= {"config.yaml", "tokens.json", "am.mvn"}
            assert len(json.loads((folder / "tokens.json").read_text("utf-8"))) == request["vocab_size"] == 8404
            assert request["components"]
            assert set(request["groups"]) == {"encoder", "predictor", "decoder"}


@pytest.mark.parametrize(("gpus", "processes", "own"), [(0, 2, 1), (1, 2, 1), (2, 1, 1), (2, 2, 2), (8, 2, 2)])
def test_each_process_that_trains_on_a_gpu_has_its_own_as_far_as_there_are_so_many(
    tmp_path: Path, cache: Path, releases: list[Release], gpus: int, processes: int, own: int
) -> None:
    matrix = read(tmp_path, releases, f"{ALL}\n[finetune]\nprocesses = {processes}\n")
    prepared = ready(matrix, cache, tmp_path)
    prepared = replace(prepared, stack=replace(prepared.stack, gpu_names=("Imaginary GPU",) * gpus))
    training = only(matrix, Check.FINETUNE)
    assert prepared.gpus_for(training) == prepared.request_for(training)["finetune"]["gpus"] == 0
    there = replace(training, device=Device.CUDA)
    assert prepared.gpus_for(there) == prepared.request_for(there)["finetune"]["gpus"] == own
    assert prepared.gpus_for(replace(only(matrix, Check.CONSTRUCT), device=Device.CUDA)) == 1


def test_properties_are_reported_which_counter_examples_are_known(
    tmp_path: Path, cache: Path, releases: list[Release]
) -> None:
    matrix = read(tmp_path, releases, ALL.replace('"finetune"', '"properties"'))
    cell = only(matrix, Check.PROPERTIES)
    told = ready(matrix, cache, tmp_path, stored=lambda one: {"a": one.release}).request_for(cell)
    assert told["settings"]["known"] == {"a": "1.4.16"}
    assert ready(matrix, cache, tmp_path).request_for(cell)["settings"]["known"] == {}


def test_an_import_is_asked_about_the_release_alone(tmp_path: Path, cache: Path, releases: list[Release]) -> None:
    matrix = read(tmp_path, releases)
    request = ready(matrix, cache, tmp_path).request_for(only(matrix, Check.IMPORT))
    assert set(request) == {"check", "release", "device", "precision", "environment_shims"}


def test_a_finetune_cell_is_given_speech_and_settings(tmp_path: Path, cache: Path, releases: list[Release]) -> None:
    matrix = read(tmp_path, releases)
    request = ready(matrix, cache, tmp_path).request_for(only(matrix, Check.FINETUNE))
    settings = matrix.finetune
    assert request["entry"] == "train"
    assert request["finetune"] == {
        "epochs": settings.epochs,
        "rows": settings.utterances,
        "distinct": settings.distinct,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup_steps,
        "seeds": settings.seeds,
        "accumulate": settings.accumulate,
        "processes": settings.processes,
        "gpus": 0,
    }
    rows = [json.loads(line) for line in Path(request["data"]["train"]).read_text("utf-8").splitlines()]
    assert settings.distinct <= len(rows) == request["data"]["utterances"] <= settings.utterances
    assert all(Path(row["source"]).is_file() for row in rows)
    assert len(Path(request["data"]["valid"]).read_text("utf-8").splitlines()) == VALIDATION_UTTERANCES
    assert request["data"]["frame_seconds"] == 0.06


def test_no_other_cell_is_given_speech(tmp_path: Path, cache: Path, releases: list[Release]) -> None:
    matrix = read(tmp_path, releases)
    prepared = ready(matrix, cache, tmp_path)
    for check in (Check.CONSTRUCT, Check.LOSS_CONTRACT):
        assert not {"data", "finetune"} & set(prepared.request_for(only(matrix, check)))


def own_rows(folder: Path, count: int, **changed: Any) -> OwnSpeech:
    """A user's speech of so many recordings of one second."""
    rows = [
        {"key": f"k{n}", "source": str(write_wave(folder / f"{n}.wav")), "source_len": 100, "target": "你好", **changed}
        for n in range(count)
    ]
    (folder / "mine.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return read_own(folder / "mine.jsonl")


@pytest.mark.parametrize(("count", "epochs"), [(1, 49), (4, 49), (5, 25), (16, 13), (60, 10)])
def test_a_users_rows_are_each_trained_on_once_an_epoch(
    tmp_path: Path, cache: Path, releases: list[Release], count: int, epochs: int
) -> None:
    matrix = read(tmp_path, releases)
    prepared = ready(matrix, cache, tmp_path, user_speech=own_rows(tmp_path, count))
    request = json.loads(json.dumps(prepared.request_for(only(matrix, Check.FINETUNE))))
    assert (request["finetune"]["epochs"], request["data"]["utterances"]) == (epochs, count)
    assert not {"rows", "distinct"} & set(request["finetune"])
    lines = list(range(1, count + 1))
    steps = -(-count // 4)
    assert request["data"]["own"] == {
        "root": None,
        "lines": lines,
        "expected": lines,
        "steps": [steps, steps],
        "whole": {
            "path": str(tmp_path / "speech" / "whole" / "mine.jsonl"),
            "name": "mine.jsonl",
            "left_out_count": 0,
            "left_out": [],
        },
    }
    assert Path(request["data"]["train"]).read_bytes() == (tmp_path / "mine.jsonl").read_bytes()
    assert request["data"]["valid"] == request["data"]["train"]
    assert prepared.speech.corpus.origin == f"{count} utterance{'s' * (count > 1)} of mine.jsonl"
    assert prepared.evidence_for(only(matrix, Check.CONSTRUCT)) == {}


def test_rows_that_the_limits_in_force_leave_out_are_not_expected(
    tmp_path: Path, cache: Path, releases: list[Release]
) -> None:
    own = own_rows(tmp_path, 5)
    text = (Path(__file__).parent.parent / "harness" / "variants" / "paraformer.yaml").read_text("utf-8")
    (tmp_path / "mine.yaml").write_text(text.replace("max_token_length: 2048", "max_token_length: 99"), "utf-8")
    matrix = read(tmp_path, releases, ALL.replace('["paraformer"]', '["paraformer", "mine.yaml"]'))
    prepared = ready(matrix, cache, tmp_path, user_speech=own)
    cells = {cell.variant: cell for cell in matrix.cells if cell.check is Check.FINETUNE}
    evidence = {name: prepared.evidence_for(cell)["user_rows"] for name, cell in cells.items()}
    assert (evidence["paraformer"]["trainable"], evidence["mine"]["trainable"]) == (5, 0)
    (notice,) = prepared.speech.notices
    assert notice.startswith("mine.jsonl: FunASR trains on no row (mine; 1.4.15, 1.4.16). line 1, line 2")
    assert "source_len is 100, above max_token_length 99" in notice


def test_what_is_trained_on_is_reported_apart_by_its_hash(tmp_path: Path, cache: Path, releases: list[Release]) -> None:
    own, matrix = own_rows(tmp_path, 5), read(tmp_path, releases)
    speech = [
        ready(matrix, cache, tmp_path / str(rows), user_speech=own, rows=rows).speech for rows in (None, 5, 9, 4, 3)
    ]
    assert [one.sha256 for one in speech[:3]] == [own.corpus.sha256] * 3
    assert len({one.sha256 for one in speech}) == 3
    assert speech[0].used == ("mine.jsonl: 5 rows, as in the file; validated on the same rows (--valid names others)")
    plain = ready(matrix, cache, tmp_path / "plain").speech
    assert (plain.used, plain.sha256) == (plain.corpus.origin, plain.sha256)


@pytest.mark.parametrize(("count", "steps"), [(24, 60), (60, 150)])
def test_more_rows_have_more_time(tmp_path: Path, cache: Path, releases: list[Release], count: int, steps: int) -> None:
    matrix = read(tmp_path, releases)
    limits = matrix.limits.timeout_seconds
    given = ready(matrix, cache, tmp_path, user_speech=own_rows(tmp_path, count)).limits.timeout_seconds
    times = steps / matrix.finetune.steps
    assert given == {**limits, Check.FINETUNE: times * limits[Check.FINETUNE]}
    assert times > 1.0
    assert ready(matrix, cache, tmp_path / "plain").limits.timeout_seconds == limits


def test_validation_rows_that_are_left_out_are_said_too(tmp_path: Path, cache: Path, releases: list[Release]) -> None:
    own_rows(tmp_path, 3)
    short, long = tmp_path / "mine.jsonl", tmp_path / "long.jsonl"
    long.write_text(short.read_text().replace('"source_len": 100', '"source_len": 3000', 2))
    prepared = ready(read(tmp_path, releases), cache, tmp_path, user_speech=read_own(short, valid=long))
    told = [notice for notice in prepared.speech.notices if "validates on" in notice]
    assert told == [
        "long.jsonl: FunASR validates on 1 of 3 rows (paraformer; 1.4.15, 1.4.16). "
        "line 1, line 2: source_len is 3000, above max_token_length 2048."
    ]


@pytest.mark.parametrize(("version", "most"), [("1.0.17", 2), ("1.0.18", 3), ("1.0.25", 3), ("1.0.26", 2)])
def test_releases_that_fill_up_before_they_leave_out_may_take_a_step_more(
    tmp_path: Path, cache: Path, releases: list[Release], version: str, most: int
) -> None:
    own_rows(tmp_path, 9)
    file = tmp_path / "mine.jsonl"
    file.write_text(file.read_text().replace('"source_len": 100', '"source_len": 3000', 1))
    own = read_own(file)
    matrix = read(tmp_path, releases)
    prepared = ready(matrix, cache, tmp_path, user_speech=own)
    cell = only(matrix, Check.FINETUNE)
    older = {cell.release: replace(prepared.releases[cell.release], version=version)}
    request = replace(prepared, releases=older).request_for(cell)
    assert request["data"]["own"]["expected"] == list(range(2, 10))
    assert request["data"]["own"]["steps"] == (2, most)


def test_a_bundles_corpus_is_the_harnesss_own(tmp_path: Path, cache: Path, releases: list[Release]) -> None:
    for name in ("mine.jsonl", "words.jsonl", "held_out.jsonl"):
        own_rows(tmp_path, 5)
        (tmp_path / "mine.jsonl").rename(tmp_path / name)
    own_rows(tmp_path, 5)
    matrix = read(tmp_path, releases)
    prepared = ready(matrix, cache, tmp_path, carried=tmp_path / "mine.jsonl")
    request = prepared.request_for(only(matrix, Check.FINETUNE))
    assert request["finetune"]["rows"] == matrix.finetune.utterances
    assert request["data"]["utterances"] == 4 + 5
    assert "own" not in request["data"]


def test_a_model_without_a_predictor_is_trained_on_a_few_sentences(
    tmp_path: Path, cache: Path, releases: list[Release]
) -> None:
    matrix = read(tmp_path, releases, ALL.replace('["paraformer"]', '["conformer"]'))
    request = ready(matrix, cache, tmp_path).request_for(only(matrix, Check.FINETUNE))
    assert "held_out" not in request["data"]
    assert (request["finetune"]["rows"], request["finetune"]["distinct"]) == (28, 5)


def test_finetune_has_the_words_in_other_orders_and_the_other_checks_the_sentences(
    tmp_path: Path, cache: Path, releases: list[Release]
) -> None:
    matrix = read(tmp_path, releases)
    prepared = ready(matrix, cache, tmp_path)
    finetune = prepared.request_for(only(matrix, Check.FINETUNE))
    rows = [json.loads(line)["target"] for line in Path(finetune["data"]["train"]).read_text("utf-8").splitlines()]
    new = [json.loads(line)["target"] for line in Path(finetune["data"]["held_out"]).read_text("utf-8").splitlines()]
    assert (len(rows), len(new), set(rows) & set(new)) == (28, 36, set())
    assert len({len(text) for text in rows[:4]}) > 1
    assert (finetune["finetune"]["rows"], finetune["finetune"]["distinct"]) == (28, 28)
    data = prepared.request_for(only(read(tmp_path, releases, ALL.replace('"finetune"', '"data"')), Check.DATA))
    assert "held_out" not in data["data"]
    assert json.loads(Path(data["data"]["train"]).read_text("utf-8").splitlines()[0])["key"] == "sentence01"


def test_a_release_is_entered_with_what_all_variants_need(tmp_path: Path, cache: Path, releases: list[Release]) -> None:
    matrix = read(tmp_path, releases, ALL.replace('["paraformer"]', '["paraformer", "paraformer_streaming"]'))
    components = {tuple(pair) for pair in ready(matrix, cache, tmp_path).release_for("1.4.16")["components"]}
    assert {("model_classes", "Paraformer"), ("model_classes", "ParaformerStreaming")} <= components


def test_a_request_names_the_stacks_shims(tmp_path: Path, cache: Path, releases: list[Release]) -> None:
    matrix = read(tmp_path, releases)
    stack = replace(STACK, shims=("some-change",))
    prepared = prepare(matrix, matrix.cells, stack, cache=cache, workspace=tmp_path)
    assert all(prepared.request_for(cell)["environment_shims"] == ["some-change"] for cell in matrix.cells)


def test_a_variant_of_the_users_is_read_from_its_file(tmp_path: Path, cache: Path, releases: list[Release]) -> None:
    own = Path(__file__).parent.parent / "harness" / "variants" / "paraformer.yaml"
    (tmp_path / "mine.yaml").write_text(own.read_text("utf-8").replace("num_blocks: 2", "num_blocks: 1"), "utf-8")
    matrix = read(tmp_path, releases, ALL.replace('"paraformer"', '"mine.yaml"'))
    request = ready(matrix, cache, tmp_path).request_for(only(matrix, Check.CONSTRUCT))
    assert Path(request["model_folder"]).name.startswith("mine-v8404-h320-reduced-")


def test_only_the_releases_of_the_cells_are_installed(tmp_path: Path, cache: Path) -> None:
    own = tmp_path / "own"
    releases = carry_releases(own)
    matrix = read(tmp_path, releases)
    prepared = ready(matrix, own, tmp_path)
    told: list[Release] = []
    newest = [cell for cell in matrix.cells if cell.release == "1.4.16"]
    lay_out_releases(prepared, newest, on_done=told.append)
    assert told == [releases[1]]
    assert [install_path(release, own).is_dir() for release in releases] == [False, True]


def test_a_release_that_is_not_the_one_that_was_locked_is_refused_when_it_is_installed(tmp_path: Path) -> None:
    own = tmp_path / "own"
    planted = [replace(release, sha256="0" * 64) for release in carry_releases(own)]
    matrix = read(tmp_path, planted)
    prepared = ready(matrix, own, tmp_path)
    with pytest.raises(IntegrityError, match="not the file that was locked"):
        lay_out_releases(prepared, matrix.cells)


def test_a_plan_is_made_of_what_lies_ready(tmp_path: Path, cache: Path, releases: list[Release]) -> None:
    matrix = read(tmp_path, releases)
    prepared = ready(matrix, cache, tmp_path)
    settings = Settings(
        workspace=tmp_path / "tree", jobs=2, memory_bytes=1 << 30, timeout_seconds=matrix.limits.timeout_seconds
    )
    plan = build_plan(matrix.cells, settings, release_for=prepared.release_for, request_for=prepared.request_for)
    assert set(plan.cells.values()) == set(matrix.cells)
    assert wire.TreePlan.from_bytes(plan.tree({}).to_bytes()).settings.jobs == 2
