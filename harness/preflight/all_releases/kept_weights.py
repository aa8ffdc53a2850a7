"""What each release's loader keeps of the checkpoint, as far as names and shapes say it: no release is run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.core.cells import Severity
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.folder.model_files import START, files_in_force
from harness.preflight.folder.tokens import KEY, read_tokens
from harness.preflight.inputs import Inputs
from harness.preflight.release.known import entry_of
from harness.preflight.weights.checkpoint_names import CheckpointNames, checkpoint_names
from harness.preflight.weights.loader_rules import LoaderRules, check_excludes, loader_rules

_OUTPUTS = ("decoder.output_layer.weight", "decoder.embed.0.weight", "ctc.ctc_lo.weight")
"""Tensors with a row for each token."""
_WIDTH = "encoder.after_norm.weight"
_DDP = "module."


class FileContents:
    """The contents of the files that releases start from, each read once."""

    def __init__(self) -> None:
        self._checkpoints: dict[Path, CheckpointNames | None] = {}
        self._tokens: dict[Path, int] = {}

    def checkpoint(self, path: Path) -> CheckpointNames | None:
        """The names in a checkpoint; None where they cannot be read."""
        if path not in self._checkpoints:
            self._checkpoints[path] = checkpoint_names(path)
        return self._checkpoints[path]

    def tokens(self, path: Path) -> int:
        """How many a token list has; 0 where it cannot be read."""
        if path not in self._tokens:
            self._tokens[path] = len(read_tokens(path).tokens)
        return self._tokens[path]


def weight_findings(inputs: Inputs, contents: FileContents) -> Iterator[PreflightFinding]:
    """The findings about one release; rules and severities are those of `harness.preflight.weights`."""
    rules = loader_rules(inputs.code, entry_of(inputs))
    files = files_in_force(inputs)
    start = files.path(START)
    names = contents.checkpoint(start) if start is not None else None
    if rules is None or names is None or start is None or inputs.settings.get("scope_map"):
        # With names of the user's own only the loader itself can say what becomes of them.
        return
    place = Place(file=str(start))
    unwrapped = names.unwrapped(rules.unwraps)
    if nothing := _nothing(unwrapped, rules):
        yield _finding("nothing-loaded", Severity.BROKEN, nothing, place)
        return
    tokens = files.path(KEY)
    yield from _other_shapes(inputs, unwrapped, rules, place, contents.tokens(tokens) if tokens is not None else 0)
    yield from check_excludes(inputs)


def _finding(rule: str, severity: Severity, message: str, place: Place) -> PreflightFinding:
    return PreflightFinding(severity=severity, rule=rule, message=message, place=place)


def _nothing(unwrapped: CheckpointNames, rules: LoaderRules) -> str:
    """Why no tensor arrives in the model; empty where some do."""
    if not unwrapped.tensors and unwrapped.within:
        return (
            f"its loader does not look below `{next(iter(unwrapped.within))}` of a trainer's checkpoint: the start is "
            "random, without an error"
        )
    if unwrapped.tensors and not rules.takes_off_module and all(name.startswith(_DDP) for name in unwrapped.tensors):
        return "its loader does not take `module.` off the checkpoint's names: the start is random, without an error"
    return ""


def _other_shapes(
    inputs: Inputs, unwrapped: CheckpointNames, rules: LoaderRules, place: Place, tokens: int
) -> Iterator[PreflightFinding]:
    shapes = {name.removeprefix(_DDP): shape for name, shape in unwrapped.tensors.items()}
    keeps_mismatch = bool(inputs.settings.get("ignore_init_mismatch", rules.keeps_mismatch))
    width = inputs.settings.get("encoder_conf.output_size")
    hidden = shapes.get(_WIDTH, ())
    if isinstance(width, int) and len(hidden) == 1 and hidden[0] != width:
        difference = f"the model's width is {width} and the checkpoint's {hidden[0]}"
        rule = "tensors-of-another-shape"
    elif tokens and (rows := {shapes[name][0] for name in _OUTPUTS if shapes.get(name)}) and tokens not in rows:
        difference = f"the token list has {tokens} tokens and the checkpoint {max(rows)}"
        rule = "vocabulary-not-the-checkpoints"
    else:
        return
    if keeps_mismatch:
        severity = Severity.BROKEN if rule == "tensors-of-another-shape" else Severity.WRONG
        yield _finding(rule, severity, f"{difference}: these layers are newly initialised, without an error", place)
    else:
        yield _finding(
            "checkpoint-shapes-refused", Severity.BROKEN, f"{difference}: loading ends with a RuntimeError", place
        )
