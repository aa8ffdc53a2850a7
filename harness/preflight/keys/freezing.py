"""`freeze_param`: each release takes another spelling of which parts stay as they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.core.cells import Severity
from harness.preflight.findings import PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.keys.reading import Reading
from harness.preflight.keys.source import Source

KEY = "freeze_param"


class Spelling(StrEnum):
    """What the entry point does with the value."""

    EVALUATED = "evaluated"
    """`eval()` of whatever is given; a list in it is taken for one name."""
    EVALUATED_WITH_COMMA = "evaluated where it has a comma"
    SPLIT = "split at commas"
    UNKNOWN = "unknown"


def spelling(install_dir: Path, entry: str) -> Spelling:
    """How an entry point of a release takes `freeze_param`, from its code."""
    path = install_dir / "funasr" / "bin" / f"{entry}.py"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    asks = re.search(r'if "," in freeze_param', text) is not None
    if "freeze_param = eval(freeze_param)" in text:
        return Spelling.EVALUATED_WITH_COMMA if asks else Spelling.EVALUATED
    return Spelling.SPLIT if 'freeze_param.split(",")' in text else Spelling.UNKNOWN


def frozen_parts(value: Any, spelling_of_release: Spelling) -> tuple[list[str], str]:
    """The names that are compared with those of the parameters, or the exception that ends the training."""
    if spelling_of_release is Spelling.SPLIT:
        names = value.split(",") if isinstance(value, str) else value
    elif spelling_of_release is Spelling.EVALUATED and not isinstance(value, str):
        return [], "TypeError: eval() arg 1 must be a string"
    elif spelling_of_release is Spelling.EVALUATED or (isinstance(value, str) and "," in value):
        try:
            names = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [], f"NameError or SyntaxError: `{value[:80]}` is evaluated as Python"
        if spelling_of_release is Spelling.EVALUATED and not isinstance(names, str):
            return [], "TypeError: can only concatenate list, for a list is taken for one name"
    else:
        names = value
    if isinstance(names, str):
        return [names], ""
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return list(names), ""
    return [], "TypeError: it holds something that is no name"


def frozen(inputs: Inputs, reading: Reading, entry: str) -> Iterator[PreflightFinding]:
    """Findings about `freeze_param`."""
    setting = inputs.settings.by_path.get(KEY)
    spelling_of_release = spelling(inputs.install_dir, entry)
    if setting is None or setting.value is None or spelling_of_release is Spelling.UNKNOWN:
        return
    names, error = frozen_parts(setting.value, spelling_of_release)
    names_meant = [word for word in re.split(r"[\s,\[\]'\"()]+", str(setting.value)) if word]
    if error:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="freeze-spelling",
            message=f"this release cannot take `{KEY}` as it is written: {error}",
            place=setting.place,
            evidence=(
                f"funasr/bin/{entry}.py: the value is {spelling_of_release}",
                f"received: {str(setting.value)[:200]!r}",
            ),
            remedy=_line(names_meant, spelling_of_release),
        )
        return
    parts = _attributes(inputs, reading)
    missing = [name for name in names if parts and name.split(".")[0] not in parts]
    if missing:
        near = [name for name in names_meant if name.split(".")[0] in parts]
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="freeze-nothing",
            message=f"no parameter's name begins with {', '.join(repr(name) for name in missing[:5])}: "
            "it is trained like the rest",
            place=setting.place,
            evidence=(f"received: {str(setting.value)[:200]!r}", f"parts: {', '.join(sorted(parts))[:300]}"),
            remedy=_line(names_meant if len(near) == len(names_meant) else [], spelling_of_release)
            or "name parts of the model",
        )


def _line(names: list[str], spelling_of_release: Spelling) -> str:
    if not names:
        return ""
    if spelling_of_release is Spelling.SPLIT:
        return f"write '++{KEY}=\"{','.join(names)}\"'"
    if spelling_of_release is Spelling.EVALUATED_WITH_COMMA:
        return f"write '++{KEY}={names[0]}'" if len(names) == 1 else f"write '++{KEY}=[{','.join(names)}]'"
    more = "" if len(names) == 1 else f"; it takes one part only, {', '.join(names[1:])} cannot be frozen as well"
    return f'write "++{KEY}=\\"\'{names[0]}\'\\""{more}'


def _attributes(inputs: Inputs, reading: Reading) -> frozenset[str]:
    """The attributes that the model's class and its bases set: names of parameters begin with them."""
    source = Source(inputs.code)
    attributes: set[str] = set()
    for lookup in reading.lookups:
        if lookup.path == "model" and lookup.name:
            for definition in source.components("model_classes", lookup.name):
                for owner in (definition, *source.bases(definition)):
                    attributes |= set(re.findall(r"self\.(\w+)\s*(?::[^=\n]+)?=[^=]", ast.unparse(owner.node)))
    return frozenset(attributes)
