"""What a release's `load_pretrained_model` takes from a checkpoint, found in its code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from harness.core.cells import Severity
from harness.preflight.code.release_code import ReleaseCode
from harness.preflight.code.source_file import SourceFile
from harness.preflight.findings import PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.release.known import entry_of
from harness.preflight.weights.checkpoint_names import WRAPPERS

_LOADER = "load_pretrained_model"


@dataclass(frozen=True, kw_only=True)
class LoaderRules:
    """How a release's training loads `init_param`."""

    unwraps: tuple[str, ...]
    """Keys below which it looks for the weights, in their order."""
    takes_off_module: bool
    """Whether it finds the tensors of a checkpoint whose names begin with `module.`, as DDP writes them."""
    excludes: bool
    """Whether the setting `excludes` has an effect."""
    keeps_mismatch: bool
    """Whether tensors of another shape are left as they are where `ignore_init_mismatch` is not set; else an error."""


def check_excludes(inputs: Inputs) -> Iterator[PreflightFinding]:
    """The finding where the command or the config excludes tensors from loading and the release's loader does not."""
    setting = inputs.settings.by_path.get("excludes")
    rules = loader_rules(inputs.code, entry_of(inputs)) if setting is not None and setting.value else None
    if setting is None or rules is None or rules.excludes:
        return
    yield PreflightFinding(
        severity=Severity.WRONG,
        rule="excludes-without-effect",
        message="this release's loader ignores `excludes`: the tensors that it names are loaded from the checkpoint",
        place=setting.place,
        evidence=(f"funasr/train_utils/{_LOADER}.py takes it and does not use it",),
        remedy="take these tensors out of a copy of the checkpoint, or use another release: --release all says which",
    )


def loader_rules(code: ReleaseCode, entry: str) -> LoaderRules | None:
    """The rules of a release; None where its code has another form."""
    loader = code.file(f"train_utils/{_LOADER}.py")
    script = code.file(f"bin/{entry}.py")
    if script is None or loader is None:
        return None
    caller = script if f"{_LOADER}(" in script.text else code.file("auto/auto_model.py")
    return _rules(loader, caller) if caller is not None else None


@lru_cache(maxsize=256)
def _rules(loader: SourceFile, caller: SourceFile) -> LoaderRules | None:
    function = next(
        (function_node for function_node in loader.nodes(ast.FunctionDef) if function_node.name == _LOADER), None
    )
    if function is None:
        return None
    compared = [
        node.left.value
        for node in ast.walk(function)
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In) and isinstance(node.left, ast.Constant)
    ]
    loops = [node for node in ast.walk(function) if isinstance(node, ast.For)]
    return LoaderRules(
        unwraps=tuple(wrapper for wrapper in WRAPPERS if wrapper in compared),
        takes_off_module="module." in {node.value for node in ast.walk(function) if isinstance(node, ast.Constant)},
        excludes=any("excludes" in ast.unparse(loop.iter) for loop in loops),
        keeps_mismatch=_keeps_mismatch(caller),
    )


def _keeps_mismatch(caller: SourceFile) -> bool:
    for node in caller.nodes(ast.keyword):
        if node.arg == "ignore_init_mismatch" and isinstance(node.value, ast.Call):
            default = node.value.args[1] if len(node.value.args) > 1 else None
            return isinstance(default, ast.Constant) and bool(default.value)
    return False
