"""A model that overflows is refused by every recipe, in the same words."""

from __future__ import annotations

import math

import attrs
import pytest
import torch

from billhook import Budget, Objective, Predictions, Pruner
from billhook.errors import BillhookError, PluginError
from billhook.testing import tiny_model, tiny_tokens


@pytest.mark.parametrize(
    "recipe", ["billhook", "replaceme", "replaceme-ls", "uidl", "shortgpt", "sleb", "blockpruner", "multipruner"]
)
def test_activations_that_overflow_are_told_by_every_recipe(recipe: str) -> None:
    model = tiny_model(num_hidden_layers=6, dtype=torch.float16)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(20000)
    budget = Budget(parameters=0.1) if recipe in ("billhook", "blockpruner", "multipruner") else Budget(layers=1)
    with pytest.raises(BillhookError, match=r"not finite.*[Rr]un .* in bfloat16 or float32"):
        Pruner.following(recipe, progress=False).prune(model, calibration=tiny_tokens(16, 12), budget=budget)


def test_a_branch_whose_units_are_silent_is_missed_by_nobody() -> None:
    model = tiny_model(num_hidden_layers=6)
    with torch.no_grad():
        for weight in model.model.layers[2].mlp.parameters():
            weight.zero_()
    pruner = Pruner(progress=False)
    result = pruner.prune(model, calibration=tiny_tokens(16, 12), budget=Budget(parameters=0.05))
    assert str(result.plan.cuts[0]).startswith("mlp 2 to ")


@attrs.frozen
class Lost(Objective):
    """NaN for every model, or for all but the dense one."""

    everywhere: bool = True

    def loss(self, predictions: Predictions) -> float:
        """Of these tokens."""
        same = torch.equal(predictions.logits, predictions.dense_logits())
        return 1.0 if same and not self.everywhere else math.nan


@pytest.mark.parametrize("recipe", ["replaceme-ls", "blockpruner"])
def test_an_objective_that_is_no_number_is_blamed_and_not_the_model(recipe: str) -> None:
    pruner = Pruner.following(recipe, objective=Lost(), progress=False)
    said = r"The objective Lost\(everywhere=True\) gives nan by the dense model's logits, which are finite"
    with pytest.raises(PluginError, match=said):
        pruner.prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(layers=1))


def test_an_objective_that_is_no_number_for_the_result_is_told(logged: list[str]) -> None:
    pruner = Pruner.following("replaceme-ls", objective=Lost(everywhere=False), progress=False)
    metrics = pruner.prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(layers=1)).metrics
    assert math.isnan(metrics["objective_after"])
    assert [line for line in logged if "gives nan by the pruned model's logits, which are finite" in line]


@pytest.mark.parametrize("selector", ["block-pruner", "sleb", "mixed"])
def test_an_objective_by_which_no_candidate_is_a_number_ends_the_search_by_its_name(selector: str) -> None:
    said = r"The objective Lost\(everywhere=False\) gives nan by the logits after each of \d+ cuts .*, which are finite"
    pruner = Pruner(selector=selector, estimator="identity", objective=Lost(everywhere=False), progress=False)
    with pytest.raises(PluginError, match=said):
        pruner.prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(parameters=0.1))
