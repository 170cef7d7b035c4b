"""What a run does with an estimator's answer, by what the estimator declares that it needs."""

from __future__ import annotations

from typing import ClassVar

import attrs
import pytest
import torch

from billhook import Budget, DropLayers, Estimator, LinearMap, Needs, Pruner, Regression
from billhook.errors import ShapeMismatch, SingularProblem
from billhook.testing import linearised, tiny_model, tiny_tokens, tiny_view
from billhook_strategies.selectors.fixed_windows import FixedWindows


@attrs.frozen
class Known(Estimator):
    """Multiplies by a factor that is known beforehand."""

    needs: ClassVar[Needs] = Needs.NOTHING

    factor: float
    width: int = 16

    def estimate(self, regression: Regression) -> LinearMap:
        return LinearMap(self.factor * torch.eye(self.width))


def pruner(estimator: Estimator, start: int = 1) -> Pruner:
    return Pruner.following("replaceme-ls", selector=FixedWindows(spans=((start, 3),)), estimator=estimator)


def test_a_map_that_is_known_beforehand_is_merged_without_running_the_model_for_it() -> None:
    result = pruner(Known(0.5)).prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(layers=2))
    reference = linearised(tiny_view(), DropLayers(1, 3), LinearMap(0.5 * torch.eye(16)))
    ids = tiny_tokens().ids
    with torch.no_grad():
        # float32 through two layers
        torch.testing.assert_close(result.model(ids).logits, reference(ids).logits, rtol=1e-4, atol=1e-4)
    assert result.reports[0].token_count == 0


def test_where_no_layer_survives_before_the_cut_a_known_map_is_left_out() -> None:
    result = pruner(Known(0.5), start=0).prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(layers=3))
    assert result.model.config.num_hidden_layers == 1


def test_a_map_that_is_not_finite_is_never_merged() -> None:
    with pytest.raises(SingularProblem, match=r"The estimator Known\(factor=nan, width=16\) gave a map that is not"):
        pruner(Known(float("nan"))).prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(layers=2))


def test_a_map_of_the_wrong_width_is_refused() -> None:
    with pytest.raises(ShapeMismatch, match=r"must give a map \[d_in, d_out\], here \[16, 16\]; got \[8, 8\]"):
        pruner(Known(1.0, width=8)).prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(layers=2))
