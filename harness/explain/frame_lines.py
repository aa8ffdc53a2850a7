"""One frame of a traceback in the forms in which Python, IPython and Jupyter print it, and where its file is."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PYTHON = re.compile(r'\s*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>\S.*))?')
_NOTEBOOK = re.compile(r"\s*File (?P<file>[^\s\"].*?\.py):(?P<line>\d+)(?:, in (?P<function>[\w.<>]+)\(.*)?$")
"""IPython since 8: `File ~/x/model.py:12, in Model.forward(self, x)`."""
_OLD_NOTEBOOK = re.compile(
    r"(?P<file>[~/.\w][^\s:]*\.py|<ipython-input-[^>]*>|[A-Za-z]:\\\S+\.py) in (?P<function>[\w.<>]+)\(?.*$"
)
"""IPython up to 7: `~/x/model.py in forward(self, x)`; the line is in the arrow below."""
_CELL = re.compile(r"\s*(?:Cell )?In ?\[\d+\](?:, line (?P<line>\d+)|.*$)")
ARROW = re.compile(r"\s*-{2,}>\s*(?P<line>\d+)(?P<code>\s.*)?$")
"""The line that was running, in a notebook."""
_MARKERS = re.compile(r"\s*[\^~]+[\s\^~]*$")
_REPEATED = re.compile(r"\s*\[Previous line repeated \d+ more times?\]")
_NUMBERED = re.compile(r"\s*\d+(?:\s.*)?$")

_LIBRARY = re.compile(r".*(?:^|/)lib/python3\.\d+/", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class FrameLine:
    """The head of a frame."""

    file: str
    """As `place_of` gives it."""
    line: int
    """0 where the form says it further below."""
    function: str


def read_frame(text: str) -> FrameLine | None:
    """The frame whose head a line is; None for any other line."""
    if match := _PYTHON.match(text) or _NOTEBOOK.match(text):
        function = (match["function"] or "<module>").strip()
        return FrameLine(file=place_of(match["file"]), line=_number(match["line"]), function=_bare(function))
    if match := _CELL.match(text):
        return FrameLine(file="<notebook>", line=_number(match["line"]), function="<module>")
    if match := _OLD_NOTEBOOK.match(text):
        return FrameLine(file=place_of(match["file"]), line=0, function=_bare(match["function"]))
    return None


def is_decoration(text: str) -> bool:
    """Whether a line within a traceback is neither code nor frame: markers below the code, repeated lines."""
    return bool(_MARKERS.match(text) or _REPEATED.match(text))


def is_numbered_code(text: str) -> bool:
    """Whether a line is code around a notebook's arrow: its number and its text."""
    return bool(_NUMBERED.match(text))


def place_of(path: str) -> str:
    """A file without what is of the user's machine: `funasr/…`, `torch/…`, or its bare name."""
    text = path.strip().replace("\\", "/")
    if text.startswith("<"):
        return "<notebook>" if "ipython-input" in text else text
    # A checkout may be in a folder of the package's name: the last one is the package.
    for folder in ("site-packages/", "dist-packages/"):
        _, separator, below_folder = text.rpartition(f"/{folder}")
        if separator:
            return below_folder
    split_at_package = f"/{text}".rpartition("/funasr/")
    if split_at_package[1]:
        return f"funasr/{split_at_package[2]}"
    library = _LIBRARY.match(text)
    return text[library.end() :] if library else text.rpartition("/")[2]


def _bare(function: str) -> str:
    """`Model.forward(self)` as Python's own tracebacks have it: `forward`."""
    name = function.partition("(")[0].strip()
    return name if name.startswith("<") else name.rpartition(".")[2] or name


def _number(text: str | None) -> int:
    return int(text) if text and len(text) < 9 else 0
