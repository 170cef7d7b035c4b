"""The docs police: whatever a plugin, a hook or a command is called, the documentation knows it too."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import pytest

from billhook import default_registry
from billhook.cli import app
from billhook.plugins import hookspecs
from billhook.plugins.new_plugin import TEMPLATES
from billhook.roles.role import ROLES, Role
from tests.built_in import strategies

ROOT = Path(__file__).parent.parent
WRITING = (ROOT / "docs").glob("writing-*.md")
REGISTRY = default_registry()
HOOKS: dict[str, Callable[..., object]] = {
    name: hook for name, hook in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("billhook_")
}


@cache
def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


@cache
def all_tests() -> str:
    """The source of all tests but those that go through the hooks as a list."""
    lists = {Path(__file__), ROOT / "tests/framework/test_hookspecs.py"}
    return "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py") if path not in lists)


def section(role: Role, name: str) -> str:
    """What docs/strategies.md says under the heading of a strategy, or nothing."""
    _, _, found = of_role(role).partition(f"# `{name}`\n")  # selectors stand one level down, below their kind
    return re.split(r"^##", found, flags=re.MULTILINE)[0]


def of_role(role: Role) -> str:
    """What docs/strategies.md says of a role."""
    return re.split(r"^## ", page("strategies.md").partition(f"\n## {role.capitalize()}s\n")[2], flags=re.MULTILINE)[0]


def options() -> Iterator[tuple[Role, str, str, object]]:
    """Role, name, option and default, once for each class."""
    for role, name, strategy in strategies():
        if REGISTRY.spec(role, strategy).name == f"billhook:{name}":
            cls: Any = type(strategy)  # an attrs class: all built-ins are
            for field in attrs.fields(cls):
                yield role, name, field.name, field.default


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented_with_all_its_arguments(name: str) -> None:
    signature = f"{name}({', '.join(inspect.signature(HOOKS[name]).parameters)})"
    assert f"### `{signature}`" in page("hooks.md"), f"docs/hooks.md lacks the heading ### `{signature}`."


HANDED = {
    "state": "PruningState", "flow": "Flow", "runner": "Runner", "walk": "Walk", "written": "Written",
    "dense": "ModelView", "view": "ModelView", "budget": "Budget", "site": "RepairSite", "linear_map": "LinearMap",
    "regression": "Regression TensorRegression", "moments": "Moments", "rows": "Rows", "predictions": "Predictions",
    "result": "PruneResult", "report": "CutReport SiteReport", "search": "Search", "adapter": "Adapter",
    "recipe": "Recipe",
}  # fmt: skip
"""What the pages for third parties call the objects that they are handed, and the classes that say what each has."""


@cache
def referred() -> dict[str, str]:
    """What the reference says of each public name."""
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/reference").glob("*.md"))
    sections = re.split(r"^## ", pages, flags=re.MULTILINE)[1:]
    return {name.strip(): text for name, _, text in (found.partition("\n") for found in sections)}


@pytest.mark.parametrize(
    "name", ["hooks.md", "plugins.md", "adapters.md", "testing-ideas.md", *sorted(p.name for p in WRITING)]
)
def test_what_third_parties_are_told_to_use_is_public_and_documented(name: str) -> None:
    used = re.findall(r"(?<![\w/\"])(?=(\w+)\.([a-z_]+)\b(?!\.(?:py|md|toml|json)))", page(name))
    missing = {
        f"{HANDED[handed]}.{attribute}"
        for handed, attribute in used
        if handed in HANDED
        and not re.search(rf"`{attribute}[`(:]", "".join(referred()[of] for of in HANDED[handed].split()))
    }
    assert not missing, f"docs/{name} uses what the reference does not have: {', '.join(sorted(missing))}."


@pytest.mark.parametrize("role", TEMPLATES)
def test_the_page_of_a_role_begins_with_its_template(role: str) -> None:
    article = "an" if role[0] in "eo" else "a"
    name = {"adapter": "adapters.md", "recipe": "cli.md"}.get(role, f"writing-{article}-{role}.md")
    assert re.search(rf"billhook new-plugin [\w-]+ --role {role}\b", page(name)), f"docs/{name} lacks the command."


def test_no_hook_is_documented_that_does_not_exist() -> None:
    unknown = sorted(set(re.findall(r"\bbillhook_[a-z_]*[a-z]", page("hooks.md"))) - {*HOOKS, "billhook_strategies"})
    assert not unknown, f"docs/hooks.md speaks of hooks that do not exist: {', '.join(unknown)}."


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_has_a_test(name: str) -> None:
    assert re.search(rf"\b{name}\b", all_tests()), f"No test under tests/ implements or mentions {name}."


@pytest.mark.parametrize(("role", "name"), [(role, name) for role, name, _ in strategies()])
def test_every_strategy_is_documented(role: Role, name: str) -> None:
    assert f"## `{name}`\n" in of_role(role) or f"| `{name}` |" in of_role(role), (
        f"docs/strategies.md does not describe the {role} `{name}` under '## {role.capitalize()}s': "
        f"give it a heading '### `{name}`' ('####' below the kind of a selector), or a row in the table of short names."
    )


@pytest.mark.parametrize("role", ROLES)
def test_no_strategy_is_documented_that_does_not_exist(role: Role) -> None:
    known = {name for known, name, _ in strategies() if known == role}
    assert [name for name in re.findall(r"^#+ `(.*)`$", of_role(role), re.MULTILINE) if name not in known] == []


@pytest.mark.parametrize(("role", "name", "option", "default"), list(options()))
def test_every_option_is_documented_with_its_default(role: Role, name: str, option: str, default: object) -> None:
    found = re.search(rf"^\| `{option}` \| ([^|]*?) \| .+ \|$", section(role, name), re.MULTILINE)
    where = f"docs/strategies.md, section ### `{name}` ({role}),"
    assert found, f"{where} lacks a row | `{option}` | default | meaning |."
    if default is not attrs.NOTHING:
        assert meant(found[1]) == default, f"{where} says {found[1]} for {option}, whose default is {default!r}."


def meant(cell: str) -> object:
    """The value that a table shows as code: a literal, or a bare word for a string."""
    try:
        return ast.literal_eval(cell.strip("`"))
    except (SyntaxError, ValueError):
        return cell.strip("`")


def command_names() -> list[str]:
    return [command.name or "" for command in app.registered_commands]


@pytest.mark.parametrize("name", command_names())
def test_every_command_is_documented(name: str) -> None:
    assert f"## billhook {name}\n" in page("cli.md"), f"docs/cli.md lacks the section ## billhook {name}."


def test_there_are_commands() -> None:
    assert {"prune", "analyze", "evaluate", "apply", "plugins"} <= set(command_names())
