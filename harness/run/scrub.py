"""Outcomes are committed and compared: nothing of this machine's folders gets into them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.core.cells import Failure, Frame, Outcome

_PATH = r"[^\s\"'`<>()\[\]{}=:,;|]*"
_LIBRARIES = re.compile(rf"(?:/{_PATH})?/(?:site|dist)-packages/")
_PYTHON = re.compile(rf"(?:/{_PATH})?/lib/(python3\.\d+)/")
_EVERYWHERE = ("dev", "proc", "sys", "usr", "etc", "bin", "sbin", "lib", "lib64")
"""Folders that are the same on every machine, and reveal nothing."""
_ABSOLUTE = re.compile(
    rf"(?<![\w.<>~/:+-])/(?!(?:{'|'.join(_EVERYWHERE)})/)(?:[^\s/\"'`<>()\[\]{{}}=:,;|]+/)+([^\s/\"'`<>()\[\]{{}}=:,;|]*)"
)
_FILE_URL = re.compile(r"file://(?=/)")


@dataclass(frozen=True)
class Scrubber:
    """Replaces the folders of this machine in text; call it with any JSON value."""

    places: tuple[tuple[str, str], ...]
    """Folder and what stands for it; an empty string makes the paths below it relative."""

    @classmethod
    def of(cls, *, install_dirs: Iterable[Path], places: Mapping[str, str], workspace: Path) -> Scrubber:
        """A scrubber for a run: layouts of releases vanish, so that frames start at `funasr/`."""
        named = dict(places)
        named[str(workspace)] = "<workspace>"
        named[str(Path(__file__).parents[2])] = ""
        named.setdefault(str(Path.home()), "~")
        for install_dir in install_dirs:
            named[str(install_dir)] = ""
        for folder, word in list(named.items()):
            named.setdefault(str(Path(folder).resolve()), word)
        return cls(places=tuple(named.items()))

    @cached_property
    def _folders(self) -> tuple[re.Pattern[str], dict[str, str]]:
        words = {folder.rstrip("/"): word for folder, word in self.places if len(Path(folder).parts) > 1}
        longest_first = sorted(words, key=len, reverse=True)
        return re.compile(rf"({'|'.join(map(re.escape, longest_first)) or '(?!)'})(/|(?![\w-]|\.\w))"), words

    def text(self, text: str) -> str:
        """The text without folders of this machine, and without halves of characters, which no file can hold."""
        if not text.isascii():
            text = text.encode(errors="replace").decode()
        if "/" not in text:
            return text
        pattern, words = self._folders

        def name(match: re.Match[str]) -> str:
            word = words[match[1]]
            return f"{word}{match[2]}" if word else "" if match[2] else "."

        text = _PYTHON.sub(r"\1/", _LIBRARIES.sub("", _FILE_URL.sub("", text)))
        text = pattern.sub(name, text)
        return _ABSOLUTE.sub(r"<elsewhere>/\1", text)

    def __call__(self, value: Any) -> Any:
        """The same JSON value with every string scrubbed, keys too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self(item) for item in value]
        return value

    def outcome(self, outcome: Outcome) -> Outcome:
        """The outcome without folders of this machine."""
        return replace(
            outcome,
            reason=self.text(outcome.reason),
            failure=self.failure(outcome.failure) if outcome.failure else None,
            metrics=self(outcome.metrics),
            evidence=self(outcome.evidence),
        )

    def failure(self, failure: Failure) -> Failure:
        """The failure without folders of this machine."""
        return replace(
            failure,
            message=self.text(failure.message),
            frames=self.frames(failure.frames),
            signature=self.text(failure.signature),
        )

    def frames(self, frames: Iterable[Frame]) -> tuple[Frame, ...]:
        """The frames with paths relative to what they belong to."""
        return tuple(replace(frame, file=self.text(frame.file), code=self.text(frame.code)) for frame in frames)
