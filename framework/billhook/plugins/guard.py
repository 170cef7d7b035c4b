"""A plugin as the hooks are called on it: who raises is named, and who exits or answers wrongly is refused."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from billhook.errors import PluginError
from billhook.plugins.culprit import blame, culprit_of
from billhook.plugins.origin import Origin
from billhook.plugins.watch import look_after

VETO = "billhook_before_cut"


def guarded(implementations: Mapping[str, tuple[str, Callable[..., Any], Mapping[str, Any]]], origin: Origin) -> object:
    """An object whose methods call those of a plugin.

    Args:
        implementations: by attribute, the hook, the function, and the options that it was marked with.
        origin: of the plugin, for what is said of it. What billhook itself brings is handed on as it is.
    """
    stand_in = _StandIn()
    for name, (hook, function, options) in implementations.items():
        ours = origin.distribution == "billhook"
        setattr(stand_in, name, function if ours else _guard(function, hook, options, origin))
    return stand_in


class _StandIn:
    """What pluggy holds in the place of a plugin."""


@contextmanager
def _answering(hook: str, origin: Origin, cut: object) -> Iterator[None]:
    """Whatever is raised inside is noted as the plugin's, unless it is of another one already."""
    try:
        yield
    except SystemExit as error:
        refusal = PluginError(
            f"{hook} of the plugin {origin.name} ended the program (SystemExit: {error.code}). To end a run, raise a "
            f"BillhookError."
        )
        blame(refusal, origin.culprit(hook, cut))
        raise refusal from error
    except Exception as error:
        if culprit_of(error) is None:
            blame(error, origin.culprit(hook, cut))
        raise


def _guard(function: Callable[..., Any], hook: str, options: Mapping[str, Any], origin: Origin) -> Callable[..., Any]:
    names = list(inspect.signature(function).parameters)

    if options.get("wrapper") or options.get("hookwrapper"):

        @functools.wraps(function)
        def wrapper(*given: Any, **named: Any) -> Generator[Any, Any, Any]:
            cut = {**dict(zip(names, given, strict=False)), **named}.get("cut")
            with _answering(hook, origin, cut):
                answer = yield from function(*given, **named)
                look_after(hook, lambda: origin.culprit(hook, cut))
                for each in answer if hook == VETO and options.get("wrapper") else ():
                    _refuse_no_reason(each, origin)
                return answer

        return wrapper

    @functools.wraps(function)
    def plain(*given: Any, **named: Any) -> Any:
        cut = {**dict(zip(names, given, strict=False)), **named}.get("cut")
        with _answering(hook, origin, cut):
            answer = function(*given, **named)
            look_after(hook, lambda: origin.culprit(hook, cut))
            if hook == VETO:
                _refuse_no_reason(answer, origin)
            return answer

    return plain


def _refuse_no_reason(answer: object, origin: Origin) -> None:
    if answer is None or (isinstance(answer, str) and answer.strip()):
        return
    raise PluginError(
        f"{VETO} of the plugin {origin.name} returned {answer!r}. To veto a cut, return the reason as text that is not "
        f"empty; to let it pass, return None."
    )
