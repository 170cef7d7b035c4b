"""What is looked at whenever a stranger's hook has returned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from billhook.plugins.culprit import Culprit

Look = Callable[[Callable[[], Culprit], str], None]
"""Is handed what tells the culprit, if it is needed, and the name of the hook."""

_LOOKS: ContextVar[tuple[Look, ...]] = ContextVar("billhook_looks", default=())


@contextmanager
def watching(look: Look) -> Iterator[None]:
    """Call ``look`` after every hook of a stranger inside; what it raises, the hook raises."""
    token = _LOOKS.set((*_LOOKS.get(), look))
    try:
        yield
    finally:
        _LOOKS.reset(token)


def look_after(hook: str, culprit: Callable[[], Culprit]) -> None:
    """A hook has returned."""
    for look in _LOOKS.get():
        look(culprit, hook)
