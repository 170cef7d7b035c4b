"""The suite for estimators catches each way of breaking the contract: here is one estimator for each."""

from __future__ import annotations

from typing import ClassVar, cast

import attrs
import pytest
import torch

from billhook import Estimator, LinearMap, Needs, Regression
from billhook.errors import SingularProblem
from billhook.testing import check_estimator
from billhook_strategies.estimators.least_squares import LeastSquares


def solved(regression: Regression) -> LinearMap:
    return LeastSquares().estimate(regression)


@attrs.frozen
class Fine(Estimator):
    """Keeps every promise, and is not registered."""

    def estimate(self, regression: Regression) -> LinearMap:
        return solved(regression)


class Random(Fine):
    """Starts somewhere else each time."""

    def estimate(self, regression: Regression) -> LinearMap:
        return LinearMap(solved(regression).weight + 1e-9 * torch.randn(regression.d_in, regression.d_out))


class Transposed(Fine):
    """Forgets whether vectors are rows or columns."""

    def estimate(self, regression: Regression) -> LinearMap:
        return LinearMap(solved(regression).weight.T)


class Narrow(Fine):
    """Leaves a column out."""

    def estimate(self, regression: Regression) -> LinearMap:
        return LinearMap(solved(regression).weight[:, :-1])


class Coarse(Fine):
    """Rounds too early."""

    def estimate(self, regression: Regression) -> LinearMap:
        return LinearMap(solved(regression).weight.to(torch.bfloat16))


class Attached(Fine):
    """Keeps the graph."""

    def estimate(self, regression: Regression) -> LinearMap:
        return LinearMap(solved(regression).weight.requires_grad_())


class Greedy(Fine):
    """Reads rows that it did not declare."""

    def estimate(self, regression: Regression) -> LinearMap:
        next(regression.batches())
        return solved(regression)


class Liar(Fine):
    """Says it needs nothing."""

    needs: ClassVar[Needs] = Needs.NOTHING


class Vandal(Fine):
    """Regularises in place."""

    def estimate(self, regression: Regression) -> LinearMap:
        found = solved(regression)
        regression.moments().xx.diagonal().add_(1.0)
        return found


class Brave(Fine):
    """Computes with NaN as with any number."""

    def estimate(self, regression: Regression) -> LinearMap:
        try:
            return solved(regression)
        except SingularProblem:
            return LinearMap(torch.eye(regression.d_in, dtype=torch.float64))


class Lost(Fine):
    """Finds nothing."""

    def estimate(self, regression: Regression) -> LinearMap:
        return cast(LinearMap, None)


BROKEN: dict[type[Estimator], str] = {
    Random: "two different answers",
    Transposed: "a planted full map is not recovered: off by",
    Narrow: r"the weight is \[8, 7\], not \[d_in, d_out\]",
    Coarse: "the map is torch.bfloat16",
    Attached: "still requires gradients",
    Greedy: r"reads batches\(\) but declares Needs.MOMENTS",
    Liar: "declares that it needs nothing",
    Vandal: "changed the moments' xx",
    Brave: "SingularProblem is due when the regression's x holds nan; nothing was raised",
    Lost: "finds nothing where a full map is planted|SingularProblem is due",
}


def test_a_conforming_estimator_passes() -> None:
    check_estimator(Fine())


@pytest.mark.parametrize("broken", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_estimator_is_caught_and_the_law_is_named(broken: type[Estimator]) -> None:
    with pytest.raises(AssertionError, match=rf"^{broken.__name__}\(\) breaks its contract: .*({BROKEN[broken]})"):
        check_estimator(broken())
