"""Writes docs/reference anew from the docstrings and signatures in the source: ``python -m docs.build_reference``.

With ``--check`` it writes nothing, says which pages are out of date, missing or too many, and then exits with 1. Works
on the source text, so that the pages are the same whatever versions are installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docs.reference_builder.pages import texts

FOLDER = Path(__file__).with_name("reference")


def out_of_date(folder: Path = FOLDER) -> str:
    """What is wrong with the pages in ``folder``, and what to do about it; nothing if all are up to date."""
    due = texts()
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} if folder.is_dir() else {}
    problems = {
        "out of date": [name for name in due if name in there and there[name] != due[name]],
        "missing": [name for name in due if name not in there],
        "too many": sorted(there.keys() - due.keys()),
    }
    said = [f"{what}: {', '.join(names)}" for what, names in problems.items() if names]
    return f"docs/reference is not what the docstrings give ({'; '.join(said)}); run: make docs" if said else ""


def write(folder: Path = FOLDER) -> None:
    """All pages; those that are too many go."""
    due = texts()
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name not in due:
            path.unlink()
    for name, text in due.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(out_of_date() or 0)
    write()
