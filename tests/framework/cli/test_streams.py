"""A command whose output has nowhere to go does its work all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from billhook import Plan

LOST = "Error: What the command says could not be printed: No space left on device. What it does is done.\n"

BILLHOOK = (sys.executable, "-m", "billhook")

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


def shell(line: str, *command: object) -> subprocess.CompletedProcess[str]:
    """``"$@"`` in the line is billhook with the command's words."""
    words = [*BILLHOOK, *map(str, command)]
    return subprocess.run(["sh", "-c", line, "sh", *words], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("unbuffered", ["", "PYTHONUNBUFFERED=1 "])
@pytest.mark.parametrize(
    ("line", "code", "err"),
    [
        ('"$@" > /dev/full', 1, LOST),
        ('"$@" > /dev/full 2>&1', 1, ""),
        ('"$@" >&-', 0, ""),
        ('"$@" >&- 2>&-', 0, ""),
        ('("$@"; echo $? >&2) | true', 0, "0\n"),
    ],
)
def test_what_cannot_be_printed_is_told_if_it_can_be(line: str, code: int, err: str, unbuffered: str) -> None:
    done = shell(unbuffered + line if line.startswith('"') else line, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", err)


@pytest.mark.parametrize("line", ['"$@" > /dev/full 2>&1', '"$@" >&- 2>&-', '("$@"; true) 2>&1 | true'])
def test_pruning_is_done_though_nobody_hears_of_it(
    line: str, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    shell(line, "prune", checkpoint, "--layers", 2, "--recipe", "replaceme-ls", *data, "--out", tmp_path / "out", "-vv")
    assert len(Plan.load(tmp_path / "out").cuts) >= 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_error_that_nobody_hears_is_an_exit_code(tmp_path: Path) -> None:
    assert shell('"$@" 2> /dev/full', "prune", tmp_path / "none", "--out", tmp_path / "out").returncode == 1


def test_files_get_no_number_that_libraries_print_to(tmp_path: Path) -> None:
    """With 1 closed, the next file that is opened would be number 1."""
    script = (
        "import os; from billhook.cli import main; main(['--version']);"
        "print(os.open(os.devnull, 0), file=open(os.environ['TO'], 'w'))"
    )
    to = tmp_path / "number"
    subprocess.run(["sh", "-c", f'TO="{to}" "$0" -c "$1" <&- >&-', sys.executable, script], check=True, timeout=120)
    assert int(to.read_text()) > 2
