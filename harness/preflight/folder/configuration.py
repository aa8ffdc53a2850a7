"""configuration.json: whether it is read, and whether each file that it names exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from harness.core.cells import Severity
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.folder.broken_files import USUAL_CONFIGURATION
from harness.preflight.folder.file_kinds import exists
from harness.preflight.folder.model_files import (
    CONFIGURATION,
    START,
    MissingPath,
    ModelFiles,
    NamedBy,
    configuration_of,
    metas_of,
    usual_file,
)
from harness.preflight.inputs import Inputs

_CONSEQUENCES = {
    "config": (Severity.BROKEN, "the model cannot be built"),
    START: (Severity.WRONG, "the training starts from random weights"),
    "tokenizer_conf.token_list": (Severity.BROKEN, "the tokenizer has no tokens"),
    "tokenizer_conf.bpemodel": (Severity.BROKEN, "the tokenizer cannot be built"),
    "tokenizer_conf.seg_dict": (Severity.WRONG, "words are not split as the model learned them"),
    "tokenizer_conf.seg_dict_file": (Severity.WRONG, "words are not split as the model learned them"),
    "frontend_conf.cmvn_file": (Severity.WRONG, "the features are not normalised, as the model expects them to be"),
}


def check_configuration(inputs: Inputs, files: ModelFiles) -> Iterator[PreflightFinding]:
    """The findings about configuration.json, where the release reads it."""
    if files.configuration is None:
        return
    place = Place(file=str(files.configuration))
    try:
        document = configuration_of(inputs.model)
    except (OSError, ValueError, RecursionError) as error:
        yield _unreadable(place, error)
        return
    metas = dict(metas_of(document))
    if "config" not in metas:
        yield _without_config(place, metas, folder=inputs.model)
    for missing_path in files.missing:
        yield from _missing(inputs, files, missing_path)
    outside = [
        named_file
        for named_file in files.named.values()
        if named_file.by is NamedBy.CONFIGURATION and _outside(inputs.model, named_file.path)
    ]
    if outside:
        yield PreflightFinding(
            severity=Severity.MINOR,
            rule="configuration-outside",
            message=f"{CONFIGURATION} names a file outside the folder: a copy of the folder lacks it",
            place=outside[0].place,
            evidence=tuple(f"{named_file.key}: {named_file.written}" for named_file in outside[:5]),
            remedy="copy the file into the folder, and name it there",
            count=len(outside),
        )


def _unreadable(place: Place, error: Exception) -> PreflightFinding:
    line = getattr(error, "lineno", None)
    reason = getattr(error, "strerror", None) or str(error)
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="configuration-unreadable",
        message=f"{CONFIGURATION} cannot be read as JSON: the training ends before its first step",
        place=Place(file=place.file, line=line),
        evidence=(reason,),
        remedy="correct it; without the file the release takes the usual names (model.pt, tokens.json, am.mvn, …)",
    )


def _without_config(place: Place, metas: dict[str, str], folder: Path) -> PreflightFinding:
    lack = "has no `file_path_metas`" if not metas else "has no `config` in `file_path_metas`"
    named = [name for name in ("model.pt", "tokens.json", "am.mvn") if (folder / name).exists()]
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="configuration-without-config",
        message=f"{CONFIGURATION} {lack}: the release then reads neither config.yaml nor any other file of the folder",
        place=place,
        evidence=(f"in the folder: {', '.join(named)}",) if named else (),
        remedy=f"make it {USUAL_CONFIGURATION}",
    )


def _missing(inputs: Inputs, files: ModelFiles, missing_path: MissingPath) -> Iterator[PreflightFinding]:
    if missing_path.key not in _CONSEQUENCES:
        return
    severity, consequence = _CONSEQUENCES[missing_path.key]
    other = files.named.get(missing_path.key) or (
        files.named.get("tokenizer_conf.seg_dict") if missing_path.key.endswith("seg_dict_file") else None
    )
    if other is not None:
        # The command's wins anyway. A trainer's output folder lacks the files, and its config.yaml names them: where
        # they do not exist either, the release ends at that name.
        return
    near = _nearest(inputs.model, missing_path.written) or usual_file(inputs.model, missing_path.key)
    if (
        missing_path.key.startswith("tokenizer_conf.seg_dict")
        and not near
        and inputs.settings.get("tokenizer") != "CharTokenizer"
    ):
        return
    remedy = (
        f'"{missing_path.key.rpartition(".")[2]}": "{near}"' if near else f"put {missing_path.written} into the folder"
    )
    yield PreflightFinding(
        severity=severity,
        rule="configuration-path-missing",
        message=(
            f"{CONFIGURATION} names `{missing_path.written}`, which does not exist and is passed over: {consequence}"
        ),
        place=missing_path.place,
        evidence=(f"in the folder: {near}",) if near else (),
        remedy=remedy,
    )


def _nearest(folder: Path, written: str) -> str:
    """The file of the folder that is meant: other case, backslashes, a path of another machine."""
    tail = PureWindowsPath(written).name if re.search(r"[\\:]", written) else Path(written).name
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return ""
    below = written.replace("\\", "/").lstrip("/")
    if "\\" in written and not re.match(r"[A-Za-z]:", written) and exists(folder / below):
        return below
    return tail if tail in names else next((name for name in names if name.lower() == tail.lower()), "")


def _outside(folder: Path, path: Path) -> bool:
    """By what is written: a hub's cache links to files elsewhere."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return not Path(*parts).is_relative_to(folder)
