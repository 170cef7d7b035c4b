"""Standard output and standard error that may fail without harm: a full disk, a reader that is gone, a lost terminal.

What a command does must not end because it cannot be told. So these take whatever is written to them, and remember what
was lost.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import attrs

from billhook.errors import CheckpointError
from billhook.files.whole_file import write_whole

if TYPE_CHECKING:
    from typing_extensions import Buffer


@attrs.define
class Losses:
    """What could not be written, if anything.

    Attributes:
        stdout: the first error of standard output.
        stderr: that of standard error.
        said: all that standard output was given, which is no more than a user reads or one JSON object.
    """

    stdout: OSError | None = None
    stderr: OSError | None = None
    said: bytearray = attrs.field(factory=bytearray)


class _Lossy(io.RawIOBase):
    """A file that takes everything; after its first error it throws away."""

    def __init__(self, descriptor: int, name: str, losses: Losses) -> None:
        self._descriptor, self.name, self._losses = descriptor, name, losses

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Buffer) -> int:
        view = memoryview(data).cast("B")
        written = len(view)
        if getattr(self._losses, self.name) is None:
            try:
                written = os.write(self._descriptor, view)
            except OSError as error:
                setattr(self._losses, self.name, error)
        if self.name == "stdout":
            self._losses.said += view[:written]
        return written


@contextmanager
def lossy_streams() -> Iterator[Losses]:
    """``sys.stdout`` and ``sys.stderr`` raise no error inside; what a test or a notebook has replaced already stays.

    A stream that was closed before the program began is None in Python, and takes everything anyway. Its number is
    given away, or the next file that is opened would get it, and whatever a library prints would go into that file.
    """
    _take_free_numbers()
    losses, before = Losses(), (sys.stdout, sys.stderr)
    sys.stdout, sys.stderr = _lossy(sys.stdout, "stdout", losses), _lossy(sys.stderr, "stderr", losses)
    try:
        yield losses
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def kept(said: bytearray) -> str:
    """Writes what was not printed to a file, and says to which: figures of hours may be all that a command makes."""
    for folder in (tempfile.gettempdir, os.getcwd):
        with contextlib.suppress(OSError, CheckpointError):  # as full as what it was printed to; or gone
            file = Path(folder(), f"billhook-{secrets.token_hex(4)}.txt")
            write_whole(file, bytes(said), overwrite=False, what="output")
            return f"It is in {file}."
    return "What it does is done."


def _take_free_numbers() -> None:
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one


def _lossy(stream: TextIO, name: str, losses: Losses) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    if not isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO):
        stream.reconfigure(errors="replace")
        return stream
    stream.flush()
    raw = _Lossy(stream.fileno(), name, losses)
    # errors: a terminal that knows no arrows gets a question mark, not an error
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=raw.isatty() or name == "stderr",
    )
