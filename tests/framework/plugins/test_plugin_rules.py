"""What takes part: what only looks like a hook is refused where the plugin is registered, with the way out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

import pytest

from billhook import PLUGIN_API, Registry, default_registry, hookimpl
from billhook.errors import InvalidConfig, PluginError

OUT = r"Mend it, or leave it out of hooks=\[\.\.\.\]\."


def plugin(name: str, function: Any, **options: Any) -> object:
    return type("Theirs", (), {name: hookimpl(**options)(function)})()


async def waits(self: object, cut: object) -> None:
    pass


async def waits_and_yields(self: object, cut: object) -> AsyncIterator[None]:
    yield


def yields(self: object, cut: object) -> Iterator[None]:
    yield


def plain(self: object, cut: object) -> None:
    pass


def takes_all(self: object, **given: object) -> None:
    pass


def takes_more(self: object, cut: object, cuts: object) -> None:
    pass


@pytest.mark.parametrize(
    ("name", "function", "options", "reason"),
    [
        ("billhook_after_cut", waits, {}, "billhook_after_cut as an async function, which nobody would await"),
        (
            "billhook_after_cut",
            waits_and_yields,
            {},
            "billhook_after_cut as an async function, which nobody would await",
        ),
        ("billhook_after_cut", yields, {}, "billhook_after_cut with a yield, so its body would never run"),
        ("billhook_after_cut", plain, {"wrapper": True}, "marks billhook_after_cut as a wrapper, and it has no yield"),
        ("billhook_after_cut", takes_all, {}, r"billhook_after_cut takes \*\*given.*, which a hook cannot fill"),
        (
            "billhook_after_cut",
            takes_more,
            {},
            r"billhook_after_cut has no argument 'cuts'\. Did you mean 'cut'\? It has: cut, report, state",
        ),
        (
            "billhook_aftercut",
            plain,
            {},
            r"implements billhook_aftercut, which is no hook of billhook\. Did you mean 'billhook_after_cut'\?",
        ),
    ],
)
def test_a_hook_that_would_never_run_or_get_what_it_asks_for_is_refused(
    name: str, function: Any, options: dict[str, bool], reason: str
) -> None:
    with pytest.raises(PluginError, match=rf"Plugin Theirs#\d+.* {reason}.* {OUT}"):
        default_registry().extended([plugin(name, function, **options)])


@pytest.mark.parametrize("name", ["billhook_aftercut", "after_cut", "weather"])
def test_a_plugin_without_any_hook_is_refused_with_the_hook_that_it_may_have_meant(name: str) -> None:
    def unmarked(self: object, cut: object) -> None:
        pass

    meant = "" if name == "weather" else f" Is its {name} meant for billhook_after_cut?"
    with pytest.raises(PluginError) as caught:
        default_registry().extended([type("Theirs", (), {name: unmarked})()])
    assert f"implements no hook, so it would never be called.{meant} Write functions that are named" in str(
        caught.value
    )


def kind(value: object) -> str:
    """A name that is the same in every process that runs tests, as an address is not."""
    return type(value).__name__


@pytest.mark.parametrize("given", [lambda: None, object(), ModuleType("empty"), "text", 3], ids=kind)
def test_an_object_that_is_no_plugin_is_refused(given: object) -> None:
    with pytest.raises(PluginError, match="implements no hook, so it would never be called"):
        default_registry().extended([given])


@pytest.mark.parametrize("given", [object(), "text", {"a": 1}], ids=kind)
def test_what_is_no_list_of_plugins_is_refused(given: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"Hooks are given as a list of plugin objects: hooks=\[\.\.\.\]; got"):
        default_registry().extended(given)


def test_one_object_twice_is_refused() -> None:
    theirs = plugin("billhook_after_cut", plain)
    with pytest.raises(PluginError, match=r"Plugin Theirs#\d+ is given twice"):
        default_registry().extended([theirs, theirs])


def test_a_hook_of_another_version_may_be_there_if_it_is_marked_as_optional() -> None:
    class Both:
        heard = 0

        @hookimpl(optionalhook=True)
        def billhook_of_tomorrow(self, weather: object) -> None:
            raise AssertionError("there is no such hook")

        @hookimpl
        def billhook_on_progress(self, stage: str) -> None:
            self.heard += 1

    both = Both()
    Registry().extended([both]).hook.billhook_on_progress(stage="a", done=1, total=2)
    assert both.heard == 1


def test_a_function_may_be_named_otherwise_than_its_hook() -> None:
    heard: list[object] = []

    class Named:
        @hookimpl(specname="billhook_on_progress")
        def listen(self, stage: str) -> None:
            heard.append(stage)

    Registry().extended([Named()]).hook.billhook_on_progress(stage="a", done=1, total=2)
    assert heard == ["a"]


def test_an_argument_with_a_default_may_be_one_of_a_later_version() -> None:
    heard: list[object] = []

    class Later:
        @hookimpl
        def billhook_on_progress(self, stage: str, mood: str = "none") -> None:
            heard.append((stage, mood))

    Registry().extended([Later()]).hook.billhook_on_progress(stage="a", done=1, total=2)
    assert heard == [("a", "none")]


def test_an_object_for_another_version_of_the_api_is_refused() -> None:
    class Later:
        BILLHOOK_PLUGIN_API = PLUGIN_API + 1

        @hookimpl
        def billhook_on_progress(self) -> None:
            pass

    with pytest.raises(PluginError, match=r"written for version 2 of the plugin API, and this billhook has 1\. Update"):
        Registry().extended([Later()])
