"""The axes of a matrix as its tables state them: `[axes]`, `[[include]]`, `[[exclude]]`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import TypeVar

from harness.config.expansion import QUESTIONS, Exclusion, Product, Question
from harness.config.toml_tables import Table, did_you_mean
from harness.core.cells import Check, Depth, Device, Dimensions, Precision, Release
from harness.core.errors import HarnessError, ReleaseError
from harness.core.paths import UnusablePathError, path_of

KEYS = ("release", "variant", "vocab_size", "hidden_size", "depth", "check", "device", "precision")
AUTO = "auto"
WHEN, GPU = "when", "gpu"
"""`when = "gpu"`: a table that counts only where there is one."""
DEFAULTS = {"depth": [AUTO], "device": [AUTO], "precision": [str(Precision.FP32)]}
"""What neither `[axes]` nor an `[[include]]` need say."""

Resolve = Callable[[str], tuple[Release, ...]]
"""From what a matrix says of releases to the releases meant; raises ReleaseError when there are none."""

_LONGEST_SAID = 80

Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True, kw_only=True)
class VariantSource:
    """A variant of the matrix, and its file."""

    name: str
    """As in cell ids."""
    path: Path | None = None
    """The user's YAML file or model folder; None for one of the harness's own."""


@dataclass(frozen=True, kw_only=True)
class AxesReader:
    """Reads the tables of one matrix, and remembers which releases and variants they name."""

    folder: Path
    """The matrix's own; paths in it are relative to it."""
    resolve: Resolve
    own_variants: Sequence[str]
    folder_dimensions: Callable[[Path], Dimensions] | None = None
    """Of a model folder that is named as a variant; None where none may be."""
    releases: dict[str, Release] = field(default_factory=dict)
    """By label."""
    variants: dict[str, VariantSource] = field(default_factory=dict)
    """By name."""
    dimensions: dict[str, Dimensions] = field(default_factory=dict)
    """Of model folders, by name."""

    def product(self, table: Table, base: Table) -> Product | None:
        """The product that a table describes; keys that it leaves out are taken from `base`.

        None when an axis is missing or wrong, which is noted.
        """
        is_base = table is base
        table, base = _with_depth(table), _with_depth(base)
        table.only(KEYS if is_base else (*KEYS, WHEN))
        gpu_only = not is_base and _gpu_only(table)
        defaults = Table(values=DEFAULTS, place=table.place, problems=table.problems)

        def home(key: str) -> Table:
            return next((candidate for candidate in (table, base, defaults) if candidate.has(key)), table)

        releases, questions = self._releases(home("release")), _questions(home("check"))
        if questions is not None and all(check is Check.IMPORT for check, _ in questions):
            if not releases:
                return None
            return Product(place=table.place, releases=releases, questions=questions, gpu_only=gpu_only)
        variants = self._variants(home("variant"))
        sized: tuple[Dimensions, ...] | None = ()
        if variants is None or any(name not in self.dimensions for name in variants):
            vocab_sizes, hidden_sizes = home("vocab_size").sizes("vocab_size"), home("hidden_size").sizes("hidden_size")
            shapes = product(vocab_sizes, hidden_sizes) if vocab_sizes and hidden_sizes else ()
            sized = tuple(Dimensions(vocab_size=v, hidden_size=h) for v, h in shapes) or None
        depths = _words_or_auto(home("depth"), "depth", Depth)
        devices = _words_or_auto(home("device"), "device", Device)
        precisions = _words(home("precision"), "precision", Precision)
        if not (releases and questions and variants) or sized is None:
            return None
        if not (depths and devices and precisions):
            return None
        return Product(
            place=table.place,
            releases=releases,
            questions=questions,
            variants=variants,
            dimensions=sized,
            depths=depths,
            devices=devices,
            precisions=precisions,
            gpu_only=gpu_only,
            own_dimensions=self.dimensions,
        )

    def exclusion(self, table: Table) -> Exclusion:
        """What a table `[[exclude]]` drops; a key that is wrong is noted."""
        table = _with_depth(table)
        table.only(KEYS)
        if not table.values:
            table.problems.add(table.place, "gives no key, and would drop every cell")
        releases = self._releases(table) if table.has("release") else None
        return Exclusion(
            releases=None if releases is None else frozenset(release.label for release in releases),
            questions=_set(_questions(table)) if table.has("check") else None,
            variants=_set(self._variants(table)) if table.has("variant") else None,
            vocab_sizes=_set(table.sizes("vocab_size")) if table.has("vocab_size") else None,
            hidden_sizes=_set(table.sizes("hidden_size")) if table.has("hidden_size") else None,
            depths=_set(_words(table, "depth", Depth)) if table.has("depth") else None,
            devices=_set(_words(table, "device", Device)) if table.has("device") else None,
            precisions=_set(_words(table, "precision", Precision)) if table.has("precision") else None,
        )

    def _releases(self, table: Table) -> tuple[Release, ...] | None:
        releases: dict[str, Release] = {}
        wrong = False
        for spec in table.texts("release") or ():
            try:
                meant = self.resolve(str(self.folder / path_of(spec)) if _is_path(spec) else spec)
            except UnusablePathError as error:
                table.problems.add(table.at("release"), f'"{spec[:_LONGEST_SAID]}": {error}')
                wrong = True
            except ReleaseError as error:
                text = error.what if spec in error.what else f'"{spec}": {error.what}'
                table.problems.add(table.at("release"), f"{text} ({error.cause})" if error.cause else text)
                wrong = True
            else:
                releases.update((release.label, release) for release in meant)
        self.releases.update(releases)
        return None if wrong or not releases else tuple(releases.values())

    def _variants(self, table: Table) -> tuple[str, ...] | None:
        texts = table.texts("variant")
        sources = [self._variant(table, text) for text in texts or ()]
        return None if texts is None or None in sources else tuple(source.name for source in sources if source)

    def _variant(self, table: Table, text: str) -> VariantSource | None:
        source = VariantSource(name=text)
        problem = (
            "" if text in self.own_variants else f'"{text}" is no variant, {did_you_mean(text, self.own_variants)}'
        )
        try:
            path = self.folder / path_of(text)
        except UnusablePathError as error:
            table.problems.add(table.at("variant"), f'"{text[:_LONGEST_SAID]}": {error}')
            return None
        if text not in self.own_variants and path.is_dir():
            source = VariantSource(name=folder_variant_name(path.resolve(), self.own_variants), path=path)
            problem = self._about_folder(source, path)
        elif text.endswith((".yaml", ".yml")) or "/" in text:
            source = VariantSource(name=path.stem, path=path)
            problem = self._about_file(source, path)
        if problem:
            table.problems.add(table.at("variant"), problem)
            return None
        return self.variants.setdefault(source.name, source)

    def _about_folder(self, source: VariantSource, path: Path) -> str:
        """Its problem; of a model folder its dimensions are read, as it has no others."""
        if self.folder_dimensions is None:
            return f'"{path}": this command takes no model folder; name a variant, or its YAML file'
        if self.variants.get(source.name, source).path != path:
            return f'"{path}": there is another variant named "{source.name}"; give the folder another name'
        try:
            self.dimensions[source.name] = self.folder_dimensions(path)
        except HarnessError as error:
            return str(error)
        return ""

    def _about_file(self, source: VariantSource, path: Path) -> str:
        other = self.variants.get(source.name, source)
        if not path.is_file():
            return f'"{path}": no such file'
        if re.fullmatch(r"\w[\w.-]*", source.name, re.ASCII) is None:
            return f'"{path}": the file\'s name becomes part of cell ids; use letters, digits, "_", "-" and "."'
        if source.name in self.own_variants or other.path != path:
            return f'"{path}": there is another variant named "{source.name}"; give the file another name'
        return ""


def folder_variant_name(folder: Path, names_in_use: Sequence[str]) -> str:
    """A model folder's name, as part of cell ids; the harness's own variants keep theirs."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip("-._") or "model"
    return f"my-{name}" if name in names_in_use else name


_EARLIER = {"slim": Depth.REDUCED.value, "published": Depth.FULL.value}


def _with_depth(table: Table) -> Table:
    """The table with the axis that earlier matrices call `scale` under its name, and the depths under theirs."""
    if not table.has("scale") or table.has("depth"):
        return table
    values = {("depth" if key == "scale" else key): value for key, value in table.values.items()}
    if isinstance(values["depth"], list):
        values["depth"] = [_EARLIER.get(word, word) if isinstance(word, str) else word for word in values["depth"]]
    return replace(table, values=values)


def _gpu_only(table: Table) -> bool:
    condition = table.values.get(WHEN)
    if condition not in (None, GPU):
        table.problems.add(table.at(WHEN), f'expected "{GPU}", or nothing, found {condition!r}')
    return condition == GPU


def _is_path(spec: str) -> bool:
    return "/" in spec or spec.startswith(("~", ".")) or spec.endswith((".whl", ".tar.gz", ".zip"))


def _questions(table: Table) -> tuple[Question, ...] | None:
    words = table.texts("check")
    known = _legal(table, "check", words or (), tuple(QUESTIONS))
    return tuple(dict.fromkeys(question for word in words for question in QUESTIONS[word])) if words and known else None


def _words(table: Table, key: str, kind: type[Word]) -> tuple[Word, ...] | None:
    words = table.texts(key)
    known = _legal(table, key, words or (), tuple(kind))
    return tuple(kind(word) for word in words) if words and known else None


def _words_or_auto(table: Table, key: str, kind: type[Word]) -> tuple[Word | None, ...] | None:
    words = table.texts(key)
    known = _legal(table, key, words or (), (*kind, AUTO))
    return tuple(None if word == AUTO else kind(word) for word in words) if words and known else None


def _legal(table: Table, key: str, words: Sequence[str], legal: Sequence[str]) -> bool:
    wrong = [word for word in words if word not in legal]
    for word in wrong:
        table.problems.add(table.at(key), f'"{word}" is no {key}, {did_you_mean(word, legal)}')
    return not wrong


Item = TypeVar("Item")


def _set(items: tuple[Item, ...] | None) -> frozenset[Item] | None:
    return None if items is None else frozenset(items)
