"""The variants that there are: the built-in ones by name, a user's by its path."""

from __future__ import annotations

import re
from pathlib import Path

from harness.config.toml_tables import did_you_mean
from harness.core.errors import VariantError
from harness.variants.reading import read
from harness.variants.variant import Variant

_FOLDER = Path(__file__).parent
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def available() -> tuple[str, ...]:
    """The names of the variants that the harness brings along."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_variant(name_or_path: str) -> Variant:
    """Read one of the harness' variants by its name, or the user's own by the path of its YAML file.

    Raises:
        VariantError: there is no such variant, or its file is wrong (with all that is).
    """
    if not _is_path(name_or_path):
        if name_or_path not in available():
            raise VariantError(
                f'there is no variant "{name_or_path}"; {did_you_mean(name_or_path, available())}',
                next_step=f"choose one of {', '.join(available())}, or give the path of a YAML file",
            )
        return read(_FOLDER / f"{name_or_path}.yaml", source=name_or_path)
    path = Path(name_or_path).absolute()
    if path.stem in available() and path.resolve().parent != _FOLDER.resolve():
        raise VariantError(
            f'{name_or_path} has the name of the harness\' own variant "{path.stem}"',
            cause="cells are told apart by their names alone",
            next_step="give the file another name",
        )
    if not _NAME.fullmatch(path.stem):
        raise VariantError(
            f'"{path.stem}" cannot be part of a cell\'s id',
            next_step="give the file a name of letters, digits, dots, dashes and underscores",
        )
    return read(path, source=name_or_path)


def _is_path(name_or_path: str) -> bool:
    return "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith((".yaml", ".yml"))
