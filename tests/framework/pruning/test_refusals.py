"""What is refused before any work."""

from __future__ import annotations

from typing import ClassVar, get_args

import attrs
import pytest
import torch

from billhook import Budget, Estimator, LinearMap, Needs, Pruner, Regression, Repair
from billhook.errors import CannotMerge, InvalidConfig
from billhook.plans.repair import Weights
from billhook.testing import tiny_model, tiny_tokens
from billhook_strategies.estimators.least_squares import LeastSquares
from billhook_strategies.estimators.ridge import Ridge


@attrs.frozen
class FirstRow(Estimator):
    """Reads rows, and not their weights."""

    needs: ClassVar[Needs] = Needs.ROWS

    def estimate(self, regression: Regression) -> LinearMap:
        """A map of the right shape."""
        return LinearMap(next(iter(regression.batches())).x[0, 0] * regression.prior)


@pytest.mark.parametrize("weights", ["stream", "residual"])
def test_weights_of_tokens_are_refused_where_the_estimator_does_not_say_that_it_heeds_them(weights: Weights) -> None:
    pruner = Pruner(
        selector="short-gpt", estimator=FirstRow(), merger="fold", repair=Repair(when="winner", weights=weights)
    )
    with pytest.raises(InvalidConfig, match=f"{weights}.*would do nothing.*FirstRow.*weighs_rows = True"):
        pruner.prune(tiny_model("llama"), budget=Budget(layers=1))


@pytest.mark.parametrize("estimator", ["cosine", "cosine-irls"])
def test_weights_of_tokens_change_what_built_ins_that_read_rows_find(estimator: str) -> None:
    found = []
    for weights in get_args(Weights):
        repair = Repair(when="winner", weights=weights)
        pruner = Pruner(selector="short-gpt", estimator=estimator, merger="fold", repair=repair)
        result = pruner.prune(tiny_model("llama"), calibration=tiny_tokens(), budget=Budget(layers=1))
        found.append(torch.cat([parameter.detach().flatten() for parameter in result.model.parameters()]))
    assert not any(one.equal(other) for one, other in ((found[0], found[1]), (found[0], found[2])))


@pytest.mark.parametrize("selector", ["channels", "heads", "multi-pruner", "mixed", "curvature"])
def test_a_merger_that_adds_more_than_the_cuts_take_away_is_refused_before_any_work(selector: str) -> None:
    pruner = Pruner.following("billhook", selector=selector, merger="insert")
    with pytest.raises(InvalidConfig, match=r"The merger Insert\(\) adds a map .* so the model would grow\. Use the"):
        pruner.prune(tiny_model(), calibration=object(), budget=Budget(parameters=0.1))


@pytest.mark.parametrize("estimator", ["diagonal", "orthogonal"])
def test_maps_of_the_stream_are_refused_in_the_place_of_a_writer_before_any_work(estimator: str) -> None:
    pruner = Pruner(selector="short-gpt", estimator=estimator, merger="refit", repair=Repair())
    with pytest.raises(InvalidConfig, match=r"from 'output', and the merger Refit\(\) asks for .* merger 'fold', or"):
        pruner.prune(tiny_model(), calibration=object(), budget=Budget(layers=1))


@pytest.mark.parametrize("merger", ["fold", "refit"])
@pytest.mark.parametrize("selector", ["short-gpt", "heads"])
@pytest.mark.parametrize("estimator", [LeastSquares(bias=True), Ridge(bias=True)], ids=repr)
def test_a_bias_that_no_writer_could_take_is_refused_before_any_work(
    selector: str, estimator: Estimator, merger: str
) -> None:
    pruner = Pruner(selector=selector, estimator=estimator, merger=merger)
    with pytest.raises(CannotMerge, match=r"have a bias, but the (mlp|attention) writers of this model have none"):
        pruner.prune(tiny_model("mistral"), calibration=object(), budget=Budget(parameters=0.1))


def test_a_bias_is_taken_where_writers_have_one() -> None:
    pruner = Pruner(selector="short-gpt", estimator=Ridge(bias=True), merger="fold", repair=Repair(when="winner"))
    before = tiny_model("gpt2")
    result = pruner.prune(before, calibration=tiny_tokens(), budget=Budget(layers=1))
    donor = result.reports[0].donor
    name = f"transformer.h.{donor}.mlp.c_proj.bias"
    assert not torch.equal(result.model.state_dict()[name], before.state_dict()[name])
