"""Registry: which plugins there are, and which strategies and adapters they offer by name."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import attrs
import cattrs
import pluggy

from billhook.errors import (
    InvalidConfig,
    PluginError,
    UnsupportedArchitecture,
    did_you_mean,
    listing,
)
from billhook.heterogeneous.configuration_billhook import family_of
from billhook.json_values import build
from billhook.log import logger
from billhook.model.adapter import Adapter
from billhook.model.view import ModelView
from billhook.plans.strategy_spec import StrategySpec
from billhook.plugins import hookspecs
from billhook.plugins.offers import note, pick
from billhook.plugins.plugin_info import PluginInfo
from billhook.plugins.strategy_options import converter_for, defaults_of, options_of
from billhook.roles.recipe import Recipe
from billhook.roles.role import ROLES, Role, Strategy, why_unfit
from billhook.roles.selector import Selector

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GROUP = "billhook"
"""The entry-point group that plugins are found by."""

DISABLE_VARIABLE = "BILLHOOK_DISABLE_PLUGINS"
"""Environment variable: entry-point names, distributions or ``dist:name``, separated by commas, not to load."""


class Registry:
    """Plugins, and the strategies and adapters they offer.

    A value of its own rather than a global, so that tests and pruners can hold different ones;
    :func:`default_registry` is the one made of all installed plugins.

    Attributes:
        plugins: what is known of each plugin: name, distribution, status, the hooks that it implements.
    """

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._distributions: dict[str, str] = {}
        self.plugins: list[PluginInfo] = []
        self._problems: list[str] = []

    @classmethod
    def from_entry_points(
        cls, entry_points: Iterable[metadata.EntryPoint] | None = None, blocked: Collection[str] | None = None
    ) -> Registry:
        """Load every entry point of the group, or those given.

        A plugin that fails on import is logged and skipped; one that breaks a rule is noted, and makes the first
        look-up raise. ``blocked`` defaults to what ``BILLHOOK_DISABLE_PLUGINS`` names.
        """
        registry = cls()
        if entry_points is None:
            entry_points = metadata.entry_points(group=GROUP)
        if blocked is None:
            blocked = {name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name.strip()}
        # Not pluggy's own loader: it silently skips the second of two distributions with the same entry-point
        # name, and one failing import keeps all the rest from loading.
        for entry in sorted(entry_points, key=lambda e: (_distribution(e) != GROUP, _distribution(e), e.name)):
            registry._load(entry, blocked)
        return registry

    def extended(self, plugins: Iterable[object]) -> Registry:
        """A registry with the same plugins and these objects on top; this one stays as it is.

        Raises:
            PluginError: one of them implements an unknown hook, or takes an unknown argument.
        """
        self._raise_problems()
        registry = Registry()
        registry.plugins = list(self.plugins)
        for name, plugin in self._manager.list_name_plugin():
            if plugin is not None:
                registry._register(plugin, name, self._distributions[name])
        for number, plugin in enumerate(plugins, start=len(registry._distributions)):
            registry._register(plugin, f"{_plain_name(plugin)}#{number}", "this-program")
        return registry

    @property
    def hook(self) -> Any:
        """Pluggy's relay: ``registry.hook.billhook_after_cut(state=…, cut=…, report=…)``."""
        self._raise_problems()
        return self._manager.hook

    def names(self, role: Role) -> list[str]:
        """Short names of a role's strategies, in order."""
        return sorted(self._offers[role])

    def qualified_names(self, role: Role) -> list[str]:
        """``dist:name`` of every offer of a role, in order."""
        return sorted(f"{dist}:{name}" for name, offers in self._offers[role].items() for dist in offers)

    def create(self, role: Role, name: str, options: Mapping[str, Any] | None = None) -> Strategy:
        """Build the strategy called ``name`` (or ``dist:name``).

        Options may be JSON values (lists for tuples, dictionaries for nested values).

        Raises:
            UnknownStrategy: nobody offers the name; the nearest one is suggested.
            AmbiguousStrategy: two distributions offer it.
            InvalidConfig: an option is unknown or outside its range.
            PluginError: an installed plugin breaks a rule.
        """
        factory = pick(role, name, self._offers[role])
        strategy = build(factory, options or {}, f"{role} {name!r}", self._converter)
        if not _plays(role, strategy):
            raise PluginError(f"The {role} {name!r} is a {type(strategy).__name__}, which is no {role.capitalize()}.")
        if reason := why_unfit(type(strategy)):
            raise PluginError(f"The {role} {name!r} does not fit: {reason}")
        return strategy

    def resolve(self, role: Role, given: str | Strategy) -> Strategy:
        """``given`` itself if it is a strategy of that role, else the one it names.

        Raises:
            InvalidConfig: neither a name nor an object of that role's class, or one of a class that is not attrs' and
                frozen.
            UnknownStrategy, AmbiguousStrategy: nobody offers the name, or two distributions do.
        """
        if isinstance(given, str):
            return self.create(role, given)
        if not _plays(role, given):
            raise InvalidConfig(
                f"The {role} must be a name or an object of the class {role.capitalize()}; got {given!r}."
                + (" That is the class; call it." if isinstance(given, type) else "")
            )
        if reason := why_unfit(type(given)):
            raise InvalidConfig(f"The {role} does not fit: {reason}")
        return given

    def spec(self, role: Role, strategy: Strategy) -> StrategySpec:
        """The strategy as data: the name that it is offered by, qualified, and all its options.

        One that nobody offers is named by its class, in brackets; such a name cannot be built again, so options that
        JSON has no words for are told in words.

        Raises:
            InvalidConfig: one that is offered has an option with a value that no plan can hold.
        """
        name, options = self._name_of(role, strategy), {}
        if name is not None:
            options = self.options_of(strategy)
        else:
            name, options = f"({type(strategy).__module__}.{type(strategy).__qualname__})", self._told(strategy)
        return StrategySpec(name=name, options=options, defaults=defaults_of(strategy))

    def options_of(self, strategy: Strategy) -> dict[str, Any]:
        """All options, as JSON values.

        Selectors within selectors (the stages of a sequence) are named as this registry knows them.

        Raises:
            InvalidConfig: one has a value that no JSON can hold.
        """
        return options_of(strategy, self._converter)

    def _name_of(self, role: Role, strategy: Strategy) -> str | None:
        """``dist:name`` of the offer that is the strategy's class; None where nobody offers it."""
        for name, offers in sorted(self._offers[role].items()):
            for dist, factory in sorted(offers.items()):
                if factory is type(strategy):
                    return f"{dist}:{name}"
        return None

    def _told(self, strategy: Strategy) -> dict[str, Any]:
        try:
            return self.options_of(strategy)
        except InvalidConfig:
            return {
                field.name: repr(getattr(strategy, field.name)) for field in attrs.fields(cast(Any, type(strategy)))
            }

    def recipes(self) -> dict[str, Recipe]:
        """Every recipe by its qualified name, in order."""
        found = {f"{dist}:{name}": r for name, offers in self._recipes.items() for dist, r in offers.items()}
        return dict(sorted(found.items()))

    def recipe(self, name: str) -> Recipe:
        """The recipe called ``name`` (or ``dist:name``).

        Raises:
            UnknownStrategy: nobody offers the name; the nearest one is suggested.
            AmbiguousStrategy: two distributions offer it.
            PluginError: an installed plugin breaks a rule.
        """
        return pick("recipe", name, self._recipes)

    def adapter_for(self, model_type: str) -> Adapter:
        """The adapter that serves this ``config.model_type``.

        Raises:
            UnsupportedArchitecture: none does; lists the known ones and says how to add one.
            PluginError: two distributions do.
        """
        offers = self._adapters.get(model_type, {})
        if len(offers) > 1:
            raise PluginError(
                f"Model type {model_type!r} is served by {listing(offers)}. Block one with {DISABLE_VARIABLE}."
            )
        if not offers:
            known = list(self._adapters)
            raise UnsupportedArchitecture(
                f"No adapter knows the model type {model_type!r}.{did_you_mean(model_type, known)} Known: "
                f"{listing(known)}. A new one is about 20 lines of data: see docs/adapters.md."
            )
        return next(iter(offers.values()))

    def view(self, model: PreTrainedModel) -> ModelView:
        """The model, seen through its adapter.

        Raises:
            UnsupportedArchitecture: none serves its type, or its adapter turns this variant away.
            PluginError: two distributions serve it.
        """
        return ModelView(model, self.adapter_for(family_of(model.config)))

    def distribution_of(self, thing: object) -> str | None:
        """The distribution that offers an adapter, a recipe, or the class of a strategy; None where none does."""
        tables: list[Mapping[str, Mapping[str, object]]] = [*self._offers.values(), self._adapters, self._recipes]
        for offers in (offers for table in tables for offers in table.values()):
            for distribution, offer in offers.items():
                if offer is thing or offer is type(thing):
                    return distribution
        return None

    def listeners(self) -> list[tuple[str, object]]:
        """Distribution and plugin of all that implement a hook of a run, not only offer something."""
        return [
            (self._distributions[name], plugin)
            for name, plugin in self._manager.list_name_plugin()
            if plugin is not None and not all(map(_is_offer, _hooks_of(self._manager, plugin)))
        ]

    def adapters(self) -> list[Adapter]:
        """Every adapter, once, by name."""
        distinct = {id(a): a for offers in self._adapters.values() for a in offers.values()}
        return sorted(distinct.values(), key=lambda adapter: adapter.name)

    @functools.cached_property
    def _converter(self) -> cattrs.Converter:
        return converter_for(
            lambda selector: self.spec("selector", selector),
            lambda name, options: cast(Selector, self.create("selector", name, options)),
        )

    @functools.cached_property
    def _offers(self) -> dict[Role, dict[str, dict[str, Callable[..., Strategy]]]]:
        """By role, name and distribution: the factory."""
        return {role: self._collect(role) for role in ROLES}

    @functools.cached_property
    def _adapters(self) -> dict[str, dict[str, Adapter]]:
        """By model type and distribution: the adapter."""
        table: dict[str, dict[str, Adapter]] = {}

        def offer(distribution: str, adapter: Adapter) -> None:
            if not isinstance(adapter, Adapter):
                raise PluginError(f"{distribution} offers {adapter!r} as an adapter, which is no Adapter instance.")
            for model_type in adapter.model_types:
                if distribution in table.setdefault(model_type, {}):
                    raise PluginError(f"{distribution} offers two adapters for the model type {model_type!r}.")
                table[model_type][distribution] = adapter

        self._call_each("billhook_register_adapters", offer)
        return table

    @functools.cached_property
    def _recipes(self) -> dict[str, dict[str, Recipe]]:
        """By name and distribution."""
        table: dict[str, dict[str, Recipe]] = {}

        def offer(distribution: str, recipe: Recipe) -> None:
            if not isinstance(recipe, Recipe):
                raise PluginError(f"{distribution} offers {recipe!r} as a recipe, which is no Recipe instance.")
            note(table, "recipe", recipe.name, distribution, recipe)

        self._call_each("billhook_register_recipes", offer)
        return table

    def _collect(self, role: Role) -> dict[str, dict[str, Callable[..., Strategy]]]:
        table: dict[str, dict[str, Callable[..., Strategy]]] = {}

        def offer(distribution: str, name: str, factory: Callable[..., Strategy]) -> None:
            if not callable(factory) or (isinstance(factory, type) and not issubclass(factory, ROLES[role].base)):
                raise PluginError(
                    f"{distribution} offers {factory!r} as the {role} {name!r}, which is no "
                    f"{role.capitalize()} class, nor a function that returns one."
                )
            if isinstance(factory, type) and (reason := why_unfit(factory)):
                raise PluginError(f"{distribution} offers the {role} {name!r}, which does not fit: {reason}")
            note(table, role, name, distribution, factory)

        self._call_each(ROLES[role].hook, offer)
        return table

    def _call_each(self, hook: str, offer: Callable[..., None]) -> None:
        """Call a registration hook plugin by plugin, so that each offer's origin is known."""
        self._raise_problems()
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            register = functools.partial(offer, self._distributions[implementation.plugin_name])
            try:
                implementation.function(**{name: register for name in implementation.argnames})
            except PluginError:
                raise
            except Exception as error:
                name = implementation.plugin_name
                raise PluginError(
                    f"Plugin {name} failed in {hook}: {type(error).__name__}: {error}. "
                    f"Mend it, or block it with {DISABLE_VARIABLE}={name}."
                ) from error

    def _load(self, entry: metadata.EntryPoint, blocked: Collection[str]) -> None:
        distribution = _distribution(entry)
        version = entry.dist.version if entry.dist else ""
        info = PluginInfo(name=entry.name, distribution=distribution, version=version, status="loaded")
        if hit := {entry.name, distribution, info.qualified} & set(blocked):
            self.plugins.append(attrs.evolve(info, status="blocked", reason=f"{DISABLE_VARIABLE} names {listing(hit)}"))
            return
        try:
            plugin = entry.load()
        except Exception as error:  # whatever a stranger's import raises must not keep the others from loading
            reason = f"{type(error).__name__}: {error}"
            logger.warning("Plugin {} is skipped, its import failed: {}", info.qualified, reason)
            self.plugins.append(attrs.evolve(info, status="failed", reason=reason))
            return
        try:
            self._register(plugin, info.qualified, distribution)
        except PluginError as error:
            self._problems.append(str(error))
            self.plugins.append(attrs.evolve(info, status="invalid", reason=str(error)))
            return
        self.plugins.append(attrs.evolve(info, hooks=_hooks_of(self._manager, plugin)))

    def _register(self, plugin: object, name: str, distribution: str) -> None:
        if isinstance(plugin, type):
            raise PluginError(f"Plugin {name} is a class; give an instance or a module.")
        self._refuse_unknown_hooks(plugin, name)
        try:
            self._manager.register(plugin, name=name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"Plugin {name} is not valid: {' '.join(str(error).split())}") from error
        self._distributions[name] = distribution

    def _refuse_unknown_hooks(self, plugin: object, name: str) -> None:
        known = [hook for hook in dir(hookspecs) if hook.startswith("billhook_")]
        for attribute in dir(plugin):
            marked = self._manager.parse_hookimpl_opts(plugin, attribute) is not None
            if attribute in known and not marked:  # pluggy would pass it over without a word
                raise PluginError(
                    f"Plugin {name} has a {attribute} that is not marked with @hookimpl, so it would never be called. "
                    f"Mark it, rename it, or block the plugin with {DISABLE_VARIABLE}={name}."
                )
            if attribute not in known and marked:
                raise PluginError(
                    f"Plugin {name} implements {attribute}, which is no hook of billhook."
                    f"{did_you_mean(attribute, known)} Mend it, or block it with {DISABLE_VARIABLE}={name}."
                )

    def _raise_problems(self) -> None:
        if self._problems:
            raise PluginError(" ".join(self._problems))


@functools.cache
def default_registry() -> Registry:
    """The registry of all installed plugins, loaded at the first call."""
    return Registry.from_entry_points()


def _plays(role: Role, candidate: object) -> bool:
    return isinstance(candidate, ROLES[role].base)


def _distribution(entry: metadata.EntryPoint) -> str:
    return entry.dist.name.lower().replace("_", "-") if entry.dist else "unknown"


def _plain_name(plugin: object) -> str:
    return plugin.__name__ if isinstance(plugin, ModuleType | type) else type(plugin).__name__


def _is_offer(hook: str) -> bool:
    return hook.startswith("billhook_register_")


def _hooks_of(manager: pluggy.PluginManager, plugin: object) -> tuple[str, ...]:
    return tuple(sorted(caller.name for caller in manager.get_hookcallers(plugin) or ()))


def recipe(name: str) -> Recipe:
    """The recipe called ``name`` (or ``dist:name``) among all that installed plugins offer.

    Raises:
        UnknownStrategy: nobody offers it; the nearest one is suggested.
        AmbiguousStrategy: two distributions do.
    """
    return default_registry().recipe(name)
