"""KLDivergence: how far the model's predictions are from the dense model's."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs
from torch.nn.functional import kl_div, log_softmax

from billhook import Objective, Predictions, hookimpl, loss_tokens, typed


@attrs.frozen(field_transformer=typed)
class KLDivergence(Objective):
    """Mean over tokens of KL(dense ‖ pruned) in nats: 0 for the dense model itself.

    Perplexity rewards what happens to fit the calibration text; this asks for the dense model's own predictions, which
    follows its accuracy better (EvoPress, arXiv 2410.14649). Costs one more head for each group of candidates.
    """

    compares: ClassVar[bool] = True

    def loss(self, predictions: Predictions) -> float:
        """Summed divergence, in float32."""
        chunk = loss_tokens(predictions.logits.device)
        total = 0.0
        for ours, dense in zip(predictions.logits.split(chunk), predictions.dense_logits().split(chunk), strict=True):
            found, wanted = (log_softmax(logits.float(), dim=-1) for logits in (ours, dense))
            total += float(kl_div(found, wanted, reduction="sum", log_target=True))
        # rounding can leave a sum of positive terms just below 0; in this order, NaN stays NaN
        return max(total, 0.0)


@hookimpl
def billhook_register_objectives(register: Callable[[str, Callable[..., Objective]], None]) -> None:
    """``kl``."""
    register("kl", KLDivergence)
