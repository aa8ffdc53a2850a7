"""Makes the index of the releases' code from the releases: `nox -s index`, after new releases were locked."""

from __future__ import annotations

import ast
import hashlib
import json
import lzma
import sys
import warnings
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.config.built_in import LOCK_NAME, shipped_file
from harness.explain.release_index import FILE, SCHEMA, line_hash
from harness.releases import default_cache, fetch, install_path, load_lock


def main() -> None:
    """Fetch every locked release and write the index."""
    cache = default_cache()
    locked = load_lock(shipped_file(LOCK_NAME))
    fetch(locked, cache, jobs=2)
    FILE.write_bytes(make_index({release.version: install_path(release, cache) for release in locked}))
    print(f"{FILE.name}: {len(locked)} releases, {FILE.stat().st_size:,} bytes")


def make_index(overlays: Mapping[str, Path]) -> bytes:
    """The index of some releases.

    Args:
        overlays: By version, oldest first, the folder that has `funasr/`.
    """
    releases: dict[tuple[str, bytes], int] = {}
    for place, overlay in enumerate(overlays.values()):
        for path in sorted((overlay / "funasr").rglob("*.py")):
            key = (path.relative_to(overlay).as_posix(), path.read_bytes())
            releases[key] = releases.get(key, 0) | 1 << place
    hashes, numbers = {0: 0}, array("I")
    files: dict[str, list[object]] = {}
    for file, data in sorted(releases, key=lambda key: (key[0], releases[key] & -releases[key])):
        lines, definitions = _read(data.decode("utf-8", "replace"))
        numbers.extend(hashes.setdefault(line, len(hashes)) for line in lines)
        files.setdefault(file, []).append([f"{releases[file, data]:x}", len(lines), definitions])
    table = array("I", hashes)
    if sys.byteorder == "big":
        table.byteswap()
        numbers.byteswap()
    head = {"schema": SCHEMA, "releases": list(overlays), "hashes": len(table), "files": files}
    text = json.dumps(head, separators=(",", ":")).encode()
    return lzma.compress(text + b"\n" + table.tobytes() + numbers.tobytes(), preset=9 | lzma.PRESET_EXTREME)


def _read(source: str) -> tuple[list[int], list[list[object]]]:
    """The hashes of a file's lines, and its definitions; no definitions where it cannot be parsed."""
    texts = source.split("\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree: ast.Module | None = ast.parse(source)
        except (SyntaxError, ValueError):
            tree = None
    without = set(_docstring_lines(tree)) if tree else set()
    lines = [
        0 if number in without or not text.strip() or text.lstrip().startswith("#") else line_hash(text)
        for number, text in enumerate(texts, start=1)
    ]
    return lines, list(_definitions(tree, "")) if tree else []


def _docstring_lines(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if docstring := _docstring(node):
            yield from range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1)


def _docstring(node: ast.AST) -> ast.Expr | None:
    body: Sequence[ast.AST] = getattr(node, "body", None) or ()
    first = body[0] if isinstance(body, list) else None
    holds = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return first if holds and isinstance(first, ast.Expr) else None


def _definitions(node: ast.AST, within: str) -> Iterator[list[object]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{within}.{child.name}" if within else child.name
            first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
            yield [name, first, child.end_lineno or first, _code_hash(child)]
            yield from _definitions(child, name)
        else:
            yield from _definitions(child, within)


def _code_hash(node: ast.AST) -> int:
    """Of a definition's syntax tree: layout, comments and docstrings do not count."""
    text = ast.dump(_WithoutDocstrings().visit(ast.parse(ast.unparse(node))))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=4).digest(), "little")


class _WithoutDocstrings(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if _docstring(node) and hasattr(node, "body"):
            node.body = node.body[1:] or [ast.Pass()]
        return node


if __name__ == "__main__":
    main()
