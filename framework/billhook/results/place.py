"""Place: where a checkpoint goes. Refused, tried and locked when a run begins; filled when it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from billhook.errors import BillhookError, CheckpointError, OutputExists
from billhook.files.lock import Lock, Locked
from billhook.files.renaming import rename_new
from billhook.files.shield import shielded
from billhook.files.syncing import sync_folder, sync_tree
from billhook.log import logger
from billhook.results.beside import Beside
from billhook.results.checkpoint_files import why_no_checkpoint
from billhook.results.replacing import mend, replace

LONGEST_FILE = "model.safetensors.index.json"


class Place:
    """The folder that a checkpoint is to be, for one run alone, from its start to its end.

    Use as a context manager. Beside the folder there are, as long as they are needed: a lock; a draft; and the old
    checkpoint, when a new one takes its place. Whoever enters holds the lock, so what of these lies there was left by
    a run that was killed: it is cleaned up, and an old checkpoint whose place is empty goes back.

    Attributes:
        path: of the folder, as it was given.
        overwrite: whether a checkpoint that is there may be replaced.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        self.overwrite = overwrite
        self._before: os.stat_result | None = None
        self._made: list[Path] = []
        self._lock: Lock | None = None
        self._evidence: set[Path] = set()
        try:
            self.full = resolved(path)
        except (OSError, ValueError) as error:  # ValueError: a null byte
            raise _impossible(path, error) from error
        self._beside = Beside(self.full)

    def __enter__(self) -> Place:
        """
        Raises:
            OutputExists: something is there that may not be replaced, or another run writes there.
            CheckpointError: no folder can be made there.
        """
        try:
            with shielded():
                self._enter()
        except BaseException as error:
            self._leave()
            if isinstance(error, OSError | ValueError) and not isinstance(error, BillhookError):
                raise _impossible(self.path, error) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with shielded():
            self._leave()

    def refuse(self) -> None:
        """Raise :class:`OutputExists` unless the folder may be made, or replaced; nothing is written."""
        try:
            reason = self._why_not()
        except (OSError, ValueError) as error:
            raise _impossible(self.path, error) from error
        if reason:
            raise OutputExists(f"The output {self.path} {reason}")

    def _why_not(self) -> str | None:
        if self._present() is None:
            return None
        if not self.overwrite:
            return "exists. Choose another, or allow overwriting it (--overwrite)."
        if self.full.is_symlink() or not self.full.is_dir():
            return "is no checkpoint folder, so it is not overwritten. Choose another."
        if os.path.ismount(self.full):
            return "is where a disk is mounted, so it is not overwritten. Choose a folder in it."
        if reason := why_no_checkpoint(self.full):
            return (
                f"is no checkpoint folder, so it is not overwritten: {reason}, and what neither billhook nor "
                f"transformers wrote is never deleted. Choose another, or move that away."
            )
        return None

    def require(self, size: int) -> None:
        """Refuse a disk that has no room for ``size`` bytes.

        Raises:
            CheckpointError: it has not.
        """
        there = next(folder for folder in self.full.parents if folder.is_dir())
        free = shutil.disk_usage(there).free
        if free < size:
            raise CheckpointError(
                f"The output {self.path} needs about {_megabytes(size)} MB, and there are {_megabytes(free)} MB free. "
                f"Make room, or choose another place."
            )

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A new folder beside the place; removed on every way out but a failed comparison, which names it."""
        self.full.parent.mkdir(parents=True, exist_ok=True)  # it may have vanished since the start
        folder = self._beside.make("partial")
        try:
            folder.chmod(0o755)  # mkdtemp makes private folders; a checkpoint is an ordinary one
            yield folder
        except CheckpointError:
            self._evidence.add(folder)
            raise
        except BaseException:
            with shielded():
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def put(self, draft: Path) -> None:
        """Rename the finished draft to its place. What has appeared there since the start stays as it is.

        Raises:
            OutputExists: something has.
            OSError: it cannot be renamed.
        """
        sync_tree(draft)
        with shielded():
            if self._before is None or self._present() is None:
                try:
                    rename_new(draft, self.full)
                except FileExistsError as error:
                    raise self._appeared() from error
            else:
                replace(self._beside, draft, self._refuse_another)
            sync_folder(self.full.parent)
            self._before = None

    def _refuse_another(self, folder: Path) -> None:
        """Raise unless ``folder`` is the checkpoint that was there at the start, and still nothing else."""
        there = folder.lstat()
        if self._before is None or not os.path.samestat(there, self._before) or why_no_checkpoint(folder):
            raise self._appeared()

    def _appeared(self) -> OutputExists:
        return OutputExists(
            f"The output {self.path} appeared or changed while the run went on, and is left alone. Choose another."
        )

    def _enter(self) -> None:
        if self._present() is not None and not self._beside.found("partial", "old", "swap"):
            self.refuse()  # writes nothing
        self._make_parents()
        self._lock = self._take()
        self._clean()
        self.refuse()  # again: a run may have ended meanwhile, or an old checkpoint is back
        self._try()
        self._before = self._present()

    def _take(self) -> Lock:
        """The lock, with this process's number in it for the message that others get."""
        path = self._beside.lock
        try:
            lock = Lock(path)
        except Locked as error:
            who = f" (process {error})" if str(error).isdigit() else ""
            raise OutputExists(
                f"The output {self.path} is being written by another run{who}. Wait for it, or choose another place."
            ) from error
        if path.stat().st_size and not path.read_bytes().isdigit():
            lock.close()
            raise OutputExists(
                f"The output {self.path} cannot be locked: {path} is no lock of billhook's. Move it away."
            )
        with contextlib.suppress(OSError):  # a full disk
            os.ftruncate(lock.fd, 0)
            os.write(lock.fd, str(os.getpid()).encode())
        return lock

    def _leave(self) -> None:
        """Let go: no drafts, no lock, no empty folders are left."""
        if self._lock is not None:
            for folder in set(self._beside.found("partial")) - self._evidence:
                shutil.rmtree(folder, ignore_errors=True)
            self._lock.remove()
            self._lock = None
        for folder in self._made:
            with contextlib.suppress(OSError):  # somebody else uses it by now
                folder.rmdir()
        self._made = []

    def _try(self) -> None:
        """Make a draft with the longest name in it, and one of the name that it will have."""
        for name in (LONGEST_FILE, self.full.name):
            folder = self._beside.make("partial")
            try:
                (folder / name).touch()
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _make_parents(self) -> None:
        """Make the folders above; remembers them, the deepest first."""
        missing = [folder for folder in self.full.parents if not os.path.lexists(folder)]
        self._made = []
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                self._made.insert(0, folder)

    def _clean(self) -> None:
        """What runs that were killed have left beside the place."""
        for aside in self._beside.found("old", "swap"):
            mend(self._beside, aside)
        for folder in self._beside.found("partial"):
            shutil.rmtree(folder, ignore_errors=True)
            logger.warning("An interrupted run had left the draft {}: it is deleted.", folder)

    def _present(self) -> os.stat_result | None:
        """What is at the place; None for nothing."""
        try:
            return self.full.lstat()
        except FileNotFoundError:
            return None


def _impossible(path: Path, error: OSError | ValueError) -> CheckpointError:
    reason = getattr(error, "strerror", None) or error
    return CheckpointError(f"The output {path} cannot be made: {reason}. Choose another place.")


def resolved(path: Path) -> Path:
    """An absolute path; the last part may be a link, which is then what is there."""
    if path.name in ("", ".."):
        return Path(os.path.realpath(path))
    return Path(os.path.realpath(path.parent)) / path.name


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"
