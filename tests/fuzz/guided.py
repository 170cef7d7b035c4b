"""Fuzzing that follows the branches that are taken, by atheris: ``python -m tests.fuzz.guided KIND FOLDER [-runs=N]``.

Not on every machine: atheris has wheels for some versions of Python on Linux. FOLDER is where what reached something
new is kept, as libFuzzer does.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

atheris: Any = importlib.import_module("atheris")  # where it is installed; type checkers need not know it
GUIDED = ["billhook.json_text", "billhook.plans", "billhook.cuts", "billhook.interchange"]

with atheris.instrument_imports(include=GUIDED):
    from tests.fuzz import targets


def main(kind: str, folder: Path, *options: str) -> None:
    """Fuzz one kind of file; ends the process, with another code than 0 where anything but our errors came out."""
    readers = {
        "plan": (targets.read_plan, [targets.lines([plan]) for plan in targets.PLANS]),
        "journal": (targets.read_journal, [targets.lines(targets.JOURNAL)]),
        "published": (targets.read_published, [targets.lines([content]) for content in targets.PUBLISHED]),
        "task": (targets.read_questions, [targets.lines(targets.TASKS)]),
    }
    read, seeds = readers[kind]
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)

    def one(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as beside:
            targets.ours(lambda: read(data, Path(beside)))

    atheris.Setup([sys.argv[0], str(folder), "-timeout=20", "-rss_limit_mb=4096", *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
