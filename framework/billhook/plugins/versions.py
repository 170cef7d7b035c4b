"""Versions: of the distributions that had a part in a run."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any

import attrs

from billhook.plugins.registry import Registry
from billhook.roles.role import ROLES
from billhook.version import __version__

COMPUTING = ("torch", "transformers")
"""Distributions that compute: another version may round otherwise."""

OURS = "billhook"

_ROLES = tuple(info.base for info in ROLES.values())


def versions(registry: Registry, parts: Iterable[object], *, hooks: bool = True) -> dict[str, str]:
    """By name, in order: billhook, what computes, what offers ``parts`` and the strategies in them, and whose hooks
    are heard.

    Args:
        registry: knows who offers what.
        parts: strategies, an adapter, a recipe. Of one that nobody offers it is the distribution of its module; a
            script of the user's has no version.
        hooks: whether plugins that only listen count as well.
    """
    found = {OURS, *COMPUTING}
    for part in (inner for whole in parts for inner in _within(whole)):
        found.add(registry.distribution_of(part) or _of_module(part) or OURS)
    for distribution, plugin in registry.listeners() if hooks else ():
        found.add(distribution if version_of(registry, distribution) else _of_module(plugin) or OURS)
    return {name: version for name in sorted(found) if (version := version_of(registry, name))}


def version_of(registry: Registry, distribution: str) -> str | None:
    """The installed version; None where there is no such distribution."""
    if distribution == OURS:
        return __version__
    for plugin in registry.plugins:
        if plugin.distribution == distribution and plugin.version:
            return plugin.version
    return _installed(distribution)


@functools.cache
def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        return None


def _within(part: object) -> Iterator[object]:
    """``part`` and the strategies among its fields, at any depth: a sequence of selectors works by its stages."""
    if part is None:
        return
    yield part
    for value in _values(part):
        if isinstance(value, _ROLES) or attrs.has(type(value)):
            yield from _within(value)


def _values(part: object) -> Iterator[Any]:
    for field in getattr(type(part), "__attrs_attrs__", ()):
        value = getattr(part, field.name)
        yield from value if isinstance(value, list | tuple) else (value,)


def _of_module(thing: object) -> str | None:
    """The distribution that the module of a plugin, or of an object's class, was installed with."""
    module = getattr(thing, "__name__", None) if not isinstance(thing, type) else None
    name = module if isinstance(module, str) else type(thing).__module__
    top = name.partition(".")[0]
    if top in ("__main__", OURS):
        return None
    owners = _owners().get(top, [])
    return owners[0].lower().replace("_", "-") if owners else None


@functools.cache
def _owners() -> dict[str, list[str]]:
    return {top: list(names) for top, names in metadata.packages_distributions().items()}
