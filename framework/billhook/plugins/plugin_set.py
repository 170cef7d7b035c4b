"""PluginSet: the plugins that take part, the ones that do not, and what is wrong with them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pluggy

from billhook.errors import PluginError, did_you_mean, listing
from billhook.log import logger
from billhook.plugins import hookspecs
from billhook.plugins.guard import guarded
from billhook.plugins.origin import DISABLE_VARIABLE, THIS_PROGRAM, Origin
from billhook.plugins.plugin_file import fingerprint, read_plugin
from billhook.plugins.plugin_info import PluginInfo
from billhook.plugins.plugin_rules import implementations, other_api
from billhook.plugins.requirements import unmet

GROUP = "billhook"
"""The entry-point group that plugins are found by."""


class PluginSet:
    """Plugins, loaded and registered.

    Attributes:
        infos: what is known of each, in the order in which they came; without the objects of a program.
        problems: by plugin, the rule that it breaks, with the way out.
    """

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._registered: dict[str, tuple[object, Origin]] = {}
        self._causes: dict[str, Exception] = {}
        self.infos: list[PluginInfo] = []
        self.problems: dict[str, str] = {}

    @property
    def hook(self) -> Any:
        """Pluggy's relay."""
        self.raise_problems()
        return self._manager.hook

    def copy(self) -> PluginSet:
        """The same plugins, registered once more. Raises :class:`PluginError` if one breaks a rule."""
        self.raise_problems()
        twin = PluginSet()
        twin.infos = list(self.infos)
        for plugin, origin in self._registered.values():
            twin._register(plugin, origin)
        return twin

    def add_installed(self, entry_points: Iterable[metadata.EntryPoint], blocked: Collection[str] | None) -> None:
        """Load entry points but for those that are ``blocked``; the environment says which if None."""
        if blocked is None:
            blocked = {name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name.strip()}
        # Not pluggy's own loader: it silently skips the second of two distributions with the same entry-point
        # name, and one failing import keeps all the rest from loading.
        for entry in sorted(entry_points, key=lambda e: (_distribution(e) != GROUP, _distribution(e), e.name)):
            self._load(entry, blocked)
        _warn_of_unknown(blocked, self.infos)

    def add_objects(self, plugins: Iterable[object]) -> None:
        """Register objects of this program."""
        for number, plugin in enumerate(plugins, start=len(self._registered)):
            origin = Origin(name=f"{_plain_name(plugin)}#{number}", distribution=THIS_PROGRAM, kind="object")
            self._register(plugin, origin)

    def add_file(self, path: str | Path) -> None:
        """Run a Python file and register it."""
        origin = Origin(name=str(path), distribution=Path(path).name, kind="file")
        if any(known.distribution == origin.distribution for _, known in self._registered.values()):
            raise PluginError(f"Two plugin files are called {origin.distribution}: rename one, since plans name them.")
        self._register(read_plugin(path), origin)
        info = PluginInfo(
            name=origin.name, distribution=origin.distribution, version=fingerprint(path), status="loaded"
        )
        self.infos.append(attrs.evolve(info, hooks=self._hooks_of(origin.name)))

    def owner_of(self, distribution: str) -> str:
        """What :class:`~billhook.plugins.culprit.Culprit` calls whoever offers names under ``distribution``."""
        origins = (origin for _, origin in self._registered.values() if origin.distribution == distribution)
        return next((origin.owner for origin in origins), "")

    def listeners(self) -> list[tuple[str, object]]:
        """Distribution and plugin of all that implement a hook of a run, not only offer something."""
        return [
            (origin.distribution, plugin)
            for name, (plugin, origin) in self._registered.items()
            if not all(hook.startswith("billhook_register_") for hook in self._hooks_of(name))
        ]

    def call_each(self, hook: str, offer: Callable[..., None]) -> None:
        """Call a registration hook plugin by plugin, so that each offer's origin is known.

        Raises:
            PluginError: what plugins do there breaks a rule; says so of all of them.
        """
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            _, origin = self._registered[implementation.plugin_name]
            register = functools.partial(offer, origin.distribution)
            try:
                implementation.function(**{name: register for name in implementation.argnames})
            except PluginError as error:
                self._find_invalid(origin, f"{error} {origin.way_out}")
            except Exception as error:
                reason = f"failed in {hook}: {type(error).__name__}: {error}"
                self._find_invalid(origin, f"Plugin {origin.name} {reason}. {origin.way_out}", error)
        self.raise_problems()

    def raise_problems(self) -> None:
        """Raise :class:`PluginError` if a plugin breaks a rule: nothing can be looked up until it is mended."""
        if self.problems:
            raise PluginError(" ".join(self.problems.values())) from next(iter(self._causes.values()), None)

    def _find_invalid(self, origin: Origin, problem: str, cause: Exception | None = None) -> None:
        self.problems.setdefault(origin.name, problem)
        if cause is not None:
            self._causes[origin.name] = cause
        self.infos = [
            attrs.evolve(info, status="invalid", reason=problem) if origin.name in (info.qualified, info.name) else info
            for info in self.infos
        ]

    def _load(self, entry: metadata.EntryPoint, blocked: Collection[str]) -> None:
        distribution = _distribution(entry)
        version = entry.dist.version if entry.dist else ""
        info = PluginInfo(name=entry.name, distribution=distribution, version=version, status="loaded")
        names = {entry.name, distribution, info.qualified}
        if hit := {name for name in blocked if name in names or _canonical(name) in names}:
            self.infos.append(attrs.evolve(info, status="blocked", reason=f"{DISABLE_VARIABLE} names {listing(hit)}"))
            return
        origin = Origin(name=info.qualified, distribution=distribution)
        try:
            self._register(_imported(entry), origin)
        except _Skipped as skipped:
            logger.warning("Plugin {} is skipped, {}{}", info.qualified, skipped.because, skipped.reason)
            self.infos.append(attrs.evolve(info, status="failed", reason=skipped.reason))
        except PluginError as error:
            self.problems[origin.name] = str(error)
            self.infos.append(attrs.evolve(info, status="invalid", reason=str(error)))
        else:
            self.infos.append(attrs.evolve(info, hooks=self._hooks_of(origin.name)))

    def _register(self, plugin: object, origin: Origin) -> None:
        if other := other_api(plugin, origin):
            if origin.kind == "installed":
                raise _Skipped(f"{other} {origin.way_out}")
            raise PluginError(f"Plugin {origin.name} cannot be used. {other} {origin.way_out}")
        found = implementations(plugin, origin, self._manager)
        if any(plugin is known for known, _ in self._registered.values()):
            raise PluginError(f"Plugin {origin.name} is given twice. Leave one out.")
        try:
            self._manager.register(guarded(found, origin), name=origin.name)
        except (pluggy.PluginValidationError, ValueError) as error:
            text = " ".join(str(error).split())
            raise PluginError(f"Plugin {origin.name} is not valid: {text} {origin.way_out}") from error
        self._registered[origin.name] = (plugin, origin)

    def _hooks_of(self, name: str) -> tuple[str, ...]:
        stand_in = self._manager.get_plugin(name)
        return tuple(sorted({caller.name for caller in self._manager.get_hookcallers(stand_in) or ()}))


class _Skipped(Exception):
    """Why a plugin does not take part while the others do."""

    def __init__(self, reason: str, because: str = "") -> None:
        super().__init__(reason)
        self.reason, self.because = reason, because


def _imported(entry: metadata.EntryPoint) -> object:
    """What an entry point names; :class:`_Skipped` says why it cannot be had."""
    if entry.dist is not None and _distribution(entry) != GROUP and (lacking := unmet(entry.dist)):
        raise _Skipped(
            f"its requirements are not met: {'; '.join(lacking)}. Install what it asks for, or block it with "
            f"{DISABLE_VARIABLE}={_distribution(entry)}:{entry.name}."
        )
    try:
        return entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a stranger's import, whatever it raises, SystemExit too, must not end the others
        raise _Skipped(f"{type(error).__name__}: {error}", "its import failed: ") from error


def _warn_of_unknown(blocked: Collection[str], infos: Sequence[PluginInfo]) -> None:
    """Of names that are blocked and that no plugin has."""
    known = {name for info in infos for name in (info.name, info.distribution, info.qualified)}
    for name in sorted(blocked):
        if not {name, _canonical(name)} & known:
            near = did_you_mean(name, sorted(known))
            logger.warning("{} names {!r}, which is no plugin.{} See billhook plugins.", DISABLE_VARIABLE, name, near)


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-")


def _distribution(entry: metadata.EntryPoint) -> str:
    return _canonical(entry.dist.name) if entry.dist else "unknown"


def _plain_name(plugin: object) -> str:
    return plugin.__name__ if isinstance(plugin, ModuleType | type) else type(plugin).__name__
