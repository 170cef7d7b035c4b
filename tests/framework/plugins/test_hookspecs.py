"""The hooks: what their file promises about all of them. What each does is tested with the code that calls it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from billhook.plugins import hookspecs
from billhook.plugins.hookspecs import hookimpl
from billhook.plugins.registry import GROUP, Registry

HOOKS: dict[str, Callable[..., object]] = {
    name: hook for name, hook in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("billhook_")
}
each = pytest.mark.parametrize("name", HOOKS)


def test_there_are_hooks_for_every_role_and_every_stage() -> None:
    assert set(HOOKS) == {
        "billhook_register_selectors",
        "billhook_register_estimators",
        "billhook_register_mergers",
        "billhook_register_objectives",
        "billhook_register_adapters",
        "billhook_register_recipes",
        "billhook_before_prune",
        "billhook_after_calibration",
        "billhook_before_cut",
        "billhook_after_estimate",
        "billhook_after_cut",
        "billhook_after_prune",
        "billhook_on_progress",
        "billhook_on_search",
    }


@each
def test_every_hook_is_a_specification_with_a_docstring_and_typed_arguments(name: str) -> None:
    hook = HOOKS[name]
    assert hasattr(hook, f"{GROUP}_spec")
    assert inspect.getdoc(hook)
    assert all(p.annotation is not inspect.Parameter.empty for p in inspect.signature(hook).parameters.values())


@each
def test_an_implementation_may_leave_out_arguments_and_gets_the_others(name: str) -> None:
    arguments = {parameter: object() for parameter in inspect.signature(HOOKS[name]).parameters}
    called: list[object] = []

    def without_arguments(self: object) -> None:
        called.append(name)

    # pluggy reads names from the signature, and there is a signature for each hook: written out as source
    namespace: dict[str, Any] = {"called": called}
    exec(f"def with_all(self, {', '.join(arguments)}): called.append(({', '.join(arguments)},))", namespace)
    less = type("Less", (), {name: hookimpl(without_arguments)})()
    all_of_them = type("All", (), {name: hookimpl(namespace["with_all"])})()
    registry = Registry().extended([less, all_of_them])
    getattr(registry.hook, name)(**arguments)
    assert called == [tuple(arguments.values()), name]
