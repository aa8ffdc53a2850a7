"""The model folder on disk: is it one, and is each file in it what its name says? No release is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness.core.cells import Severity
from harness.core.errors import InputError
from harness.preflight.command.hydra_words import path_to_type
from harness.preflight.findings import Place, PreflightFact, PreflightFinding, PreflightPart
from harness.preflight.folder.broken_files import USUAL_CONFIGURATION, check_named_file, together
from harness.preflight.folder.cmvn import check_statistics
from harness.preflight.folder.config_file import check_passed_over
from harness.preflight.folder.configuration import check_configuration
from harness.preflight.folder.file_kinds import ARCHIVES, FileKind, content_of, exists
from harness.preflight.folder.model_files import (
    CONFIG,
    CONFIGURATION,
    START,
    files_in_force,
    folder_rules,
    reads_whole_config,
    usual_file,
)
from harness.preflight.folder.tokenizer_files import check_seg_dict, check_sentencepiece
from harness.preflight.folder.tokens import check_tokens
from harness.preflight.inputs import Inputs
from harness.preflight.settings import read_config

SECTION = "model folder"
_HUB_OWNERS = ("iic", "damo", "funasr", "FunAudioLLM", "Qwen", "emotion2vec")
_EPOCH = re.compile(r"model\.pt\.(?:ep|avg|best|step)")
_MOST_SEARCHED = 2000


def check(inputs: Inputs) -> PreflightPart:
    """The findings about the folder and each of its files that the training reads."""
    unfit = list(_not_a_folder(inputs)) or list(_without_config(inputs.model))
    if unfit:
        return PreflightPart(findings=tuple(unfit))
    files = files_in_force(inputs)
    findings = [*_config(inputs), *check_passed_over(inputs), *_not_read(inputs), *check_configuration(inputs, files)]
    findings += together([finding for named in files.named.values() for finding in check_named_file(named)])
    findings.extend(_other_start(inputs))
    for overridden in files.ignored:
        winner = files.named[overridden.key]
        findings.append(
            PreflightFinding(
                severity=Severity.WRONG,
                rule="override-replaced",
                message=(
                    f"`{overridden.key}={overridden.written}` has no effect: this release takes the folder's own "
                    f"{winner.written}, "
                    f"as the folder has no {CONFIGURATION}"
                ),
                place=overridden.place,
                remedy=f"replace {winner.path} with your file in a copy of the folder, or add a {CONFIGURATION}",
            )
        )
    findings += [*check_seg_dict(files), *check_sentencepiece(inputs, files)]
    found_tokens = check_tokens(inputs, files)
    found_statistics = check_statistics(inputs, files)
    facts = tuple(
        PreflightFact(section=SECTION, label=named_file.key, value=f"{named_file.path} ({named_file.by})", detail=True)
        for named_file in files.named.values()
    )
    return PreflightPart(
        findings=(*findings, *found_tokens.findings, *found_statistics.findings),
        facts=(*facts, *found_tokens.facts, *found_statistics.facts),
    )


def _not_a_folder(inputs: Inputs) -> Iterator[PreflightFinding]:
    content, place = content_of(inputs.model), Place(file=str(inputs.model))
    if content.kind is FileKind.FOLDER:
        return
    if content.kind is FileKind.MISSING:
        yield _missing(inputs, place)
        return
    name, parent = inputs.model.name, inputs.model.parent
    remedy = "name the folder with config.yaml, tokens.json, am.mvn and the weights"
    if (parent / CONFIG).is_file():
        remedy = f"name its folder, {parent}"
        if inputs.model.suffix != ".yaml" and inputs.model != parent / "model.pt":
            remedy += f", and give this file as {path_to_type(START, inputs.model)}"
    elif content.kind in ARCHIVES:
        remedy = "unpack it, and name the folder with config.yaml in it"
    elif content.kind is FileKind.ONNX or "torchscript" in name.lower() or content.kind is FileKind.TORCH_SCRIPT:
        remedy = "an exported model cannot be trained: download the folder that it was exported from"
    yield PreflightFinding(
        severity=Severity.BROKEN,
        rule="model-is-a-file",
        message=(
            f"{name} is {content.kind} and no model folder: a checkpoint alone has neither the architecture "
            "(config.yaml) nor the token list nor the features' statistics"
        ),
        place=place,
        remedy=remedy,
    )


def _missing(inputs: Inputs, place: Place) -> PreflightFinding:
    name = _below_root(inputs)
    owner = name.partition("/")[0]
    if owner in _HUB_OWNERS or name in _short_names(inputs.install_dir):
        return PreflightFinding(
            severity=Severity.BROKEN,
            rule="model-is-a-hub-name",
            message=f"{name} is a hub's name and no folder: there is no {inputs.model} whose files could be checked",
            place=place,
            remedy=f"modelscope download --model {name} --local_dir ./{name.rpartition('/')[2]}, and name that folder"
            if "/" in name
            else "download it first: modelscope download --model OWNER/NAME --local_dir FOLDER",
        )
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="model-folder-missing",
        message=f"there is no {inputs.model}: FunASR takes a path that does not exist for a hub's name",
        place=place,
        remedy="name the model's folder as it is on this machine",
    )


def _below_root(inputs: Inputs) -> str:
    """The path as a hub's name: its last two parts where the first is an owner's."""
    if inputs.model.parent.name in _HUB_OWNERS:
        return "/".join(inputs.model.parts[-2:])
    for root in (inputs.root, Path.cwd()):
        if inputs.model.is_relative_to(root):
            return str(inputs.model.relative_to(root))
    return str(inputs.model)


def _short_names(install_dir: Path) -> frozenset[str]:
    path = install_dir / "funasr" / "download" / "name_maps_from_hub.py"
    if not path.is_file():
        return frozenset()
    return frozenset(re.findall(r'^\s*"([^"]+)":', path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE))


def _without_config(folder: Path) -> Iterator[PreflightFinding]:
    if content_of(folder / CONFIG).kind is not FileKind.MISSING or (folder / CONFIGURATION).is_file():
        return
    place = Place(file=str(folder))
    if below := _folders_with_config(folder):
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="model-folder-is-further-down",
            message="this folder has no config.yaml; the model is in a folder below it",
            place=place,
            evidence=tuple(str(folder_below) for folder_below in below[:5]),
            remedy=f"name {below[0]}",
        )
        return
    yield _config_missing(folder, place)


def _config_missing(folder: Path, place: Place) -> PreflightFinding:
    names = _names(folder)
    message, rule = "the folder has no config.yaml, so nothing says which architecture is to be built", "config-missing"
    remedy = "download the model's folder again, with all its files"
    near = [name for name in names if name.lower().endswith((".yaml", ".yml"))]
    if "config.json" in names:
        message = "the folder has a config.json and no config.yaml: it is a model of Hugging Face transformers"
        rule, remedy = "config-of-transformers", "use a model folder of FunASR: its config is called config.yaml"
    elif any(_EPOCH.match(name) for name in names):
        message = "the folder holds checkpoints of a training and no config.yaml"
        rule = "folder-of-checkpoints"
        chosen = folder / usual_file(folder, START)
        remedy = f"name the folder that the training started from, and add {path_to_type(START, chosen)}"
    elif near:
        remedy = f"rename {near[0]} to config.yaml, if it is the model's config"
    return PreflightFinding(severity=Severity.BROKEN, rule=rule, message=message, place=place, remedy=remedy)


def _folders_with_config(folder: Path) -> list[Path]:
    """Folders down to three levels below, as in a hub's cache; links of a cache are followed, and few are looked at."""
    folders: list[Path] = []
    level, looked_at = [folder], 0
    for _ in range(3):
        below = []
        for parent in level:
            try:
                children = sorted(child for child in parent.iterdir() if child.is_dir())
            except OSError:
                continue
            looked_at += len(children)
            if looked_at > _MOST_SEARCHED:
                return folders
            below += children
        folders += [child_folder for child_folder in below if (child_folder / CONFIG).is_file()]
        level = below
    return folders


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def _config(inputs: Inputs) -> Iterator[PreflightFinding]:
    path = inputs.config_file
    place = Place(file=str(path))
    content = content_of(path)
    if content.kind is FileKind.MISSING:
        # What configuration.json names is not there either, which is said of configuration.json.
        return
    if content.kind not in (FileKind.TEXT, FileKind.ERROR_ANSWER):
        note = (content.note,) if content.note else ()
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="config-unreadable",
            message=f"{path.name} is {content.kind}: the model cannot be built",
            place=place,
            evidence=note,
            remedy=f"download {path.name} again",
        )
        return
    try:
        settings = read_config(path)
    except InputError as error:
        where = re.search(r":(\d+): ", error.what)
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="config-unreadable",
            message=f"{path.name} cannot be read as YAML: the training ends before its first step",
            place=Place(file=str(path), line=int(where[1]) if where else None),
            evidence=(error.what,),
            remedy=f"correct it, or download {path.name} again",
        )
        return
    if not isinstance(settings.get("model"), str):
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="config-without-model",
            message=f"{path.name} names no `model`: it is no config of a FunASR model",
            place=place,
            remedy="use the config.yaml of the model's own folder",
        )


def _not_read(inputs: Inputs) -> Iterator[PreflightFinding]:
    """Without a configuration.json some releases read a folder only where it holds the weights under one name."""
    required = folder_rules(inputs.install_dir).required
    if (inputs.model / CONFIGURATION).exists() or not required or (inputs.model / required).exists():
        return
    if reads_whole_config(inputs):
        return
    weights = [name for name in ("model.pt", "model.pb") if (inputs.model / name).exists()]
    yield PreflightFinding(
        severity=Severity.BROKEN,
        rule="folder-not-read",
        message=(
            f"without a {CONFIGURATION} FunASR {inputs.release.label} reads a folder only where it holds {required}: "
            "it does not find this one's config.yaml"
        ),
        place=Place(file=str(inputs.model)),
        evidence=(f"in the folder: {', '.join(weights) or 'no weights of a usual name'}",),
        remedy=f"add {USUAL_CONFIGURATION}, or call the weights {required}, in a copy of the folder",
    )


def _other_start(inputs: Inputs) -> Iterator[PreflightFinding]:
    """Weights of the folder that the training does not start from."""
    files = files_in_force(inputs)
    start, own_weights = files.named.get(START), inputs.model / "model.pt"
    checkpoints = sorted(name for name in _names(inputs.model) if _EPOCH.match(name))
    if start is None or not exists(start.path) or not (own_weights.exists() or checkpoints):
        return
    if not files.whole_config and start.by.value == CONFIG and not start.path.is_relative_to(inputs.model):
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="start-is-another-folders",
            message=(
                f"the training starts from {start.path} and not from this folder's weights: config.yaml names it, as "
                "the trainer wrote it, and this release keeps it"
            ),
            place=start.place,
            evidence=tuple(
                str(path) for path in (own_weights, *(inputs.model / name for name in checkpoints[:3])) if path.exists()
            ),
            remedy=path_to_type(START, inputs.model / usual_file(inputs.model, START)),
        )
