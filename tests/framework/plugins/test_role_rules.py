"""Classes that cannot play their role are refused where they are offered, with what billhook calls and how."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import attrs
import pytest
from tests.built_in import strategies
from tests.framework.plugins.plugin_files import install

from billhook import Estimator, LinearMap, Pruner, Registry, Regression
from billhook.errors import PluginError
from billhook.plugins.registry import DISABLE_VARIABLE
from billhook.plugins.role_rules import wrong_with
from billhook.roles.role import Role, Strategy

OLD = [
    (
        "estimator",
        "def fit(self, x, y): pass",
        "lacks the method estimate(regression) that an estimator has (it has fit)",
    ),
    (
        "estimator",
        "def estimate(self, regression, device): pass",
        "has a method estimate(self, regression, device), which billhook calls as estimate(regression) (missing a "
        "required argument: 'device'): give further parameters a default, or take them out",
    ),
    (
        "estimator",
        "def estimate(self): pass",
        "has a method estimate(self), which billhook calls as estimate(regression)",
    ),
    ("estimator", "async def estimate(self, regression): pass", "has an async estimate, which nobody would await"),
    (
        "estimator",
        "needs = 'rows'\n    def estimate(self, regression): pass",
        "has needs = 'rows', which is none of Needs.",
    ),
    (
        "estimator",
        "weighs_rows = 'stream'\n    def estimate(self, regression): pass",
        "has weighs_rows = 'stream', which is neither True nor False",
    ),
    (
        "estimator",
        "regressors = ('output')\n    def estimate(self, regression): pass",
        "has regressors = 'output', which is no tuple of 'output' and 'inner': write (\"output\",) for one",
    ),
    (
        "selector",
        "def selects(self, state, budget): yield",
        "lacks the method select(state, budget) that a selector has (it has selects)",
    ),
    ("selector", "def select(self, state): yield", "billhook calls as select(state, budget)"),
    (
        "selector",
        "def select(self, state, budget): yield\n    def kinds(self, model): pass",
        "billhook calls as kinds()",
    ),
    (
        "merger",
        "def check_site(self, view, site): pass",
        "lacks the method put(view, site, linear_map) that a merger has",
    ),
    (
        "merger",
        "regressor = 'inside'\n    def check_site(self, *a): pass\n    def put(self, *a): pass",
        "has regressor = 'inside', which is none of 'output' and 'inner'",
    ),
    ("objective", "def loss(self, logits, labels): pass", "billhook calls as loss(predictions)"),
]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(DISABLE_VARIABLE, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("role", "body", "reason"), OLD)
def test_a_class_of_another_version_is_refused_where_it_is_registered(
    site: Path, role: Role, body: str, reason: str
) -> None:
    source = dedent("""
        import attrs
        from billhook import {base}, hookimpl

        @attrs.frozen
        class Old({base}):
            {body}

        @hookimpl
        def billhook_register_{role}s(register):
            register("old", Old)
    """).format(base=role.capitalize(), role=role, body=body)
    registry = Registry.from_entry_points(install(site, "their-package", {"theirs": source}))
    with pytest.raises(PluginError) as caught:
        registry.names(role)
    assert str(caught.value).startswith(f"their-package offers Old as the {role} 'old', which ")
    assert reason in str(caught.value)
    assert str(caught.value).endswith(f"Mend it, or block it with {DISABLE_VARIABLE}=their-package:theirs.")
    assert [info.status for info in registry.plugins] == ["invalid"]


@attrs.frozen
class OldSignature(Estimator):
    def estimate(self, regression: Regression, device: str) -> LinearMap | None:  # type: ignore[override] # the fault
        """Nothing."""


def test_an_object_of_such_a_class_is_refused_before_any_work() -> None:
    with pytest.raises(PluginError, match=r"The estimator OldSignature\(\) has a method estimate\(self, regression"):
        Pruner(estimator=OldSignature()).method()


def test_further_parameters_with_defaults_are_fine() -> None:
    class Lenient(Estimator):
        def estimate(self, regression: Regression, device: str = "cpu", **more: object) -> LinearMap | None:
            """Nothing."""

    assert wrong_with("estimator", Lenient) == ""


@pytest.mark.parametrize(("role", "strategy"), [pytest.param(r, s, id=f"{r}-{n}") for r, n, s in strategies()])
def test_nothing_is_wrong_with_the_built_in_ones(role: Role, strategy: Strategy) -> None:
    assert wrong_with(role, type(strategy)) == ""
