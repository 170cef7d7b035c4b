"""How a command ends that is told to: by Ctrl-C, by a batch system, or by a terminal that is closed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from billhook.files.shield import STOPPING

IMPATIENT = 5.0
"""Seconds after which another signal interrupts again. Until then the first one is being obeyed: what was begun is
cleaned up, and a second one would leave it lying."""


@contextmanager
def ending() -> Iterator[None]:
    """All signals that ask to end are Ctrl-C inside; those that the parent wants ignored (``nohup``) stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: list[float] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not first or now - first[-1] > IMPATIENT:
            first.append(now)
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in STOPPING}
    handled = [n for n, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
