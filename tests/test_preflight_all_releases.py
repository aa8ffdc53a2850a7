"""In which releases a training would work: by their code, and what they make of its weights, rows and keys."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import Forked
from user_folders import inputs_of, model_folder, speech, write_jsonl

from harness.core.cells import Depth, Dimensions, Release, Severity
from harness.preflight.all_releases import recorded
from harness.preflight.all_releases.release_table import MOST_LINES, ReleaseReason, table_of
from harness.preflight.all_releases.which_releases import which_releases
from harness.preflight.inputs import Inputs
from harness.preflight.weights.checkpoint_names import checkpoint_names
from harness.variants.catalogue import load_variant
from harness.variants.variant import render

Layout = Callable[[str], Path]
ATLAS = recorded.ATLAS


@pytest.fixture(autouse=True)
def without_atlas(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a wheel, which has no committed run."""
    monkeypatch.setattr(recorded, "ATLAS", tmp_path / "none")


def config_only(folder: Path, layout: Layout, variant: str) -> Inputs:
    own = load_variant(variant)
    config = render(own, dimensions=Dimensions.parse("v25055-h320"), depth=Depth.FULL)
    config |= {path: value for path, value in own.training.items() if "." not in path}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "configuration.json").write_text("{}", encoding="utf-8")
    # An empty cache: the code of no release.
    data = {"train_data_set_list": "a", "valid_data_set_list": "b"}
    return replace(inputs_of(folder, install_dir=layout("1.4.16"), **data), cache=folder)


def of(locked: tuple[Release, ...], *versions: str) -> tuple[Release, ...]:
    return tuple(one for one in locked if one.version in versions)


def trainers_checkpoint(path: Path) -> None:
    """Put the weights below `state_dict`, as a trainer saves them, with an epoch beside."""
    with zipfile.ZipFile(path) as archive:
        members = {one.filename: archive.read(one) for one in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if name.endswith("/data.pkl"):
                assert content[:2] == b"\x80\x02"
                key = b"X\n\x00\x00\x00state_dict"
                content = b"\x80\x02}" + key + content[2:-1] + b"sX\x05\x00\x00\x00epochK\x03s."
            archive.writestr(name, content)


@pytest.fixture
def folder(forked: Forked, layout: Layout, tmp_path: Path) -> Path:
    return model_folder(forked, layout("1.4.16"), tmp_path / "model")


def reasons(inputs: Inputs, releases: Sequence[Release]) -> dict[str, list[tuple[str, Severity]]]:
    table = which_releases(inputs, releases)
    return {one.releases: [(why.rule.split()[0], why.severity) for why in one.reasons] for one in table.groups}


@pytest.mark.release
def test_the_code_of_each_release_says_where_a_training_ends(
    forked: Forked, tmp_path: Path, layout: Layout, locked: tuple[Release, ...]
) -> None:
    versions = ("1.0.17", "1.0.23", "1.0.24", "1.4.16")
    for version in versions:
        layout(version)
    folder = model_folder(forked, layout("1.4.16"), tmp_path / "model", variant="seaco_paraformer")
    train = write_jsonl(tmp_path / "train.jsonl", speech(8))
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config["model_conf"]["train_decoder"] = True
    (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    inputs = inputs_of(folder, install_dir=layout("1.4.16"), dataset="AudioDatasetHotword")
    inputs = replace(inputs, train=train, valid=train)
    table = which_releases(inputs, of(locked, *versions))
    assert [(one.releases, one.severity) for one in table.groups] == [
        ("1.0.24, 1.4.16", None),
        ("1.0.23", Severity.BROKEN),
        ("1.0.17", Severity.BROKEN),
    ]
    assert (table.best, table.nearest, table.read, table.listed) == ("1.4.16", "1.4.16", 4, 4)
    assert "returns 5 values" in table.groups[1].reasons[0].text
    assert table.lines()[-1] == "Best: pip install funasr==1.4.16"


@pytest.mark.release
def test_each_releases_loader_rows_and_keys_are_looked_at(
    folder: Path, tmp_path: Path, layout: Layout, locked: tuple[Release, ...]
) -> None:
    versions = ("1.0.3", "1.0.6", "1.0.14", "1.0.18", "1.2.7", "1.4.16")
    for version in versions:
        layout(version)
    releases = of(locked, *versions)
    rows = speech(8)
    rows[0]["source_len"] = 2100
    train = write_jsonl(tmp_path / "train.jsonl", rows)
    inputs = inputs_of(folder, install_dir=layout("1.4.16"), dataset_conf__max_token_length=3000)

    # Since 1.0.24 the index has a limit of its own, of 2048 frames; up to 1.0.5 a row must have a prompt.
    found = reasons(replace(inputs, train=train, valid=train), releases)
    assert found["1.2.7, 1.4.16"] == [("rows-left-out", Severity.WRONG)]
    assert found["1.0.6 – 1.0.18 (3 releases)"] == []
    assert ("rows-cannot-be-read", Severity.BROKEN) in found["1.0.3"]
    with_prompt = write_jsonl(tmp_path / "prompt.jsonl", [{**row, "prompt": "<ASR>", "source_len": 9} for row in rows])
    for valid, there in ((with_prompt, False), (train, True)):
        found = reasons(replace(inputs, train=with_prompt, valid=valid), of(locked, "1.0.3"))
        assert (("rows-cannot-be-read", Severity.BROKEN) in found["1.0.3"]) is there

    hidden = inputs_of(folder, install_dir=layout("1.4.16"), model_conf__lsm_weight=0.1)
    assert ("model-conf-hides-folder", Severity.BROKEN) in reasons(hidden, of(locked, "1.4.16"))["1.4.16"]

    # `use_bf16` came later; only up to 1.0.6 and since 1.0.28 a loader heeds `excludes`.
    keys = inputs_of(folder, install_dir=layout("1.4.16"), train_conf__use_bf16=True, excludes="decoder")
    found = reasons(keys, of(locked, "1.0.6", "1.0.14", "1.4.16"))
    unread, ignored = ("key-without-effect", Severity.WRONG), ("excludes-without-effect", Severity.WRONG)
    assert found == {"1.4.16": [], "1.0.14": [unread, ignored], "1.0.6": [unread]}

    tokens = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
    (folder / "tokens.json").write_text(json.dumps([*tokens[:4233], tokens[-1]]), encoding="utf-8")
    other = inputs_of(folder, install_dir=layout("1.4.16"))
    found = reasons(other, of(locked, "1.0.14", "1.0.18", "1.4.16"))
    new = [("vocabulary-not-the-checkpoints", Severity.WRONG)]
    assert found == {"1.4.16": new, "1.0.14": new, "1.0.18": [("checkpoint-shapes-refused", Severity.BROKEN)]}

    (folder / "tokens.json").write_text(json.dumps(tokens), encoding="utf-8")
    trainers_checkpoint(folder / "model.pt")
    trained = inputs_of(folder, install_dir=layout("1.4.16"))
    found = reasons(trained, of(locked, "1.0.6", "1.0.14", "1.4.16"))
    assert found == {"1.0.14, 1.4.16": [], "1.0.6": [("nothing-loaded", Severity.BROKEN)]}


@pytest.mark.release
def test_without_their_code_what_is_recorded_is_known(
    tmp_path: Path, layout: Layout, locked: tuple[Release, ...]
) -> None:
    table = which_releases(config_only(tmp_path, layout, "sense_voice"), locked)
    assert [(one.releases.partition(" (")[0], one.severity) for one in table.groups] == [
        ("1.1.18 – 1.4.16", None),
        ("1.0.30 – 1.1.16", None),
        ("1.1.17", Severity.BROKEN),
        ("1.0.0 – 1.0.29", Severity.BROKEN),
    ]
    assert "1.0.30 is the first" in table.groups[-1].reasons[0].text
    assert (table.best, table.read, table.atlas) == ("1.4.16", 0, False)
    assert json.loads(json.dumps(table.to_json()))["best"] == "1.4.16"


@pytest.mark.release
@pytest.mark.skipif(not ATLAS.is_dir(), reason="the committed run is not there")
def test_the_committed_run_is_read(
    tmp_path: Path, layout: Layout, locked: tuple[Release, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "ATLAS", ATLAS)
    monkeypatch.setattr("harness.preflight.release.known.applying", lambda _: ())
    inputs = config_only(tmp_path, layout, "paraformer_streaming")
    table = which_releases(inputs, of(locked, "1.0.11", "1.0.18"))
    assert [(one.releases, one.severity) for one in table.groups] == [("1.0.18", None), ("1.0.11", Severity.BROKEN)]
    assert "ended with AttributeError@" in table.groups[1].reasons[0].text


def reason(name: str, severity: Severity = Severity.BROKEN) -> ReleaseReason:
    return ReleaseReason(severity=severity, rule=name, text=f"{name} happens")


def test_the_nearest_sound_release_comes_first_and_what_breaks_hides_what_is_wrong() -> None:
    wrong, broken = reason("wrong", Severity.WRONG), reason("broken")
    found = {
        "1.0": [], "1.1": [broken], "1.2": [broken, wrong], "1.3": [wrong], "1.4": [wrong], "1.5": [broken], "1.6": [],
    }  # fmt: skip
    table = table_of(found, base="1.2", read=7, atlas=True)
    assert [one.releases for one in table.groups] == ["1.0", "1.6", "1.1, 1.2", "1.3, 1.4", "1.5"]
    assert (table.best, table.nearest) == ("1.6", "1.0")
    assert table.lines()[-2:] == ("Nearest to 1.2: pip install funasr==1.0", "Best: pip install funasr==1.6")
    assert [one.releases for one in table_of(found, base="1.5.1", read=7, atlas=True).groups][:2] == ["1.6", "1.0"]


def test_the_table_has_twenty_lines_and_all_of_them_with_v() -> None:
    found = {f"1.{number}": [reason(f"{number}-{one}") for one in range(1 + number % 4)] for number in range(40)}
    table = table_of({**found, "1.40": []}, base="1.20", read=41, atlas=True)
    lines = table.lines()
    assert len(lines) <= MOST_LINES
    assert lines[0] == " sound  1.40"
    assert "more ranges: -v names them" in lines[-2]
    assert lines[-1] == "Best: pip install funasr==1.40"
    assert len(table.lines(verbose=True)) > 100


class Mark:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_names_are_read_from_a_checkpoint_and_nothing_in_it_runs(tmp_path: Path) -> None:
    import pickle

    def checkpoint(content: bytes) -> Path:
        with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
            archive.writestr("model/data.pkl", content)
        return tmp_path / "model.pt"

    mark = tmp_path / "executed"
    found = checkpoint_names(checkpoint(pickle.dumps({"state_dict": {"a": Mark(mark)}, "epoch": 3})))
    assert found is not None
    assert (found.keys, found.tensors, mark.exists()) == (("state_dict", "epoch"), {}, False)
    whole = pickle.dumps({"a": 1})
    for content in (b"", whole[:-3], b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00lsR.", pickle.dumps([1]), b"\xff" * 99):
        assert checkpoint_names(checkpoint(content)) is None
    (tmp_path / "model.pt").write_bytes(b"PK\x03\x04 cut off")
    assert checkpoint_names(tmp_path / "model.pt") is None
    assert checkpoint_names(tmp_path / "missing.pt") is None
