"""The journal that a command keeps of its search. Imports torch, so commands import this when they run."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from billhook.cli import messages
from billhook.errors import InvalidConfig, InvalidJournal, OutputExists, is_out_of_memory
from billhook.plans.journal import Journal
from billhook.plans.journal_file import JournalFile
from billhook.plugins.hookspecs import hookimpl
from billhook.roles.state import PruningState


class SearchJournal:
    """Says what an earlier run has left, stays when this one is stopped, and goes when its result is safe.

    Use as a context manager, and hand it to a pruner: ``Pruner(journal=kept.file, hooks=[kept])``. Inside, no other
    run can have the file.

    Attributes:
        path: of the file; None for no journal.
        file: at that path, open and locked.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.file: JournalFile | None = None
        self._journal: Journal | None = None

    def __enter__(self) -> SearchJournal:
        """
        Raises:
            InvalidJournal: another run works on it, or no file can be there.
        """
        if self.path is not None:
            self.file = JournalFile(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._settle(kind, value)
        finally:
            if self.file is not None:
                self.file.close()

    def _settle(self, kind: type[BaseException] | None, value: BaseException | None) -> None:
        if kind is None or self._journal is None:
            return
        if self._decisions == 0 or issubclass(kind, InvalidConfig):
            self._journal.remove()  # nothing was decided, or the same command would fail again
        elif issubclass(kind, KeyboardInterrupt):
            raise messages.Interrupted(
                f"Interrupted. What was decided so far ({_count(self._decisions)}) is in the journal {self.path}: the "
                f"same command goes on from there."
            ) from value
        elif value is not None and is_out_of_memory(value):
            value.add_note(
                f"What was decided so far ({_count(self._decisions)}) is in the journal {self.path}, and the same "
                f"command goes on from there; so does one with a smaller --cache-mib."
            )

    @hookimpl
    def billhook_after_calibration(self, state: PruningState) -> None:
        """The journal is open, and what it holds is known."""
        self._journal = state.journal
        if self._journal is not None and self._journal.waiting:
            taken = _count(self._journal.waiting)
            messages.note(f"Going on from the journal {self.path}: {taken} of the interrupted run are taken from it.")

    def finish(self) -> None:
        """The result is written and verified; nobody needs the journal any more."""
        if self._journal is not None:
            self._journal.remove()

    @property
    def _decisions(self) -> int:
        return 0 if self._journal is None else self._journal.replayed + self._journal.waiting


def _count(decisions: int) -> str:
    return f"{decisions} decision{'' if decisions == 1 else 's'}"


def beside(out: Path) -> Path:
    """Where the journal of a run that writes ``out`` lies: in the folder that holds it."""
    return Path(f"{os.path.normpath(out if out.name not in ('', '..') else out.absolute())}.journal.jsonl")


def check_journal(path: Path, out: Path | None) -> None:
    """Refuse a place where no journal can be, before anything is computed."""
    if path.is_dir():
        raise OutputExists(f"The journal {path} cannot be written: a folder is there. Choose another file.")
    if out is not None and Path(os.path.abspath(path)).is_relative_to(os.path.abspath(out)):
        raise InvalidJournal(f"The journal {path} cannot lie in the output folder {out}, which is made at the end.")
