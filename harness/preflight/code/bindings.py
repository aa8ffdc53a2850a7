"""The top level of a module: what each name is bound to."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Bindings:
    """Definitions, assignments and imports of a module, by name."""

    definitions: dict[str, ast.ClassDef | ast.FunctionDef] = field(default_factory=dict)
    assigned: dict[str, ast.expr] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    """Dotted: `torch.optim`, `funasr.train_utils.trainer.Trainer`."""

    @classmethod
    def of(cls, body: Iterable[ast.stmt], package: str) -> Bindings:
        """Of a module's statements; relative imports start in the package."""
        bindings = cls()
        bindings._collect(body, package)
        return bindings

    def _collect(self, body: Iterable[ast.stmt], package: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                # A name that is defined twice keeps its later definition, as in Python.
                self.definitions[node.name] = node
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.split(".")[0]
                    self.imported[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom):
                start = _start(node, package)
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = f"{start}.{alias.name}"
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        self.assigned[target.id] = node.value
            elif isinstance(node, ast.If | ast.Try | ast.With):
                self._collect(node.body, package)
                for handler in getattr(node, "handlers", ()):
                    self._collect(handler.body, package)
                self._collect(getattr(node, "orelse", ()), package)


def _start(node: ast.ImportFrom, package: str) -> str:
    above = package.split(".")
    base = ".".join(above[: len(above) - node.level + 1]) if node.level else ""
    return ".".join(part for part in (base, node.module or "") if part)
