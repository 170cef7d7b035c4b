"""Who writes files at all: the list is short, so that each can be looked at."""

from __future__ import annotations

import ast
from pathlib import Path

import billhook
import billhook_adapters
import billhook_strategies

WRITERS = {
    "activations/activation_cache.py": "its own temporary folder",
    "cli/heatmap.py": "into memory; the file is written by write_whole",
    "heterogeneous/modeling_billhook.py": "where transformers is told to save",
    "plugins/new_plugin.py": "a draft, which is renamed",
    "results/checkpoint.py": "a draft, which is renamed",
}
"""Beside the room ``files``, and why they may."""

METHODS = ("write_text", "write_bytes", "savefig", "save_file", "save_pretrained", "save_model", "tofile", "to_csv")


def writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in METHODS:
        return True
    if name not in ("open", "fdopen"):
        return False
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    modes = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
    return any(set(mode) <= set("rwaxbt+U") and not {*mode}.isdisjoint("wax+") for mode in modes)


def test_files_are_written_whole_or_by_those_who_say_why() -> None:
    found = set()
    for package in (billhook, billhook_strategies, billhook_adapters):
        (root,) = map(Path, package.__path__)
        for file in root.rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            if any(isinstance(node, ast.Call) and writes(node) for node in ast.walk(tree)):
                found.add(file.relative_to(root).as_posix())
    assert {file for file in found if not file.startswith(("files/", "testing/"))} == set(WRITERS)
