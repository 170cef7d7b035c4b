"""Built-in strategies and plugins stand in front of the counter: what they import, a stranger can import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import billhook
import billhook.errors
import billhook.testing

ROOT = Path(__file__).parents[2]
FILES = sorted(file for room in ("strategies", "plugins") for file in (ROOT / room).rglob("*.py"))

PUBLIC = {
    "billhook": {*billhook._HOME, "__version__"},
    "billhook.errors": {*vars(billhook.errors)},
    "billhook.testing": {*billhook.testing._HOME},
}
"""By module, the names that anybody may import."""


def imported(source: str) -> Iterator[tuple[str, str]]:
    """Every module and name of billhook that a file imports; an empty name for the module itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "billhook":
            yield from ((node.module or "", alias.name) for alias in node.names)
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "billhook")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_only_public_names_are_imported(file: Path) -> None:
    for module, name in imported(file.read_text(encoding="utf-8")):
        public = PUBLIC.get(module, set())
        assert name in public or (not name and public), f"{module} offers no {name} to strangers"


def test_a_name_of_a_module_behind_the_counter_is_seen() -> None:
    found = list(imported("import billhook.cuts\nfrom billhook.cuts.cut import Cut\nfrom billhook import Cut"))
    assert found == [("billhook.cuts", ""), ("billhook.cuts.cut", "Cut"), ("billhook", "Cut")]
