"""Files that are written whole or not at all, and replace nothing that nobody allowed to be replaced."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from billhook.errors import CheckpointError, OutputExists
from billhook.files.lock import why_not_plain
from billhook.files.renaming import rename_new
from billhook.files.syncing import sync_folder


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
        _try_name(path, what)
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

    Raises:
        OutputExists: something has appeared there meanwhile.
        CheckpointError: it cannot be written; nothing is left behind.
    """
    draft = path.absolute().parent / f".billhook-{secrets.token_hex(4)}.partial"
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            draft.replace(path)
        else:
            rename_new(draft, path)
    except FileExistsError as error:
        raise OutputExists(f"The output {path} appeared meanwhile, and is left alone. Choose another.") from error
    except OSError as error:
        raise _unwritable(path, what, error) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    sync_folder(path.absolute().parent)


def _try_name(path: Path, what: str) -> None:
    """Make the file and delete it again: the one way to know that it can be made."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        path.unlink()
    except OSError as error:
        raise _unwritable(path, what, error) from error


def _unwritable(path: Path, what: str, error: OSError) -> CheckpointError:
    return CheckpointError(f"The {what} {path} cannot be written: {error.strerror or error}. Choose another place.")
