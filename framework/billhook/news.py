"""News: where a run stands, told in a terminal, in a notebook, or in the file that the output goes to."""

from __future__ import annotations

import html
import math
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any, Protocol

from billhook.foreign_text import harmless
from billhook.progress import SearchProgress

SWITCH = "BILLHOOK_PROGRESS"
"""The environment variable that silences progress in Python: 0, no, off or false."""


class Outlet(Protocol):
    """Where news go.

    Attributes:
        every: seconds between two pieces of news, at least.
    """

    every: float

    def show(self, text: str, share: float | None) -> None:
        """Put ``text`` there; ``share`` is how much of the stage is done, if that is known."""

    def end(self) -> None:
        """Clear away what should not stay."""


class Lines:
    """A file, or anything that is no terminal: a line about every half minute, none for short runs."""

    every = 30.0

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream

    def show(self, text: str, share: float | None) -> None:
        """Write the line; a stream that is closed or full ends nobody's run."""
        try:
            print(f"Progress: {text}", file=self._stream or sys.stderr, flush=True)
        except (OSError, ValueError):
            self.every = math.inf

    def end(self) -> None:
        """Lines stay."""


class Terminal(Lines):
    """One line with a bar, written anew and gone at the end."""

    every = 0.1
    width = 20

    def show(self, text: str, share: float | None) -> None:
        """Write the line over the last one."""
        full = round(self.width * min(1.0, share or 0.0))
        bar = "" if share is None else f"[{'#' * full}{'.' * (self.width - full)}] "
        columns = os.get_terminal_size(2).columns if sys.__stderr__ and sys.__stderr__.isatty() else 80
        self._write(f"\r\x1b[2K{(bar + text)[: columns - 1]}")

    def end(self) -> None:
        """Clear the line."""
        self._write("\r\x1b[2K")

    def _write(self, text: str) -> None:
        try:
            print(text, end="", file=self._stream or sys.stderr, flush=True)
        except (OSError, ValueError):
            self.every = math.inf


class Notebook:
    """A bar below the cell, gone at the end."""

    every = 0.5

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, text: str, share: float | None) -> None:
        """Draw the bar, or draw it anew."""
        value = "" if share is None else f' value="{min(1.0, share):.3f}"'
        self._put(f"<div><progress{value}></progress> <small>{html.escape(text)}</small></div>")

    def end(self) -> None:
        """Take the bar away."""
        if self._handle is not None:
            self._put("")

    def _put(self, source: str) -> None:
        from IPython.display import HTML, display  # type: ignore[import-not-found, unused-ignore]

        if self._handle is None:
            self._handle = display(HTML(source), display_id=True)
        else:
            self._handle.update(HTML(source))


def outlet() -> Outlet | None:
    """Where news go in this process; None if they were silenced by the environment."""
    if os.environ.get(SWITCH, "").lower() in ("0", "no", "off", "false"):
        return None
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(shell).__name__ == "ZMQInteractiveShell":
        return Notebook()
    return Terminal() if sys.stderr is not None and sys.stderr.isatty() else Lines()


class News:
    """A progress callback that shows what it is told, not too often. Use as a context manager.

    Args:
        shown: False for nothing at all.
        to: where it goes; as fits this process if None.
        clock: seconds.
    """

    def __init__(
        self, *, shown: bool = True, to: Outlet | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._to = (to or outlet()) if shown else None
        self._clock = clock
        self._began = self._last = clock()
        self._stage, self._stage_began, self._done_before = "", self._began, 0
        self._search = ""

    def __enter__(self) -> News:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._to is not None:
            self._to.end()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` steps of ``stage`` are over."""
        if self._to is None:
            return
        now = self._clock()
        if stage != self._stage or done < self._done_before:
            self._stage, self._stage_began = stage, now
        self._done_before = done
        if now - self._last >= self._to.every:
            self._last = now
            self._to.show(harmless(self._text(done, total, now)), done / total if total else None)

    def searching(self, progress: SearchProgress) -> None:
        """Where a search stands; shown together with its stages."""
        left = "" if math.isnan(progress.seconds_left) else f", {spelled(progress.seconds_left)} left"
        self._search = f"step {progress.step}, {progress.removed:,}/{progress.target:,} parameters gone{left}; "
        self("candidates", progress.candidates - progress.candidates_left, progress.candidates)

    def _text(self, done: int, total: int | None, now: float) -> str:
        took = now - self._stage_began
        rate = done / took if took > 0 else 0.0
        count = f"{done:,}" if total is None else f"{done:,}/{total:,}"
        pace = f", {rate:,.3g} a second" if rate else ""
        left = f", {spelled((total - done) / rate)} left" if total is not None and rate and not self._search else ""
        return f"{self._search}{self._stage} {count}{pace}{left} (after {spelled(now - self._began)})"


def spelled(seconds: float) -> str:
    """Like 0:09, 12:30 or 1:05:00."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
