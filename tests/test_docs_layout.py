"""The pages read well in a terminal: prose is wrapped at 100 columns everywhere, and the README whole at that width."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "plugins").glob("*.md"),
        *(ROOT / "plugins").glob("*/*.md"),
        *(ROOT / "docs").rglob("*.md"),
    ]
)
WIDTH = 100
README_CODE = 88
"""What fits a terminal of 100 columns that also shows a margin."""

LONE_LINK = re.compile(r"\s*(?:[-*] )?!?\[[^]]*\]\([^)]*\)[.,;]?")


def lines(page: Path) -> Iterator[tuple[int, str, bool]]:
    """Number, text, and whether it is code, of every line but those that begin and end code."""
    in_code = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        else:
            yield number, line, in_code


def may_be_long(line: str) -> bool:
    return line.lstrip().startswith("|") or LONE_LINK.fullmatch(line) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_prose_is_wrapped_at_100_columns(page: Path) -> None:
    prose = [(number, line) for number, line, in_code in lines(page) if not in_code]
    assert [number for number, line in prose if len(line) > WIDTH and not may_be_long(line)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_of_code_ends(page: Path) -> None:
    fences = re.findall(r"^\s*```", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) % 2 == 0


def test_a_terminal_shows_the_readme_whole() -> None:
    found = list(lines(ROOT / "README.md"))
    assert [number for number, line, in_code in found if len(line) > (README_CODE if in_code else WIDTH)] == []
