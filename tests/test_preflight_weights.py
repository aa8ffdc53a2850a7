"""What of a checkpoint arrives in the model, by the release's own loader; and whether the model's parts agree."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import Forked
from user_folders import SOUND, inputs_of, stored_folders, without_configuration

from harness.core.cells import Dimensions, Failure, Severity
from harness.preflight.findings import PreflightFinding, PreflightPart
from harness.preflight.folder import folder
from harness.preflight.inputs import Inputs
from harness.preflight.release.release_questions import ask_all
from harness.preflight.weights import build_failures, kept_weights, weights
from harness.preflight.weights.tensor_fates import CheckpointTensor, ModelTensor, TensorFates

pytestmark = pytest.mark.release

TINY = Dimensions.parse("v1200-h64")
RELEASES = ("1.4.16", "1.2.7", "1.0.6")
LATEST = RELEASES[0]
NOT_IN = {("1.0.6", "sense_voice")}


class Mark:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def rewrite(folders: Mapping[str, str]) -> None:
    """In a child with torch: faults of checkpoints, by name."""
    import torch

    for fault, path in folders.items():
        file = Path(path) / "model.pt"
        state = torch.load(file, weights_only=True)
        torch.save(CHECKPOINTS[fault](state, path), file, _use_new_zipfile_serialization=fault != "old format")
        if fault == "a part is missing":
            without_a_part(file)


def without_a_part(file: Path) -> None:
    """As after an unpacking and packing that lost one file."""
    with zipfile.ZipFile(file) as whole:
        parts = {name: whole.read(name) for name in whole.namelist() if not name.endswith("/data/3")}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def _with_nan(state: dict[str, Any]) -> dict[str, Any]:
    state["encoder.after_norm.weight"][3] = float("nan")
    return state


CHECKPOINTS: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "trainer": lambda state, _: {
        "epoch": 3,
        "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
        "optimizer": {"state": {}, "param_groups": []},
    },
    "old format": lambda state, _: state,
    "half": lambda state, _: {name: tensor.half() for name, tensor in state.items()},
    "prefix": lambda state, _: {f"asr.{name}": tensor for name, tensor in state.items()},
    "mapped": lambda state, _: {f"asr.{name}": tensor for name, tensor in state.items()},
    "nan": lambda state, _: _with_nan(state),
    "a part is missing": lambda state, _: state,
    "list of tensors": lambda state, _: list(state.values()),
    "code": lambda state, path: {"state_dict": state, "args": Mark(f"{path}/executed")},
}


def _config(folder: Path, **changes: Any) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    for path, value in changes.items():
        section, _, key = path.partition("__")
        config[section][key] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def _tokens(folder: Path, count: int) -> None:
    tokens = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
    (folder / "tokens.json").write_text(json.dumps([*tokens[: count - 1], tokens[-1]]), encoding="utf-8")


def _configuration(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / "configuration.json").read_text(encoding="utf-8"))
    metas = {name: one for name, one in {**content["file_path_metas"], **changes}.items() if one}
    (folder / "configuration.json").write_text(json.dumps({**content, "file_path_metas": metas}), encoding="utf-8")


def _without_configuration(folder: Path) -> None:
    without_configuration(folder)


def _other_name(folder: Path) -> None:
    _configuration(folder, init_param="base.pt")
    (folder / "model.pt").rename(folder / "base.pt")


def _without_section(folder: Path) -> None:
    """Without configuration.json the release puts the token list into a section that is not there."""
    _without_configuration(folder)
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    del config["tokenizer_conf"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def _nothing(_: Path) -> None:
    """The checkpoint or the command has the fault."""


_WRONG, _BROKEN, _MINOR = Severity.WRONG, Severity.BROKEN, Severity.MINOR
FAULTS: dict[str, tuple[Callable[[Path], None], dict[str, Any], tuple[str, Severity] | None]] = {
    "trainer": (_nothing, {}, None),
    "old format": (_nothing, {}, None),
    "mapped": (_nothing, {"scope_map": ["asr.", "None"]}, None),
    "excluded": (_nothing, {"excludes": ["decoder"]}, None),
    "half": (_nothing, {}, ("weights-in-half-precision", _MINOR)),
    "prefix": (_nothing, {}, ("nothing-loaded", _BROKEN)),
    "nan": (_nothing, {}, ("weights-not-finite", _BROKEN)),
    "code": (_nothing, {}, ("checkpoint-executes", _BROKEN)),
    "a part is missing": (_nothing, {}, ("checkpoint-unreadable", _BROKEN)),
    "list of tensors": (_nothing, {}, ("checkpoint-refused", _BROKEN)),
    "no tokenizer_conf": (_without_section, {}, ("folder-refused", _BROKEN)),
    "fewer tokens": (lambda one: _tokens(one, 900), {}, ("vocabulary-not-the-checkpoints", _WRONG)),
    "another width": (
        lambda one: _config(one, encoder_conf__output_size=128, predictor_conf__idim=128),
        {},
        ("tensors-of-another-shape", _BROKEN),
    ),
    "another width refused": (
        lambda one: _config(one, encoder_conf__output_size=128, predictor_conf__idim=128),
        {"ignore_init_mismatch": False},
        ("checkpoint-shapes-refused", _BROKEN),
    ),
    "other features": (
        lambda one: _config(one, frontend_conf__lfr_m=1),
        {},
        ("features-not-the-checkpoints", _WRONG),
    ),
    "other frame rate": (_nothing, {"frontend_conf.lfr_n": 1}, ("frontend-not-the-checkpoints", _WRONG)),
    "fewer blocks": (lambda one: _config(one, encoder_conf__num_blocks=1), {}, ("checkpoint-tensors-dropped", _WRONG)),
    "more blocks": (lambda one: _config(one, encoder_conf__num_blocks=3), {}, ("tensors-not-in-checkpoint", _WRONG)),
    "heads": (lambda one: _config(one, encoder_conf__attention_heads=3), {}, ("model-not-built", _BROKEN)),
    "model_conf": (_nothing, {"model_conf.lsm_weight": 0.0}, ("model-conf-hides-folder", _BROKEN)),
    "two files": (_nothing, {"init_param": "a.pt,b.pt"}, ("start-missing", _BROKEN)),
    "list of files": (_nothing, {"init_param": ["a.pt", "b.pt"]}, ("start-refused", _BROKEN)),
    "no start": (lambda one: _configuration(one, init_param=None), {}, ("start-random", _WRONG)),
    "without configuration": (_without_configuration, {}, ("later-load-takes-base", _MINOR)),
    "other name": (
        _other_name,
        {},
        ("later-load-takes-base", _MINOR),
    ),
}


ALONGSIDE = {"other features": ("statistics-size",)}


@dataclasses.dataclass(frozen=True)
class Asked:
    """Folders with their inputs, of which the release has been asked everything."""

    inputs: Mapping[tuple[str, str], Inputs]

    def part(self, release: str, name: str) -> PreflightPart:
        return weights.check(self.inputs[release, name])

    def findings(self, release: str, name: str) -> list[PreflightFinding]:
        one = self.inputs[release, name]
        return [*folder.check(one).findings, *weights.check(one).findings]


@pytest.fixture(scope="module")
def asked(forked: Forked, layout: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Every folder of this module, asked in one process tree per release."""
    room, install_dir = tmp_path_factory.mktemp("folders"), layout(LATEST)
    sound = stored_folders(forked, install_dir, SOUND)
    tiny = stored_folders(forked, install_dir, ["paraformer"], dimensions=TINY)["paraformer"]
    inputs: dict[tuple[str, str], Inputs] = {}
    for release in RELEASES:
        for variant, path in sound.items():
            if (release, variant) not in NOT_IN:
                inputs[release, variant] = inputs_of(path, install_dir=layout(release), version=release)
    copies = {fault: Path(shutil.copytree(tiny, room / fault.replace(" ", "-"))) for fault in FAULTS}
    forked(rewrite, folders={fault: str(path) for fault, path in copies.items() if fault in CHECKPOINTS})
    for fault, (plant, overrides, _) in FAULTS.items():
        plant(copies[fault])
        named = {path.replace(".", "__"): value for path, value in overrides.items()}
        inputs[LATEST, fault] = inputs_of(copies[fault], install_dir=install_dir, version=LATEST, **named)
    inputs["1.0.6", "trainer"] = inputs_of(copies["trainer"], install_dir=layout("1.0.6"), version="1.0.6")
    return Asked({key: _answered(one, key[0], inputs) for key, one in inputs.items()})


def _answered(one: Inputs, release: str, inputs: Mapping[tuple[str, str], Inputs]) -> Inputs:
    every = [other for key, other in inputs.items() if key[0] == release]
    if not one.answers:
        questions = [question for other in every if (question := weights.question(other)) is not None]
        ask_all(one, questions)
        for other in every:
            other.answers.update(one.answers)
    return one


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("variant", SOUND)
def test_a_sound_folder_is_kept_whole_and_not_accused(asked: Asked, release: str, variant: str) -> None:
    if (release, variant) in NOT_IN:
        pytest.skip("not in this release")
    grave = [one for one in asked.findings(release, variant) if one.severity is not Severity.MINOR]
    assert grave == []
    part = asked.part(release, variant)
    assert not part.skipped
    assert next(fact.value for fact in part.facts if fact.label == "taken from the checkpoint").startswith("100 %")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(asked: Asked, fault: str) -> None:
    expected = FAULTS[fault][2]
    found = asked.findings(LATEST, fault)
    grave = {one.rule: one.severity for one in found if one.severity is not Severity.MINOR}
    if expected is None:
        assert found == []
        return
    rule, severity = expected
    assert {one.rule: one.severity for one in found}.get(rule) is severity, (found, asked.part(LATEST, fault).skipped)
    assert set(grave) <= {rule, "tensors-not-in-checkpoint"} | (
        {"statistics-size"} if fault == "other features" else set()
    )


def test_shares_and_names_are_said(asked: Asked) -> None:
    (one,) = asked.findings(LATEST, "fewer tokens")
    assert one.message.startswith("output layer and embedding, 1200 → 900 tokens, are newly initialised: ") or (
        one.message.startswith("embedding and output layer, 1200 → 900 tokens, are newly initialised: ")
    )
    assert "everything else is loaded" in one.message
    assert one.count == 3
    (one,) = [found for found in asked.findings(LATEST, "prefix") if found.rule == "nothing-loaded"]
    assert one.remedy == "++scope_map=[asr.,None]"


def test_an_early_release_takes_nothing_from_a_trainers_checkpoint(asked: Asked) -> None:
    (one,) = asked.findings("1.0.6", "trainer")
    assert (one.rule, one.severity) == ("nothing-loaded", Severity.BROKEN)
    assert "does not look into" in one.message


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (("epoch", "state_dict", "optimizer", "scheduler"), "a trainer's, with the optimizer's state"),
        (("state_dict",), "weights under `state_dict`, without an optimizer, as an average has them"),
        (("state", "param_groups"), "the state of an optimizer, without weights"),
        (("a", "b", "c", "d", "e", "f", "g"), "weights among a, b, c, d, e, f, …"),
    ],
)
def test_the_form_of_a_checkpoint_is_said_in_words(keys: tuple[str, ...], says: str, tmp_path: Path) -> None:
    fates = TensorFates(stage="loaded", failure=None, keys=keys)
    (fact,) = [one for one in weights._facts(fates) if one.label == "form of the checkpoint"]
    assert fact.value.startswith(says)


def test_an_optimizers_state_is_no_checkpoint(tmp_path: Path) -> None:
    tensor = ModelTensor(name="encoder.a", shape=(2,), parameter=True, loaded=False, found_shape=None, excluded=False)
    other = CheckpointTensor(name="exp_avg", shape=(2,), type="float32", taken=False)
    for keys, says in ((("state", "param_groups"), "the state of an optimizer"), ((), "no tensor of the checkpoint")):
        fates = TensorFates(
            stage="loaded", failure=None, model=(tensor,), checkpoint=(other,), loads=("model.pt",), keys=keys
        )
        (one,) = kept_weights.check_weights(inputs_of(tmp_path), fates)
        assert one.rule == "nothing-loaded"
        assert says in one.message


@pytest.mark.parametrize(
    ("message", "says", "remedy"),
    [
        (
            "Weights only load failed (`weights_only`). Trying to load unsupported GLOBAL posix.system whose module",
            "posix.system",
            "not",
        ),
        ("weights_only: Unsupported global: GLOBAL omegaconf.DictConfig was not an allowed", "omegaconf", "save the"),
        ("weights_only: Unsupported operand 149", "Unsupported operand", "save the"),
    ],
)
def test_what_a_checkpoint_would_call_is_said(message: str, says: str, remedy: str, tmp_path: Path) -> None:
    failure = Failure(type="UnpicklingError", message=message, frames=(), signature="x")
    fates = TensorFates(stage="weights", failure=failure, ours="Unloadable", loads=("/m/model.pt",))
    one = build_failures._unloadable(inputs_of(tmp_path), fates, failure)
    assert says in one.evidence[0]
    assert remedy in one.remedy
    # Nobody is advised to run the code of a file that is made to run some.
    assert ("weights_only=False" in one.remedy) is (says != "posix.system")


def test_nothing_of_the_users_is_executed_or_written(asked: Asked) -> None:
    path = asked.inputs[LATEST, "code"].model
    assert sorted(one.name for one in path.iterdir()) == [
        *("am.mvn", "config.yaml", "configuration.json", "model.pt", "seg_dict", "tokens.json")
    ]


@pytest.mark.parametrize(
    ("measured", "rule", "severity"),
    [
        ({"losses": {"criterion_att": 320}, "outputs": {"decoder.output_layer": 8404}}, "loss-size", "broken"),
        ({"losses": {"criterion_att": 8404}, "outputs": {"decoder.output_layer": 8404}}, "", ""),
        ({"vocabulary": 8501, "outputs": {"decoder.output_layer": 8404}}, "tokens-output-size", "broken"),
        ({"vocabulary": 8404, "outputs": {"decoder.output_layer": 8501}}, "tokens-output-size", "wrong"),
        (
            {"attributes": {"eos": 8404}, "outputs": {"decoder.output_layer": 8404}},
            "special-id-beyond-output",
            "broken",
        ),
        ({"attributes": {"eos": 8403}, "outputs": {"decoder.output_layer": 8404}}, "", ""),
    ],
)
def test_loss_tokens_and_ids_are_compared_with_the_output(
    measured: dict[str, Any], rule: str, severity: str, tmp_path: Path
) -> None:
    fates = TensorFates(stage="loaded", failure=None, **measured)
    found = list(kept_weights._sizes(inputs_of(tmp_path), fates))
    assert [(one.rule, str(one.severity)) for one in found] == ([(rule, severity)] if rule else [])
