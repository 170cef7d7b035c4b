"""Mixture: perplexity and divergence from the dense model, weighed."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs

from billhook import Objective, Predictions, hookimpl, summed_loss, typed
from billhook.errors import InvalidConfig
from billhook_strategies.objectives.kl_divergence import KLDivergence


@attrs.frozen(kw_only=True, field_transformer=typed)
class Mixture(Objective):
    """``(1 − kl) · negative log-likelihood + kl · KL(dense ‖ pruned)``, mean over tokens, in nats.

    Attributes:
        kl: weight of the divergence, in [0, 1].
    """

    compares: ClassVar[bool] = True

    kl: float = 0.5

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.kl <= 1:
            raise InvalidConfig(f"The 'kl' of Mixture must lie between 0 and 1; got {self.kl}.")

    def loss(self, predictions: Predictions) -> float:
        """The weighed sum of both."""
        likelihood = summed_loss(predictions.logits, predictions.labels)
        return (1 - self.kl) * likelihood + self.kl * KLDivergence().loss(predictions)


@hookimpl
def billhook_register_objectives(register: Callable[[str, Callable[..., Objective]], None]) -> None:
    """``mixture``."""
    register("mixture", Mixture)
