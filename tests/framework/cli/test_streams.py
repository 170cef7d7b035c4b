"""A command whose output has nowhere to go does its work all the same."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.framework.cli.conftest import Run

from billhook import Plan
from billhook.cli import main
from billhook.cli.streams import kept

LOST = "Error: What the command says could not be printed: No space left on device. It is in "

BILLHOOK = (sys.executable, "-m", "billhook")

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


def shell(line: str, *command: object) -> subprocess.CompletedProcess[str]:
    """``"$@"`` in the line is billhook with the command's words."""
    words = [*BILLHOOK, *map(str, command)]
    return subprocess.run(["sh", "-c", line, "sh", *words], capture_output=True, text=True, timeout=120)


@pytest.fixture(autouse=True)
def spare(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, of these commands alone."""
    folder = tmp_path_factory.mktemp("spare")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)  # which it remembers
    return folder


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
def test_what_cannot_be_printed_is_told_if_it_can_be(
    line: str, code: int, err: str, unbuffered: str, spare: Path
) -> None:
    done = shell(unbuffered + line if line.startswith('"') else line, "--version")
    if err == LOST:
        (file,) = spare.iterdir()
        err = f"{LOST}{file}.\n"
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


PLAN = ("prune", "MODEL", "--ratio", "0.1", "--recipe", "blockpruner", "DATA", "--dry-run", "--json")
TELLING = {
    "a plan": PLAN,
    "figures": ("evaluate", "MODEL", "--text", "TEXT", "--seqlen", "16", "--tokens", "64", "--json"),
    "distances": ("analyze", "MODEL", "DATA", "--full"),
    "plugins": ("plugins",),
    "recipes": ("recipes", "--json"),
}
"""Commands that make nothing but what they print."""


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def unread() -> int:
    """A pipe whose reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def in_a_process(words: list[str], stdout: Callable[[], int], stderr: Path) -> int:
    """The exit code of a process that shares what is loaded here, and has files of its own to print to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of torch that sleep do no harm here
        child = os.fork()
    if child == 0:
        code = 99
        try:
            os.dup2(stdout(), 1)
            os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT), 2)
            sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
            code = main(words)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("name", TELLING)
def test_what_a_command_has_worked_out_is_kept_elsewhere(
    name: str, run: Run, checkpoint: Path, text: Path, data: tuple[str, ...], spare: Path, tmp_path: Path
) -> None:
    known = {"MODEL": (str(checkpoint),), "TEXT": (str(text),), "DATA": data}
    words = [word for given in TELLING[name] for word in known.get(given, (given,))]
    told = run(*words).out
    assert in_a_process(words, full, tmp_path / "err") == 1
    (file,) = spare.iterdir()
    assert (tmp_path / "err").read_text() == f"{LOST}{file}.\n"
    assert without_seconds(file.read_text()) == without_seconds(told)
    file.unlink()
    assert in_a_process(words, unread, tmp_path / "unread") == 0, "whoever read it has had enough"
    assert (tmp_path / "unread").read_text() == ""
    assert list(spare.iterdir()) == []


def without_seconds(text: str) -> list[str]:
    return [line for line in text.splitlines() if "second" not in line]


def test_where_nothing_can_be_kept_either_no_more_is_promised(spare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(spare / "gone"))
    gone = spare / "here"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert kept(bytearray(b"42")) == "What it does is done."
