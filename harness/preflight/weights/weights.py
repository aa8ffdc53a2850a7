"""Weights, config, tokens and features against each other: the release builds the model and loads the checkpoint."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from harness.core.cells import Severity
from harness.core.errors import InputError
from harness.preflight.command.hydra_words import path_to_type
from harness.preflight.findings import Place, PreflightFact, PreflightFinding, PreflightPart
from harness.preflight.folder import folder
from harness.preflight.folder.file_kinds import FileKind, content_of
from harness.preflight.folder.model_files import START, files_in_force, reads_whole_config
from harness.preflight.inputs import Inputs
from harness.preflight.release.release_questions import ReleaseQuestion, ask_release, measured
from harness.preflight.settings import read_config
from harness.preflight.weights.build_failures import check_failure
from harness.preflight.weights.kept_weights import check_weights
from harness.preflight.weights.later_load import check_later_load
from harness.preflight.weights.loader_rules import check_excludes
from harness.preflight.weights.tensor_fates import ModelTensor, TensorFates, fates_of, share
from harness.preflight.weights.trained_features import check_frontend
from harness.worker.trainer.options import trainer_options

SECTION = "weights"
NAME = "preflight.tensors"
_FILES = (START, "tokenizer_conf.token_list", "tokenizer_conf.seg_dict", "frontend_conf.cmvn_file")


def question(inputs: Inputs) -> ReleaseQuestion | None:
    """The measurement; None where the folder has nothing that could be built."""
    if _unbuildable(inputs):
        return None
    entry = inputs.command.entry
    if entry is None or not (inputs.install_dir / "funasr" / "bin" / f"{entry}.py").is_file():
        entry = trainer_options(str(inputs.install_dir), inputs.release.version, "train").native_entry
    whole_config = reads_whole_config(inputs)
    request = {
        "model": str(inputs.model),
        "overrides": [
            [override.path, override.value] for override in inputs.command.overrides if override.path != "output_dir"
        ],
        "entry": entry,
        "root": str(inputs.root),
        "config": str(inputs.config_file) if whole_config else "",
        "files": list(_FILES),
    }
    return ReleaseQuestion(name=NAME, request=request)


def _unbuildable(inputs: Inputs) -> bool:
    if content_of(inputs.model).kind is not FileKind.FOLDER:
        return True
    files = files_in_force(inputs)
    start = files.path(START)
    if start is not None and content_of(start).kind is FileKind.SPECIAL:
        return True
    try:
        read_config(inputs.config_file)
    except InputError:
        return True
    return False


def check(inputs: Inputs) -> PreflightPart:
    """What of the checkpoint arrives in the model, and whether the model's parts agree."""
    release_question = question(inputs)
    if release_question is None:
        return PreflightPart(skipped="Weights were not compared: the folder's files cannot be read as a model.")
    outcome = ask_release(inputs, release_question)
    if not measured(outcome):
        return PreflightPart(skipped=f"Weights were not compared: {outcome.reason}")
    fates = fates_of(outcome.evidence["preflight"])
    known = frozenset(
        finding.rule for finding in folder.check(inputs).findings if finding.severity is not Severity.MINOR
    )
    findings = [*check_frontend(inputs)]
    skipped = ""
    if fates.failure is not None and fates.ours == "BlockedCall":
        skipped = f"Weights were not compared: {fates.failure.message}."
    elif fates.failure is not None:
        findings += check_failure(inputs, fates, known)
    elif not fates.loads:
        findings += _random_start(inputs, fates, known)
    findings += [*check_weights(inputs, fates), *check_excludes(inputs)]
    if fates.failure is None:
        findings += check_later_load(inputs, fates)
    return PreflightPart(findings=tuple(findings), facts=tuple(_facts(fates)), skipped=skipped)


def _random_start(inputs: Inputs, fates: TensorFates, known: frozenset[str]) -> Iterator[PreflightFinding]:
    named = fates.files.get(START, "")
    if known & {"start-missing", "configuration-path-missing"} or (not named and reads_whole_config(inputs)):
        return
    place = inputs.settings.place(START) if START in inputs.settings.by_path else Place(file=str(inputs.model))
    reason = f"`{named}` does not exist" if named else "nothing names a checkpoint"
    if "," in named:
        reason = f"`{named}` is taken for the name of one file"
    yield PreflightFinding(
        severity=Severity.WRONG,
        rule="start-random",
        message=f"the training starts from random weights, without an error: {reason}",
        place=place,
        evidence=("no tensor of the model is loaded",),
        remedy=path_to_type(START, inputs.model / "model.pt"),
    )


def _facts(fates: TensorFates) -> Iterator[PreflightFact]:
    if fates.loads and fates.model:
        total = sum(parameter.size for parameter in fates.parameters)
        value = f"{percent(fates.share_kept)} of {total / 1e6:.1f} million parameters"
        yield PreflightFact(section=SECTION, label="taken from the checkpoint", value=value)
        modules: dict[str, list[ModelTensor]] = defaultdict(list)
        for parameter in fates.parameters:
            modules[parameter.module].append(parameter)
        if fates.share_kept < 1:
            for name, tensors in modules.items():
                kept_share = percent(share(tensors, [tensor for tensor in tensors if tensor.loaded]))
                yield PreflightFact(section=SECTION, label=f"of {name}", value=kept_share)
    if dropped := fates.dropped():
        part = percent(share(fates.checkpoint, dropped))
        value = f"{len(dropped)} tensors, {part} of its numbers, such as {dropped[0].name}"
        yield PreflightFact(section=SECTION, label="in the checkpoint only", value=value)
    if fates.keys:
        yield PreflightFact(section=SECTION, label="form of the checkpoint", value=_form(fates))
    for note in fates.prevented:
        yield PreflightFact(section=SECTION, label="not executed here", value=f"the release {note}")


def _form(fates: TensorFates) -> str:
    """A trainer's checkpoint, an average, an optimizer's state: by the keys around the tensors."""
    if fates.is_optimizer_state:
        return "the state of an optimizer, without weights"
    if "optimizer" in fates.keys:
        return "a trainer's, with the optimizer's state; the weights alone are taken"
    if len(fates.keys) == 1:
        return f"weights under `{fates.keys[0]}`, without an optimizer, as an average has them"
    more = ", …" if len(fates.keys) > 6 else ""
    return f"weights among {', '.join(fates.keys[:6])}{more}"


def percent(value: float) -> str:
    """A share, exact where it is all or nothing."""
    if value in (0, 1):
        return f"{value * 100:.0f} %"
    return f"{min(max(value * 100, 0.01), 99.99):.3g} %"
