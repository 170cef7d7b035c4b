"""What a plugin must be like to take part: the hooks it implements, told apart from what only looks like one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import pluggy

from billhook.errors import PluginError, did_you_mean, listing
from billhook.plugins import hookspecs
from billhook.plugins.origin import Origin

PLUGIN_API = 1
"""The version of what billhook promises plugins. A change that could break one that keeps to it raises the number."""

API_ATTRIBUTE = "BILLHOOK_PLUGIN_API"
"""What a plugin declares the version, or a tuple of versions, by that it is written for; 1 if it declares none."""

HOOKS: Mapping[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(hook).parameters)
    for name, hook in inspect.getmembers(hookspecs, inspect.isfunction)
    if name.startswith("billhook_")
}
"""Every hook, with the arguments that it has."""

Implementation = tuple[str, Callable[..., Any], Mapping[str, Any]]
"""A hook, the function that implements it, and the options that it was marked with."""


def other_api(plugin: object, origin: Origin) -> str:
    """Why a plugin is for another version of the interface; empty if it is for this one.

    Raises:
        PluginError: what it declares is no version.
    """
    declared = getattr(plugin, API_ATTRIBUTE, 1)
    versions = declared if isinstance(declared, tuple | list | set | frozenset) else (declared,)
    if not versions or any(not isinstance(version, int) or isinstance(version, bool) for version in versions):
        raise PluginError(
            f"Plugin {origin.name} declares {API_ATTRIBUTE} = {declared!r}, which is neither a number nor a tuple of "
            f"numbers. {origin.way_out}"
        )
    if PLUGIN_API in versions:
        return ""
    newest = max(versions)
    return (
        f"It is written for version {listing([str(version) for version in versions])} of the plugin API, and this "
        f"billhook has {PLUGIN_API}. " + ("Update billhook." if newest > PLUGIN_API else "Update the plugin.")
    )


def implementations(plugin: object, origin: Origin, manager: pluggy.PluginManager) -> dict[str, Implementation]:
    """What a plugin implements, by attribute.

    Hooks that are unknown and marked as optional are left out: those are of other versions.

    Raises:
        PluginError: it is a class, implements nothing, or something that would never be called as it stands.
    """
    name = origin.name
    if isinstance(plugin, type):
        raise PluginError(f"Plugin {name} is a class; give an instance or a module. {origin.way_out}")
    found: dict[str, Implementation] = {}
    for attribute, options in _marked(plugin, origin, manager):
        hook = options.get("specname") or attribute
        if hook not in HOOKS:
            if options.get("optionalhook"):
                continue
            raise PluginError(
                f"Plugin {name} implements {hook}, which is no hook of billhook.{did_you_mean(hook, HOOKS)} "
                f"{origin.way_out} A hook of another version is marked @hookimpl(optionalhook=True)."
            )
        function = getattr(plugin, attribute)
        _refuse_uncallable(function, hook, options, origin)
        found[attribute] = (hook, function, options)
    if not found and not any(True for _ in _marked(plugin, origin, manager)):
        raise PluginError(
            f"Plugin {name} implements no hook, so it would never be called.{_nearest_function(plugin)} Write "
            f"functions that are named like hooks, and mark them with @hookimpl: see docs/hooks.md. {origin.way_out}"
        )
    return found


def _marked(plugin: object, origin: Origin, manager: pluggy.PluginManager) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for attribute in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, attribute)
        if options is not None:
            yield attribute, dict(options)
        elif attribute in HOOKS:  # pluggy would pass it over without a word
            raise PluginError(
                f"Plugin {origin.name} has a {attribute} that is not marked with @hookimpl, so it would never be "
                f"called. Mark it or rename it. {origin.way_out}"
            )


def _refuse_uncallable(function: Callable[..., Any], hook: str, options: Mapping[str, Any], origin: Origin) -> None:
    wraps = options.get("wrapper") or options.get("hookwrapper")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(
            f"Plugin {origin.name} implements {hook} as an async function, which nobody would await: write def in "
            f"the place of async def. {origin.way_out}"
        )
    if inspect.isgeneratorfunction(function) and not wraps:
        raise PluginError(
            f"Plugin {origin.name} implements {hook} with a yield, so its body would never run: take that out, or mark "
            f"it @hookimpl(wrapper=True). {origin.way_out}"
        )
    if wraps and not inspect.isgeneratorfunction(function):
        raise PluginError(
            f"Plugin {origin.name} marks {hook} as a wrapper, and it has no yield: see pluggy's documentation. "
            f"{origin.way_out}"
        )
    _refuse_arguments(function, hook, origin)


def _refuse_arguments(function: Callable[..., Any], hook: str, origin: Origin) -> None:
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY):
            raise PluginError(
                f"Plugin {origin.name}: {hook} takes {parameter}, which a hook cannot fill. Name the arguments that it "
                f"uses, of {listing(HOOKS[hook])}. {origin.way_out}"
            )
        if parameter.name not in HOOKS[hook] and parameter.default is parameter.empty:
            raise PluginError(
                f"Plugin {origin.name} is not valid: {hook} has no argument {parameter.name!r}."
                f"{did_you_mean(parameter.name, HOOKS[hook])} It has: {listing(HOOKS[hook])}. {origin.way_out}"
            )


def _nearest_function(plugin: object) -> str:
    """A hook that one of its functions may have been meant for."""
    for name in dir(plugin):
        if name.startswith("_") or isinstance(getattr(plugin, name, None), ModuleType | type):
            continue
        for asked in (name, f"billhook_{name}"):
            if near := difflib.get_close_matches(asked, HOOKS, n=1, cutoff=0.8):
                return f" Is its {name} meant for {near[0]}?"
    return ""
