"""What goes to stderr besides progress: one line for an error, log messages, and nobody else's chatter."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from loguru import logger
from rich.text import Text

from billhook.cli.consoles import SafeConsole

if TYPE_CHECKING:
    from loguru import Message

LEVELS = ("WARNING", "INFO", "TRACE")
"""What is shown without ``-v``, with one, with two."""

CHATTERERS = ("transformers", "huggingface_hub", "datasets", "torch")
"""Libraries whose log and progress bars are shown from ``-v`` on only."""

QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
}
"""Environment that keeps them quiet when they are imported later; what the user has set stays."""


class Interrupted(Exception):
    """The user stopped a command that has something to say about it: its text is the one line."""


class Messages:
    """Takes over logging and warnings while one command runs, and puts everything back afterwards."""

    def __init__(self) -> None:
        self._sink: int | None = None
        self._silence = contextlib.ExitStack()

    def __enter__(self) -> Messages:
        with contextlib.suppress(ValueError):
            logger.remove(0)  # loguru's own sink, unless somebody has removed it
        self.show(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget()

    def show(self, verbosity: int) -> None:
        """Show messages according to the number of ``-v``; other libraries' only if there is one."""
        self._forget()
        self._sink = logger.add(_write, level=LEVELS[min(verbosity, len(LEVELS) - 1)], format="{message}")
        if verbosity == 0:
            self._silence.enter_context(_silence())

    def error(self, text: str) -> None:
        """Print ``text`` as one line on stderr."""
        _print("Error", text, "bold red")

    def _forget(self) -> None:
        self._silence.close()
        if self._sink is not None:
            logger.remove(self._sink)
            self._sink = None


def note(text: str) -> None:
    """Print ``text`` as one line on stderr; for what users should know and is no warning."""
    _print("Note", text, "bold")


def _write(message: Message) -> None:
    record = message.record
    _print(record["level"].name.capitalize(), record["message"], "yellow" if record["level"].no >= 30 else "dim")


def _print(label: str, text: str, style: str) -> None:
    # sys.stderr is looked up each time: while progress bars are shown, rich puts the lines above them
    line = Text.assemble((f"{label}:", style), " ", " ".join(text.split()))
    SafeConsole(stderr=True).print(line, soft_wrap=True)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Other libraries say nothing inside, whether they are imported already or not."""
    added = [name for name in QUIET if name not in os.environ]
    levels = {name: logging.getLogger(name).level for name in CHATTERERS}
    with warnings.catch_warnings(), _no_bars():
        warnings.simplefilter("ignore")
        os.environ.update({name: QUIET[name] for name in added})
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name in added:
                os.environ.pop(name, None)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """No progress bars of transformers inside, if it is imported; if not, the environment says so."""
    if "transformers" not in sys.modules:
        yield
        return
    from transformers.utils import logging as chatter

    shown = chatter.is_progress_bar_enabled()
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            chatter.enable_progress_bar()
