"""What is refused before any work."""

from __future__ import annotations

import pytest

from billhook import Budget, Pruner, Repair
from billhook.errors import InvalidConfig
from billhook.testing import tiny_model


@pytest.mark.parametrize("estimator", ["cosine", "cosine-irls"])
@pytest.mark.parametrize("weights", ["stream", "residual"])
def test_weights_of_tokens_are_refused_where_the_estimator_reads_rows_that_carry_none(
    estimator: str, weights: str
) -> None:
    pruner = Pruner(
        selector="short-gpt",
        estimator=estimator,
        merger="fold",
        repair=Repair(when="winner", weights=weights),  # type: ignore[arg-type] # of the Literal
    )
    with pytest.raises(InvalidConfig, match=f"{weights}.*would do nothing.*Cosine.*least-squares"):
        pruner.prune(tiny_model("llama"), budget=Budget(layers=1))


@pytest.mark.parametrize("selector", ["channels", "heads", "multi-pruner", "mixed", "curvature"])
def test_a_merger_that_adds_more_than_the_cuts_take_away_is_refused_before_any_work(selector: str) -> None:
    pruner = Pruner.following("billhook", selector=selector, merger="insert")
    with pytest.raises(InvalidConfig, match=r"The merger Insert\(\) adds a map .* so the model would grow\. Use the"):
        pruner.prune(tiny_model(), calibration=object(), budget=Budget(parameters=0.1))
