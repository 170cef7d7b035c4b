"""What a public signature speaks of is public itself: nobody has to import from a module to annotate his own code."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import billhook

SHOWN = ("__init__", "__call__", "__getitem__", "__iter__", "__add__")
"""Methods with a leading underscore that readers of the reference see."""

Definition = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign


class Module:
    """The syntax tree of a module of billhook, and where the names in it are from."""

    def __init__(self, name: str) -> None:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        self.definitions: dict[str, Definition] = {}
        for node in tree.body:
            if isinstance(node, Definition):
                self.definitions |= dict.fromkeys(_defined(node), node)
        self.homes = {target: (name, target) for target in self.definitions}
        for within in ast.walk(tree):
            if isinstance(within, ast.ImportFrom) and within.module is not None:
                self.homes |= {alias.asname or alias.name: (within.module, alias.name) for alias in within.names}


module = functools.cache(Module)


def _defined(node: Definition) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def types_in(node: Definition) -> Iterator[ast.expr]:
    """All that says a type in what users see of a definition."""
    if isinstance(node, ast.FunctionDef):
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        yield from (each.annotation for each in every if each is not None and each.annotation is not None)
        if node.returns is not None:
            yield node.returns
    elif isinstance(node, ast.ClassDef):
        for part in node.body:
            if isinstance(part, ast.AnnAssign) and not _defined(part)[0].startswith("_"):
                yield part.annotation
            if isinstance(part, ast.FunctionDef) and (not part.name.startswith("_") or part.name in SHOWN):
                yield from types_in(part)
    elif isinstance(node, ast.AnnAssign):
        yield node.annotation
    elif isinstance(node.value, ast.Subscript | ast.BinOp):
        yield node.value  # an alias, such as tuple[int, Branch] or A | B


def names_in(annotation: ast.expr) -> Iterator[str]:
    """Every name, also within strings; what a Literal holds are no names."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Literal"):
        return
    if isinstance(annotation, ast.Name):
        yield annotation.id
    elif isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        yield from names_in(ast.parse(annotation.value, mode="eval").body)
    else:
        for child in ast.iter_child_nodes(annotation):
            if isinstance(child, ast.expr):
                yield from names_in(child)


def definitions_behind(name: str) -> Iterator[tuple[str, Definition]]:
    """A public name's definition, and those of the classes of billhook that it inherits from, with their modules."""
    home = f"billhook.{billhook._HOME[name]}"
    found = getattr(billhook, name)
    if not inspect.isclass(found):
        yield home, module(home).definitions[name]
        return
    for base in found.__mro__:
        if base.__module__.startswith("billhook.") and base.__name__ in module(base.__module__).definitions:
            yield base.__module__, module(base.__module__).definitions[base.__name__]


def spoken_of(name: str) -> set[tuple[str, str]]:
    """What a public name's signatures speak of and billhook defines: modules and names."""
    found = set()
    for home, definition in definitions_behind(name):
        for annotation in types_in(definition):
            homes = (module(home).homes.get(part, ("", "")) for part in names_in(annotation))
            ours = {(where, what) for where, what in homes if where.split(".")[0] == "billhook"}
            found |= {each for each in ours if not _needs_no_name(*each)}
    return found


def _needs_no_name(home: str, name: str) -> bool:
    """Whether it is a TypeVar, or a Literal: whoever has its values can do without its name."""
    definition = module(home).definitions.get(name)
    value = definition.value if isinstance(definition, ast.Assign) else None
    return (isinstance(value, ast.Call) and ast.unparse(value.func) == "TypeVar") or (
        isinstance(value, ast.Subscript) and ast.unparse(value.value) == "Literal"
    )


@pytest.mark.parametrize("name", sorted(billhook._HOME))
def test_what_a_public_signature_speaks_of_is_public(name: str) -> None:
    public = {(f"billhook.{home}", each) for each, home in billhook._HOME.items()}
    hidden = {(home, each) for home, each in spoken_of(name) - public if home != "billhook.errors"}
    assert not hidden, f"{name} speaks of {hidden}: make them public, in framework/billhook/__init__.py"


def test_it_looks_into_methods_fields_strings_and_bases() -> None:
    assert ("billhook.cuts.cut", "Cut") in spoken_of("CutReport")  # a field
    assert ("billhook.roles.estimator", "Estimator") in spoken_of("Recipe")
    assert ("billhook.model.view", "ModelView") in spoken_of("KeepHeads")  # a method, of a private base
    assert ("billhook.roles.merger", "Merger") in spoken_of("Strategy")  # an alias
    assert ("billhook.model.branch", "Place") in spoken_of("DropBranch")  # a property


def test_a_star_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from billhook import *", names)
    assert billhook._HOME.keys() <= names.keys()
