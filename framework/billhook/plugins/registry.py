"""Registry: which plugins there are, and which strategies and adapters they offer by name."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
import cattrs

from billhook.errors import (
    BillhookError,
    InvalidConfig,
    PluginError,
    UnknownStrategy,
    UnsupportedArchitecture,
    did_you_mean,
    listing,
)
from billhook.heterogeneous.configuration_billhook import family_of
from billhook.json_values import build
from billhook.model.adapter import Adapter
from billhook.model.view import ModelView
from billhook.plans.strategy_spec import StrategySpec
from billhook.plugins import plugin_file
from billhook.plugins.culprit import Culprit, blame
from billhook.plugins.offers import Offer, note, pick, why_missing
from billhook.plugins.origin import DISABLE_VARIABLE as DISABLE_VARIABLE
from billhook.plugins.plugin_info import PluginInfo
from billhook.plugins.plugin_set import GROUP as GROUP
from billhook.plugins.plugin_set import PluginSet
from billhook.plugins.role_rules import wrong_with
from billhook.plugins.strategy_options import converter_for, defaults_of, options_of
from billhook.roles.recipe import Recipe
from billhook.roles.role import ROLES, Role, Strategy, why_unfit
from billhook.roles.selector import Selector

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Registry:
    """Plugins, and the strategies and adapters they offer.

    A value of its own rather than a global, so that tests and pruners can hold different ones;
    :func:`default_registry` is the one made of all installed plugins.
    """

    def __init__(self) -> None:
        self._set = PluginSet()
        self._classes: list[tuple[Role, str, str, type[Strategy]]] = []

    @property
    def plugins(self) -> list[PluginInfo]:
        """What is known of each plugin: name, distribution, status, the hooks that it implements."""
        return list(self._set.infos)

    @classmethod
    def from_entry_points(
        cls, entry_points: Iterable[metadata.EntryPoint] | None = None, blocked: Collection[str] | None = None
    ) -> Registry:
        """Load every entry point of the group, or those given.

        A plugin that fails on import, that is for another version of the plugin API, or whose requirements are not
        met, is logged and skipped; one that breaks a rule is noted, and makes the first look-up raise. ``blocked``
        defaults to what ``BILLHOOK_DISABLE_PLUGINS`` names; a name in it that nothing has is logged.
        """
        registry = cls()
        registry._set.add_installed(
            metadata.entry_points(group=GROUP) if entry_points is None else entry_points, blocked
        )
        return registry

    def extended(self, plugins: Iterable[object]) -> Registry:
        """A registry with the same plugins and these objects on top; this one stays as it is.

        Raises:
            PluginError: one of them implements no hook, an unknown one, or takes an unknown argument; or is for another
                version of the plugin API.
            InvalidConfig: no list of objects.
        """
        if isinstance(plugins, str | Mapping) or not isinstance(plugins, Iterable):
            raise InvalidConfig(f"Hooks are given as a list of plugin objects: hooks=[...]; got {plugins!r}.")
        registry = self._copy()
        registry._set.add_objects(plugins)
        return registry

    def with_files(self, paths: Sequence[str | Path]) -> Registry:
        """A registry with the same plugins and those in these Python files, which are run; this one stays as it is.

        What a file offers is qualified by its name without the folder: ``my_idea.py:quiet``.

        Raises:
            PluginError: a file is not there or raises, is no plugin, or two have one name.
        """
        registry = self._copy()
        for path in paths:
            registry._set.add_file(path)
        return registry

    def with_class(self, role: Role, reference: str) -> Registry:
        """A registry that also offers the class ``module:Class`` or ``FILE.py:Class`` for a role, under that name.

        The module is imported, the file run. This registry stays as it is.

        Raises:
            PluginError: it cannot be imported, or is no class that plays the role.
        """
        owner, found = plugin_file.find(reference)
        if not (isinstance(found, type) and issubclass(found, ROLES[role].base)):
            raise PluginError(f"{reference} is {found!r}, which is no {role.capitalize()} class.")
        if reason := wrong_with(role, found):
            raise PluginError(f"The class {reference} {reason}.")
        registry = self._copy()
        registry._classes.append((role, found.__name__, owner, found))
        return registry

    def check(self) -> list[str]:
        """Everything that is wrong with the plugins, each with the way out; their registrations are called for it.

        Afterwards :attr:`plugins` has all that break a rule as ``invalid``.
        """
        for role in ROLES:
            with contextlib.suppress(PluginError):
                self._collect(role)
        for others in (self._all_adapters, self._all_recipes):
            with contextlib.suppress(PluginError):
                others()
        return list(self._set.problems.values())

    @property
    def hook(self) -> Any:
        """Pluggy's relay: ``registry.hook.billhook_after_cut(state=…, cut=…, report=…)``."""
        return self._set.hook

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
        factory = self._pick(role, name, self._offers[role])
        try:
            strategy = build(factory, options or {}, f"{role} {name!r}", self._converter)
        except BillhookError:
            raise
        except Exception as error:
            blame(
                error,
                Culprit(what=f"the making of the {role} {name!r}", owner=self.owner_of(name)),
            )
            raise
        if not _plays(role, strategy):
            raise PluginError(f"The {role} {name!r} is a {type(strategy).__name__}, which is no {role.capitalize()}.")
        if reason := wrong_with(role, type(strategy)):
            raise PluginError(f"The {role} {name!r}, a {type(strategy).__name__}, {reason}.")
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
        if reason := wrong_with(role, type(given)):
            raise PluginError(f"The {role} {given!r} {reason}.")
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
        name, options = self.offered_as(role, type(strategy)), {}
        if name is not None:
            options = self.options_of(strategy)
        else:
            name, options = f"({type(strategy).__module__}.{type(strategy).__qualname__})", self._told(strategy)
        return StrategySpec(name=name, options=options, defaults=defaults_of(strategy))

    def offered_as(self, role: Role, cls: type[Any]) -> str | None:
        """The qualified name that a class is offered by; None if nobody offers it."""
        names = (f"{d}:{name}" for name, offers in self._offers[role].items() for d in offers if offers[d] is cls)
        return min(names, key=lambda name: (plugin_file.is_reference(name), name.partition(":")[2], name), default=None)

    def owner_of(self, name: str) -> str:
        """The distribution, or the file, that a qualified name belongs to; empty for what a program's object offers."""
        return self._set.owner_of(name.rpartition(":")[0])

    def options_of(self, strategy: Strategy) -> dict[str, Any]:
        """All options, as JSON values.

        Selectors within selectors (the stages of a sequence) are named as this registry knows them.

        Raises:
            InvalidConfig: one has a value that no JSON can hold.
        """
        return options_of(strategy, self._converter)

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
        return self._pick("recipe", name, self._recipes)

    def adapter_for(self, model_type: str, *, typed: bool = True) -> Adapter:
        """The adapter that serves this ``config.model_type``.

        Args:
            model_type: as configs have it.
            typed: somebody wrote it, so that a near one is suggested; else it was read off a model.

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
            hint = did_you_mean(model_type, self._adapters) if typed else ""
            raise UnsupportedArchitecture(
                f"No adapter knows the model type {model_type!r}.{hint} Known: {listing(self._adapters)}. A new one is "
                f"about 20 lines of data: see docs/adapters.md."
            )
        return next(iter(offers.values()))

    def view(self, model: PreTrainedModel) -> ModelView:
        """The model, seen through its adapter.

        Raises:
            UnsupportedArchitecture: none serves its type, or its adapter turns this variant away.
            PluginError: two distributions serve it.
        """
        return ModelView(model, self.adapter_for(family_of(model.config), typed=False))

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
        return self._set.listeners()

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
        return self._all_adapters()

    @functools.cached_property
    def _recipes(self) -> dict[str, dict[str, Recipe]]:
        """By name and distribution."""
        return self._all_recipes()

    def _all_adapters(self) -> dict[str, dict[str, Adapter]]:
        table: dict[str, dict[str, Adapter]] = {}

        def offer(distribution: str, adapter: Adapter) -> None:
            if not isinstance(adapter, Adapter):
                raise PluginError(f"{distribution} offers {adapter!r} as an adapter, which is no Adapter instance.")
            for model_type in adapter.model_types:
                if distribution in table.setdefault(model_type, {}):
                    raise PluginError(f"{distribution} offers two adapters for the model type {model_type!r}.")
                table[model_type][distribution] = adapter

        self._set.call_each("billhook_register_adapters", offer)
        return table

    def _all_recipes(self) -> dict[str, dict[str, Recipe]]:
        table: dict[str, dict[str, Recipe]] = {}

        def offer(distribution: str, recipe: Recipe) -> None:
            if not isinstance(recipe, Recipe):
                raise PluginError(f"{distribution} offers {recipe!r} as a recipe, which is no Recipe instance.")
            for role in ROLES:
                strategy = recipe.strategy(role)
                if strategy is not None and (reason := wrong_with(role, type(strategy))):
                    raise PluginError(f"The {role} {strategy!r} of {distribution}'s recipe {recipe.name!r} {reason}.")
            note(table, "recipe", recipe.name, distribution, recipe)

        self._set.call_each("billhook_register_recipes", offer)
        return table

    def _collect(self, role: Role) -> dict[str, dict[str, Callable[..., Strategy]]]:
        table: dict[str, dict[str, Callable[..., Strategy]]] = {}

        def offer(distribution: str, name: str, factory: Callable[..., Strategy]) -> None:
            if not callable(factory) or (isinstance(factory, type) and not issubclass(factory, ROLES[role].base)):
                raise PluginError(
                    f"{distribution} offers {factory!r} as the {role} {name!r}, which is no "
                    f"{role.capitalize()} class, nor a function that returns one."
                )
            if isinstance(factory, type) and (reason := wrong_with(role, factory)):
                raise PluginError(f"{distribution} offers {factory.__name__} as the {role} {name!r}, which {reason}.")
            if isinstance(factory, type) and (reason := why_unfit(factory)):
                raise PluginError(f"{distribution} offers the {role} {name!r}, which does not fit: {reason}")
            note(table, role, name, distribution, factory)

        self._set.call_each(ROLES[role].hook, offer)
        for wanted, name, owner, cls in self._classes:
            if wanted == role:
                table.setdefault(name, {})[owner] = cls
        return table

    def _pick(self, what: str, name: str, table: Mapping[str, Mapping[str, Offer]]) -> Offer:
        try:
            return pick(what, name, table)
        except UnknownStrategy as error:
            hint = why_missing(what, name, self.plugins)
            raise UnknownStrategy(what, name, error.known, hint) if hint else error from None

    def _copy(self) -> Registry:
        registry = Registry()
        registry._set, registry._classes = self._set.copy(), list(self._classes)
        return registry


@functools.cache
def default_registry() -> Registry:
    """The registry of all installed plugins, loaded at the first call."""
    return Registry.from_entry_points()


def _plays(role: Role, candidate: object) -> bool:
    return isinstance(candidate, ROLES[role].base)


def recipe(name: str) -> Recipe:
    """The recipe called ``name`` (or ``dist:name``) among all that installed plugins offer.

    Raises:
        UnknownStrategy: nobody offers it; the nearest one is suggested.
        AmbiguousStrategy: two distributions do.
    """
    return default_registry().recipe(name)
