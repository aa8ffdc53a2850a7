"""Whether the code that a known issue blames runs in a cell.

Code of the trainers, data sets, samplers and tokenizers runs whatever the architecture is; the checks of the issue say
where. Code of a model runs where one of these shows it:

1. a traceback or a finding of the cell goes through that file;
2. the release's own model has the class among its modules' classes and their bases (`evidence["code"]`, which
   `construct` and `finetune` record);
3. where that was not recorded: the variant's config names the class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Self

from harness.core.cells import Cell, Entry, Outcome

OF_MODELS = ("funasr/models/", "funasr/losses/", "funasr/frontends/")
"""Whether code below these folders runs depends on the architecture."""

ENTRIES = {
    "funasr/bin/train.py": Entry.TRAIN,
    "funasr/train_utils/trainer.py": Entry.TRAIN,
    "funasr/bin/train_ds.py": Entry.TRAIN_DS,
    "funasr/train_utils/trainer_ds.py": Entry.TRAIN_DS,
}
"""Files that run with one of the trainers only."""

_PLACE = re.compile(r"(?P<file>funasr/[\w./-]+\.py)(?::(?P<name>\w+(?:\.\w+)*))?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class CodePlace:
    """A file of FunASR's, or a class or function in it."""

    file: str
    name: str = ""
    """`Class`, `function` or `Class.method`; empty for the whole file."""

    def __str__(self) -> str:
        return f"{self.file}:{self.name}" if self.name else self.file

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote.

        Raises:
            ValueError: `text` names no code of FunASR's, or code of a model without its class.
        """
        match = _PLACE.fullmatch(text)
        if match is None or ".." in text:
            raise ValueError("expected a file of FunASR's and a name in it, such as funasr/models/ctc/ctc.py:CTC")
        place = cls(file=match["file"], name=match["name"] or "")
        if place.of_a_model and not place.class_name:
            raise ValueError("name the class: whether a model's code runs is known by its classes")
        return place

    @property
    def of_a_model(self) -> bool:
        """Whether it depends on the architecture that this code runs."""
        return self.file.startswith(OF_MODELS)

    @property
    def class_name(self) -> str:
        """The class in question; empty where none is named."""
        first = self.name.partition(".")[0]
        return first if first[:1].isupper() else ""

    @property
    def entry(self) -> Entry | None:
        """The one entry point that runs this file; None where both do, or it does not matter."""
        return ENTRIES.get(self.file)


@dataclass(frozen=True, kw_only=True)
class CodeThatRan:
    """What is known about the code that runs in a cell."""

    entry: Entry | None
    whole: bool
    """Whether all of the release's modules are gone through."""
    named: frozenset[str]
    """Names of classes that the variant's config names, in lower case; none for a variant of the user's."""
    files: frozenset[str] = frozenset()
    """Files that a traceback or a finding goes through."""
    classes: frozenset[str] = frozenset()
    """What was recorded of the model that the release built; empty where nothing was."""

    @classmethod
    def expected(cls, cell: Cell) -> Self:
        """What a cell says before it has run."""
        return cls(entry=cell.entry, whole=cell.variant is None, named=_named_by(cell.variant))

    @classmethod
    def of(cls, outcome: Outcome, recorded: Iterable[str] = ()) -> Self:
        """What an outcome shows; `recorded` is what other cells of the same release and variant recorded."""
        files = {frame.file for frame in outcome.failure.frames} if outcome.failure else set()
        if outcome.failure:
            files.add(file_of(outcome.failure.signature.partition("@")[2]))
        files |= {file for finding in outcome.common.findings or () for file in files_in(finding.place)}
        return cls(
            entry=outcome.cell.entry,
            whole=outcome.cell.variant is None,
            named=_named_by(outcome.cell.variant),
            files=frozenset(files - {""}),
            classes=frozenset(recorded) | frozenset(outcome.common.code),
        )

    def has(self, place: CodePlace) -> bool:
        """Whether this code runs in the cell."""
        if place.entry is not None and self.entry not in (None, place.entry):
            return False
        if self.whole or not place.of_a_model or place.file in self.files:
            return True
        files_of_class = {
            class_place.partition(":")[0]
            for class_place in self.classes
            if class_place.partition(":")[2] == place.class_name
        }
        # Two modules may register one name: the class that was built decides, not its name.
        return place.file in files_of_class if files_of_class else place.class_name.lower() in self.named


def file_of(place: str) -> str:
    """The file of FunASR's that a place such as `funasr/bin/train.py:main` is in; empty for another kind of place."""
    file = place.partition(":")[0]
    return file if file.startswith("funasr/") and file.endswith(".py") else ""


def files_in(place: str) -> frozenset[str]:
    """Every file of FunASR's that a finding's place names: two modules may be at fault together."""
    return frozenset(match["file"] for match in _PLACE.finditer(place))


@cache
def _named_by(variant: str | None) -> frozenset[str]:
    """Classes that a variant's config names; `ctc_conf` without a `ctc` means the class of that name."""
    # Imported here: reading YAML takes longer than judging.
    from harness.variants.catalogue import available, load_variant

    if variant is None or variant not in available():
        return frozenset()
    settings = load_variant(variant)
    implied = {key.removesuffix("_conf") for key in settings.config if key.endswith("_conf")} - settings.config.keys()
    return frozenset(name.lower() for name in (*(name for _, name in settings.components), *implied))
