"""Files of a model folder that are not what their names say: pointers, error pages, cut downloads, other formats."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.core.cells import Severity
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.folder.file_kinds import CHECKPOINTS, FileContent, FileKind, content_of
from harness.preflight.folder.model_files import START, NamedBy, NamedFile

_USE = {
    START: "the weights",
    "tokenizer_conf.token_list": "the token list",
    "tokenizer_conf.seg_dict": "the seg_dict",
    "tokenizer_conf.seg_dict_file": "the seg_dict",
    "tokenizer_conf.bpemodel": "the sentencepiece model",
    "frontend_conf.cmvn_file": "the features' statistics",
}
USUAL_CONFIGURATION = (
    'a configuration.json with "file_path_metas": {"init_param": "model.pt", "config": "config.yaml", '
    '"tokenizer_conf": {"token_list": "tokens.json", "seg_dict": "seg_dict"}, "frontend_conf": {"cmvn_file": "am.mvn"}}'
)
AGAIN = "download it again, for example: modelscope download --model OWNER/NAME --local_dir FOLDER"
_TEXTS = frozenset({FileKind.TEXT, FileKind.ERROR_ANSWER})


def check_named_file(named: NamedFile) -> Iterator[PreflightFinding]:
    """What is wrong with one file that the training reads, by its content alone."""
    content = content_of(named.path)
    use = _USE.get(named.key)
    if use is None:
        return
    problem = _problem(named, content)
    if problem is None:
        return
    rule, message, remedy = problem
    size = f" of {content.size:,} bytes" if content.size else ""
    is_what = "" if content.kind is FileKind.MISSING else f" is {content.kind}{size}"
    yield PreflightFinding(
        severity=Severity.BROKEN,
        rule=rule,
        message=f"{named.path.name}, {use},{is_what}: {message}" if is_what else f"{use}: {message}",
        place=_place(named, content),
        evidence=(content.note,) if content.note and is_what else (),
        remedy=remedy,
    )


def _place(named: NamedFile, content: FileContent) -> Place:
    """The file itself, where its content is at fault; the setting, where that may name another file."""
    if content.kind is FileKind.MISSING or named.by in (NamedBy.COMMAND, NamedBy.CONFIG):
        return named.place
    return Place(file=str(named.path))


def together(findings: Sequence[PreflightFinding]) -> Iterator[PreflightFinding]:
    """The findings, those about files that config.yaml names and that are missing as one: the base's folder is gone."""
    missing_files = [
        finding for finding in findings if finding.rule == "file-missing" and finding.place.file.endswith("config.yaml")
    ]
    for finding in findings:
        if finding not in missing_files:
            yield finding
    if missing_files:
        others = tuple(f"also {finding.message}" for finding in missing_files[1:])
        yield replace(missing_files[0], count=len(missing_files), evidence=(*missing_files[0].evidence, *others))


def _problem(named: NamedFile, content: FileContent) -> tuple[str, str, str] | None:
    """Rule, consequence and remedy."""
    kind = content.kind
    if kind is FileKind.MISSING:
        return _missing(named)
    if kind is FileKind.LFS_POINTER:
        return (
            "lfs-pointer",
            "the content itself was never downloaded",
            f"git -C {shlex.quote(str(named.path.parent))} lfs pull",
        )
    if kind in (FileKind.WEB_PAGE, FileKind.ERROR_ANSWER):
        return "error-page", "the download got an error page in its place", AGAIN
    if kind is FileKind.EMPTY:
        return "file-empty", "the training cannot read it", AGAIN
    if kind in (FileKind.FOLDER, FileKind.SPECIAL, FileKind.UNREADABLE):
        return "file-unreadable", "the training cannot read it", "put the file itself there, readable for you"
    if named.key == START:
        return _checkpoint(content, named.path)
    is_text = named.key != "tokenizer_conf.bpemodel"
    if not is_text and (kind is FileKind.TEXT or kind in CHECKPOINTS):
        return "file-of-another-kind", "it should be a sentencepiece model, which is binary", AGAIN
    if is_text and kind not in _TEXTS:
        return "file-of-another-kind", "it should be text in UTF-8", AGAIN
    return None


def _missing(named: NamedFile) -> tuple[str, str, str] | None:
    if named.by is NamedBy.CONFIGURATION:
        return None
    if named.key == START and "," in named.written:
        return (
            "start-missing",
            f"`{named.written}` is taken for the name of one file, so the training ends, or starts from "
            "random weights without an error",
            f"++{START}=PATH of one file",
        )
    if named.key == START and named.by is NamedBy.FOLDER:
        return (
            "start-missing",
            "this release looks for it as the folder has no configuration.json, and ends, or starts from random "
            "weights without an error",
            f"add {USUAL_CONFIGURATION}, or call the weights {named.written}, in a copy of the folder",
        )
    if named.key == START:
        return (
            "start-missing",
            f"`{named.written}` does not exist, so the training ends, or starts from random weights without an error",
            f"++{START}=PATH of the checkpoint that is meant",
        )
    return (
        "file-missing",
        f"`{named.written}`, named by {named.by}, does not exist",
        f"++{named.key}=PATH of the file, or put it there",
    )


def _checkpoint(content: FileContent, path: Path) -> tuple[str, str, str] | None:
    kind = content.kind
    if kind in CHECKPOINTS:
        return None
    if kind is FileKind.TRUNCATED:
        return "checkpoint-truncated", "the download or the copy was cut off, and torch cannot read it", AGAIN
    remedy = "use the model.pt of the model's folder"
    if kind in (FileKind.ONNX, FileKind.TORCH_SCRIPT, FileKind.GGUF):
        remedy = "an exported model cannot be trained: use the model.pt that it was exported from"
    elif kind is FileKind.SAFETENSORS:
        remedy = (
            "convert it: python -c 'import sys, torch, safetensors.torch as s; "
            f'torch.save(s.load_file(sys.argv[1]), "weights.pt")\' {shlex.quote(path.name)}, '
            f"and give ++{START}=weights.pt"
        )
    elif kind in (FileKind.GZIP, FileKind.TAR, FileKind.ZIP, FileKind.SEVEN_ZIP):
        remedy = "unpack it, and give the model.pt in it"
    consequence = "FunASR reads weights with torch.load, which cannot read this"
    if kind is FileKind.PICKLE:
        consequence += "; before torch 2.6 it runs the code in it first, if there is any"
    return "checkpoint-of-another-format", consequence, remedy
