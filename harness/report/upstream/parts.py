"""Pieces that stand-alone scripts are put together from: text, run by nobody here."""

from __future__ import annotations

import pprint
from collections.abc import Mapping
from typing import Any

SHOWN = 10
"""What a script exits with when it shows its fault; 0 when it does not. Python itself exits with 1 and 2."""

PLACEHOLDER = "@{}@"

HEAD = '''\
"""@TITLE@

FunASR @RELEASE@ and torch are all that it needs.
Exit status: 10 when the fault shows, 0 when it does not, any other when the script itself could not be run.
"""
'''

FOOT = """

if __name__ == "__main__":
    print(f"FunASR {version('funasr')}, torch {torch.__version__}, Python {sys.version.split()[0]}")
    shown = main()
    print("the fault shows" if shown else "the fault does not show")
    sys.exit(10 if shown else 0)
"""

ADAPTED: Mapping[str, str] = {
    "cuda-calls-stay-on-cpu": """
# This release calls .cuda() whatever the device; on a GPU these two lines are not needed.
torch.Tensor.cuda = lambda self, *args, **kwargs: self
torch.nn.Module.cuda = lambda self, *args, **kwargs: self
""",
}
"""What a script has to do for itself where the cell made use of a compatibility shim."""


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its placeholders filled."""
    for name, value in values.items():
        template = template.replace(PLACEHOLDER.format(name), value)
    return template


def literal(value: Any, *, width: int = 110) -> str:
    """A value as Python spells it, in the order in which it was given."""
    return pprint.pformat(value, width=width, sort_dicts=False)


def adapted(names: tuple[str, ...]) -> str:
    """The lines for these shims."""
    return "".join(ADAPTED[name] for name in names if name in ADAPTED)


def docstring(text: str) -> str:
    """A title that can stand in a docstring."""
    return " ".join(text.replace("\\", "/").replace('"""', "'''").split())
