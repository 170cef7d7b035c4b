"""Every registered strategy keeps its role's promises. A new one needs a line here, or a test fails by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from billhook import Budget, Estimator, Merger, Objective, Selector, default_registry
from billhook.roles.role import Role
from billhook.testing import check_estimator, check_merger, check_objective, check_selector

REGISTRY = default_registry()

ESTIMATORS: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "billhook:cosine": [
        # one pass of Adam with tiny steps stays near the identity by design
        ({}, {"recovers": None}),
        ({"form": "exact", "l1": 0.1, "l2": 0.1, "epochs": 2}, {"recovers": None}),
    ],
    # 1 − cos is flat near its minimum: float32 sees no progress below an angle of about 1e-3
    "billhook:cosine-irls": [
        ({"epochs": 100}, {"recovers": "full", "tolerance": 2e-2}),
        ({"form": "exact", "epochs": 100}, {"recovers": "full", "tolerance": 2e-2}),
        ({"l2": 0.1, "epochs": 2}, {"recovers": None}),
    ],
    "billhook:diagonal": [({}, {"recovers": "diagonal"}), ({"strength": 0.5}, {"recovers": None})],
    "billhook:identity": [({}, {"recovers": None})],
    "billhook:least-squares": [({}, {"recovers": "full"}), ({"bias": True}, {"recovers": "full"})],
    "billhook:orthogonal": [({}, {"recovers": "orthogonal"}), ({"scaled": True}, {"recovers": "orthogonal"})],
    "billhook:ridge": [
        ({"strength": "auto"}, {"recovers": None}),
        ({}, {"recovers": None}),
        ({"strength": 1e-9}, {"recovers": "full"}),
        ({"strength": 1e-9, "toward": "zero", "bias": True}, {"recovers": "full"}),
    ],
}
"""By name: options, and what the suite is told about them."""

FEW: dict[str, Any] = {"budgets": [Budget(parameters=0.1), Budget(layers=2)]}
"""For selectors that search, which takes longer."""

ANYWHERE: dict[str, Any] = {**FEW, "protected": ()}
"""For those that may cut something of every layer."""

RACE = {"data": [0.5], "keep": [0.5]}

SELECTORS: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "billhook:block-pruner": [
        ({}, ANYWHERE),
        ({"branches": "mha"}, {**ANYWHERE, "budgets": [Budget(parameters=0.1)]}),
        ({"branches": "mlp", "race": RACE}, {**ANYWHERE, "budgets": [Budget(parameters=0.1)]}),
    ],
    "billhook:channels": [
        ({}, ANYWHERE),
        ({"group": 3, "score": "wanda", "race": RACE}, {**ANYWHERE, "budgets": [Budget(parameters=0.05)]}),
        ({"group": 3, "uniform": True}, {**ANYWHERE, "at_once": 8}),
        ({"group": 8, "uniform": True, "score": "obs"}, {**ANYWHERE, "at_once": 8}),
    ],
    "billhook:curvature": [
        ({"multiple": 1}, {**ANYWHERE, "at_once": 8}),
        ({"multiple": 2, "uniform": True}, {**ANYWHERE, "at_once": 8}),
        ({"tokens": 60, "multiple": 3, "most": 0.9, "heads": True}, {**ANYWHERE, "at_once": 16}),
    ],
    "billhook:fixed-windows": [({"spans": [[1, 2], [4, 6]]}, {"meets_budget": False})],
    "billhook:heads": [
        ({}, {**ANYWHERE, "budgets": [Budget(parameters=0.05)]}),
        ({"score": "activation", "uniform": True}, {**ANYWHERE, "budgets": [Budget(parameters=0.05)], "at_once": 8}),
    ],
    "billhook:mixed": [
        ({"rounds": 2, "parts": [0.25]}, ANYWHERE),
        ({"rounds": 2, "parts": [0.2, 0.4], "score": "fluctuation", "tokens": 60, "branches": False}, ANYWHERE),
    ],
    "billhook:multi-pruner": [
        ({"channel_group": 3}, {**ANYWHERE, "refuses_early": False}),
        (
            {"shares": [1, 2, 1], "order": ["heads", "channels", "branches"], "score": "wanda", "race": RACE},
            {**ANYWHERE, "refuses_early": False},
        ),
        ({"uniform": True, "channel_group": 2}, {**ANYWHERE, "refuses_early": False, "at_once": 8}),
    ],
    "billhook:sequence": [
        (
            {"stages": [{"selector": "short-gpt", "share": 2}, {"selector": {"name": "block-pruner"}}]},
            {**ANYWHERE, "refuses_early": False},
        ),
        (
            {"stages": [{"selector": {"name": "sleb", "options": {"protect_first": 2}}}]},
            {**FEW, "protected": (0, 1, 7)},
        ),
    ],
    "billhook:short-gpt": [({}, {"protected": ()}), ({"protect_first": 1, "protect_last": 1}, {})],
    "billhook:sleb": [({}, FEW), ({"race": RACE, "protect_first": 0}, {**FEW, "protected": (7,)})],
    "billhook:window-distance": [
        ({}, {}),
        ({"windows": 3, "touching": False, "skip_sink": True}, {"meets_budget": False}),
        ({"windows": 2, "merge_touching": False, "metric": "l2"}, {}),
        ({"protect_first": 2, "protect_last": 0}, {"protected": (0, 1)}),
    ],
    "billhook:angular": [({}, {})],
    "billhook:cosine": [({}, {})],
    "billhook:l2": [({}, {})],
    "billhook:uidl": [({}, {})],
}

MERGERS = ("billhook:fold", "billhook:insert", "billhook:refit")
OBJECTIVES: list[tuple[str, dict[str, Any]]] = [
    ("billhook:kl", {}),
    ("billhook:mixture", {}),
    ("billhook:mixture", {"kl": 0.0}),
    ("billhook:mixture", {"kl": 1.0}),
    ("billhook:perplexity", {}),
]


@pytest.mark.parametrize(
    ("role", "configured"),
    [("estimator", ESTIMATORS), ("selector", SELECTORS), ("merger", MERGERS), ("objective", dict(OBJECTIVES))],
)
def test_every_registered_strategy_is_in_the_suite(role: Role, configured: Mapping[str, object]) -> None:
    ours = {name for name in REGISTRY.qualified_names(role) if name.startswith("billhook:")}
    assert ours == set(configured)


def _cases(table: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]]) -> list[Any]:
    return [
        pytest.param(name, options, told, id=f"{name.removeprefix('billhook:')}{options or ''}")
        for name, cases in table.items()
        for options, told in cases
    ]


@pytest.mark.parametrize(("name", "options", "told"), _cases(ESTIMATORS))
def test_an_estimator_keeps_its_promises(name: str, options: dict[str, Any], told: dict[str, Any]) -> None:
    check_estimator(cast(Estimator, REGISTRY.create("estimator", name, options)), **told)


@pytest.mark.parametrize(("name", "options", "told"), _cases(SELECTORS))
def test_a_selector_keeps_its_promises(name: str, options: dict[str, Any], told: dict[str, Any]) -> None:
    check_selector(cast(Selector, REGISTRY.create("selector", name, options)), **told)


@pytest.mark.parametrize("name", MERGERS)
def test_a_merger_keeps_its_promises(name: str) -> None:
    check_merger(cast(Merger, REGISTRY.create("merger", name)))


@pytest.mark.parametrize(("name", "options"), OBJECTIVES)
def test_an_objective_keeps_its_promises(name: str, options: dict[str, Any]) -> None:
    check_objective(cast(Objective, REGISTRY.create("objective", name, options)))
