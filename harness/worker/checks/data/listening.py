"""Hearing what a release says while it reads the data: log records, warnings and printed lines."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_OF_LEAVING_OUT = re.compile(
    r"\b(skip|dropp?(?!out)|discard|filter(ed|ing)|exceed|remov|ignor|exclud|truncat|too (long|short))", re.IGNORECASE
)


class _Collector(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.NOTSET)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            self._lines.extend(record.getMessage().splitlines())


@dataclass
class CapturedLogs:
    """What was said, line by line."""

    lines: list[str] = field(default_factory=list)

    def admits(self, names: Iterable[str]) -> bool:
        """Whether something was said of these utterances, or of leaving something out.

        Whole configurations, which some trainers print, are not counted.
        """
        wanted = tuple(names)
        return any(
            any(name in line for name in wanted) or _OF_LEAVING_OUT.search(line)
            for line in self.lines
            if not line.lstrip().startswith("{")
        )


@contextlib.contextmanager
def listening() -> Iterator[CapturedLogs]:
    """Hear everything that is said in the meantime by Python's own means."""
    heard, printed, root = CapturedLogs(), io.StringIO(), logging.getLogger()
    collector, level = _Collector(heard.lines), root.level
    root.addHandler(collector)
    root.setLevel(logging.INFO)
    try:
        with (
            warnings.catch_warnings(record=True) as warned,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            warnings.simplefilter("always")
            yield heard
    finally:
        root.removeHandler(collector)
        root.setLevel(level)
        heard.lines.extend(str(item.message) for item in warned)
        heard.lines.extend(printed.getvalue().splitlines())
