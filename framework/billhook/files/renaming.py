"""Renames that replace nothing: what has appeared at the target meanwhile is never lost."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

_HERE = -100
"""``AT_FDCWD``: paths are as they are written."""

_REFUSING, _EXCHANGING = {"darwin": (4, 2)}.get(sys.platform, (1, 2))
"""``RENAME_EXCL`` and ``RENAME_SWAP`` of macOS, ``RENAME_NOREPLACE`` and ``RENAME_EXCHANGE`` of Linux."""

_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What systems and file systems answer that cannot do it."""


def rename_new(source: Path, target: Path) -> None:
    """Rename a file or folder to a place where nothing is.

    Where the system has no such call, the place is taken first, which two cannot do: by an empty folder, which a
    rename replaces and which no rename replaces that has got a content; a file by a second name.

    Raises:
        FileExistsError: something is there, be it an empty folder or a link to nowhere.
        OSError: it cannot be done.
    """
    if _rename_by_flag(source, target, _REFUSING):
        return
    if os.name == "nt":
        source.rename(target)  # replaces nothing on Windows
    elif source.is_dir():
        target.mkdir()
        try:
            source.rename(target)
        except OSError:
            target.rmdir()
            raise
    else:
        os.link(source, target)
        source.unlink()


def exchange(one: Path, other: Path) -> bool:
    """Let two files or folders change places in one step; False where the system cannot.

    Raises:
        OSError: one of them is not there, or it is not allowed.
    """
    return _rename_by_flag(one, other, _EXCHANGING)


def _rename_by_flag(source: Path, target: Path, flag: int) -> bool:
    if _SYSTEM is None:
        return False
    number = _SYSTEM(os.fsencode(source), os.fsencode(target), flag)
    if number in _UNKNOWN:
        return False
    if number:
        raise OSError(number, os.strerror(number), str(source), None, str(target))
    return True


def _system() -> Callable[[bytes, bytes, int], int] | None:
    """The call of Linux or macOS that gives an error number, 0 for none; None where there is none."""
    if sys.platform not in ("linux", "darwin"):
        return None
    library = ctypes.CDLL(None, use_errno=True)
    try:
        call = library.renamex_np if sys.platform == "darwin" else library.renameat2
    except AttributeError:  # an older C library
        return None

    def rename(source: bytes, target: bytes, flag: int) -> int:
        places = (source, target) if sys.platform == "darwin" else (_HERE, source, _HERE, target)
        ctypes.set_errno(0)
        return ctypes.get_errno() or errno.EIO if call(*places, flag) else 0

    return rename


_SYSTEM = _system()
