"""Lock: one process at a time works on a file. What a dead process held is free."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import weakref
from pathlib import Path

from billhook.log import logger

_CONTENDED = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_BEYOND = 2**62
"""Where Windows locks a byte: its locks keep others from reading, so it must be none that a file has."""


class Locked(Exception):
    """Somebody else holds the lock; ``str`` is what they wrote into the file."""


class Lock:
    """An open file that nobody else has locked; the lock goes with the process, however it ends.

    Of the system, on the file itself and not on its name (``flock``; on Windows a byte that no file has). Packages
    that lock by a file of their own empty it, or leave it behind; this may hold a file that has a content, and can
    delete it. On a file system that knows no locks there is none: a log message says so.

    Attributes:
        path: of the file.
        fd: its descriptor, open for reading and appending.
        made: whether the file was not there before.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``, or make it, and lock it.

        Raises:
            Locked: another process, or another object of this one, holds it.
            OSError: it cannot be opened, or is no plain file.
        """
        self.path = path
        self.fd, self.made = _open_locked(path)
        self._close = weakref.finalize(self, os.close, self.fd)

    @property
    def open(self) -> bool:
        """Whether it is still held."""
        return self._close.alive

    @property
    def in_place(self) -> bool:
        """Whether the file still lies where it was opened."""
        return _is_at(self.fd, self.path)

    def remove(self) -> None:
        """Delete the file and let go of it, unless that has happened already."""
        if not self.open:
            return
        if os.name == "nt":
            self.close()  # Windows deletes no open files
        with contextlib.suppress(OSError):
            if os.name == "nt" or self.in_place:
                self.path.unlink()
        self.close()

    def close(self) -> None:
        """Let go of the file, which stays. May be called twice."""
        self._close()


def why_not_plain(mode: int) -> str | None:
    """What a file with this ``st_mode`` is in words, unless it is a plain file."""
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    return None if stat.S_ISREG(mode) else kinds.get(stat.S_IFMT(mode), "no plain file")


def _open_locked(path: Path) -> tuple[int, bool]:
    while True:
        with contextlib.suppress(FileNotFoundError):
            if kind := why_not_plain(path.stat().st_mode):
                raise OSError(errno.EINVAL, f"it is {kind}")
        made = not path.exists()
        # a pipe that appears just now would wait for a writer, unless told not to
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NONBLOCK", 0), 0o666)
        try:
            if _taken(fd):
                raise Locked(os.pread(fd, 200, 0).decode(errors="replace") if hasattr(os, "pread") else "")
            if _is_at(fd, path):  # or else who had it has deleted it meanwhile
                return fd, made
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_at(fd: int, path: Path) -> bool:
    """Whether the open file is what lies at ``path``."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _taken(fd: int) -> bool:
    """Lock ``fd``; True if somebody else has."""
    try:
        _lock(fd)
    except OSError as error:
        if error.errno in _CONTENDED:
            return True
        logger.info("This file system knows no locks ({}): start nothing else that writes to the same place.", error)
    return False


if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        os.lseek(fd, _BEYOND, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
