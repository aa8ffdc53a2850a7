"""What tokenizers read besides the token list: the seg_dict of words, and the sentencepiece model."""

from __future__ import annotations

from collections.abc import Iterator

from harness.core.cells import Severity
from harness.preflight.command.hydra_words import path_to_type
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.folder.file_kinds import FileKind, content_of, text_of
from harness.preflight.folder.model_files import ModelFiles
from harness.preflight.inputs import Inputs

_SEG_DICTS = ("tokenizer_conf.seg_dict", "tokenizer_conf.seg_dict_file")
_MODEL = "tokenizer_conf.bpemodel"
_SENTENCEPIECE = "SentencepiecesTokenizer"


def check_seg_dict(files: ModelFiles) -> Iterator[PreflightFinding]:
    """A blank line: FunASR takes the first word of every line."""
    for key in _SEG_DICTS:
        named = files.named.get(key)
        if named is None or content_of(named.path).kind is not FileKind.TEXT:
            continue
        try:
            lines = text_of(named.path).split("\n")
        except (OSError, UnicodeDecodeError):
            continue
        blank = [number for number, line in enumerate(lines[:-1] if not lines[-1] else lines, 1) if not line.split()]
        if blank:
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="seg-dict-blank-line",
                message="a line of the seg_dict is blank, at which FunASR ends with an IndexError",
                place=Place(file=str(named.path), line=blank[0]),
                remedy="remove the blank lines: sed -i '/^\\s*$/d' seg_dict, in a copy of the folder",
                count=len(blank),
            )


def check_sentencepiece(inputs: Inputs, files: ModelFiles) -> Iterator[PreflightFinding]:
    """A tokenizer that needs a model and gets none."""
    missing = any(missing_path.key == _MODEL for missing_path in files.missing)
    if inputs.settings.get("tokenizer") != _SENTENCEPIECE or _MODEL in files.named or missing:
        return
    try:
        near = sorted(path.name for path in inputs.model.iterdir() if path.name.endswith(".model"))
    except OSError:
        near = []
    remedy = path_to_type(_MODEL, inputs.model / near[0]) if near else f"++{_MODEL}=PATH of the .model file"
    yield PreflightFinding(
        severity=Severity.BROKEN,
        rule="sentencepiece-model-missing",
        message=f"the tokenizer is {_SENTENCEPIECE}, and nothing names its model: the training cannot start",
        place=inputs.settings.place(_MODEL if _MODEL in inputs.settings.by_path else "tokenizer"),
        evidence=(f"in the folder: {', '.join(near[:3])}",) if near else (),
        remedy=remedy,
    )
