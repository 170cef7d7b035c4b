"""Source: the text and the syntax tree of a module, so that the pages are the same whatever versions are installed."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
from pathlib import Path

Definition = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign


class Source:
    """A module's text and syntax tree.

    Attributes:
        path: of its file; of a package that of its ``__init__.py``.
        text: all of it.
        tree: the same, parsed.
    """

    def __init__(self, module: str) -> None:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise LookupError(f"There is no module {module}.")
        self.path = Path(spec.origin)
        self.text = self.path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)

    @property
    def docstring(self) -> str:
        """Of the module; empty if there is none."""
        return ast.get_docstring(self.tree) or ""

    def of(self, node: ast.AST | None) -> str:
        """The text of a node, on one line."""
        return "" if node is None else " ".join((ast.get_source_segment(self.text, node) or "").split())

    def find(self, name: str) -> tuple[Definition, str]:
        """The definition of a name at the top level, and the docstring: its own, or the string after it."""
        for node, following in zip(self.tree.body, [*self.tree.body[1:], None], strict=True):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
                return node, ast.get_docstring(node) or ""
            if isinstance(node, ast.Assign | ast.AnnAssign) and name in map(self.of, _targets(node)):
                return node, string(following)
        raise LookupError(f"{name} is not defined where it is said to live, in {self.path}.")


source = functools.cache(Source)


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def string(node: ast.AST | None) -> str:
    """The string that a statement consists of, or nothing."""
    value = node.value if isinstance(node, ast.Expr) else None
    return inspect.cleandoc(value.value) if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
