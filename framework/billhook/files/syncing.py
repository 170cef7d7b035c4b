"""What is on the disk for good: a rename that survives a power failure, of a content that does not, is a loss."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def sync_tree(folder: Path) -> None:
    """Put a folder with everything in it on the disk.

    Raises:
        OSError: it cannot be; a full disk may say so only now.
    """
    for root, _, files in os.walk(folder):
        for name in files:
            _sync_file(Path(root, name))
        sync_folder(Path(root))


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system can (Windows cannot, nor some network drives)."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _sync_file(file: Path) -> None:
    with file.open("r+b") as stream:  # Windows syncs only what may be written
        os.fsync(stream.fileno())
