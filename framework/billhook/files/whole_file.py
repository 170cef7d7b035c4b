"""Files that are written whole or not at all, and replace nothing that nobody allowed to be replaced."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from billhook.errors import CheckpointError, OutputExists
from billhook.files.lock import Lock, Locked, why_not_plain
from billhook.files.renaming import rename_new
from billhook.files.syncing import sync_folder
from billhook.log import logger


def refuse_file(path: Path, *, overwrite: bool, is_ours: Callable[[Path], bool], what: str) -> None:
    """Refuse a place for a file, before anything is computed for it.

    Args:
        path: of the file to come.
        overwrite: whether a file that is there may be replaced, if it is one of ours.
        is_ours: says so of a plain file.
        what: the kind of file, for the message: ``"plan"``.

    Raises:
        OutputExists: something is there that is not to be replaced.
        CheckpointError: no file can be made there: its folder is missing or closed, or its name is too long.
    """
    try:
        there = path.lstat()
    except FileNotFoundError:
        _try_place(path, what)
        return
    except OSError as error:
        raise _unwritable(path, what, error) from error
    if why_not_plain(there.st_mode):
        raise OutputExists(f"The output {path} is there and no plain file, so no {what} is written to it.")
    if not overwrite:
        raise OutputExists(f"The output {path} exists. Choose another, or allow overwriting it (--overwrite).")
    if not is_ours(path):
        raise OutputExists(f"The output {path} is no {what} of billhook's, so it is not overwritten. Choose another.")


def write_whole(path: Path, content: bytes, *, overwrite: bool, what: str) -> None:
    """Write a file that :func:`refuse_file` did not refuse: to a draft beside its place, which is then renamed.

    A draft that a killed process has left for this place is deleted first.

    Raises:
        OutputExists: something has appeared there meanwhile.
        CheckpointError: it cannot be written; nothing is left behind.
    """
    try:
        draft = _draft(path)
    except OSError as error:
        raise _unwritable(path, what, error) from error
    try:
        _write(draft.fd, content)
        if os.name == "nt":
            draft.close()  # Windows renames no open files
        if overwrite:
            draft.path.replace(path)
        else:
            rename_new(draft.path, path)
    except FileExistsError as error:
        raise OutputExists(f"The output {path} appeared meanwhile, and is left alone. Choose another.") from error
    except OSError as error:
        raise _unwritable(path, what, error) from error
    finally:
        draft.remove()  # if it is still where it was
        draft.close()
    sync_folder(path.absolute().parent)


def _draft(path: Path) -> Lock:
    """A new file beside ``path``, locked by us; those that dead processes have left there for it are deleted.

    Raises:
        OSError: it cannot be made.
    """
    folder, mark = path.absolute().parent, hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]
    for left in folder.glob(f".billhook-{mark}-????????.partial"):
        with contextlib.suppress(Locked, OSError):
            Lock(left).remove()
            logger.info("{}, which a run that was killed has left, is deleted", left)
    return Lock(folder / f".billhook-{mark}-{secrets.token_hex(4)}.partial")


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _try_place(path: Path, what: str) -> None:
    """Make a draft and delete it again: the one way to know that a file can be made there."""
    try:
        _draft(path).remove()
    except OSError as error:
        raise _unwritable(path, what, error) from error


def _unwritable(path: Path, what: str, error: OSError) -> CheckpointError:
    return CheckpointError(f"The {what} {path} cannot be written: {error.strerror or error}. Choose another place.")
