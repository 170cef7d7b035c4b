"""A model that overflows is refused by every recipe, in the same words."""

from __future__ import annotations

import pytest
import torch

from billhook import Budget, Pruner
from billhook.errors import BillhookError
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
