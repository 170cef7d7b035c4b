"""Whose exception it is: what a stranger's strategy raises in a run is noted as theirs, with cut and phase."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from types import FrameType, TracebackType

import attrs

from billhook.cuts.cut import Cut
from billhook.errors import PluginError
from billhook.plugins.culprit import OURS, Culprit, blame, culprit_of, owner_of
from billhook.plugins.registry import Registry
from billhook.roles.role import ROLES


@attrs.define
class Whereabouts:
    """What a run is doing, and with which cut."""

    phase: str = ""
    cut: Cut | None = None


@contextmanager
def attributed(registry: Registry, where: Whereabouts) -> Iterator[None]:
    """Note on whatever is raised inside which stranger's hook or strategy it comes from, if one was running.

    Found in the traceback: the innermost method of a strategy that is not billhook's. So this is the one place, however
    many call strategies. Texts and classes of errors stay as they are.

    Raises:
        PluginError: a strategy ended the program by ``sys.exit``.
    """
    try:
        yield
    except SystemExit as error:
        culprit = _strategy_in(error.__traceback__, registry)
        if culprit is None:
            raise
        refusal = PluginError(f"{culprit.what} ended the program (SystemExit: {error.code}). Raise a BillhookError.")
        blame(refusal, _at(culprit, where))
        raise refusal from error
    except Exception as error:
        culprit = culprit_of(error) or _strategy_in(error.__traceback__, registry)
        if culprit is not None:
            blame(error, _at(culprit, where))
        raise


def _at(culprit: Culprit, where: Whereabouts) -> Culprit:
    cut = culprit.cut or ("" if where.cut is None else str(where.cut))
    return attrs.evolve(culprit, cut=cut, phase=culprit.phase or where.phase)


def _strategy_in(trace: TracebackType | None, registry: Registry) -> Culprit | None:
    """The innermost method of a stranger's strategy or kind of cut that was running."""
    for frame, _ in reversed(list(walk_tb(trace))):
        found = _owner_of_frame(frame, registry)
        if found is not None:
            return found
    return None


def _owner_of_frame(frame: FrameType, registry: Registry) -> Culprit | None:
    code = frame.f_code
    if not code.co_argcount:
        return None
    me = frame.f_locals.get(code.co_varnames[0])
    cls = type(me)
    if cls.__module__.partition(".")[0] in OURS:
        return None
    for role, info in ROLES.items():
        if issubclass(cls, info.base):
            name = registry.offered_as(role, cls)
            called = f"({cls.__module__}.{cls.__qualname__})" if name is None else name
            owner = owner_of(cls) if name is None else registry.owner_of(name)
            return Culprit(what=f"{_method(frame)}the {role} {called}", owner=owner)
    if issubclass(cls, Cut):
        return Culprit(what=f"{_method(frame)}the kind of cut {cls.kind!r}", owner=owner_of(cls))
    return None


def _method(frame: FrameType) -> str:
    """``select of``; nothing for a function of billhook's own that was handed the strategy."""
    ours = str(frame.f_globals.get("__name__", "")).partition(".")[0] in OURS
    return "" if ours else f"{frame.f_code.co_name} of "
