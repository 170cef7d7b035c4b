"""The suite for objectives catches each way of breaking the contract: here is one objective for each."""

from __future__ import annotations

import math
from typing import ClassVar, cast

import attrs
import pytest
import torch
from torch.nn.functional import cross_entropy

from billhook import Objective, Predictions
from billhook.testing import check_objective
from billhook_strategies.objectives.kl_divergence import KLDivergence


@attrs.frozen
class Fine(Objective):
    """Negative log-likelihood, weighed."""

    weight: float = 1.0

    def loss(self, predictions: Predictions) -> float:
        """The sum over the tokens."""
        return self.weight * float(cross_entropy(predictions.logits.float(), predictions.labels, reduction="sum"))


@attrs.frozen
class Shown(Fine):
    """Reported as perplexity."""

    def value(self, mean: float) -> float:
        return math.exp(min(mean, 700.0))


@attrs.frozen
class Signed(Fine):
    """May be negative, and says so."""

    nonnegative: ClassVar[bool] = False

    def loss(self, predictions: Predictions) -> float:
        return super().loss(predictions) - len(predictions.labels)


class Lying(Signed):
    """May be negative, and denies it."""

    nonnegative: ClassVar[bool] = True


class Averaging(Fine):
    """A mean instead of a sum."""

    def loss(self, predictions: Predictions) -> float:
        return super().loss(predictions) / len(predictions.labels)


class Drawing(Fine):
    """Draws lots."""

    def loss(self, predictions: Predictions) -> float:
        return super().loss(predictions) * (1 + float(torch.rand(())))


class Tensorial(Fine):
    """Gives a tensor."""

    def loss(self, predictions: Predictions) -> float:
        return cast(float, torch.tensor(super().loss(predictions)))


class Endless(Fine):
    """Overflows where a model is sure and wrong."""

    def loss(self, predictions: Predictions) -> float:
        found = super().loss(predictions)
        return math.inf if found > 10 * len(predictions.labels) else found


class Rough(Fine):
    """Writes into what it is shown."""

    def loss(self, predictions: Predictions) -> float:
        predictions.logits.mul_(1.0).sub_(predictions.logits.max())
        return super().loss(predictions)


class Nosy(Fine):
    """Asks for the dense logits without saying so."""

    def loss(self, predictions: Predictions) -> float:
        predictions.dense_logits()
        return super().loss(predictions)


class Idle(Fine):
    """Says that it compares, and does not."""

    compares: ClassVar[bool] = True


class Coarse(Fine):
    """Sums up in the precision of the logits."""

    def loss(self, predictions: Predictions) -> float:
        found = cross_entropy(predictions.logits, predictions.labels, reduction="none")
        total = torch.zeros((), dtype=found.dtype)
        for loss in found:
            total = total + loss
        return float(total)


class Blind(Fine):
    """Takes what is not a number for nothing."""

    def loss(self, predictions: Predictions) -> float:
        return max(0.0, super().loss(predictions))


class Falling(Fine):
    """Reports less for more."""

    def value(self, mean: float) -> float:
        return -mean


class Capped(Fine):
    """Reports the same from some mean on."""

    def value(self, mean: float) -> float:
        return min(mean, 5.0)


class Undefined(Fine):
    """Cannot report an infinite mean."""

    def value(self, mean: float) -> float:
        return mean - mean if math.isinf(mean) else mean


BROKEN: dict[type[Objective], str] = {
    Lying: "it says that no loss is ever negative, and gave -",
    Averaging: "the loss must be the sum over tokens; in groups it came to",
    Drawing: "the same predictions gave two different losses",
    Tensorial: "a loss is a float; it gave a Tensor",
    Endless: "finite logits gave a loss of inf",
    Rough: "it changed the predictions that it was shown",
    Nosy: "it asked for the dense model's logits, and its 'compares' is False",
    Idle: "its 'compares' is True, and it did not ask",
    Coarse: "losses are reduced in float32 at least; bfloat16 logits gave",
    Blind: r"logits that are NaN gave a loss of 0\.0, which could win a search",
    Falling: r"value\(\) must grow with the mean",
    Capped: r"value\(\) must grow with the mean",
    Undefined: r"value\(\) of an infinite mean is NaN",
}


@pytest.mark.parametrize("objective", [Fine(), Fine(2.0), Shown(), Signed(), KLDivergence()], ids=repr)
def test_a_sound_objective_passes(objective: Objective) -> None:
    check_objective(objective)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_objective_is_caught_and_the_law_is_named(broken: type[Objective]) -> None:
    with pytest.raises(AssertionError, match=rf"^{broken.__name__}\(.*\) breaks its contract: .*{BROKEN[broken]}"):
        check_objective(broken())
