"""Progress bars on stderr: a plugin on ``billhook_on_progress``, and the command's own steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn

from billhook.hookspecs import hookimpl


class ProgressBars:
    """One line for each stage of a run; gone when it is over. Shows nothing when stderr is no terminal.

    Use as a context manager, and hand it to a pruner: ``Pruner(hooks=[bars])``.

    Attributes:
        seconds: how long each finished :meth:`step` or :meth:`clock` took.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.seconds: dict[str, float] = {}
        console = console or Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}

    def __enter__(self) -> ProgressBars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        self._settle(but=stage)
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, count="")
        elif done < self._done[stage]:
            self._progress.reset(self._tasks[stage], total=total)
        self._done[stage] = done
        count = f"{done}" if total is None else f"{done}/{total}"
        self._progress.update(self._tasks[stage], completed=done, total=total, count=count)

    def _settle(self, but: str = "") -> None:
        """Stages whose end nobody knew have ended when another begins."""
        for stage, task in self._tasks.items():
            if stage != but:
                self._progress.update(task, total=self._done[stage])
