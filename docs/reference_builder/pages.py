"""Which pages the reference has: one a package of the framework, and one a role of the built-in strategies."""

from __future__ import annotations

import ast
import functools
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from docs.reference_builder.entry import Entry
from docs.reference_builder.page import Page
from docs.reference_builder.prose import filled, inline, markdown
from docs.reference_builder.source import source

import billhook
import billhook.testing
from billhook.plugins.registry import default_registry
from billhook.roles.role import ROLES, Role

ROOT = Path(__file__).parents[2]

INTRODUCTION = """# API reference

Made from the docstrings by `make docs`; do not edit. Shapes of tensors are in brackets. Layer
numbers are those of the original model, spans are half-open. Every public name has its entry on one
of these pages, and no other name is public. Hooks have [a page of their own](../hooks.md).

## The framework

A page a package, ordered as [the floors](../design.md#2-rooms) are, the top one first: a package
knows only what stands below it, and most readers need the first pages only. All these names are
imported from `billhook` itself, but for the errors (`billhook.errors`) and the test kit
(`billhook.testing`).
"""

STRATEGIES = """## The built-in strategies

Asked for by name, or imported from where their entries say.
[Built-in strategies](../strategies.md) has formulas, options and sources.
"""


def pages() -> list[Page]:
    """All of them but the index, in their order."""
    return [*_of_framework(), *map(_of_role, ROLES)]


def texts() -> dict[str, str]:
    """By file name, what each page holds; the index among them."""
    found = pages()
    links: dict[str, str] = {}
    for page in reversed(found):  # a name of the framework comes before that of a strategy
        links |= page.links()
    return {"index.md": _index(found), **{page.file: page.text(links) for page in found}}


def _index(found: list[Page]) -> str:
    roles = [page for page in found if page.name in map(_plural, ROLES)]
    framework = [page for page in found if page not in roles]
    return "\n".join([INTRODUCTION, _table(framework), STRATEGIES, _table(roles)])


def _table(found: Iterable[Page]) -> str:
    rows = [
        f"| [{page.title}]({page.file}) | {page.purpose} | "
        f"{', '.join(f'[`{entry.name}`]({page.file}#{entry.anchor})' for entry in page.entries)} |\n"
        for page in found
    ]
    return "".join(["| page | what it is for | names |\n", "|---|---|---|\n", *rows])


def _of_framework() -> list[Page]:
    """A page for every package with public names, the top floor first."""
    names: dict[str, dict[str, str]] = {}
    for name, home in billhook._HOME.items():
        if home != "errors":  # of which all are public
            names.setdefault(home.partition(".")[0], {})[name] = f"billhook.{home}"
    names["errors"] = dict.fromkeys(_errors(), "billhook.errors")
    names["testing"] = {name: f"billhook.testing.{home}" for name, home in billhook.testing._HOME.items()}
    order = _floors()
    if homeless := names.keys() - set(order):
        raise LookupError(f"These packages stand on no floor in pyproject.toml: {', '.join(sorted(homeless))}.")
    return [_of_package(package, names[package]) for package in order if package in names]


def _of_package(package: str, names: Mapping[str, str]) -> Page:
    docstring = source(f"billhook.{package}").docstring
    inside = {name: f"#{name.lower()}" for name in names}
    imported = f"billhook.{package}" if package in ("errors", "testing") else "billhook"
    entries = _sorted(Entry(name=name, module=module) for name, module in names.items())
    shown = ", ".join(f"[`{entry.name}`](#{entry.anchor})" for entry in entries)
    return Page(
        name=package,
        title=f"`billhook.{package}`",
        purpose=inline(_first_paragraph(docstring), {}),
        introduction=f"{markdown(docstring, inside)}\n\n{filled(f'Imported from `{imported}`: {shown}.')}",
        entries=entries,
    )


def _of_role(role: Role) -> Page:
    """A page of classes; the line below each heading says by which names one can be asked for."""
    classes: dict[type[Any], list[str]] = {}
    for qualified in default_registry().qualified_names(role):
        distribution, _, short = qualified.partition(":")
        if distribution == "billhook":
            factory = default_registry()._offers[role][short][distribution]
            made = factory.func if isinstance(factory, functools.partial) else factory
            classes.setdefault(cast("type[Any]", made), []).append(f"`{short}`")
    plural = _plural(role)
    return Page(
        name=plural,
        title=f"Built-in {plural}",
        purpose=inline(_first_paragraph(source(ROLES[role].base.__module__).find(role.capitalize())[1]), {}),
        introduction=filled(
            f"By class. Formulas, options and sources are [here](../strategies.md#{plural}); the contract is that of "
            f"[`{role.capitalize()}`](roles.md#{role}), and [one of your own](../writing-{_article(role)}-{role}.md) "
            f"is a file."
        ),
        entries=_sorted(
            Entry(
                name=cls.__name__,
                module=cls.__module__,
                remark=f"The {role} {', '.join(shorts)}; in `{cls.__module__}`.",
            )
            for cls, shorts in classes.items()
        ),
    )


def _errors() -> list[str]:
    return [node.name for node in source("billhook.errors").tree.body if isinstance(node, ast.ClassDef)]


def _floors() -> list[str]:
    """The packages of the framework from the top floor down, as the contract in ``pyproject.toml`` has them."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in declared["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers" and all(layer.startswith("billhook.") for layer in contract["layers"]):
            return [name.strip().partition(".")[2] for layer in contract["layers"] for name in layer.split("|")]
    raise LookupError("pyproject.toml has no contract of layers for the packages of billhook.")


def _sorted(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.name.lower()))


def _first_paragraph(docstring: str) -> str:
    return " ".join(docstring.partition("\n\n")[0].split())


def _plural(role: str) -> str:
    return f"{role}s"


def _article(role: str) -> str:
    return "an" if role[0] in "aeiou" else "a"
