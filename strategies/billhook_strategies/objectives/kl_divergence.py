"""KLDivergence: how far the model's predictions are from the dense model's."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs

from billhook import Objective, Predictions, hookimpl, summed_divergence, typed


@attrs.frozen(field_transformer=typed)
class KLDivergence(Objective):
    """Mean over tokens of KL(dense ‖ pruned) in nats: 0 for the dense model itself.

    Perplexity rewards what happens to fit the calibration text; this asks for the dense model's own predictions, which
    follows its accuracy better (EvoPress, arXiv 2410.14649). Costs one more head for each group of candidates.
    """

    compares: ClassVar[bool] = True

    def loss(self, predictions: Predictions) -> float:
        """Summed divergence, in float32."""
        return summed_divergence(predictions.logits, predictions.dense_logits())


@hookimpl
def billhook_register_objectives(register: Callable[[str, Callable[..., Objective]], None]) -> None:
    """``kl``."""
    register("kl", KLDivergence)
