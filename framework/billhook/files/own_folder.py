"""OwnFolder: a temporary folder of one process; what dead ones have left there goes when the next one is made."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from billhook.files.lock import Lock, Locked
from billhook.log import logger

LOCK = ".billhook.lock"
"""The file in it that its owner has locked, for as long as the owner lives."""

_RANDOM = "[a-z0-9_]{8}"
"""What ``tempfile`` adds to a name."""


class OwnFolder:
    """A new folder ``NAME-RANDOM.billhook``, private, and deleted with all that is in it when it is closed.

    Use as a context manager, or call :meth:`close`.

    Attributes:
        path: of the folder.
    """

    def __init__(self, name: str, parent: Path | None = None) -> None:
        """Make it, and delete those of the same name that processes which were killed have left beside it.

        Args:
            name: how its name begins.
            parent: the folder to make it in; the system's choice if None.

        Raises:
            OSError: it cannot be made.
        """
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        _sweep(name, parent)
        while True:
            self._folder = tempfile.TemporaryDirectory(
                prefix=f"{name}-", suffix=".billhook", dir=parent, ignore_cleanup_errors=True
            )
            self.path = Path(self._folder.name)
            try:
                self._lock = Lock(self.path / LOCK)
            except (Locked, FileNotFoundError):  # another process took it for one that was left, before it was locked
                self._folder.cleanup()
            except BaseException:
                self._folder.cleanup()
                raise
            else:
                return

    def close(self) -> None:
        """Delete it. May be called twice."""
        self._lock.close()
        self._folder.cleanup()

    def __enter__(self) -> OwnFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sweep(name: str, parent: Path) -> None:
    """Delete folders of this name whose owner is dead; what cannot be looked at is somebody else's."""
    named = re.compile(rf"{re.escape(name)}-{_RANDOM}\.billhook")
    with contextlib.suppress(OSError):
        for folder in [path for path in parent.iterdir() if named.fullmatch(path.name)]:
            with contextlib.suppress(OSError, Locked):
                _delete_if_left(folder)


def _delete_if_left(folder: Path) -> None:
    if folder.is_symlink():
        return
    if not (folder / LOCK).exists():  # killed before it had a lock, so there is nothing in it; if there is, it stays
        folder.rmdir()
        return
    lock = Lock(folder / LOCK)
    lock.close()  # Windows deletes no open files
    shutil.rmtree(folder, ignore_errors=True)
    logger.info("{}, which a run that was killed has left, is deleted", folder)
