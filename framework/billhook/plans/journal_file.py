"""JournalFile: the file of a journal, which one run alone writes to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from billhook.errors import BillhookError, InvalidJournal
from billhook.files.lock import Lock, Locked, why_not_plain
from billhook.log import logger


class JournalFile(os.PathLike[str]):
    """A journal's file, open and locked; made with its folder if it is not there.

    Takes the place of a path: ``Pruner(journal=JournalFile(path))`` for whoever wants the lock before the run begins.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            InvalidJournal: another run has it; it is no plain file, or cannot be opened.
        """
        self.path = path
        self._lost = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and (kind := why_not_plain(path.stat().st_mode)):
                raise InvalidJournal(f"The journal {path} cannot be written: it is {kind}. Choose another file.")
            self._lock = Lock(path)
        except Locked as error:
            raise InvalidJournal(
                f"Another run works on the journal {path}. Wait for it, or name another journal: --journal FILE."
            ) from error
        except BillhookError:
            raise
        except (OSError, ValueError) as error:  # ValueError: a null byte
            raise self._trouble("written", error) from error

    def __fspath__(self) -> str:
        return str(self.path)

    def read(self) -> bytes:
        """All that is in it.

        Raises:
            InvalidJournal: it cannot be read.
        """
        try:
            with open(os.dup(self._lock.fd), "rb") as file:
                file.seek(0)
                return file.read()
        except OSError as error:
            raise self._trouble("read", error) from error

    def append(self, data: bytes) -> None:
        """Write to its end; on disk when this returns. What cannot be written whole is not written at all.

        Raises:
            InvalidJournal: it cannot be written.
        """
        size = os.fstat(self._lock.fd).st_size
        if not self._lost and not self._lock.in_place:
            self._lost = True
            logger.warning("The journal {} is gone from its place: the run goes on, and cannot be resumed.", self.path)
        try:
            written = 0
            while written < len(data):
                written += os.write(self._lock.fd, data[written:])
            os.fsync(self._lock.fd)
        except OSError as error:
            with contextlib.suppress(OSError):  # half a line is known as such by whoever goes on
                self.truncate(size)
            raise self._trouble("written", error, "Make room, and the same command goes on from it.") from error

    def truncate(self, size: int) -> None:
        """Keep its first ``size`` bytes."""
        os.ftruncate(self._lock.fd, size)

    def remove(self) -> None:
        """Delete it, and let go of it."""
        self._lock.remove()

    def close(self) -> None:
        """Let go of it; it stays, unless it is new and nothing was written to it. May be called twice."""
        if self._lock.made and self._lock.open and not os.fstat(self._lock.fd).st_size:
            self._lock.remove()
        self._lock.close()

    def _trouble(self, what: str, error: Exception, way: str = "Choose another file.") -> InvalidJournal:
        reason = getattr(error, "strerror", None) or error
        return InvalidJournal(f"The journal {self.path} cannot be {what}: {reason}. {way}")


@contextmanager
def opened(path: os.PathLike[str] | None) -> Iterator[JournalFile | None]:
    """The file at ``path``, locked for as long as the context lasts; one that is open already is handed through."""
    if path is None or isinstance(path, JournalFile):
        yield path
        return
    file = JournalFile(Path(path))
    try:
        yield file
    finally:
        file.close()
