"""Lists in the documentation that claim to be complete.

Between ``<!--all-KIND-->`` and ``<!--end-->`` stands all there is of a kind, and nothing else.
"""

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
from docs.build_families import Refusal, capabilities

from billhook import Calibration, Repair, SelfGenerated, default_registry
from billhook.cli import app
from billhook.data.self_generated import STAGE
from billhook.model import layer_lists
from billhook.model.branch_layout import BranchLayout
from billhook.model.declared_adapter import DeclaredAdapter
from billhook.plugins import hookspecs
from billhook.pruning.method import DEFAULT_RECIPE
from billhook.roles.role import Role
from billhook.roles.selector import Selector
from billhook_strategies.selectors.multi_pruner import PRESETS
from tests.built_in import strategies
from tests.families import by_name

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
SOURCES = [path for room in ("framework", "strategies") for path in (ROOT / room).rglob("*.py")]
MARKED = re.compile(r"<!--all-([\w-]+)-->(.*?)<!--end-->", re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
STRATEGIES = list(strategies())


@cache
def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def rows(block: str) -> list[list[str]]:
    """The cells of a table, without the lines that head it."""
    lines = [line for line in block.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def code(block: str) -> list[str]:
    """What stands as code: in the first column of a table, or anywhere."""
    return CODE.findall(" ".join(row[0] for row in rows(block)) or block)


def first_column(block: str) -> list[str]:
    return CODE.findall(" ".join(row[0] for row in rows(block)))


def commands(block: str) -> list[str]:
    return [name.removeprefix("billhook ") for name in code(block)]


def names(role: Role) -> list[str]:
    return [name for known, name, _ in STRATEGIES if known == role]


def searching() -> list[str]:
    """Selectors that search, but for ``sequence``, whose stages do."""
    return [
        name
        for _, name, strategy in STRATEGIES
        if isinstance(strategy, Selector) and strategy.needs_objective() and name != "sequence"
    ]


def model_types() -> list[str]:
    return [model_type for adapter in default_registry().adapters() for model_type in adapter.model_types]


def lifecycle_hooks() -> list[str]:
    found = [name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("billhook_")]
    return [name for name in found if not name.startswith("billhook_register_")]


def stages() -> set[str]:
    """What somebody reports the progress of: the first argument of ``progress(…)``."""
    calls = [
        call
        for path in SOURCES
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("progress") and call.args
    ]
    given = [call.args[0] for call in calls]
    return {str(stage.value) for stage in given if isinstance(stage, ast.Constant)} | {STAGE}


def packages() -> list[str]:
    return [path.parent.name for path in (ROOT / "framework/billhook").glob("*/__init__.py")]


Kind = tuple[Callable[[], Any], Callable[[str], list[str]]]

KINDS: dict[str, Kind] = {
    "selectors": (lambda: names("selector"), code),
    "estimators": (lambda: names("estimator"), code),
    "mergers": (lambda: names("merger"), code),
    "objectives": (lambda: names("objective"), code),
    "searching-selectors": (searching, code),
    "recipes": (lambda: [recipe.name for recipe in default_registry().recipes().values()], code),
    "commands": (lambda: [command.name for command in app.registered_commands], commands),
    "model-types": (model_types, first_column),
    "lifecycle-hooks": (lifecycle_hooks, code),
    "stages": (stages, code),
    "packages": (packages, code),
    "presets": (lambda: PRESETS, code),
}
"""What there is of each kind, and how a list of it is read."""

MUST_HAVE = {
    "README.md": ["selectors", "estimators", "mergers", "objectives", "recipes"],
    "docs/strategies.md": ["selectors", "estimators", "mergers", "objectives", "presets"],
    "docs/cli.md": ["commands", "recipes", "searching-selectors"],
    "docs/families.md": ["model-types"],
    "docs/hooks.md": ["stages"],
    "docs/design.md": ["packages", "lifecycle-hooks"],
}
"""By page, the lists that readers count on."""


def lists() -> Iterator[tuple[str, str, str]]:
    """Page, kind and text of every list that claims to be complete."""
    for path in PAGES:
        for kind, block in MARKED.findall(path.read_text(encoding="utf-8")):
            yield path.relative_to(ROOT).as_posix(), kind, block


@pytest.mark.parametrize(
    ("page", "kind", "block"), [pytest.param(*found, id=f"{found[0]}-{found[1]}") for found in lists()]
)
def test_a_list_that_claims_to_be_complete_is(page: str, kind: str, block: str) -> None:
    there_are, read = KINDS[kind]
    expected, said = sorted({*there_are()}), sorted(read(block))
    assert [name for name in expected if name not in said] == [], f"{page} lacks these {kind}."
    assert [name for name in said if name not in expected] == [], f"{page} names {kind} that there are not."
    assert len(said) == len(set(said)), f"{page} names some {kind} twice."


@pytest.mark.parametrize("page", MUST_HAVE)
def test_the_lists_that_readers_count_on_are_there(page: str) -> None:
    assert [kind for kind in MUST_HAVE[page] if kind not in dict(MARKED.findall(text(page)))] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_list_has_an_end(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert page.count("<!--all-") == len(MARKED.findall(page)) == page.count("<!--end-->")


@pytest.mark.parametrize("name", names("selector"))
def test_a_selector_is_described_under_the_heading_of_its_kind(name: str) -> None:
    kind = "In a row" if name == "sequence" else "Searching" if name in searching() else "One shot"
    of_role = text("docs/strategies.md").partition("\n## Selectors\n")[2].partition("\n## ")[0]
    of_kind = of_role.partition(f"\n### {kind}\n")[2].partition("\n### ")[0]
    assert f"#### `{name}`" in of_kind or f"| `{name}` |" in of_kind, (
        f"docs/strategies.md does not describe `{name}` under '### {kind}': give it a heading '#### `{name}`', or a "
        f"row in the table of short names."
    )


@by_name
def test_families_md_says_what_can_be_done(adapter: DeclaredAdapter) -> None:
    """The page is made by the newest transformers of the range; what can be done is the same with others."""
    page = text("docs/families.md")
    block = next(found for kind, found in MARKED.findall(page) if kind == "model-types")
    reasons = dict(re.findall(r"^(\d+)\. (.*(?:\n   .*)*)", page, re.MULTILINE))
    said = {CODE.findall(row[0])[0]: [reasons.get(cell, cell) for cell in row[1:]] for row in rows(block)}
    for model_type in adapter.model_types:
        cells = [
            cell.reason.rstrip(".") + "." if isinstance(cell, Refusal) else cell
            for cell in capabilities(adapter, model_type).values()
        ]
        assert [" ".join(cell.split()) for cell in said[model_type]] == cells


def test_the_readme_counts_the_families() -> None:
    served = re.findall(r"^(\d+) of the \d+ causal", text("docs/families.md"), re.MULTILINE)
    assert re.findall(r"(\d+) types of causal language models", text("README.md")) == served


@pytest.mark.parametrize(
    ("page", "cls"),
    [("docs/repair.md", Repair), ("docs/calibration.md", Calibration), ("docs/calibration.md", SelfGenerated)],
)
def test_a_table_of_options_has_all_with_their_defaults(page: str, cls: type[attrs.AttrsInstance]) -> None:
    said: dict[str, str] = {}
    for row in rows_of(page):
        said.setdefault(row[0].strip("`"), row[1].strip("`"))
    wrong = {f.name: f.default for f in attrs.fields(cls) if _meant(said.get(f.name, "missing")) != f.default}
    assert {name: default for name, default in wrong.items() if (default, said.get(name)) != (None, "all")} == {}


@pytest.mark.parametrize("cls", [BranchLayout, DeclaredAdapter])
def test_adapters_md_describes_every_field_of_a_layout_and_an_adapter(cls: type[attrs.AttrsInstance]) -> None:
    said = {name for row in rows_of("docs/adapters.md") for name in CODE.findall(row[0])}
    assert [field.name for field in attrs.fields(cls) if field.name not in said] == []


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("lists with one entry a layer", layer_lists.LISTS),
        ("lists of layer numbers", layer_lists.INDICES),
        ('"the first k layers"', layer_lists.THRESHOLDS),
        ('"every k-th layer"', layer_lists.PERIODS),
    ],
)
def test_adapters_md_names_the_config_attributes_that_follow(kind: str, attributes: Any) -> None:
    row = next(row for row in rows_of("docs/adapters.md") if row[0] == kind)
    assert sorted(CODE.findall(row[1])) == sorted(attributes)


@pytest.mark.parametrize("page", ["docs/strategies.md", "docs/cli.md"])
def test_what_is_called_the_default_is_what_the_default_recipe_has(page: str) -> None:
    recipe = default_registry().recipe(DEFAULT_RECIPE)
    said = {row[0]: CODE.findall(row[1])[:1] for row in reversed(rows_of(page)) if len(row) == 3}
    for role in ("selector", "estimator", "merger"):
        strategy = recipe.strategy(role)
        assert strategy is not None
        assert said[role] == [default_registry().spec(role, strategy).name.removeprefix("billhook:")], role


def test_every_page_is_in_the_index() -> None:
    index = text("docs/index.md")
    pages = [path.name for path in (ROOT / "docs").glob("*.md") if path.name != "index.md"]
    assert [page for page in [*pages, "reference/index.md"] if f"]({page}" not in index] == []


def rows_of(page: str) -> list[list[str]]:
    """The rows of all tables of a page, their heads among them."""
    return rows("| |\n| |\n" + "\n".join(line for line in text(page).splitlines() if line.startswith("|")))


def _meant(cell: str) -> object:
    try:
        return ast.literal_eval(cell)
    except (SyntaxError, ValueError):
        return cell
