"""Every selector with every estimator and every merger, on tiny models of every family and in odd situations.

Each works, or is refused with a reason; where nothing is odd, before any work.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, get_args

import attrs
import pytest
import torch
from transformers import PreTrainedModel

from billhook import Budget, DropLayers, Estimator, Pruner, Repair, Selector, Tokens, default_registry, hookimpl
from billhook.errors import BillhookError
from billhook.model.branch import Branch
from billhook.plans.repair import Target, Weights, When
from billhook.testing import tiny_model, tiny_tokens
from tests.built_in import REQUIRED
from tests.families import some, types

LAYERS = 4

FAMILIES = sorted(types(some()))

REPAIRS = [
    Repair(when=when, weights=weights, target=target, held_out=held_out, guard=guard, closing=closing)
    for when, weights, target, (held_out, guard, closing) in itertools.product(
        get_args(When), get_args(Weights), get_args(Target), ((0.0, 0.0, 0), (0.25, 0.25, 0), (0.25, 0.0, 1))
    )
    if when != "trial" or (target == "dense" and not guard)
]
"""All that there are but for shares; candidates on trial know the dense stream alone."""


@attrs.frozen
class Situation:
    """A model and data; ``odd`` where a run may find out by them alone that it cannot go on."""

    name: str
    tokens: Callable[[], Tokens] = tiny_tokens
    options: dict[str, Any] = attrs.field(factory=dict)
    change: Callable[[PreTrainedModel], None] = lambda model: None
    odd: bool = True

    def model(self, family: str) -> PreTrainedModel:
        """A tiny one."""
        model = tiny_model(family, **{"num_hidden_layers": LAYERS, **self.options})
        with torch.no_grad():
            self.change(model)
        return model


def writers(model: PreTrainedModel, branch: Branch) -> Iterator[torch.Tensor]:
    """The weights of the writers of a branch, from the second layer on."""
    view = default_registry().view(model)
    for number in view.numbers[1:]:
        yield view.writer(number, branch).weight  # type: ignore[misc] # a tensor


def dead(branch: Branch) -> Callable[[PreTrainedModel], None]:
    """What the branch of a layer writes is nothing."""

    def change(model: PreTrainedModel) -> None:
        next(writers(model, branch)).zero_()

    return change


def loud(model: PreTrainedModel) -> None:
    """A writer a million times as large; in float16 as large as there are numbers, which sums of products overflow."""
    weight = next(writers(model, "mlp"))
    weight.mul_(6e4 / float(weight.abs().max()) if weight.dtype == torch.float16 else 1e6)


def constant() -> Tokens:
    """The same token again and again."""
    tokens = tiny_tokens()
    return attrs.evolve(tokens, ids=torch.full_like(tokens.ids, 7))


SITUATIONS = [
    Situation("plain", odd=False),
    Situation("bfloat16", options={"dtype": torch.bfloat16}, odd=False),
    Situation("padding", tokens=lambda: tiny_tokens(padding="both"), odd=False),
    Situation("one row", tokens=lambda: tiny_tokens(rows=1)),
    Situation("one token again and again", tokens=constant),
    Situation("an MLP that writes nothing", change=dead("mlp")),
    Situation("an attention that writes nothing", change=dead("attention")),
    Situation("a writer that shouts", change=loud),
    Situation("overflow in float16", options={"dtype": torch.float16}, change=loud),
]

SELECTORS, ALL_ESTIMATORS, MERGERS = (
    default_registry().qualified_names(role) for role in ("selector", "estimator", "merger")
)

ESTIMATORS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ALL_ESTIMATORS),
    ("billhook:least-squares", {"bias": True}),
    ("billhook:ridge", {"bias": True, "strength": "auto"}),
    ("billhook:cosine-irls", {"form": "exact"}),
]
"""As they come, and with options that other mergers take, or other tokens."""

COMBINATIONS: list[tuple[str, tuple[str, dict[str, Any]], str, Situation]] = [
    (selector, estimator, merger, situation)
    for selector, estimator, merger in itertools.product(SELECTORS, ESTIMATORS, MERGERS)
    for situation in SITUATIONS
]


class Began:
    """Notes that work has begun."""

    def __init__(self) -> None:
        self.work = False

    @hookimpl
    def billhook_after_calibration(self) -> None:
        self.work = True


def outcome(number: int) -> str:
    """``works``, or why not; asserts that it is one or the other, and that the model is as it was."""
    selector, estimator, merger, situation = COMBINATIONS[number]
    family, repair = FAMILIES[number % len(FAMILIES)], REPAIRS[number * 7 % len(REPAIRS)]
    about = f"{number}: {selector} {estimator[0]} {estimator[1]} {merger} {family} {repair} {situation.name}"
    registry, began = default_registry(), Began()
    model, tokens = situation.model(family), situation.tokens()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    count = sum(weight.numel() for weight in model.parameters())
    chosen = registry.create("selector", selector, REQUIRED.get(selector))
    solver = registry.create("estimator", *estimator)
    assert isinstance(chosen, Selector)
    assert isinstance(solver, Estimator)
    budget = Budget(layers=1) if chosen.kinds() == (DropLayers,) else Budget(parameters=0.05)
    try:
        pruner = Pruner(
            selector=chosen,
            estimator=solver,
            merger=merger,
            repair=repair,
            hooks=[began],
            progress=False,
        )
        result = pruner.prune(model, calibration=tokens, budget=budget)
    except BillhookError as error:
        found, said = type(error).__name__, str(error)
    else:
        assert all(torch.isfinite(weight).all() for weight in result.model.parameters()), about
        logits = result.model(input_ids=tokens.ids, attention_mask=tokens.keep.long(), use_cache=False).logits
        assert torch.isfinite(logits[tokens.keep]).all(), about
        if not result.plan.cuts or merger != "billhook:insert":
            assert sum(weight.numel() for weight in result.model.parameters()) <= count, about
        found, said = "works", ""
    assert found == "works" or situation.odd or not began.work, f"{about}: refused after work had begun: {said}"
    assert "\n" not in said, about
    assert all(weight.equal(before[name]) for name, weight in model.state_dict().items()), about
    return found


@pytest.mark.parametrize("number", range(0, len(COMBINATIONS), 61))
def test_some_of_all_combinations_work_or_are_refused(number: int) -> None:
    assert outcome(number)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_combinations_work_or_are_refused() -> None:
    found = Counter(map(outcome, range(len(COMBINATIONS))))
    print(f"{found.total()} combinations: {dict(found)}")
    assert found.keys() <= {"works", "InvalidConfig", "CannotMerge", "InvalidCut", "SingularProblem", "NotFinite"}
    assert found["works"] > found.total() / 2
