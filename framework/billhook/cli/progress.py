"""Progress bars on stderr: a plugin on the hooks for progress and search, and the command's own steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn

from billhook.cli.consoles import SafeConsole
from billhook.news import Lines, News
from billhook.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from billhook.progress import SearchProgress

SEARCH, STEP = "searching", "this step"
"""The two lines of a search: how much is gone, and how the candidates for the next cut stand."""


class ProgressBars:
    """One line for each stage of a run; gone when it is over. When stderr is no terminal, lines that stay, half a
    minute apart.

    Use as a context manager, and hand it to a pruner: ``Pruner(hooks=[bars])``.

    Attributes:
        seconds: how long each finished :meth:`step` or :meth:`clock` took.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.seconds: dict[str, float] = {}
        console = console or SafeConsole(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._news = News(shown=self._progress.disable, to=Lines(console.file if console.stderr is False else None))
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}

    def __enter__(self) -> ProgressBars:
        if not self._progress.disable:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._progress.disable:  # rich before 14.3 ends a line that it has not begun
            self._progress.stop()

    @property
    def tasks(self) -> list[Task]:
        """The lines that are shown now."""
        return self._progress.tasks

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A stage whose steps nobody counts; shown and clocked while the context lasts."""
        self._settle()
        task = self._progress.add_task(name, total=None, count="")
        try:
            with self.clock(name):
                yield
        finally:
            self._progress.remove_task(task)

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Like :meth:`step`, without a line: for stages that report their own progress."""
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    @hookimpl
    def billhook_on_progress(self, stage: str, done: int, total: int | None) -> None:
        """Move the stage's bar; a stage that starts again (the next cut) starts its bar again."""
        self._news(stage, done, total)
        self._settle(stage)
        self._show(stage, done, total, f"{done}" if total is None else f"{done}/{total}")

    @hookimpl
    def billhook_on_search(self, progress: SearchProgress) -> None:
        """One line for the whole search and one for its present step."""
        self._news.searching(progress)
        self._settle(SEARCH, STEP)
        gone = f"{_short(progress.removed)}/{_short(progress.target)} parameters"
        left = "" if math.isnan(progress.seconds_left) else f", {_clock(progress.seconds_left)} left"
        self._show(SEARCH, progress.removed, progress.target, f"step {progress.step}, {gone}{left}")
        best = f", best {progress.best} at {progress.best_score:.4g}" if progress.best else ""
        out = progress.candidates - progress.candidates_left
        self._show(STEP, out, progress.candidates, f"{progress.candidates_left}/{progress.candidates} left{best}")

    def _show(self, stage: str, done: int, total: int | None, count: str) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, count="")
        elif done < self._done[stage]:
            self._progress.reset(self._tasks[stage], total=total)
        self._done[stage] = done
        self._progress.update(self._tasks[stage], completed=done, total=total, count=count)

    def _settle(self, *but: str) -> None:
        """Stages whose end nobody knew have ended when another begins."""
        for stage, task in self._tasks.items():
            if stage not in but:
                self._progress.update(task, total=self._done[stage])


def _short(count: int) -> str:
    """A count in thousands or millions: 1.2M."""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.1f}{name}"
    return str(count)


def _clock(seconds: float) -> str:
    """Like 0:09, 12:30 or 1:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
