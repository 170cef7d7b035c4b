"""The program as a whole: help, exit codes, and what becomes of errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.framework.cli.conftest import Run

import billhook
from billhook.cli import main
from billhook.errors import InvalidConfig
from billhook.model import loading

HEAVY = ("torch", "transformers", "datasets", "matplotlib", "billhook_strategies", "billhook_adapters")

PROBE = f"""
import json, sys
from billhook.cli import main
code = main(sys.argv[1:])
print(json.dumps([code, [name for name in {HEAVY} if name in sys.modules]]), file=sys.stderr)
"""


def in_a_fresh_process(*arguments: str) -> tuple[str, int, list[str]]:
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True)
    code, loaded = json.loads(done.stderr)
    return done.stdout, code, loaded


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["prune", "--help"], ["plugins", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    out, code, loaded = in_a_fresh_process(*arguments)
    assert (code, loaded) == (0, [])
    assert "Usage: billhook" in out


def test_help_lists_every_command(run: Run) -> None:
    out = run("--help").out
    assert all(command in out for command in ("prune", "analyze", "evaluate", "apply", "plugins"))


def test_help_is_quick() -> None:
    # Half a second is the aim and a quarter is usual; the bound is wide, since a test machine may be busy.
    def seconds() -> float:
        began = time.perf_counter()
        in_a_fresh_process("--help")
        return time.perf_counter() - began

    assert min(seconds() for _ in range(3)) < 2


def test_the_version_is_printed(run: Run) -> None:
    done = run("--version")
    assert (done.code, done.out) == (0, f"billhook {billhook.__version__}\n")


def test_the_package_is_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "billhook", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"billhook {billhook.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["prune"], "Missing argument 'MODEL'"),
        (["prune", "model", "--lairs", "3"], "No such option: --lairs"),
        (["prune", "model", "--layers", "few"], "Invalid value for '--layers'"),
        (["analyze", "model", "--metric", "cosin"], "'cosin' is not one of 'cosine', 'angular', 'l2'"),
        (["apply", "plan.json", "model"], "Missing option '--out'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_command_line_that_cannot_be_parsed_is_told_in_one_line(run: Run, arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert done.err.startswith("Error: ")
    assert said in done.err
    assert done.err.endswith("--help'.\n")
    assert done.err.count("\n") == 1


def test_an_error_of_the_library_is_one_line_whatever_its_text(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, **options: str) -> None:
        raise InvalidConfig("first\n  second [bold]third[/bold]")

    monkeypatch.setattr(loading, "find", refuse)
    done = run("evaluate", "anything")
    assert (done.code, done.out, done.err) == (1, "", "Error: first second [bold]third[/bold]\n")


def test_an_interrupt_is_told_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(name: str, **options: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loading, "find", interrupt)
    done = run("evaluate", "anything")
    assert (done.code, done.out, done.err) == (130, "", "Error: Interrupted.\n")


def test_memory_that_runs_out_is_told_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def grow(name: str, **options: str) -> None:
        raise MemoryError("90 GiB")

    monkeypatch.setattr(loading, "find", grow)
    done = run("evaluate", "anything")
    assert done.code == 1
    assert done.err.startswith("Error: Out of memory: 90 GiB")
    assert done.err.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(name: str, **options: str) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(loading, "find", stumble)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["evaluate", "anything"])


def test_a_pipe_that_takes_ascii_only_gets_the_result_and_no_progress(checkpoint: Path, text: Path) -> None:
    options = [
        "--recipe=replaceme-ls",
        "--layers",
        "1",
        "--dry-run",
        "--calibration",
        str(text),
        "--samples",
        "2",
        "--seqlen",
        "16",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "billhook", "prune", str(checkpoint), *options],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "layers       6 ? 5, without layer" in done.stdout
