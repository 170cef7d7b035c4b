"""`import billhook` is instant: names come in when they are first used, and the two lists of them agree."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import billhook

SOURCE = Path(billhook.__file__).read_text(encoding="utf-8")


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_billhook_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "datasets", "numpy", "safetensors", "cattrs", "pluggy")
    assert run(f"import sys, billhook; print([name for name in {heavy!r} if name in sys.modules])") == "[]"


def test_importing_the_hooks_or_the_errors_loads_no_model_library() -> None:
    code = "import sys; from billhook import hookimpl, BillhookError; print('torch' in sys.modules)"
    assert run(code) == "False"


@pytest.mark.parametrize("name", billhook._HOME)
def test_every_public_name_is_where_it_is_said_to_be(name: str) -> None:
    found = getattr(billhook, name)
    home = f"billhook.{billhook._HOME[name]}"
    assert getattr(sys.modules[home], name) is found
    made_in = getattr(found, "__module__", home)
    is_alias = made_in in ("builtins", "collections.abc", "types", "typing")
    assert made_in == home or is_alias or (name == "hookimpl" and made_in.startswith("pluggy."))


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    (block,) = (
        node
        for node in ast.parse(SOURCE).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    seen = {
        alias.asname: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: (f"billhook.{home}", name) for name, home in billhook._HOME.items()}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'billhook' has no attribute 'Prunner'"):
        _ = billhook.Prunner


def test_every_public_name_is_listed() -> None:
    assert set(dir(billhook)) == {*billhook._HOME, "__version__"}
