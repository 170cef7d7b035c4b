"""Perplexity: how surprised the model is by the calibration data."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

from billhook import Objective, PruningState, hookimpl
from billhook.errors import CalibrationError, InvalidConfig
from billhook.evaluation import summed_loss


@attrs.frozen(kw_only=True)
class Perplexity(Objective):
    """exp of the mean negative log-likelihood over all calibration tokens but the first of each row.

    Attributes:
        chunk_tokens: tokens whose logits exist at a time; the full ``[tokens, vocab]`` never does.
    """

    chunk_tokens: int = 1024

    def __attrs_post_init__(self) -> None:
        if self.chunk_tokens < 1:
            raise InvalidConfig(f"The 'chunk_tokens' of Perplexity must be at least 1; got {self.chunk_tokens}.")

    def evaluate(self, state: PruningState) -> float:
        """Perplexity of ``state.model``; 1 is the best."""
        total, count = 0.0, 0
        for stream, ids, keep in state.final_streams():
            counts = keep[:, :-1] & keep[:, 1:]
            entering, labels = stream[:, :-1][counts], ids[:, 1:][counts]
            parts = zip(entering.split(self.chunk_tokens), labels.split(self.chunk_tokens), strict=True)
            total += sum(summed_loss(state.flow.runner.logits(part), label) for part, label in parts)
            count += len(labels)
        if count == 0:
            raise CalibrationError("Perplexity needs rows of at least two tokens.")
        return math.exp(min(total / count, 700.0))  # exp of more does not fit a float


@hookimpl
def billhook_register_objectives(register: Callable[[str, Callable[..., Objective]], None]) -> None:
    """``perplexity``."""
    register("perplexity", Perplexity)
