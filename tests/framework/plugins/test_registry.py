"""Registry: plugins are loaded for real, from distributions on disk; whoever breaks a rule is named."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.framework.plugins.plugin_files import install, offering

from billhook import Adapter, Estimator, LinearMap, Race, Registry, Regression, default_registry, hookimpl
from billhook.errors import (
    AmbiguousStrategy,
    BillhookError,
    InvalidConfig,
    InvalidPlan,
    PluginError,
    UnknownStrategy,
    UnsupportedArchitecture,
)
from billhook.plans.strategy_spec import StrategySpec
from billhook.plugins.registry import DISABLE_VARIABLE, GROUP
from billhook.roles.role import ROLES, Role, Strategy
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.objectives.perplexity import Perplexity
from billhook_strategies.selectors.block_pruner import BlockPruner
from billhook_strategies.selectors.channels import Channels
from billhook_strategies.selectors.sequence import Stage
from billhook_strategies.selectors.sleb import Sleb
from billhook_strategies.selectors.window_distance import WindowDistance

REGISTRY = default_registry()
BUILTINS = list(metadata.entry_points(group=GROUP))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site-packages folder."""
    monkeypatch.delenv(DISABLE_VARIABLE, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@attrs.frozen(kw_only=True)
class Mine(Estimator):
    """An estimator that is not installed."""

    strength: float = 1.0

    def estimate(self, regression: Regression) -> LinearMap | None:
        """Nothing."""
        return None


class Offering:
    """A plugin object that offers :class:`Mine`."""

    @hookimpl
    def billhook_register_estimators(self, register: Any) -> None:
        register("mine", Mine)


# --- built-ins ---------------------------------------------------------------------------------------------------


def test_built_ins_come_in_through_entry_points_and_all_load() -> None:
    ours = [info for info in REGISTRY.plugins if info.distribution == "billhook"]
    assert {info.name for info in ours} == {entry.name for entry in BUILTINS if entry.value.startswith("billhook_")}
    assert all(info.status == "loaded" and info.hooks and not info.reason for info in ours)


def test_without_any_entry_point_nothing_is_offered() -> None:
    empty = Registry.from_entry_points([])
    assert all(empty.names(role) == [] for role in ROLES)
    assert empty.adapters() == []


def test_the_default_registry_is_made_once() -> None:
    assert default_registry() is default_registry()


def test_names_are_in_order_and_qualified_ones_say_whose_they_are() -> None:
    for role in ROLES:
        assert REGISTRY.names(role) == sorted(REGISTRY.names(role))
        assert {f"billhook:{name}" for name in REGISTRY.names(role)} <= set(REGISTRY.qualified_names(role))


# --- strangers ---------------------------------------------------------------------------------------------------


def test_a_strangers_strategy_is_created_by_name(site: Path) -> None:
    registry = Registry.from_entry_points(install(site, "their-package", {"theirs": offering("theirs")}))
    assert registry.names("estimator") == ["theirs"]
    assert registry.qualified_names("estimator") == ["their-package:theirs"]
    assert repr(registry.create("estimator", "theirs", {"strength": 2})) == "Theirs(strength=2.0)"


def test_a_loaded_plugin_is_listed_with_its_origin_and_its_hooks(site: Path) -> None:
    (info,) = Registry.from_entry_points(
        install(site, "their-package", {"theirs": offering("theirs")}, version="3.2")
    ).plugins
    assert (info.qualified, info.version, info.status) == ("their-package:theirs", "3.2", "loaded")
    assert info.hooks == ("billhook_register_estimators",)


def test_built_ins_are_loaded_first_whatever_strangers_are_called(site: Path) -> None:
    entries = [*install(site, "aaa", {"a": offering("a")}), *BUILTINS]
    assert Registry.from_entry_points(entries, blocked=()).plugins[-1].distribution == "aaa"


def test_an_entry_point_may_name_an_object(site: Path) -> None:
    source = (
        offering("theirs") + "\nclass Plugin:\n    @hookimpl\n    def billhook_register_estimators(self, register):"
    )
    source += "\n        register('by-object', Theirs)\n\nplugin = Plugin()\n"
    entries = install(site, "their-package", {"theirs": source}, attribute=":plugin")
    assert Registry.from_entry_points(entries).names("estimator") == ["by-object"]


def test_two_distributions_may_use_one_entry_point_name(site: Path) -> None:
    entries = [*install(site, "one", {"same": offering("a")}), *install(site, "two", {"same": offering("b")})]
    assert Registry.from_entry_points(entries).names("estimator") == ["a", "b"]


def test_a_factory_may_be_a_function(site: Path) -> None:
    source = offering("theirs").replace("register('theirs', Theirs)", "register('half', lambda: Theirs(strength=0.5))")
    registry = Registry.from_entry_points(install(site, "their-package", {"theirs": source}))
    assert repr(registry.create("estimator", "half")) == "Theirs(strength=0.5)"


# --- names -------------------------------------------------------------------------------------------------------


@pytest.fixture
def contested(site: Path) -> Registry:
    """Two distributions besides the built-ins, both with a ``ridge``."""
    entries = [
        *install(site, "one", {"a": offering("ridge")}),
        *install(site, "their-package", {"b": offering("ridge")}),
    ]
    return Registry.from_entry_points(entries)


def test_a_name_offered_twice_is_an_error_that_names_both_and_the_way_out(contested: Registry) -> None:
    with pytest.raises(
        AmbiguousStrategy, match=r"'ridge' is offered by one, their-package\. Write one:ridge or their-"
    ):
        contested.create("estimator", "ridge")


def test_a_qualified_name_selects(contested: Registry) -> None:
    one, other = (contested.create("estimator", f"{dist}:ridge") for dist in ("one", "their-package"))
    assert type(one) is not type(other)
    assert contested.spec("estimator", one).name == "one:ridge"
    assert contested.spec("estimator", other).name == "their-package:ridge"


def test_a_strangers_name_does_not_take_a_built_ins_place_in_the_defaults(site: Path) -> None:
    entries = [*BUILTINS, *install(site, "their-package", {"b": offering("least-squares")})]
    registry = Registry.from_entry_points(entries, blocked=())
    assert type(registry.create("estimator", "billhook:least-squares")).__name__ == "LeastSquares"


def test_one_distribution_offering_a_name_twice_is_refused(site: Path) -> None:
    entries = install(site, "their-package", {"a": offering("theirs"), "b": offering("theirs")})
    with pytest.raises(PluginError, match="their-package offers two estimators named 'theirs'"):
        Registry.from_entry_points(entries).names("estimator")


@pytest.mark.parametrize("name", ["Theirs", "my_estimator", "", "2nd", "a--b", "dist:name", "-a"])
def test_a_name_that_cannot_be_typed_easily_is_refused(site: Path, name: str) -> None:
    entries = install(site, "their-package", {"a": offering(name)})
    with pytest.raises(PluginError, match=f"their-package offers the estimator '{name}'. Names are lower-case"):
        Registry.from_entry_points(entries).names("estimator")


def test_an_unknown_name_is_answered_with_the_nearest_and_all_known_ones() -> None:
    with pytest.raises(UnknownStrategy, match=r"No estimator is named 'rigde'. Did you mean 'ridge'\? Known: cosine, "):
        REGISTRY.create("estimator", "rigde")


def test_an_unknown_distribution_is_answered_with_qualified_names() -> None:
    with pytest.raises(UnknownStrategy, match=r"'bilhook:ridge'. Did you mean 'billhook:ridge'\?"):
        REGISTRY.create("estimator", "bilhook:ridge")


def test_a_name_of_another_role_is_unknown() -> None:
    with pytest.raises(UnknownStrategy, match="No merger is named 'ridge'"):
        REGISTRY.create("merger", "ridge")


# --- plugins that fail -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_plugin_that_fails_on_import_is_skipped_and_reported_and_the_others_load(
    site: Path, source: str, reason: str, logged: list[str]
) -> None:
    entries = install(site, "their-package", {"a-broken": source, "b-sound": offering("theirs")})
    registry = Registry.from_entry_points(entries)
    assert registry.names("estimator") == ["theirs"]
    assert [info.status for info in registry.plugins] == ["failed", "loaded"]
    assert registry.plugins[0].reason.startswith(reason)
    assert logged[0].startswith(f"Plugin their-package:a-broken is skipped, its import failed: {reason}")


def test_an_interrupt_while_plugins_are_imported_passes(site: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Registry.from_entry_points(install(site, "their-package", {"a": "raise KeyboardInterrupt"}))


def test_an_entry_point_to_something_that_is_not_there_is_a_failed_import(site: Path) -> None:
    entries = install(site, "their-package", {"a": offering("theirs")}, attribute=":nothing")
    (info,) = Registry.from_entry_points(entries).plugins
    assert info.status == "failed"
    assert "nothing" in info.reason


UNKNOWN_HOOK = """
    from billhook import hookimpl

    @hookimpl
    def billhook_before_cuts(state):
        pass
"""
UNKNOWN_ARGUMENT = """
    from billhook import hookimpl

    @hookimpl
    def billhook_before_cut(state, layer):
        pass
"""


def test_an_unknown_hook_is_an_error_with_the_nearest_one_and_the_ways_out(site: Path) -> None:
    registry = Registry.from_entry_points(install(site, "their-package", {"theirs": UNKNOWN_HOOK}))
    with pytest.raises(
        PluginError,
        match=r"Plugin their-package:theirs implements billhook_before_cuts, which is no hook of billhook. "
        r"Did you mean 'billhook_before_cut'\? Mend it, or block it with BILLHOOK_DISABLE_PLUGINS=their-package:theirs",
    ):
        registry.names("estimator")


def test_a_hook_without_its_mark_is_an_error() -> None:
    class Forgetful:
        def billhook_after_prune(self, result: object) -> None:
            raise AssertionError("never called")

    with pytest.raises(PluginError, match=r"billhook_after_prune that is not marked with @hookimpl"):
        REGISTRY.extended([Forgetful()])


def test_an_unknown_argument_is_an_error_that_names_plugin_hook_and_argument(site: Path) -> None:
    registry = Registry.from_entry_points(install(site, "their-package", {"theirs": UNKNOWN_ARGUMENT}))
    with pytest.raises(PluginError, match=r"their-package:theirs is not valid: .*billhook_before_cut.*layer"):
        registry.names("estimator")


@pytest.mark.parametrize("source", [UNKNOWN_HOOK, UNKNOWN_ARGUMENT], ids=["hook", "argument"])
def test_a_plugin_that_breaks_a_rule_is_listed_and_spoils_every_use(site: Path, source: str) -> None:
    registry = Registry.from_entry_points([*BUILTINS, *install(site, "their-package", {"theirs": source})])
    (info,) = (info for info in registry.plugins if info.distribution == "their-package")
    assert info.status == "invalid"
    assert "billhook_before_cut" in info.reason
    for use in (
        lambda: registry.create("estimator", "ridge"),
        lambda: registry.adapter_for("llama"),
        lambda: registry.hook,
        lambda: registry.extended([]),
    ):
        with pytest.raises(PluginError, match="their-package:theirs"):
            use()


def test_a_plugin_that_breaks_a_rule_can_be_blocked(site: Path) -> None:
    entries = [*BUILTINS, *install(site, "their-package", {"theirs": UNKNOWN_HOOK})]
    registry = Registry.from_entry_points(entries, blocked={"their-package:theirs"})
    assert registry.create("estimator", "ridge") == Ridge()


def test_a_class_instead_of_an_instance_is_refused(site: Path) -> None:
    source = offering("theirs") + "\nclass Plugin:\n    pass\n"
    registry = Registry.from_entry_points(install(site, "their-package", {"theirs": source}, attribute=":Plugin"))
    with pytest.raises(PluginError, match="their-package:theirs is a class; give an instance or a module"):
        registry.names("estimator")


@pytest.mark.parametrize("offer", ["Adapter", "'ridge'", "7"], ids=["a class of another role", "a string", "a number"])
def test_an_offer_that_is_no_strategy_is_refused(site: Path, offer: str) -> None:
    source = f"""
        from billhook import Adapter, hookimpl

        @hookimpl
        def billhook_register_estimators(register):
            register("theirs", {offer})
    """
    registry = Registry.from_entry_points(install(site, "their-package", {"theirs": source}))
    with pytest.raises(PluginError, match=r"their-package offers .* as the estimator 'theirs', which is no Estimator"):
        registry.names("estimator")


def test_a_function_that_returns_something_else_is_refused_when_it_is_used(site: Path) -> None:
    source = offering("theirs").replace("register('theirs', Theirs)", "register('theirs', lambda: {})")
    registry = Registry.from_entry_points(install(site, "their-package", {"theirs": source}))
    with pytest.raises(PluginError, match="The estimator 'theirs' is a dict, which is no Estimator"):
        registry.create("estimator", "theirs")


def test_a_registration_that_raises_is_an_error_that_names_plugin_and_hook(site: Path) -> None:
    source = offering("theirs").replace("register('theirs', Theirs)", "raise KeyError('oh')")
    registry = Registry.from_entry_points(install(site, "their-package", {"theirs": source}))
    with pytest.raises(
        PluginError,
        match=r"Plugin their-package:theirs failed in billhook_register_estimators: KeyError: 'oh'\. Mend it, or block",
    ):
        registry.names("estimator")


# --- blocking ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ["theirs", "their-package", "their-package:theirs"])
@pytest.mark.parametrize("by", ["environment", "argument"])
def test_a_plugin_is_blocked_by_any_of_its_names(
    site: Path, entry: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = install(site, "their-package", {"theirs": "raise AssertionError('a blocked plugin was imported')"})
    entries += install(site, "other", {"others": offering("others")})
    if by == "environment":
        monkeypatch.setenv(DISABLE_VARIABLE, f"something-else, {entry} ,")
    registry = Registry.from_entry_points(entries, blocked=None if by == "environment" else {entry})
    assert registry.names("estimator") == ["others"]
    assert {info.qualified: info.status for info in registry.plugins} == {
        "their-package:theirs": "blocked",
        "other:others": "loaded",
    }
    assert f"names {entry}" in next(info.reason for info in registry.plugins if info.status == "blocked")


def test_an_empty_variable_blocks_nothing(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLE_VARIABLE, " , ")
    assert Registry.from_entry_points(install(site, "other", {"others": offering("others")})).names("estimator")


def test_a_name_to_block_that_nothing_has_is_told_with_the_nearest(site: Path, logged: list[str]) -> None:
    Registry.from_entry_points(
        install(site, "their-package", {"theirs": offering("a")}), blocked={"thiers", "Their_Package"}
    )
    assert logged == [
        "BILLHOOK_DISABLE_PLUGINS names 'thiers', which is no plugin. Did you mean 'theirs'? See billhook plugins."
    ]


def test_a_distribution_is_blocked_however_its_name_is_written(site: Path) -> None:
    registry = Registry.from_entry_points(
        install(site, "their-package", {"theirs": offering("a")}), blocked={"Their_Package"}
    )
    assert [info.status for info in registry.plugins] == ["blocked"]


# --- versions and requirements -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requires", "lacking"),
    [
        ("billhook>=9", f"billhook>=9 ({metadata.version('billhook')} is installed)"),
        ("no-such-distribution-anywhere", "no-such-distribution-anywhere (not installed)"),
        ("attrs<1", f"attrs<1 ({metadata.version('attrs')} is installed)"),
    ],
)
def test_a_plugin_whose_requirements_are_not_met_is_skipped_unimported_and_reported(
    site: Path, requires: str, lacking: str, logged: list[str]
) -> None:
    never = "raise AssertionError('imported')"
    entries = install(site, "their-package", {"theirs": never}, requires=["torch", requires])
    registry = Registry.from_entry_points([*entries, *install(site, "other", {"others": offering("others")})])
    assert registry.names("estimator") == ["others"]
    (info,) = (info for info in registry.plugins if info.name == "theirs")
    assert info.status == "failed"
    assert info.reason == (
        f"its requirements are not met: {lacking}. Install what it asks for, or block it with "
        f"BILLHOOK_DISABLE_PLUGINS=their-package:theirs."
    )
    assert lacking in logged[0]


def test_what_extras_and_other_systems_need_is_nobodys_concern(site: Path) -> None:
    requires = [
        "torch>=1",
        "no-such-thing ; extra == 'test'",
        "no-such-thing ; python_version < '3'",
        "not / a requirement",
    ]
    entries = install(site, "their-package", {"theirs": offering("theirs")}, requires=requires)
    assert Registry.from_entry_points(entries).names("estimator") == ["theirs"]


@pytest.mark.parametrize("declared", ["1", "(1, 2)", "[2, 1]"])
def test_a_plugin_for_this_version_of_the_api_among_others_is_loaded(site: Path, declared: str) -> None:
    source = f"BILLHOOK_PLUGIN_API = {declared}\n" + offering("theirs")
    assert Registry.from_entry_points(install(site, "their-package", {"a": source})).names("estimator") == ["theirs"]


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ("2", "It is written for version 2 of the plugin API, and this billhook has 1. Update billhook."),
        ("0", "It is written for version 0 of the plugin API, and this billhook has 1. Update the plugin."),
    ],
)
def test_a_plugin_for_another_version_of_the_api_is_skipped_and_reported(
    site: Path, declared: str, reason: str, logged: list[str]
) -> None:
    source = f"BILLHOOK_PLUGIN_API = {declared}\n" + offering("theirs")
    entries = [
        *install(site, "their-package", {"theirs": source}),
        *install(site, "other", {"others": offering("others")}),
    ]
    registry = Registry.from_entry_points(entries)
    assert registry.names("estimator") == ["others"]
    assert [(info.status, reason in info.reason) for info in registry.plugins] == [("loaded", False), ("failed", True)]
    assert reason in logged[0]
    with pytest.raises(UnknownStrategy, match=r"The plugin their-package:theirs is failed: It is written for version"):
        registry.create("estimator", "their-package:theirs")


def test_an_api_version_that_is_none_is_refused(site: Path) -> None:
    entries = install(site, "their-package", {"a": "BILLHOOK_PLUGIN_API = 'one'\n" + offering("theirs")})
    with pytest.raises(
        PluginError, match=r"declares BILLHOOK_PLUGIN_API = 'one', which is neither a number nor a tuple"
    ):
        Registry.from_entry_points(entries).names("estimator")


def test_of_a_distribution_that_is_not_there_it_is_said_so() -> None:
    with pytest.raises(UnknownStrategy, match=r"The distribution their-package is not installed, or brings no plugins"):
        REGISTRY.create("estimator", "their-package:theirs")


# --- objects on top ----------------------------------------------------------------------------------------------


def test_an_object_adds_its_strategies_to_a_registry_of_its_own() -> None:
    extended = REGISTRY.extended([Offering()])
    assert extended.create("estimator", "mine") == Mine()
    assert set(extended.names("estimator")) == {*REGISTRY.names("estimator"), "mine"}
    assert "mine" not in REGISTRY.names("estimator")


class Counting:
    """A plugin object that takes part and does nothing."""

    @hookimpl
    def billhook_on_progress(self) -> None:
        pass


class OfferingEverything:
    """A plugin object that offers built-in classes of every role under names of its own."""

    @hookimpl
    def billhook_register_selectors(self, register: Any) -> None:
        register("their-selector", WindowDistance)

    @hookimpl
    def billhook_register_estimators(self, register: Any) -> None:
        register("their-estimator", Ridge)

    @hookimpl
    def billhook_register_mergers(self, register: Any) -> None:
        register("their-merger", Fold)

    @hookimpl
    def billhook_register_objectives(self, register: Any) -> None:
        register("their-objective", Perplexity)

    @hookimpl
    def billhook_register_adapters(self, register: Any) -> None:
        llama: Any = REGISTRY.adapter_for("llama")
        register(attrs.evolve(llama, name="theirs", model_types=("their_type",)))


@pytest.mark.parametrize(
    ("role", "cls"),
    [("selector", WindowDistance), ("estimator", Ridge), ("merger", Fold), ("objective", Perplexity)],
)
def test_every_role_has_its_registration_hook(role: Role, cls: type[Strategy]) -> None:
    extended = REGISTRY.extended([OfferingEverything()])
    assert type(extended.create(role, f"their-{role}")) is cls
    assert extended.qualified_names(role).count(f"this-program:their-{role}") == 1


def test_adapters_have_their_registration_hook_too() -> None:
    assert REGISTRY.extended([OfferingEverything()]).adapter_for("their_type").name == "theirs"


def test_an_extended_registry_has_the_same_plugins_and_adapters() -> None:
    extended = REGISTRY.extended([])
    assert extended.plugins == REGISTRY.plugins
    assert extended.adapters() == REGISTRY.adapters()


def test_an_extended_registry_can_be_extended_again() -> None:
    extended = REGISTRY.extended([Counting()]).extended([Counting(), Offering()]).extended([Counting()])
    assert extended.create("estimator", "mine") == Mine()


def test_two_objects_of_one_class_may_take_part() -> None:
    class Listening:
        def __init__(self) -> None:
            self.heard = 0

        @hookimpl
        def billhook_on_progress(self, stage: str) -> None:
            self.heard += 1

    ears = [Listening(), Listening()]
    REGISTRY.extended(ears).hook.billhook_on_progress(stage="fitting", done=1, total=None)
    assert [ear.heard for ear in ears] == [1, 1]


def test_implementations_run_in_reverse_order_of_registration() -> None:
    order: list[int] = []

    class Noting:
        def __init__(self, number: int) -> None:
            self.number = number

        @hookimpl
        def billhook_on_progress(self) -> None:
            order.append(self.number)

    REGISTRY.extended([Noting(1), Noting(2)]).hook.billhook_on_progress(stage="fitting", done=1, total=None)
    assert order == [2, 1]


@pytest.mark.parametrize(("plugin", "message"), [(Offering, r"Offering#\d+ is a class"), (Fold, "is a class")])
def test_a_class_cannot_extend(plugin: object, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        REGISTRY.extended([plugin])


def test_an_object_with_an_unknown_hook_cannot_extend() -> None:
    class Mistaken:
        @hookimpl
        def billhook_after_merge(self) -> None:
            raise AssertionError("never called")

    with pytest.raises(PluginError, match=r"Mistaken#\d+ implements billhook_after_merge, which is no hook"):
        REGISTRY.extended([Mistaken()])


def test_an_object_with_an_unknown_argument_cannot_extend() -> None:
    class Mistaken:
        @hookimpl
        def billhook_after_cut(self, layer: int) -> None:
            raise AssertionError("never called")

    with pytest.raises(PluginError, match=r"Mistaken#\d+ is not valid: .*layer"):
        REGISTRY.extended([Mistaken()])


# --- strategies as data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["ridge", "billhook:ridge", Ridge()])
def test_a_name_or_an_object_is_resolved(given: str | Strategy) -> None:
    assert REGISTRY.resolve("estimator", given) == Ridge()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Ridge, "must be a name or an object of the class Estimator; got .*Ridge.*That is the class; call it"),
        (Fold(), r"must be a name or an object of the class Estimator; got Fold\(\)\.$"),
        (None, "got None"),
        (0.5, r"got 0\.5"),
    ],
)
def test_what_plays_no_such_role_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        REGISTRY.resolve("estimator", given)


def every_strategy() -> list[tuple[Role, str]]:
    return [(role, name) for role in ROLES for name in REGISTRY.qualified_names(role)]


REQUIRED: dict[str, dict[str, Any]] = {
    "billhook:fixed-windows": {"spans": [[1, 2]]},
    "billhook:published": {"content": {"1": [["mlp", 2]]}},
    "billhook:sequence": {"stages": [{"selector": "block-pruner"}]},
}
"""Options that have no default."""


@pytest.mark.parametrize(("role", "name"), every_strategy())
def test_every_strategy_survives_its_data_form(role: Role, name: str) -> None:
    strategy = REGISTRY.create(role, name, REQUIRED.get(name))
    spec = REGISTRY.spec(role, strategy)
    assert spec.name in REGISTRY.qualified_names(role)
    assert REGISTRY.create(role, spec.name, json.loads(json.dumps(spec.options))) == strategy


def every_class() -> list[tuple[Role, type[Strategy]]]:
    found: set[tuple[Role, type[Strategy]]] = {
        (role, type(REGISTRY.create(role, name, REQUIRED.get(name)))) for role, name in every_strategy()
    }
    return sorted(found, key=repr)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an option's type, near the ranges that make sense."""
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind is Race:
        return st.sampled_from([Race(), Race(data=(0.1, 0.5), keep=(0.5, 0.2))])
    if get_origin(kind) is tuple and get_args(kind)[0] is Stage:
        return st.sampled_from([(Stage(BlockPruner(branches="mha"), 0.3), Stage(Channels(group=2))), (Stage(Sleb()),)])
    if get_origin(kind) is tuple and Ellipsis not in get_args(kind):
        first = get_args(kind)[0]
        distinct = st.permutations(get_args(first)) if get_origin(first) is Literal else None
        return st.tuples(*map(values, get_args(kind))) if distinct is None else distinct.map(tuple)
    if kind == tuple[float, ...]:
        return st.lists(st.floats(0.1, 0.9), min_size=1, max_size=3).map(tuple)
    if get_origin(kind) is tuple:
        return st.integers(1, 9).map(lambda start: ((start, start + 1), (start + 3, start + 5)))
    if get_origin(kind) is Union and float in get_args(kind):
        return st.floats(0, 6) | st.just("auto")
    if get_origin(kind) is UnionType:
        return st.none() | values(next(part for part in get_args(kind) if part is not NoneType))
    presets = st.sampled_from(["default", "llama-2", "qwen2.5-7b", "no such preset"])
    # mostly within the ranges that options have: what is refused shows nothing
    shares = st.floats(0.05, 0.95)
    numbers = {bool: st.booleans(), int: st.integers(0, 30), float: shares | shares | st.floats(0, 6)}
    return {**numbers, str: presets}[kind]


@pytest.mark.parametrize(("role", "cls"), every_class(), ids=lambda value: getattr(value, "__name__", value))
@given(data=st.data())
def test_any_options_survive_json(role: Role, cls: type[Any], data: st.DataObject) -> None:
    fields = [field for field in attrs.fields(attrs.resolve_types(cls)) if field.init]
    options = {field.name: data.draw(values(field.type), label=field.name) for field in fields}
    try:
        strategy = cls(**options)
    except BillhookError:
        assume(False)
    spec = REGISTRY.spec(role, strategy)
    again = REGISTRY.create(role, spec.name, json.loads(json.dumps(spec.options)))
    assert again == strategy
    assert REGISTRY.spec(role, again) == spec


def test_all_options_are_written_down_and_those_that_were_chosen_are_printed() -> None:
    spec = REGISTRY.spec("selector", WindowDistance(windows=2, metric="cosine"))
    assert spec.options == attrs.asdict(WindowDistance(windows=2))
    assert spec.chosen == {"windows": 2}
    assert str(spec) == "window-distance(windows=2)"


@pytest.mark.parametrize("options", [[["windows", 2]], [], "", None, {1: 2}])
def test_options_that_are_no_object_are_refused(options: Any) -> None:
    with pytest.raises(InvalidPlan, match="The options of a strategy are an object of values by name; got"):
        StrategySpec(name="billhook:fold", options=options)


def test_a_spec_prints_like_a_call_without_our_own_prefix() -> None:
    spec = StrategySpec(name="billhook:ridge", options={"strength": 0.1, "toward": "zero"})
    assert str(spec) == "ridge(strength=0.1, toward='zero')"
    assert str(StrategySpec(name="their-package:ridge")) == "their-package:ridge"


def test_a_long_option_is_cut_short_in_print_alone() -> None:
    spec = StrategySpec(name="billhook:fixed-windows", options={"spans": [[n, n + 1] for n in range(1, 99, 2)]})
    assert str(spec) == f"fixed-windows(spans={spec.options['spans']!r}"[: len("fixed-windows(spans=") + 79] + "…)"
    assert len(spec.options["spans"]) == 49


def test_a_strategy_that_is_not_registered_is_shown_by_its_class() -> None:
    spec = REGISTRY.spec("estimator", Mine(strength=2.0))
    assert spec.name == f"({__name__}.Mine)"
    assert spec.options == {"strength": 2.0}
    assert spec != REGISTRY.spec("estimator", Mine(strength=3.0))


@pytest.mark.parametrize(
    ("role", "name", "options", "message"),
    [
        (
            "estimator",
            "ridge",
            {"strenth": 1},
            r"The estimator 'ridge' has no option 'strenth'. Did you mean 'strength'",
        ),
        ("estimator", "ridge", {"strength": -1}, "'strength' of Ridge must be above 0"),
        ("estimator", "ridge", {"strength": "a lot"}, r"estimator 'ridge' got a wrong option: .*\$\.strength"),
        ("estimator", "ridge", {"bias": "no"}, r"\$\.bias"),
        ("estimator", "ridge", {"toward": "one"}, r"'one' is none of present, zero @ \$\.toward"),
        ("selector", "window-distance", {"windows": 2.5}, r"expected int @ \$\.windows"),
        ("selector", "cosine", {"wndows": 2}, r"selector 'cosine' has no option 'wndows'. Did you mean 'windows'"),
        ("selector", "fixed-windows", {}, r"required field missing @ \$\.spans"),
        ("selector", "fixed-windows", {"spans": [[2, 1]]}, "needs 0 <= start < stop"),
    ],
)
def test_a_wrong_option_is_refused_by_name(role: Role, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BillhookError, match=message):
        REGISTRY.create(role, name, options)


# --- adapters ----------------------------------------------------------------------------------------------------


def test_an_adapter_is_found_by_each_of_its_model_types() -> None:
    for adapter in REGISTRY.adapters():
        assert all(REGISTRY.adapter_for(model_type) is adapter for model_type in adapter.model_types)


def test_adapters_come_once_each_by_name() -> None:
    names = [adapter.name for adapter in REGISTRY.adapters()]
    assert names == sorted(set(names))


def test_an_unknown_architecture_is_refused_with_the_known_ones_and_how_to_add_one() -> None:
    with pytest.raises(
        UnsupportedArchitecture,
        match=r"No adapter knows the model type 'lama'. Did you mean 'llama'\? Known: apertus, .*see docs/adapters.md",
    ):
        REGISTRY.adapter_for("lama")


def test_nothing_is_suggested_for_a_type_that_was_read_off_a_model() -> None:
    with pytest.raises(UnsupportedArchitecture, match=r"No adapter knows the model type 'lama'\. Known: apertus"):
        REGISTRY.adapter_for("lama", typed=False)


SECOND_LLAMA = """
    import attrs
    from billhook import default_registry, hookimpl

    @hookimpl
    def billhook_register_adapters(register):
        register(attrs.evolve(default_registry().adapter_for("llama"), name="llama-too"))
"""


def test_two_distributions_serving_one_model_type_are_named(site: Path) -> None:
    registry = Registry.from_entry_points([*BUILTINS, *install(site, "their-package", {"a": SECOND_LLAMA})])
    with pytest.raises(PluginError, match=r"'llama' is served by billhook, their-package\. Block one with BILLHOOK"):
        registry.adapter_for("llama")
    assert registry.adapter_for("gpt2").name == "gpt2"


def test_one_distribution_serving_a_model_type_twice_is_refused(site: Path) -> None:
    entries = install(site, "their-package", {"a": SECOND_LLAMA, "b": SECOND_LLAMA})
    with pytest.raises(PluginError, match="their-package offers two adapters for the model type 'llama'"):
        Registry.from_entry_points(entries).adapters()


def test_an_adapter_class_is_refused(site: Path) -> None:
    source = """
        from billhook import DeclaredAdapter, hookimpl

        @hookimpl
        def billhook_register_adapters(register):
            register(DeclaredAdapter)
    """
    entries = install(site, "their-package", {"a": source})
    with pytest.raises(PluginError, match=r"their-package offers .* as an adapter, which is no Adapter instance"):
        Registry.from_entry_points(entries).adapters()


def test_every_installed_adapter_is_an_adapter() -> None:
    assert all(isinstance(adapter, Adapter) for adapter in REGISTRY.adapters())


NO_ATTRS = """
    from billhook import Estimator, hookimpl

    class Shrink(Estimator):
        def __init__(self, factor=0.5):
            self.factor = factor

        def estimate(self, regression):
            return None

    {offer}
"""
OFFER = """@hookimpl
    def billhook_register_estimators(register):
        register("shrink", {what})
"""


@pytest.mark.parametrize("what", ["Shrink", "lambda: Shrink(0.25)"], ids=["class", "function"])
def test_a_plain_class_is_refused_with_the_way_out_when_it_is_offered(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = NO_ATTRS.format(offer=OFFER.format(what=what))
    registry = Registry.from_entry_points(install(tmp_path, "plain-dist", {"plain": source}))
    with pytest.raises(
        PluginError, match=r"'shrink'.* does not fit: Shrink is a plain class, .* Put @attrs.frozen above"
    ):
        registry.create("estimator", "shrink")


class Unframed(Mine):
    """A child that attrs has not seen: its own options would be lost."""

    def __init__(self, strength: float, more: float) -> None:
        super().__init__(strength=strength)


@attrs.define
class Changing(Estimator):
    """One that can be changed after it is built."""

    strength: float = 1.0

    def estimate(self, regression: Regression) -> LinearMap | None:
        """Nothing."""
        return None


@pytest.mark.parametrize(
    ("given", "reason"),
    [(Unframed(1.0, 2.0), "Unframed is a plain class, so plans"), (Changing(), "Changing can be changed after")],
    ids=["child", "mutable"],
)
def test_objects_that_a_plan_could_not_tell_are_refused(given: Estimator, reason: str) -> None:
    with pytest.raises(InvalidConfig, match=f"The estimator does not fit: {reason}"):
        REGISTRY.resolve("estimator", given)
