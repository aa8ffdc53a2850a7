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


def frozen_parts(value: Any, taken: Spelling) -> tuple[list[str], str]:
    """The names that are compared with those of the parameters, or the exception that ends the training."""
    if taken is Spelling.SPLIT:
        names = value.split(",") if isinstance(value, str) else value
    elif taken is Spelling.EVALUATED and not isinstance(value, str):
        return [], "TypeError: eval() arg 1 must be a string"
    elif taken is Spelling.EVALUATED or (isinstance(value, str) and "," in value):
        try:
            names = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [], f"NameError or SyntaxError: `{value[:80]}` is evaluated as Python"
        if taken is Spelling.EVALUATED and not isinstance(names, str):
            return [], "TypeError: can only concatenate list, for a list is taken for one name"
    else:
        names = value
    if isinstance(names, str):
        return [names], ""
    if isinstance(names, list | tuple) and all(isinstance(one, str) for one in names):
        return list(names), ""
    return [], "TypeError: it holds something that is no name"


def frozen(inputs: Inputs, reading: Reading, entry: str) -> Iterator[PreflightFinding]:
    """Findings about `freeze_param`."""
    setting = inputs.settings.by_path.get(KEY)
    taken = spelling(inputs.install_dir, entry)
    if setting is None or setting.value is None or taken is Spelling.UNKNOWN:
        return
    names, error = frozen_parts(setting.value, taken)
    wanted = [one for one in re.split(r"[\s,\[\]'\"()]+", str(setting.value)) if one]
    if error:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="freeze-spelling",
            message=f"this release cannot take `{KEY}` as it is written: {error}",
            place=setting.place,
            evidence=(f"funasr/bin/{entry}.py: the value is {taken}", f"received: {str(setting.value)[:200]!r}"),
            remedy=_line(wanted, taken),
        )
        return
    parts = _attributes(inputs, reading)
    missing = [one for one in names if parts and one.split(".")[0] not in parts]
    if missing:
        near = [one for one in wanted if one.split(".")[0] in parts]
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="freeze-nothing",
            message=f"no parameter's name begins with {', '.join(repr(one) for one in missing[:5])}: "
            "it is trained like the rest",
            place=setting.place,
            evidence=(f"received: {str(setting.value)[:200]!r}", f"parts: {', '.join(sorted(parts))[:300]}"),
            remedy=_line(wanted if len(near) == len(wanted) else [], taken) or "name parts of the model",
        )


def _line(names: list[str], taken: Spelling) -> str:
    if not names:
        return ""
    if taken is Spelling.SPLIT:
        return f"write '++{KEY}=\"{','.join(names)}\"'"
    if taken is Spelling.EVALUATED_WITH_COMMA:
        return f"write '++{KEY}={names[0]}'" if len(names) == 1 else f"write '++{KEY}=[{','.join(names)}]'"
    more = "" if len(names) == 1 else f"; it takes one part only, {', '.join(names[1:])} cannot be frozen as well"
    return f'write "++{KEY}=\\"\'{names[0]}\'\\""{more}'


def _attributes(inputs: Inputs, reading: Reading) -> frozenset[str]:
    """The attributes that the model's class and its bases set: names of parameters begin with them."""
    source = Source(inputs.code)
    found: set[str] = set()
    for lookup in reading.lookups:
        if lookup.path == "model" and lookup.name:
            for one in source.components("model_classes", lookup.name):
                for owner in (one, *source.bases(one)):
                    found |= set(re.findall(r"self\.(\w+)\s*(?::[^=\n]+)?=[^=]", ast.unparse(owner.node)))
    return frozenset(found)
