"""Perplexity: how surprised the model is by the calibration data."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

from billhook import Objective, Predictions, hookimpl, summed_loss, typed


@attrs.frozen(field_transformer=typed)
class Perplexity(Objective):
    """exp of the mean negative log-likelihood over all calibration tokens but the first of each row; 1 is the best.

    What BlockPruner, SLEB and MultiPruner search by.
    """

    def loss(self, predictions: Predictions) -> float:
        """Summed negative log-likelihood of the tokens that follow, in nats."""
        return summed_loss(predictions.logits, predictions.labels)

    def value(self, mean: float) -> float:
        """exp; infinite where a float cannot hold it."""
        return math.exp(mean) if mean < 700 else math.inf


@hookimpl
def billhook_register_objectives(register: Callable[[str, Callable[..., Objective]], None]) -> None:
    """``perplexity``."""
    register("perplexity", Perplexity)
