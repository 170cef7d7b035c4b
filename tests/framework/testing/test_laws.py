"""Laws one by one: tests of their own, expected failures, and a process that stays as it was."""

from __future__ import annotations

import attrs
import pytest
import torch

from billhook import Estimator, LinearMap, Regression
from billhook.errors import InvalidConfig
from billhook.testing import BrokenLaw, Law, check_estimator, estimator_laws, laws
from billhook_strategies.estimators.least_squares import LeastSquares


@attrs.frozen
class Halved(Estimator):
    """Finds half of the map."""

    def estimate(self, regression: Regression) -> LinearMap:
        return LinearMap(0.5 * LeastSquares().estimate(regression).weight)


@pytest.mark.parametrize("law", estimator_laws(LeastSquares()), ids=str)
def test_every_law_is_a_test_of_its_own(law: Law) -> None:
    law()


def test_names_of_laws_are_unique_words() -> None:
    names = [law.name for law in estimator_laws(LeastSquares())]
    assert len({*names}) == len(names)
    assert "recovers" in names


def test_a_law_that_is_expected_to_fail_passes_when_it_does() -> None:
    reasons = {name: "it finds half" for name in ("recovers", "no-harm", "every-token", "held-out", "rank", "writer")}
    check_estimator(Halved(), recovers="full", expected_failures=reasons)


def test_a_law_that_is_expected_to_fail_and_holds_is_told() -> None:
    with pytest.raises(BrokenLaw, match=r"keeps the law 'recovers', which was expected to fail: too hard. Take it off"):
        check_estimator(LeastSquares(), expected_failures={"recovers": "too hard"})


def test_a_failure_of_a_law_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"There is no law 'recover'. Did you mean 'recovers'"):
        check_estimator(LeastSquares(), expected_failures={"recover": "too hard"})


def test_a_failure_is_expected_for_a_reason() -> None:
    with pytest.raises(InvalidConfig, match="Say why the law 'recovers' is expected to fail; got ''"):
        check_estimator(LeastSquares(), expected_failures={"recovers": ""})


def test_laws_are_found_by_role() -> None:
    found = laws("estimator", LeastSquares(), recovers=None)
    assert [law.name for law in found] == [law.name for law in estimator_laws(LeastSquares(), recovers=None)]
    with pytest.raises(InvalidConfig, match=r"no laws for 'estimators'. Did you mean 'estimator'"):
        laws("estimators", LeastSquares())


def test_what_a_wrong_one_leaves_behind_is_tidied() -> None:
    before = torch.get_rng_state()

    @attrs.frozen
    class Untidy(LeastSquares):
        def estimate(self, regression: Regression) -> LinearMap:
            torch.set_default_dtype(torch.float64)
            torch.rand(3)
            return super().estimate(regression)

    with pytest.raises(BrokenLaw, match=r"two different answers|random numbers"):
        check_estimator(Untidy(), recovers="full")
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), before)
