"""Libraries that the training would import and the environment has not: by metadata, nothing is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from harness.core.cells import Severity
from harness.preflight.code.release_code import Definition, ReleaseCode
from harness.preflight.code.trainer_code import TrainerCode
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.inputs import Inputs

_DISTRIBUTIONS = {
    "sentencepiece": "sentencepiece",
    "tensorboardX": "tensorboardX",
    "transformers": "transformers",
    "whisper": "openai-whisper",
    "tiktoken": "tiktoken",
    "peft": "peft",
    "wandb": "wandb",
    "hydra": "hydra-core",
    "omegaconf": "omegaconf",
    "jieba": "jieba",
    "librosa": "librosa",
    "soundfile": "soundfile",
    "kaldiio": "kaldiio",
    "torchaudio": "torchaudio",
    "editdistance": "editdistance",
    "scipy": "scipy",
}
"""By module; a module that is not here is not judged."""

_BUILT = ("model", "tokenizer", "frontend")


def missing_libraries(inputs: Inputs, trainer: TrainerCode) -> Iterator[PreflightFinding]:
    """What the trainer, the model, the tokenizer and the frontend import, without a fallback, and is not installed.

    `import funasr` passes over a model's module that cannot be imported: the trainer then knows no such model.
    """
    reported: set[str] = set()
    imports = [
        (module, f"funasr/bin/{trainer.entry}.py", Place()) for module in _unguarded(trainer.code, trainer.script)
    ]
    for key in _BUILT:
        # The command's `model` is the folder.
        settings = inputs.config if key == "model" else inputs.settings
        name = settings.get(key)
        definition = trainer.code.definition(f"{key}_classes", name) if isinstance(name, str) else None
        if definition is not None:
            imports += [
                (module, f"{key} {name}", settings.place(key)) for module in _of_class(trainer.code, definition)
            ]
    if inputs.settings.get("train_conf.use_wandb") and "wandb.init" in trainer.trainer_text:
        imports.append(("wandb", "train_conf.use_wandb", inputs.settings.place("train_conf.use_wandb")))
    for module, who, place in imports:
        distribution = _DISTRIBUTIONS.get(module)
        if distribution is None or distribution in reported or has_library(inputs, distribution, module):
            continue
        reported.add(distribution)
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="library-missing",
            message=f"{who} imports `{module}`, which is not installed: the training does not start",
            place=place,
            evidence=(f"looked for in {inputs.environment.python}",),
            remedy=f"pip install {distribution}",
        )


def missing_for_the_model(inputs: Inputs) -> str:
    """The first distribution that the model's own code imports and the environment lacks; empty where it has all."""
    name = inputs.config.get("model")
    definition = inputs.code.definition("model_classes", name) if isinstance(name, str) else None
    modules = _of_class(inputs.code, definition) if definition is not None else ()
    needed = [(_DISTRIBUTIONS[module], module) for module in modules if module in _DISTRIBUTIONS]
    return next((distribution for distribution, module in needed if not has_library(inputs, distribution, module)), "")


def has_library(inputs: Inputs, distribution: str, module: str = "") -> bool:
    """Whether the environment has a distribution, or a bundle brought its module along."""
    installed = {_plain(name) for name in inputs.environment.libraries}
    brought = any((folder / (module or distribution)).exists() for folder in inputs.environment.extra_paths)
    return _plain(distribution) in installed or brought


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _of_class(code: ReleaseCode, definition: Definition) -> Iterator[str]:
    yield from _unguarded(code, definition.file)
    file = code.file(definition.file)
    for function in file.nodes(ast.FunctionDef) if file else ():
        if function.name == definition.name:
            yield from _imports(function.body)
    for _, node in code.lineage(definition)[:1]:
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                yield from _imports(inner.body)


def _unguarded(code: ReleaseCode, path: Path) -> Iterator[str]:
    tree = code.tree(path)
    return _imports(tree.body) if tree else iter(())


def _imports(statements: list[ast.stmt]) -> Iterator[str]:
    """First parts of the modules that these statements import themselves: not within `try` or `if`."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
