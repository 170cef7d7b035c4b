"""The API reference: a page a package, every public name on exactly one, and all as the docstrings give it."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from pathlib import Path

import pytest
from docs import build_reference
from docs.reference_builder.prose import WIDTH, filled, markdown

import billhook
import billhook.testing
from billhook import errors
from tests.built_in import strategies

FOLDER = Path(__file__).parent.parent / "docs/reference"


def headings(page: str) -> list[str]:
    return re.findall(r"^## (.*)$", (FOLDER / page).read_text(encoding="utf-8"), re.MULTILINE)


def homes() -> dict[str, set[str]]:
    """By page, the public names of the framework that belong there: those of the face, of errors and of the kit."""
    pages: dict[str, set[str]] = {"testing.md": {*billhook.testing._HOME}, "errors.md": set()}
    for name, home in billhook._HOME.items():
        pages.setdefault(f"{home.partition('.')[0]}.md", set()).add(name)
    pages["errors.md"] |= {
        name for name, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.BillhookError)
    }
    return pages


def classes() -> dict[str, set[str]]:
    """By page, the classes of the built-in strategies."""
    pages: dict[str, set[str]] = {}
    for role, _, strategy in strategies():
        pages.setdefault(f"{role}s.md", set()).add(type(strategy).__name__)
    return pages


PAGES = {**homes(), **classes()}


def test_the_api_reference_is_what_the_docstrings_give() -> None:
    assert not build_reference.out_of_date()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_the_public_names_of_its_package_each_once_and_no_other(page: str) -> None:
    assert Counter(headings(page)) == Counter(PAGES[page])


def test_there_is_no_further_page() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {"index.md", *PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_the_index_leads_to_every_page(page: str) -> None:
    assert f"]({page})" in (FOLDER / "index.md").read_text(encoding="utf-8")


def test_no_public_name_has_two_entries() -> None:
    counted = Counter(name for page in homes() for name in headings(page))
    assert [name for name, count in counted.items() if count > 1] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_entry_says_something(page: str) -> None:
    entries = re.split(r"^## ", (FOLDER / page).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert [entry.partition("\n")[0] for entry in entries if not entry.rpartition("```")[2].strip()] == []


def test_a_page_that_is_changed_missing_or_too_many_is_told_by_name(tmp_path: Path) -> None:
    build_reference.write(tmp_path)
    (tmp_path / "cuts.md").write_text("changed", encoding="utf-8")
    (tmp_path / "plans.md").unlink()
    (tmp_path / "elsewhere.md").write_text("of a package that is gone", encoding="utf-8")
    said = build_reference.out_of_date(tmp_path)
    assert "out of date: cuts.md; missing: plans.md; too many: elsewhere.md" in said
    assert "make docs" in said


def test_writing_removes_pages_that_are_too_many(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.md").write_text("of a package that is gone", encoding="utf-8")
    build_reference.write(tmp_path)
    assert not build_reference.out_of_date(tmp_path)


def test_sections_become_lists_whose_items_go_on_in_the_next_line() -> None:
    docstring = "Do it.\n\nArgs:\n    how: in this\n        way.\n\nRaises:\n    InvalidCut, KeyError: never."
    assert markdown(docstring, {"InvalidCut": "errors.md#invalidcut"}) == (
        "Do it.\n\n*Args:*\n\n- `how`: in this way.\n\n"
        "*Raises:*\n\n- [`InvalidCut`](errors.md#invalidcut), `KeyError`: never."
    )


def test_code_keeps_its_lines() -> None:
    assert markdown("So::\n\n    a = 1\n\n    b = 2\n\nand on.", {}) == "So:\n\n    a = 1\n\n    b = 2\n\nand on."


def test_a_name_leads_to_its_entry_and_a_member_to_that_of_its_class() -> None:
    links = {"Pruner": "pruning.md#pruner", "recipe": "plugins.md#recipe"}
    shown = markdown(":meth:`billhook.Pruner.prune`, :func:`recipe`, :attr:`recipe`, :mod:`billhook.cuts.runs`", links)
    assert shown == "[`Pruner.prune`](pruning.md#pruner), [`recipe`](plugins.md#recipe), `recipe`, `runs`"


def test_no_line_begins_with_what_markdown_takes_for_a_mark() -> None:
    assert filled(f"{'x' * (WIDTH - 7)} about - y") == f"{'x' * (WIDTH - 7)}\nabout - y"


@pytest.mark.parametrize("page", homes())
def test_the_reference_sends_nobody_to_a_module_that_is_not_public(page: str) -> None:
    named = re.findall(r"`(billhook\.[a-z_]+)[.`]", (FOLDER / page).read_text(encoding="utf-8").partition("\n")[2])
    assert {*named} <= {
        "billhook.errors",
        "billhook.testing",
        "billhook.json",
        *(f"billhook.{n}" for n in billhook._HOME),
    }
