"""check_plugin: what every plugin as a whole promises."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from importlib import metadata
from types import ModuleType
from typing import Any, cast

import attrs

from billhook.errors import BillhookError, InvalidConfig, did_you_mean, listing
from billhook.model.adapter import Adapter
from billhook.plugins.plugin_info import PluginInfo
from billhook.plugins.registry import GROUP, Registry, default_registry
from billhook.roles.role import ROLES, Role, Strategy
from billhook.testing.conformance.adapter_law import adapter_laws
from billhook.testing.conformance.estimator_law import estimator_laws
from billhook.testing.conformance.expect import fail, require
from billhook.testing.conformance.hook_law import hook_laws
from billhook.testing.conformance.law import Law, Promise, keep, suite
from billhook.testing.conformance.merger_law import merger_laws
from billhook.testing.conformance.objective_law import objective_laws
from billhook.testing.conformance.recipe_law import recipe_laws
from billhook.testing.conformance.selector_law import selector_laws

SUITES: Mapping[str, Callable[..., list[Law]]] = {
    "estimator": estimator_laws,
    "selector": selector_laws,
    "merger": merger_laws,
    "objective": objective_laws,
    "adapter": adapter_laws,
    "recipe": recipe_laws,
    "hooks": hook_laws,
}
"""By role, what makes its laws."""

LIFECYCLE = ("before_", "after_", "on_")


def laws(role: str, subject: Any, **options: Any) -> list[Law]:
    """The laws of a role for an object, each of which can be a test of its own.

    Args:
        role: ``estimator``, ``selector``, ``merger``, ``objective``, ``adapter``, ``recipe``, ``hooks`` or ``plugin``.
        subject: what is tested.
        options: those of the role's ``check_…`` function.

    Raises:
        InvalidConfig: there is no such role.
    """
    if role == "plugin":
        return plugin_laws(subject, **options)
    if role not in SUITES:
        known = [*SUITES, "plugin"]
        raise InvalidConfig(f"There are no laws for {role!r}.{did_you_mean(role, known)} Known: {listing(known)}.")
    return SUITES[role](subject, **options)


def check_plugin(
    plugin: str | ModuleType | object,
    *,
    told: Mapping[str, Mapping[str, Any]] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Raise AssertionError unless a whole plugin keeps its promises.

    It loads, what it offers can be built by name and goes through a plan, no name is taken, and every strategy,
    adapter, recipe and hook conforms to its role.

    Args:
        plugin: the name of an entry point, of a distribution, or ``dist:name``, if it is installed; else a module or an
            object with hook implementations.
        told: by offered name, what the suite of its role is told: ``{"my-estimator": {"recovers": None}}``.
        options: by offered name, options to build it with; the defaults if not given.
        expected_failures: by the name of a law, why it is known not to hold; such laws must fail.
    """
    keep(plugin_laws(plugin, told=told, options=options, expected_failures=expected_failures))


def plugin_laws(
    plugin: str | ModuleType | object,
    *,
    told: Mapping[str, Mapping[str, Any]] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Law]:
    """What :func:`check_plugin` tests, each law for itself; arguments as there.

    Laws of what it offers have the offered name before their own: ``my-estimator/recovers``.
    """
    trial = _Trial(plugin, dict(told or {}), dict(options or {}))
    promises: list[Promise] = [
        ("loads", "its modules import, and its hooks are hooks", trial.loads),
        ("offers", "it offers something, or takes part in runs", trial.offers),
        ("names", "no name is offered by somebody else, of a built-in least of all", trial.unique),
        ("builds", "what it offers can be built by name, as an object of its role", trial.builds),
        ("told", "what the suites are told is about names that it offers", trial.knows_told),
    ]
    return suite(trial.who, [*promises, *trial.conformance()], expected_failures)


@attrs.frozen(repr=False)
class _Named:
    """A plugin in messages."""

    name: str

    def __repr__(self) -> str:
        return f"Plugin {self.name}"


class _Trial:
    """A plugin in a registry."""

    def __init__(self, plugin: Any, told: dict[str, Mapping[str, Any]], options: dict[str, Mapping[str, Any]]) -> None:
        self.plugin = plugin
        self.told = told
        self.options = options
        self.who = _Named(plugin if isinstance(plugin, str) else getattr(plugin, "__name__", type(plugin).__name__))

    @cached_property
    def entries(self) -> list[PluginInfo]:
        """Of an installed plugin: what became of each of its modules."""
        known = Registry.from_entry_points(blocked=()).plugins
        asked = {self.plugin} if isinstance(self.plugin, str) else set()
        found = [info for info in known if {info.name, info.distribution, info.qualified} & asked]
        if not found:
            names = sorted({info.distribution for info in known} | {info.name for info in known})
            hint = did_you_mean(self.who.name, names)
            fail(self.who, f"no installed plugin has that name.{hint} Install it: pip install -e .")
        return found

    @cached_property
    def objects(self) -> list[object]:
        """The modules or objects with its hook implementations."""
        if not isinstance(self.plugin, str):
            return [self.plugin]
        wanted = {info.qualified for info in self.entries}
        points = metadata.entry_points(group=GROUP)
        return [p.load() for p in points if p.dist and f"{p.dist.name.lower().replace('_', '-')}:{p.name}" in wanted]

    @cached_property
    def alone(self) -> Registry:
        """Nothing but the plugin."""
        return Registry().extended(self.objects)

    @cached_property
    def registry(self) -> Registry:
        """All that is installed, and the plugin."""
        return default_registry() if isinstance(self.plugin, str) else default_registry().extended(self.objects)

    @property
    def distribution(self) -> str:
        return self.entries[0].distribution if isinstance(self.plugin, str) else "this-program"

    def loads(self) -> None:
        if isinstance(self.plugin, str):
            for info in self.entries:
                require(info.status == "loaded", self.who, f"{info.qualified} is {info.status}: {info.reason}")
        try:
            _ = self.alone.hook
            for role in ROLES:
                self.alone.names(role)
            self.alone.recipes()
            self.alone.adapters()
        except BillhookError as error:
            fail(self.who, str(error))

    def offered(self) -> list[tuple[Role, str]]:
        return [(role, name) for role in ROLES for name in self.alone.names(role)]

    @property
    def takes_part(self) -> bool:
        names = [name for plugin in self.objects for name in dir(plugin)]
        return any(name.startswith(tuple(f"billhook_{kind}" for kind in LIFECYCLE)) for name in names)

    def offers(self) -> None:
        something = self.offered() or self.alone.adapters() or self.alone.recipes() or self.takes_part
        require(bool(something), self.who, "it offers nothing and implements no hook")

    def unique(self) -> None:
        for role, name in self.offered():
            others = [q for q in self.registry.qualified_names(role) if q.endswith(f":{name}")]
            others = [qualified for qualified in others if qualified != f"{self.distribution}:{name}"]
            require(
                not others, self.who, f"the {role} {name!r} is offered by {listing(others)} as well; choose another"
            )
        for qualified in self.alone.recipes():
            name = qualified.rpartition(":")[2]
            others = [q for q in self.registry.recipes() if q.endswith(f":{name}")]
            law = f"the recipe {name!r} is offered by {listing(others)}; choose another name"
            require(len(others) < 2, self.who, law)
        for adapter in self.alone.adapters():
            for model_type in adapter.model_types:
                self.registry.adapter_for(model_type)

    def builds(self) -> None:
        for role, name in self.offered():
            strategy = self.build(role, name)
            spec = self.registry.spec(role, strategy)
            law = f"the {role} {name!r} makes a {type(strategy).__name__}, which is registered as {spec.name}"
            known = not spec.name.startswith("(")
            require(known, self.who, f"{law}; register the class itself, so that plans can name it")
            data = json.loads(json.dumps(dict(spec.options)))
            again = self.registry.create(role, spec.name, data)
            require(again == strategy, self.who, f"the {role} {name!r} of {data} through a plan gives {again!r}")

    def build(self, role: Role, name: str) -> Strategy:
        try:
            return self.registry.create(role, f"{self.distribution}:{name}", self.options.get(name))
        except BillhookError as error:
            hint = "" if name in self.options else f"; if it needs options, give check_plugin options={{{name!r}: …}}"
            fail(self.who, f"the {role} {name!r} cannot be built: {error}{hint}")

    def knows_told(self) -> None:
        names = [name for _, name in self.offered()] + [a.name for a in self.alone.adapters()]
        names += [recipe.name for recipe in self.alone.recipes().values()] + ["hooks"]
        unknown = sorted({*self.told, *self.options} - {*names})
        law = f"it offers no {listing(unknown)}.{did_you_mean(unknown[0], names) if unknown else ''}"
        require(not unknown, self.who, f"{law} Offered: {listing(names)}")

    def conformance(self) -> list[Promise]:
        """The laws of what it offers; none if it does not load, which a law of its own says."""
        try:
            offered = [(role, name, partial(self.build, role, name)) for role, name in self.offered()]
            adapters, recipes = self.alone.adapters(), list(self.alone.recipes().values())
        except (Exception, AssertionError):
            return []
        found = list[Promise]()
        for role, name, build in offered:
            found += self._laws_of(name, role, build)
        for adapter in adapters:
            found += self._laws_of(adapter.name, "adapter", partial(_same, adapter))
        for recipe in recipes:
            found += self._laws_of(recipe.name, "recipe", partial(_same, recipe))
        if self.takes_part:
            for plugin in self.objects:
                found += self._laws_of("hooks", "hooks", partial(_same, plugin))
        return found

    def _laws_of(self, name: str, role: str, build: Callable[[], Any]) -> list[Promise]:
        extra = dict(self.told.get(name, {}))
        if role not in ("adapter", "hooks"):
            extra.setdefault("registry", self.registry)
        try:
            made = SUITES[role](build(), **extra)
        except AssertionError:
            return []  # 'builds' says so
        return [(f"{name}/{law.name}", law.promise, law) for law in made]


def _same(value: Adapter | object) -> Any:
    return cast(Any, value)
