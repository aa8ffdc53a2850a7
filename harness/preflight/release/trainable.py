"""Whether this release can train the model of the folder with the data set that is named: found in its code."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from harness.core.cells import Severity
from harness.preflight.code.forward_faults import ForwardFault, forward_faults
from harness.preflight.code.release_code import Definition, Method, ReleaseCode
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.release.known import ends_training
from harness.releases.first_releases import FIRST

_PARTS = ("tokenizer", "frontend", "specaug", "normalize", "encoder", "decoder", "predictor")
_DEFAULT_DATA = "AudioDataset"
_HOTWORDS = "hotword_pad"
_RECIPES = {
    "CTTransformer": "punctuation",
    "CTTransformerStreaming": "punctuation",
    "FsmnVADStreaming": "voice activity detection",
}
"""Models for which users were pointed to recipes that FunASR's repository does not have, by what the models do."""


def model_findings(inputs: Inputs, code: ReleaseCode) -> Iterator[PreflightFinding]:
    """What the release lacks of the model, or cannot do with it."""
    name = model_name(inputs)
    if not name:
        return
    model = code.definition("model_classes", name)
    if model is None:
        yield from _unknown_model(inputs, code, name)
        return
    yield from _unknown_parts(inputs, code)
    forward = code.method(model, "forward")
    if forward is None or _refuses(forward):
        yield _not_trained(inputs, name, model, code, "its class has no forward pass for training")
        return
    lack = _arguments_not_made(inputs, code, name, model, forward)
    if lack is not None:
        yield lack
        return
    yield from _data_of_another_model(inputs, code, name, forward)
    # The first of them ends the training; where a known issue says why it ends, that finding is enough.
    faults = forward_faults(code, model, _arguments(inputs))
    if faults and not ends_training(inputs):
        yield _forward_fault(inputs, name, faults[0])


def model_name(inputs: Inputs) -> str:
    """The model's class in config.yaml; the command's `model` is the folder."""
    named = inputs.config.get("model")
    return named if isinstance(named, str) else ""


def _unknown_model(inputs: Inputs, code: ReleaseCode, name: str) -> Iterator[PreflightFinding]:
    text = f'"{name}"'
    if "/" in name or any(text in code.text(path) for path in ("models/moss_transcribe_diarize/model.py",)):
        return
    names = code.names("model_classes")
    first = FIRST.get(f"model_classes/{name}", "")
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
    since = f"; {first} is the first that has it" if first else ""
    yield PreflightFinding(
        severity=Severity.BROKEN,
        rule="class-not-in-release",
        message=f"FunASR {inputs.release.label} has no model class `{name}`: the training does not start{since}",
        place=inputs.config.place("model"),
        remedy=f"pip install 'funasr>={first}'" if first else f"did you mean {near[0]}?" if near else "",
    )


def _unknown_parts(inputs: Inputs, code: ReleaseCode) -> Iterator[PreflightFinding]:
    for key in _PARTS:
        name = inputs.settings.get(key)
        table = code.registered.get(f"{key}_classes", {})
        if not isinstance(name, str) or not table or f"{key}_conf" not in _sections(inputs) or "," in name:
            continue
        if name in table or name.lower() in {registered.lower() for registered in table} or "/" in name:
            continue
        first = FIRST.get(f"{key}_classes/{name}", "")
        near = difflib.get_close_matches(name, list(table), n=1, cutoff=0.7)
        since = f"; {first} is the first that has it" if first else ""
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="class-not-in-release",
            message=f"FunASR {inputs.release.label} has no {key} `{name}`: the model cannot be built{since}",
            place=inputs.settings.place(key),
            evidence=(f"it has {', '.join(sorted(table)[:12])}",),
            remedy=f"pip install 'funasr>={first}'" if first else f"did you mean {near[0]}?" if near else "",
        )


def _sections(inputs: Inputs) -> frozenset[str]:
    return frozenset(path.partition(".")[0] for path in inputs.settings.by_path)


def _refuses(forward: Method) -> bool:
    """Whether the forward returns nothing, or raises before anything else."""
    body = [
        statement
        for statement in forward.node.body
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
    ]
    if body and isinstance(body[0], ast.Raise):
        return True
    return not any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(forward.node))


def _arguments_not_made(
    inputs: Inputs, code: ReleaseCode, name: str, model: Definition, forward: Method
) -> PreflightFinding | None:
    """The finding about arguments of the forward that the data set does not make; None where it makes all."""
    data = inputs.settings.get("dataset", _DEFAULT_DATA)
    names_made = _made_by(code, data) if isinstance(data, str) else None
    if not names_made:
        return None
    missing = [parameter for parameter in forward.required if parameter not in names_made]
    if not missing:
        return None
    others = [
        data_set for data_set in code.names("dataset_classes") if set(forward.required) <= _made_by(code, data_set)
    ]
    missing_in_words = ", ".join(f"`{parameter}`" for parameter in missing)
    if not others:
        why = f"its forward requires {missing_in_words}, and no data set of this release makes that"
        return _not_trained(inputs, name, model, code, why)
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="data-of-another-model",
        message=f"the forward of {name} requires {missing_in_words}, which the data set {data} does not make: a "
        "TypeError at the "
        "first batch",
        place=inputs.settings.place("dataset"),
        evidence=(f"{data} makes {', '.join(sorted(names_made))}",),
        remedy=f"++dataset={others[0]}",
    )


def _made_by(code: ReleaseCode, data: str) -> frozenset[str]:
    """The names that a data set's rows and batches have; empty where its code does not say."""
    definition = code.definition("dataset_classes", data)
    names: set[str] = set()
    for name in ("__getitem__", "collator"):
        method = code.method(definition, name) if definition else None
        for node in ast.walk(method.node) if method else ():
            if isinstance(node, ast.Dict):
                names |= {str(key.value) for key in node.keys if isinstance(key, ast.Constant)}
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                names |= {str(node.slice.value)} if isinstance(node.slice, ast.Constant) else set()
    return frozenset(names)


def _not_trained(inputs: Inputs, name: str, model: Definition, code: ReleaseCode, why: str) -> PreflightFinding:
    file = model.file.relative_to(code.root.parent).as_posix()
    purpose = f" ({_RECIPES[name]})" if name in _RECIPES else ""
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="model-not-trainable",
        message=f"{name}{purpose} cannot be trained with FunASR {inputs.release.label}: {why}",
        place=inputs.config.place("model"),
        evidence=(file,),
        remedy="no recipe of FunASR's repository trains it; use it as it is"
        if name in _RECIPES
        else "train another model, or use it as it is",
    )


def _data_of_another_model(inputs: Inputs, code: ReleaseCode, name: str, forward: Method) -> Iterator[PreflightFinding]:
    data = inputs.settings.get("dataset", _DEFAULT_DATA)
    if "dataset" not in inputs.settings.by_path and not inputs.command.overrides:
        # What the script would name is not known.
        return
    if not isinstance(data, str) or not (names_made := _made_by(code, data)):
        return
    text = ast.unparse(forward.node)
    hotwords = f"kwargs.get('{_HOTWORDS}')" in text and _HOTWORDS not in names_made
    labels = "text[:, 4:]" in text and not data.startswith("SenseVoice")
    names = code.names("dataset_classes")
    if hotwords:
        fitting = next((data_set for data_set in names if _HOTWORDS in _made_by(code, data_set)), "")
        problem = f"{name} is trained on hotwords, and the data set {data} gives it none: it ends at its first batch"
    elif labels:
        fitting = "SenseVoiceCTCDataset" if "SenseVoiceCTCDataset" in names else ""
        problem = (
            f"{name} takes the first four tokens of each text for language, emotion, event and style, and the data "
        )
        problem += f"set {data} does not put them there: four characters of each text are lost"
    else:
        return
    yield PreflightFinding(
        severity=Severity.BROKEN,
        rule="data-of-another-model",
        message=problem,
        place=inputs.settings.place("dataset"),
        evidence=(f"{data} makes {', '.join(sorted(names_made))}",),
        remedy=f"++dataset={fitting}" if fitting else "use a later release",
    )


def _arguments(inputs: Inputs) -> Mapping[str, Any]:
    """What the model's constructor gets, as far as the settings say it."""
    top = {setting.path: setting.value for setting in inputs.settings if "." not in setting.path}
    return {**inputs.settings.section("model_conf"), **top}


def _forward_fault(inputs: Inputs, name: str, fault: ForwardFault) -> PreflightFinding:
    when = "at its first batch" if fault.in_training else "at its first validation; the steps before it are lost"
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="forward-ends" if fault.in_training else "validation-ends",
        message=f"training {name} ends with {fault.exception} {when}: {fault.what}",
        place=Place(file=fault.file, line=fault.line, key=fault.function),
        evidence=(f"FunASR {inputs.release.label}, {fault.signature}",),
        remedy="use another release: --release all says which",
    )
