"""What a release's trainer does with its settings, found in its code: what it requires, asserts and saves."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from harness.preflight.code.release_code import ReleaseCode

_Node = TypeVar("_Node", bound=ast.AST)
_BUILT = (
    *("Trainer", "model_class", "tokenizer_class", "frontend_class"),
    *("dataset_class", "batch_sampler_class", "optim_class", "scheduler_class"),
)
_TRAINERS = {"train": "trainer.py", "train_ds": "trainer_ds.py"}


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """A call such as `Trainer(output_dir=…, **kwargs.get("train_conf"))`."""

    built: str
    """What is called: `Trainer`."""
    required: tuple[str, ...]
    """The sections of the settings that it unpacks even where they are not there, which raises a TypeError."""


@dataclass(frozen=True, kw_only=True)
class TrainerCode:
    """The code of one entry point."""

    code: ReleaseCode
    entry: str

    @property
    def script(self) -> Path:
        return self.code.root / "bin" / f"{self.entry}.py"

    @cached_property
    def main_text(self) -> str:
        """Of `bin/train.py` or `bin/train_ds.py`; empty where the release has none."""
        return self.code.text(f"bin/{self.entry}.py")

    @cached_property
    def trainer_text(self) -> str:
        """Of the module with the class `Trainer`."""
        return self.code.text(f"train_utils/{_TRAINERS[self.entry]}")

    @property
    def exists(self) -> bool:
        return bool(self.main_text)

    @cached_property
    def expansions(self) -> tuple[Expansion, ...]:
        """Every call that unpacks a section of the settings."""
        files = ["datasets/dataloader_entry.py", f"train_utils/{_TRAINERS[self.entry]}"]
        files += ["auto/auto_model.py"] if "AutoModel(" in self.main_text else []
        expansions = list(self._in_file(self.script, entire_file=True))
        for name in files:
            expansions += self._in_file(self.code.root / name, entire_file=False)
        return tuple(expansions)

    @cached_property
    def intervals_must_agree(self) -> bool:
        """Whether `save_checkpoint_interval` has to equal `validate_interval`."""
        names = {"self.save_checkpoint_interval", "self.validate_interval"}
        return any(
            names <= {ast.unparse(part) for part in ast.walk(node.test) if isinstance(part, ast.Attribute)}
            for node in self._nodes(self._trainer, ast.Assert)
        )

    @cached_property
    def unvalidated_save_raises(self) -> bool:
        """Whether saving at a step without validation looks up an accuracy that is not there."""
        return "self.val_acc_step_or_epoch[ckpt_name]\n" in self.trainer_text

    def default(self, key: str) -> Any:
        """What the trainer takes for a key of `train_conf` that is not set: `kwargs.get("max_epoch", 100)`."""
        for node in self._nodes(self._trainer, ast.Call):
            if len(node.args) == 2:
                name = node.args[0]
                if isinstance(name, ast.Constant) and name.value == key and ast.unparse(node.func) == "kwargs.get":
                    try:
                        return ast.literal_eval(node.args[1])
                    except ValueError:
                        return None
        return None

    def reads(self, name: str) -> bool:
        """Whether the entry point or its trainer names a setting."""
        return name in self.main_text or name in self.trainer_text

    @cached_property
    def fsdp_policy_undefined(self) -> bool:
        """Whether the function that FSDP calls for each module reads a name that is defined nowhere."""
        for function in self._nodes(self.script, ast.FunctionDef):
            if function.name != "custom_auto_wrap_policy":
                continue
            read = {part.id for part in ast.walk(function) if isinstance(part, ast.Name)}
            return "unwrapped_params" in read and "unwrapped_params" not in {
                argument.arg for argument in function.args.args
            }
        return False

    @cached_property
    def fsdp_saves(self) -> str:
        """What saving does under FSDP: `raises`, `nothing`, or empty where it saves."""
        for function in self._nodes(self._trainer, ast.FunctionDef):
            if function.name != "save_checkpoint":
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.If) and ast.unparse(node.test) == "self.use_fsdp":
                    if isinstance(node.body[0], ast.Raise):
                        return "raises"
                    if isinstance(node.body[0], ast.Pass):
                        return "nothing"
        return ""

    @property
    def _trainer(self) -> Path:
        return self.code.root / "train_utils" / _TRAINERS[self.entry]

    def _nodes(self, path: Path, kind: type[_Node]) -> Sequence[_Node]:
        file = self.code.file(path)
        return file.nodes(kind) if file else ()

    def _in_file(self, path: Path, *, entire_file: bool) -> Iterator[Expansion]:
        for node in self._nodes(path, ast.Call):
            # `model_class(…)` or `self.dataset_class(…)`
            built = getattr(node.func, "id", "") or getattr(node.func, "attr", "")
            if built not in _BUILT or (built == "Trainer" and not entire_file):
                continue
            required = tuple(
                name for keyword in node.keywords if keyword.arg is None for name in _required(keyword.value)
            )
            if required:
                yield Expansion(built=built, required=required)


def _required(node: ast.expr) -> Iterator[str]:
    """The sections that `**node` unpacks without a default."""
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("kwargs.get") and len(node.args) == 1:
        yield from (str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        yield str(node.slice.value)
