"""What a signal may not cut in two: it is held back for as long as that lasts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
"""Signals that ask a program to end: Ctrl-C, a batch system or ``kill``, a terminal that is closed."""


@contextmanager
def shielded() -> Iterator[None]:
    """Hold back signals that ask to end; the first of them is delivered afterwards. For what takes moments.

    Python hands signals to the main thread only; in others there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.getsignal(number) for number in STOPPING}
    handled = [number for number, handler in before.items() if callable(handler)]
    try:
        for number in handled:
            signal.signal(number, note)
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
        if came:
            signal.raise_signal(came[0])
