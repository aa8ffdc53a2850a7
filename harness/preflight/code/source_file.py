"""A file of a release's code: text, syntax tree and what follows from it, made once for all files of the same content.

Neighbouring releases share most of their files, so that a hundred releases have some 1,500 different ones.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from harness.preflight.code.bindings import Bindings

_Node = TypeVar("_Node", bound=ast.AST)
MOST_BYTES = 4 << 20
"""A longer file is not parsed."""
MOST_KEPT = 400
"""Files of which text and tree are kept; some MB each."""

_REGISTERED = re.compile(
    r"^[ \t]*@tables\.register\(\s*['\"](?P<table>\w+)['\"]\s*(?:,\s*(?:key\s*=\s*)?(?P<key>[^)\s]+)\s*,?\s*)?\)",
    re.MULTILINE,
)
_DEFINED = re.compile(r"^[ \t]*(?:class|def)\s+(\w+)", re.MULTILINE)
_CONSTANT = re.compile(r"^(\w+)\s*=\s*['\"]([^'\"]+)['\"]\s*$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class SourceRegistration:
    """`@tables.register("encoder_classes", "SANMEncoder")` above a class or function."""

    table: str
    key: str
    defined: str
    """The class or function."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceFile:
    """The content of a file, whatever its path."""

    digest: str
    text: str
    _bindings: dict[str, Bindings] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def tree(self) -> ast.Module | None:
        """The parsed text; None where it is no Python, or too long."""
        if len(self.text) > MOST_BYTES:
            return None
        try:
            return ast.parse(self.text)
        except (SyntaxError, ValueError, RecursionError):
            return None

    def nodes(self, *kinds: type[_Node]) -> Sequence[_Node]:
        """All nodes of the tree of some kinds, in the order of `ast.walk`."""
        return [node for kind in kinds for node in self._by_kind.get(kind, ())]  # type: ignore[misc]

    @cached_property
    def _by_kind(self) -> dict[type[ast.AST], list[ast.AST]]:
        nodes: dict[type[ast.AST], list[ast.AST]] = {}
        for node in ast.walk(self.tree) if self.tree else ():
            nodes.setdefault(type(node), []).append(node)
        return nodes

    def bindings(self, package: str) -> Bindings | None:
        """What the names of the module are bound to.

        Args:
            package: In which relative imports start: `funasr.models.sanm`.
        """
        if self.tree is None:
            return None
        if package not in self._bindings:
            self._bindings[package] = Bindings.of(self.tree.body, package)
        return self._bindings[package]

    @cached_property
    def registrations(self) -> tuple[SourceRegistration, ...]:
        """What the file registers, in its order."""
        if "tables.register" not in self.text:
            return ()
        constants, registrations = dict(_CONSTANT.findall(self.text)), []
        for match in _REGISTERED.finditer(self.text):
            defined = _DEFINED.search(self.text, match.end())
            if defined is not None:
                key = match["key"]
                name = defined[1] if key is None else constants.get(key, key.strip("'\""))
                registrations.append(SourceRegistration(table=match["table"], key=name, defined=defined[1]))
        return tuple(registrations)


_cache: OrderedDict[str, SourceFile] = OrderedDict()


def source_file(path: Path, digest: str = "") -> SourceFile | None:
    """The file at a path; None where it cannot be read.

    Args:
        digest: Of its content, where that is known already: the file is then not read again.
    """
    if digest in _cache:
        _cache.move_to_end(digest)
        return _cache[digest]
    try:
        content = path.read_bytes()
    except OSError:
        return None
    own_digest = digest_of(content)
    if own_digest not in _cache:
        # As text files are read: whatever ends a line there is a newline here.
        text = content.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
        _cache[own_digest] = SourceFile(digest=own_digest, text=text)
        while len(_cache) > MOST_KEPT:
            _cache.popitem(last=False)
    return _cache[own_digest]


def digest_of(content: bytes) -> str:
    """By which files of the same content are known."""
    return hashlib.blake2b(content, digest_size=12).hexdigest()
