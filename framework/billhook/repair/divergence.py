"""Divergence: how far the predictions of models are from the dense model's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from billhook.data.tokens import TokenBatch
from billhook.evaluation.loss import logit_tokens, summed_divergence

if TYPE_CHECKING:
    from torch import Tensor

    from billhook.activations.runner import OpenBatch
    from billhook.model.view import ModelView
    from billhook.roles.state import PruningState


@torch.no_grad()
def divergences(state: PruningState, models: Sequence[ModelView], batches: Iterable[TokenBatch]) -> list[float]:
    """Mean KL(dense ‖ model) over the predicted tokens, in nats per token; NaN where no token is predicted.

    Args:
        state: knows the dense model and how to run the layers.
        models: cut from it.
        batches: a few rows; every model runs on all of them.
    """
    totals, count = [0.0] * len(models), 0
    for batch in batches:
        predicts = (batch.keep[:, :-1] & batch.keep[:, 1:]).to(state.dense.device)
        dense, *others = _last_streams(state, (state.dense, *models), batch)
        entering = [stream[:, :-1][predicts] for stream in others]  # [tokens, d_model] each
        size = logit_tokens(state.dense.device)
        for start, wanted in _logits(state, dense[:, :-1][predicts], size):
            for number, stream in enumerate(entering):
                found = state.flow.runner.logits(stream[start : start + size])
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
    parts = {"kl_guard": [*state.flow.guard]}
    if bool(state.held_out.any()):
        parts["kl_held_out"] = _held_out(state)
    return {name: divergences(state, [state.model], batches)[0] for name, batches in parts.items()}


def _held_out(state: PruningState) -> list[TokenBatch]:
    """The calibration rows that nothing was fitted to, in batches no larger than those of the run."""
    found = []
    for index, batch in enumerate(state.flow.batches):
        aside = state.held_out_rows(index)
        if aside is not None and bool(aside.any()):
            found.append(TokenBatch(batch.ids[aside], batch.keep[aside]))
    return found


def _last_streams(state: PruningState, models: Sequence[ModelView], batch: TokenBatch) -> Iterator[Tensor]:
    """What leaves the last layer of each model, ``[batch, seq, d_model]``."""
    opened: OpenBatch = state.flow.runner.open(batch)
    for model in models:
        stream = opened.stream
        for number in model.numbers:
            stream = state.flow.runner.run(model, number, opened, stream)
        yield stream


def _logits(state: PruningState, stream: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    """The dense model's logits of ``size`` tokens at a time, each after the number of its first token."""
    for start in range(0, len(stream), size):
        yield start, state.flow.runner.logits(stream[start : start + size])
