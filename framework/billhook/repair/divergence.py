"""Divergence: how far the predictions of models are from the dense model's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs
import torch

from billhook.evaluation.loss import summed_divergence

if TYPE_CHECKING:
    from torch import Tensor

    from billhook.activations.runner import OpenBatch
    from billhook.data.tokens import TokenBatch, Tokens
    from billhook.model.view import ModelView
    from billhook.roles.state import PruningState

LOGIT_TOKENS = 256
"""Tokens whose logits exist at a time."""


@torch.no_grad()
def divergences(state: PruningState, models: Sequence[ModelView], tokens: Tokens) -> list[float]:
    """Mean KL(dense ‖ model) over the predicted tokens, in nats per token; NaN where no token is predicted.

    Args:
        state: knows the dense model and how to run the layers.
        models: cut from it.
        tokens: a few rows; every model runs on all of them.
    """
    totals, count = [0.0] * len(models), 0
    for batch in tokens.batches():
        predicts = (batch.keep[:, :-1] & batch.keep[:, 1:]).to(state.dense.device)
        dense, *others = _last_streams(state, (state.dense, *models), batch)
        entering = [stream[:, :-1][predicts] for stream in others]  # [tokens, d_model] each
        for start, wanted in _logits(state, dense[:, :-1][predicts]):
            for number, stream in enumerate(entering):
                found = state.flow.runner.logits(stream[start : start + LOGIT_TOKENS])
                totals[number] += summed_divergence(found, wanted)
        count += int(predicts.sum())
    return [total / count if count else float("nan") for total in totals]


def moved(state: PruningState) -> dict[str, float]:
    """How far the present model's predictions are from the dense one's, in nats per token.

    ``kl_held_out`` on the calibration rows that nothing was fitted to, ``kl_guard`` on the guard's; neither where there
    is no guard.
    """
    if state.guard is None:
        return {}
    parts = {"kl_guard": state.guard}
    if bool(state.held_out.any()):
        parts["kl_held_out"] = attrs.evolve(
            state.tokens, ids=state.tokens.ids[state.held_out], keep=state.tokens.keep[state.held_out]
        )
    return {name: divergences(state, [state.model], tokens)[0] for name, tokens in parts.items()}


def _last_streams(state: PruningState, models: Sequence[ModelView], batch: TokenBatch) -> Iterator[Tensor]:
    """What leaves the last layer of each model, ``[batch, seq, d_model]``."""
    opened: OpenBatch = state.flow.runner.open(batch)
    for model in models:
        stream = opened.stream
        for number in model.numbers:
            stream = state.flow.runner.run(model, number, opened, stream)
        yield stream


def _logits(state: PruningState, stream: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The dense model's logits of a few tokens at a time, each after the number of its first token."""
    for start in range(0, len(stream), LOGIT_TOKENS):
        yield start, state.flow.runner.logits(stream[start : start + LOGIT_TOKENS])
